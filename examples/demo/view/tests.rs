//! The view on three terminals.

use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::draw;
use crate::state::{LogLine, NodeState, Phase, ShardState, State, Tone};

/// Five nodes in as many states, 32 shards; 28 to 31 are nobody's, 4 is draining.
fn state() -> State {
    let phases = [
        Phase::Live,
        Phase::Live,
        Phase::Paused,
        Phase::Crashed,
        Phase::Left,
    ];
    let node = |(number, phase): (usize, Phase)| NodeState {
        name: format!("node-{number}"),
        phase,
        saved: 1_000 * number,
    };
    let shard = |index: usize| ShardState {
        owner: (index < 28).then_some(index % 4),
        draining: index == 4,
        saved: index * 10,
        total: 310,
    };
    State {
        seed: 7,
        pace: "speed ×10".into(),
        now: Duration::from_secs(127),
        span: Duration::from_secs(200),
        released: 6_000,
        saved: 4_604,
        total: 9_208,
        rate: 51.2,
        planner: Some(("node-2".into(), 1_234)),
        terms: 3,
        hand_offs: 34,
        refused: 8,
        overlaps: 0,
        nodes: (1..).zip(phases).map(node).collect(),
        shards: (0..32).map(shard).collect(),
        log: (0..60)
            .map(|second| LogLine {
                at: Duration::from_secs(second),
                tone: Tone::Bad,
                text: format!("news {second}"),
            })
            .collect(),
    }
}

fn repeat<T: Clone>(all: &[T], times: usize) -> Vec<T> {
    std::iter::repeat_n(all, times).flatten().cloned().collect()
}

/// What is on a screen of this size, line by line.
fn lines(width: u16, height: u16, state: &State) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, state)).unwrap();
    let buffer = terminal.backend().buffer();
    let rows = buffer.content().chunks(usize::from(width));
    rows.map(|row| row.iter().map(ratatui::buffer::Cell::symbol).collect())
        .collect()
}

#[test]
fn at_80_by_24_each_shard_has_one_column_with_one_block() {
    let lines = lines(80, 24, &state());
    let text = lines.join("\n");
    assert!(lines[0].contains("seed 7  speed ×10"), "{text}");
    assert!(lines[0].ends_with("2:07 / 3:20 "), "{text}");
    assert!(lines[1].contains("4,604 / 9,208   51/s"), "{text}");
    assert!(lines[2].contains("planner ★ node-2 term 3"), "{text}");
    let row = |name: &str| {
        let line = lines.iter().find(|line| line.contains(name));
        line.expect("the row is shown")
    };
    assert!(row("★node-2").contains("live       7 ·█···█"), "{text}");
    assert!(row(" node-1").contains("live       7 █···▒···█"), "{text}");
    assert!(row(" node-3").contains("paused     7 ··░···░"), "{text}");
    let blocks: usize = lines[5..10]
        .iter()
        .map(|line| line.chars().filter(|c| "█▒░".contains(*c)).count())
        .sum();
    assert_eq!(blocks, 28, "{text}");
    assert!(row(" nobody").contains("4 "), "{text}");
    assert_eq!(row(" nobody").matches('×').count(), 4, "{text}");
}

#[test]
fn the_newest_events_are_shown_last() {
    for (width, height) in [(80, 24), (200, 50), (40, 10)] {
        let lines = lines(width, height, &state());
        let mut news = lines.iter().filter(|line| line.contains("news"));
        assert!(news.next_back().unwrap().contains("news 59"), "{lines:#?}");
    }
}

#[test]
fn at_200_by_50_each_shard_also_has_a_bar_with_its_owner() {
    let lines = lines(200, 50, &state());
    let text = lines.join("\n");
    assert!(text.contains("  31 ███████████"), "{text}");
    assert!(text.contains("█ 100% -"), "{text}");
    assert!(text.contains("░  52% node-1"), "{text}");
    assert!(lines[4].contains("news"), "the log is on the right\n{text}");
}

#[test]
fn at_40_by_10_the_facts_are_still_told() {
    let lines = lines(40, 10, &state());
    assert!(lines[0].starts_with("2:07 50 % of 9,208"), "{lines:#?}");
    assert!(
        lines[1].starts_with("planner node-2, overlaps 0"),
        "{lines:#?}"
    );
    assert!(lines[4].starts_with("node-3 paused 7 shards"), "{lines:#?}");
}

#[test]
fn no_size_and_no_state_is_too_small_to_draw() {
    let mut crowd = state();
    crowd.nodes = repeat(&crowd.nodes, 20);
    crowd.shards = repeat(&crowd.shards, 128);
    for state in [State::default(), state(), crowd] {
        for width in [1, 2, 20, 59, 60, 80, 129, 130, 300] {
            for height in [1, 2, 13, 14, 24, 29, 30, 100] {
                let lines = lines(width, height, &state);
                assert_eq!(lines.len(), usize::from(height));
            }
        }
    }
}

#[test]
fn more_shards_than_columns_share_columns() {
    let mut many = state();
    many.shards = repeat(&many.shards, 8);
    let lines = lines(80, 24, &many);
    let row = lines.iter().find(|line| line.contains("★node-2")).unwrap();
    assert!(row.contains("live      56 "), "{row}");
    assert!(row.chars().any(|c| "▁▂▃▄▅▆▇".contains(c)), "{row}");
}

#[test]
fn more_nodes_than_lines_are_counted() {
    let mut crowd = state();
    crowd.nodes = repeat(&crowd.nodes, 20);
    let lines = lines(80, 24, &crowd);
    assert!(
        lines.iter().any(|line| line.contains("… and ")),
        "{lines:#?}"
    );
    assert!(
        lines.iter().any(|line| line.contains("news 59")),
        "{lines:#?}"
    );
}
