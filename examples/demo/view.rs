//! The live view: a pure function of a [`State`].
//!
//! Its heart is a map with a row for each node and a column for each shard: that a shard has one
//! owner is to be seen as one block in each column.

mod map;
#[cfg(test)]
mod tests;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Paragraph};

use crate::state::{LogLine, State, Tone, fraction, minutes, thousands};

/// Below this there is room for a few lines of text only.
const SMALL: (u16, u16) = (60, 14);

/// From this on the log stands beside the map, and each shard has a bar of its own.
const LARGE: (u16, u16) = (130, 30);

/// Draws the state, in whatever room there is.
pub(crate) fn draw(frame: &mut Frame<'_>, state: &State) {
    let area = frame.area();
    let fits = |(width, height): (u16, u16)| area.width >= width && area.height >= height;
    if fits(LARGE) {
        large(frame, area, state);
    } else if fits(SMALL) {
        medium(frame, area, state);
    } else {
        small(frame, area, state);
    }
}

fn large(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let [head, body] = Layout::vertical([Constraint::Length(3), Constraint::Min(0)]).areas(area);
    header(frame, head, state);
    let [left, right] =
        Layout::horizontal([Constraint::Percentage(64), Constraint::Min(0)]).areas(body);
    let rows = map::height(state, left.height.saturating_sub(10));
    let [map_area, bars] =
        Layout::vertical([Constraint::Length(rows), Constraint::Min(0)]).areas(left);
    map::draw(frame, map_area, state);
    shard_bars(frame, bars, state);
    log(frame, right, state);
}

fn medium(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let rows = map::height(state, area.height.saturating_sub(3 + 5));
    let [head, map_area, rest] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Length(rows),
        Constraint::Min(0),
    ])
    .areas(area);
    header(frame, head, state);
    map::draw(frame, map_area, state);
    log(frame, rest, state);
}

/// The same facts as lines of text, the most important first.
fn small(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let planner = state.planner.as_ref().map_or("nobody", |(name, _)| name);
    let percent = 100.0 * fraction(state.saved, state.total);
    let mut lines = vec![
        Line::from(format!(
            "{} {percent:.0} % of {}",
            minutes(state.now),
            thousands(state.total)
        ))
        .bold(),
        Line::from(format!("planner {planner}, overlaps {}", state.overlaps)),
    ];
    for (index, node) in state.nodes.iter().enumerate() {
        let shards = state.shards_of(index);
        lines.push(Line::from(vec![
            Span::from(format!("{} ", node.name)).fg(map::color(index)),
            Span::from(node.phase.word()).fg(map::phase_color(node.phase)),
            Span::from(format!(" {shards} shards")),
        ]));
    }
    let room = usize::from(area.height).saturating_sub(lines.len());
    lines.extend(state.log.iter().rev().take(room).rev().map(log_line));
    frame.render_widget(Paragraph::new(lines), area);
}

fn header(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let [title, progress, facts] = Layout::vertical([1, 1, 1].map(Constraint::Length)).areas(area);
    let left = Line::from(vec![
        " coordinator ".bold().black().on_cyan(),
        Span::from(format!("  seed {}  {}  q quits", state.seed, state.pace)).dim(),
    ]);
    let time = format!("{} / {} ", minutes(state.now), minutes(state.span));
    frame.render_widget(left, title);
    frame.render_widget(Line::from(time).right_aligned().bold(), title);
    frame.render_widget(progress_line(state, progress.width), progress);
    frame.render_widget(facts_line(state), facts);
}

/// How much is saved (full), and how much exists by now (half tone).
fn progress_line(state: &State, width: u16) -> Line<'static> {
    let label = " commits ";
    let figures = format!(
        " {} / {}  {:>3.0}/s ",
        thousands(state.saved),
        thousands(state.total),
        state.rate
    );
    let room = usize::from(width).saturating_sub(label.len() + figures.len());
    let saved = cells(fraction(state.saved, state.total), room);
    let released = cells(fraction(state.released, state.total), room).max(saved);
    Line::from(vec![
        Span::from(label),
        Span::from("█".repeat(saved)).green(),
        Span::from("▒".repeat(released - saved)).yellow(),
        Span::from("░".repeat(room - released)).dark_gray(),
        Span::from(figures),
    ])
}

fn facts_line(state: &State) -> Line<'static> {
    let planner = match &state.planner {
        Some((name, _)) => Span::from(format!("★ {name}")).bold().yellow(),
        None => Span::from("nobody").bold().red(),
    };
    let overlaps = Span::from(format!("overlaps {}", state.overlaps));
    Line::from(vec![
        Span::from(" planner "),
        planner,
        Span::from(format!(
            " term {}  hand-offs {}  late writes refused {}  ",
            state.terms, state.hand_offs, state.refused
        )),
        match state.overlaps {
            0 => overlaps.green(),
            _ => overlaps.bold().red(),
        },
    ])
}

/// A bar for each shard: in few columns of long bars, or in many where there are many shards.
fn shard_bars(frame: &mut Frame<'_>, area: Rect, state: &State) {
    /// What stands beside a bar, and the least room for it.
    const BESIDE: usize = 20;
    const LEAST: usize = 10;
    let block = panel(" shards ");
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let (width, height) = (usize::from(inner.width), usize::from(inner.height));
    let most = (width / (BESIDE + LEAST)).max(1);
    let columns = state.shards.len().div_ceil(height.max(1)).clamp(1, most);
    let room = (width / columns).saturating_sub(BESIDE);
    let rows = state.shards.len().div_ceil(columns);
    let line = |row: usize| {
        let in_row = (0..columns).map(|column| column * rows + row);
        let there = in_row.filter(|shard| *shard < state.shards.len());
        there.flat_map(|shard| bar(state, shard, room)).collect()
    };
    let lines: Vec<Line<'_>> = (0..rows.min(height)).map(line).collect();
    frame.render_widget(Paragraph::new(lines), inner);
}

fn bar(state: &State, index: usize, room: usize) -> [Span<'static>; 4] {
    let shard = &state.shards[index];
    let full = cells(shard.fraction(), room);
    let color = shard.owner.map_or(Color::DarkGray, map::color);
    let owner = shard.owner.map_or("-", |owner| &state.nodes[owner].name);
    let owner: String = owner.chars().take(8).collect();
    let percent = 100.0 * shard.fraction();
    [
        Span::from(format!("{index:>4} ")).dim(),
        Span::from("█".repeat(full)).fg(color),
        Span::from("░".repeat(room - full)).dark_gray(),
        Span::from(format!("{percent:>4.0}% {owner:<9}")),
    ]
}

fn log(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let block = panel(" events ");
    let inner = block.inner(area);
    let newest = state.log.iter().rev().take(usize::from(inner.height));
    let lines: Vec<Line<'_>> = newest.rev().map(log_line).collect();
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn log_line(line: &LogLine) -> Line<'_> {
    let style = match line.tone {
        Tone::Good => Style::new().green(),
        Tone::Bad => Style::new().yellow(),
        Tone::Plain => Style::new(),
        Tone::Wrong => Style::new().red().bold(),
    };
    Line::from(vec![
        Span::from(format!("{:>5} ", minutes(line.at))).dim(),
        Span::styled(line.text.as_str(), style),
    ])
}

fn panel(title: &'static str) -> Block<'static> {
    Block::bordered()
        .border_type(BorderType::Rounded)
        .border_style(Style::new().dark_gray())
        .title(Span::from(title).bold().white())
}

/// So many of `room` cells are this fraction. Never all of them before it is whole.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a fraction of a screen's width is small and not negative"
)]
fn cells(fraction: f64, room: usize) -> usize {
    ((fraction * room as f64) as usize).min(room)
}
