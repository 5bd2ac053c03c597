//! Many futures at once, on one task.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

enum Slot<'a, T> {
    Waiting(Pin<Box<dyn Future<Output = T> + 'a>>),
    Done(T),
}

/// All answers, in the order of the futures, which run side by side.
pub(crate) async fn join_all<'a, F>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output>
where
    F: Future + 'a,
    F::Output: 'a,
{
    let mut slots: Vec<Slot<'a, F::Output>> = futures
        .into_iter()
        .map(|future| Slot::Waiting(Box::pin(future)))
        .collect();
    poll_fn(|context| {
        let mut waiting = false;
        for slot in &mut slots {
            if let Slot::Waiting(future) = slot {
                match future.as_mut().poll(context) {
                    Poll::Ready(answer) => *slot = Slot::Done(answer),
                    Poll::Pending => waiting = true,
                }
            }
        }
        if waiting {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
    slots
        .into_iter()
        .filter_map(|slot| match slot {
            Slot::Done(answer) => Some(answer),
            Slot::Waiting(_) => None,
        })
        .collect()
}
