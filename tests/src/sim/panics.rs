//! Panics of tasks: seen, told, and not printed, unless a world has asked for them.

use std::cell::RefCell;
use std::panic;
use std::sync::Once;

use super::worlds::ON_PURPOSE;

thread_local! {
    /// The first panic of a run on this thread; `None`: there is no run.
    static SEEN: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// From now on the panics of this thread are collected. Those of other threads are not our business.
pub(super) fn watch() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let former = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let ours = SEEN.with_borrow_mut(|seen| {
                let Some(seen) = seen else {
                    return false;
                };
                let message = info.to_string();
                if !message.contains(ON_PURPOSE) {
                    seen.push(message);
                }
                true
            });
            if !ours {
                former(info);
            }
        }));
    });
    SEEN.with_borrow_mut(|seen| *seen = Some(Vec::new()));
}

/// A panic that was seen since the last time.
pub(super) fn seen() -> Option<String> {
    SEEN.with_borrow_mut(|seen| seen.as_mut()?.pop())
}

/// Panics of this thread are printed again.
pub(super) fn look_away() {
    SEEN.with_borrow_mut(|seen| *seen = None);
}
