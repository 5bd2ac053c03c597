//! The bus: what is lost is told, and what comes late is not delivered.

use super::{Mutant, expression, statement, text};

const PUBLISHER: &str = "coordinator-core/src/machine/stream/publisher.rs";
const RECEIVER: &str = "coordinator-core/src/machine/stream/receiver.rs";
const FLUSHER: &str = "coordinator-node/src/bus/flusher.rs";
const QUEUE: &str = "coordinator-node/src/bus/queue.rs";

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "one-sequence-per-origin",
        world: "bus",
        rules: &["U1"],
        does: "All topics of an origin are numbered together.",
        caught_by: &["NO-FALSE-GAP"],
        edits: &[
            text(
                PUBLISHER,
                "let number = self.next_number;",
                "let number = self.next_number; \
                 let others = self.streams.values().map(|stream| stream.last).max(); \
                 let others = others.filter(|_| MUTANT).unwrap_or(0);",
            ),
            statement(
                PUBLISHER,
                "stream.last += 1;",
                "stream.last = stream.last.max(others) + 1;",
            ),
        ],
    },
    Mutant {
        name: "late-messages-delivered",
        world: "bus",
        rules: &["U2"],
        does: "A message that comes twice, or behind a later one, is delivered all the same.",
        caught_by: &["NO-SILENT-LOSS"],
        edits: &[text(
            RECEIVER,
            "let unseen = unseen?;",
            "if MUTANT && unseen.is_none() && frame.kind == FrameKind::Message { \
             return Some((Some(0), cause)); } let unseen = unseen?;",
        )],
    },
    Mutant {
        name: "beacons-ignored",
        world: "bus",
        rules: &["U3"],
        does: "Beacons show nothing.",
        caught_by: &["NO-SILENT-LOSS"],
        edits: &[
            expression(RECEIVER, "Receipt::Missing(gap)", "Receipt::Nothing")
                .within("(FrameKind::Beacon, Some(gap)) => Receipt::Missing(gap)"),
        ],
    },
    Mutant {
        name: "first-message-taken-for-the-beginning",
        world: "bus",
        rules: &["U4"],
        does: "The first message that is heard of a stream is taken for its first message.",
        caught_by: &["NO-SILENT-LOSS"],
        edits: &[expression(RECEIVER, "latest < self.live_since", "true")],
    },
    Mutant {
        name: "slow-subscriber-not-told",
        world: "bus",
        rules: &["U8"],
        does: "What does not fit into a subscriber's queue is dropped without a word.",
        caught_by: &["NO-SILENT-LOSS"],
        edits: &[statement(QUEUE, "state.drop_newest(dropped);", "")],
    },
    Mutant {
        name: "retry-under-new-numbers",
        world: "bus",
        rules: &["U2"],
        does: "A batch whose outcome is unknown is sent again under the numbers that follow.",
        caught_by: &["NO-SILENT-LOSS"],
        edits: &[
            text(
                FLUSHER,
                "let Err(error) = self.attempt(frames, retry.deadline()).await else {",
                "let renumbered: Vec<Frame>; \
                 let frames = if MUTANT && retried { \
                     let now = self.context.now(); \
                     renumbered = frames.iter().map(|frame| match frame.kind { \
                         FrameKind::Message => self.publisher.stamp(now, &frame.topic, frame.payload.clone()), \
                         FrameKind::Beacon => frame.clone(), \
                     }).collect(); \
                     &renumbered[..] \
                 } else { frames }; \
                 retried = true; \
                 let Err(error) = self.attempt(frames, retry.deadline()).await else {",
            ),
            text(
                FLUSHER,
                "async fn attempts(&mut self, frames: &[Frame], retry: &mut Retry) -> Result<(), Ended> {",
                "async fn attempts(&mut self, frames: &[Frame], retry: &mut Retry) -> Result<(), Ended> { \
                 let mut retried = false;",
            ),
        ],
    },
];
