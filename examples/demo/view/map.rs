//! The map: who owns which shard.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::panel;
use crate::state::{NodeState, Phase, ShardState, State, thousands};

/// Columns before the map (name, state, count) and behind it (events).
const BEFORE: usize = 24;
const BEHIND: usize = 8;

/// The widest a shard's column gets.
const WIDEST: usize = 4;

/// Lines besides those of nodes: the frame, the shards' numbers, "nobody", "saved".
const OTHERS: u16 = 5;

/// How many lines the map would like, at most `room`.
pub(super) fn height(state: &State, room: u16) -> u16 {
    let nodes = u16::try_from(state.nodes.len()).unwrap_or(u16::MAX);
    nodes.saturating_add(OTHERS).min(room).max(OTHERS + 1)
}

/// A node's colour.
pub(super) fn color(node: usize) -> Color {
    const COLORS: [Color; 10] = [
        Color::Cyan,
        Color::Green,
        Color::Yellow,
        Color::Blue,
        Color::Magenta,
        Color::LightRed,
        Color::LightCyan,
        Color::LightGreen,
        Color::LightBlue,
        Color::LightMagenta,
    ];
    COLORS[node % COLORS.len()]
}

/// A state's colour.
pub(super) fn phase_color(phase: Phase) -> Color {
    match phase {
        Phase::Joining | Phase::Leaving => Color::Blue,
        Phase::Live => Color::Green,
        Phase::Left => Color::DarkGray,
        Phase::Crashed => Color::Red,
        Phase::Paused => Color::Yellow,
        Phase::Cut => Color::Magenta,
    }
}

/// How shards are put into columns.
#[derive(Debug, Clone, Copy)]
struct Scale {
    /// Shards in a column: more than one where there is no room for all.
    shards: usize,
    /// Characters of a column.
    width: usize,
}

impl Scale {
    fn of(shards: usize, room: usize) -> Self {
        let room = room.max(1);
        Self {
            shards: shards.div_ceil(room).max(1),
            width: (room / shards.max(1)).clamp(1, WIDEST),
        }
    }
}

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let legend = Line::from(" █ at work  ▒ draining  ░ stopped  × nobody's ").dim();
    let block = panel(" nodes and their shards ").title_bottom(legend.right_aligned());
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let room = usize::from(inner.width).saturating_sub(BEFORE + BEHIND);
    let scale = Scale::of(state.shards.len(), room);
    let mut lines = vec![ruler(state, scale)];
    let nodes_room = usize::from(inner.height.saturating_sub(OTHERS - 2));
    lines.extend(node_lines(state, scale, nodes_room));
    lines.push(nobody(state, scale));
    lines.push(saved(state, scale));
    frame.render_widget(Paragraph::new(lines), inner);
}

/// The numbers of the shards, as far apart as they need.
fn ruler(state: &State, scale: Scale) -> Line<'static> {
    let columns = state.shards.len().div_ceil(scale.shards);
    let mut text = String::new();
    for column in 0..columns {
        let number = (column * scale.shards).to_string();
        let from = column * scale.width;
        let round = column.is_multiple_of(if scale.width < 3 { 5 } else { 1 });
        if round && from >= text.len() + usize::from(column > 0) {
            text = format!("{text:<from$}{number}");
        }
    }
    let width = columns * scale.width;
    Line::from(vec![
        Span::from(format!("{:<BEFORE$}", "")),
        Span::from(format!("{text:<width$}")),
        Span::from(format!("{:>BEHIND$}", "saved")),
    ])
    .dim()
}

/// A line for each node; where there is no room for all, for those that still take part.
fn node_lines(state: &State, scale: Scale, room: usize) -> Vec<Line<'static>> {
    let gone = |node: &NodeState| match node.phase {
        Phase::Left => true,
        Phase::Joining
        | Phase::Live
        | Phase::Leaving
        | Phase::Crashed
        | Phase::Paused
        | Phase::Cut => false,
    };
    let all = state.nodes.len() <= room;
    let shown: Vec<usize> = (0..state.nodes.len())
        .filter(|index| all || !gone(&state.nodes[*index]))
        .collect();
    let fits = if shown.len() <= room {
        shown.len()
    } else {
        room.saturating_sub(1)
    };
    let mut lines: Vec<Line<'static>> = shown[..fits]
        .iter()
        .map(|index| node_line(state, scale, *index))
        .collect();
    if fits < shown.len() {
        lines.push(Line::from(format!("  … and {} more", shown.len() - fits)).dim());
    }
    lines
}

fn node_line(state: &State, scale: Scale, index: usize) -> Line<'static> {
    let node = &state.nodes[index];
    let planner = state.planner.as_ref();
    let plans = planner.is_some_and(|(name, _)| *name == node.name);
    let name: String = node.name.chars().take(9).collect();
    let mut spans = vec![
        Span::from(if plans { "★" } else { " " }).yellow(),
        Span::from(format!("{name:<10}")).fg(color(index)).bold(),
        Span::from(format!("{:<8}", node.phase.word())).fg(phase_color(node.phase)),
        Span::from(format!("{:>4} ", state.shards_of(index))),
    ];
    for shards in state.shards.chunks(scale.shards) {
        let own = |shard: &&ShardState| shard.owner == Some(index);
        let owned = shards.iter().filter(own).count();
        let draining = shards.iter().filter(own).any(|shard| shard.draining);
        spans.push(cell(scale, owned, owned_style(node.phase, index, draining)));
    }
    spans.push(Span::from(format!("{:>BEHIND$}", thousands(node.saved))));
    Line::from(spans)
}

/// The block of an owned shard: a stopped owner's is a shadow, a draining one's half a block.
fn owned_style(phase: Phase, node: usize, draining: bool) -> (&'static str, Style) {
    match phase {
        Phase::Crashed | Phase::Paused | Phase::Cut | Phase::Left => {
            ("░", Style::new().fg(phase_color(phase)))
        }
        Phase::Joining | Phase::Live | Phase::Leaving => {
            let block = if draining { "▒" } else { "█" };
            (block, Style::new().fg(color(node)))
        }
    }
}

fn cell(scale: Scale, owned: usize, (block, style): (&'static str, Style)) -> Span<'static> {
    let filled = scale.width.saturating_sub(1).max(1);
    let blank = " ".repeat(scale.width - filled);
    if owned == 0 {
        return Span::from(format!("{:<1$}", "·", scale.width)).dark_gray();
    }
    // Where a column stands for several shards, its height tells how many of them.
    let block = if owned < scale.shards {
        ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "▇"][8 * owned / scale.shards]
    } else {
        block
    };
    Span::styled(block.repeat(filled) + &blank, style)
}

/// The shards that nobody has.
fn nobody(state: &State, scale: Scale) -> Line<'static> {
    let free = |shard: &&ShardState| shard.owner.is_none();
    let count = state.shards.iter().filter(free).count();
    let mut spans = vec![
        Span::from(format!(" {:<18}", "nobody")).dim(),
        Span::from(format!("{count:>4} ")),
    ];
    for shards in state.shards.chunks(scale.shards) {
        let free = shards.iter().filter(free).count();
        spans.push(match free {
            0 => Span::from(" ".repeat(scale.width)),
            _ => Span::from(format!("{:<1$}", "×", scale.width)).red().bold(),
        });
    }
    Line::from(spans)
}

/// How much of each shard is saved.
fn saved(state: &State, scale: Scale) -> Line<'static> {
    let mut spans = vec![Span::from(format!("{:<BEFORE$}", " saved")).dim()];
    for shards in state.shards.chunks(scale.shards) {
        let saved: usize = shards.iter().map(|shard| shard.saved).sum();
        let total: usize = shards.iter().map(|shard| shard.total).sum();
        let level = super::cells(crate::state::fraction(saved, total), 8);
        let block = [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"][level];
        let filled = scale.width.saturating_sub(1).max(1);
        let blank = " ".repeat(scale.width - filled);
        spans.push(Span::from(block.repeat(filled) + &blank).green());
    }
    spans.push(Span::from(format!("{:>BEHIND$}", thousands(state.saved))));
    Line::from(spans)
}
