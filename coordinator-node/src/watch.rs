//! A value that many look at, and wait for changes of: tokio's `watch`, as far as it is needed here,
//! but with waiters that are woken in the order in which they began to wait.
//!
//! Tokio's wakes them in a random order, by a generator that no test can seed; so two runs of one
//! test would differ, which the memory backend promises they do not.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use tokio::sync::Notify;

/// Where the value is changed.
#[derive(Debug)]
pub(crate) struct Sender<T>(Arc<Shared<T>>);

/// Where it is looked at.
#[derive(Debug)]
pub(crate) struct Receiver<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
}

/// The sender is gone: the value will not change any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed;

/// The value as it is now. Not to be held while waiting.
#[derive(Debug)]
pub(crate) struct Ref<'a, T>(RwLockReadGuard<'a, T>);

#[derive(Debug)]
struct Shared<T> {
    value: RwLock<T>,
    version: AtomicU64,
    closed: AtomicBool,
    changed: Notify,
}

/// A value, and a first receiver, which has seen it.
pub(crate) fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let sender = Sender::new(value);
    let receiver = sender.subscribe();
    (sender, receiver)
}

impl<T> Shared<T> {
    fn read(&self) -> Ref<'_, T> {
        Ref(self.value.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T> Deref for Ref<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Sender<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Arc::new(Shared {
            value: RwLock::new(value),
            version: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            changed: Notify::new(),
        }))
    }

    /// A receiver that has seen the value as it is.
    pub(crate) fn subscribe(&self) -> Receiver<T> {
        Receiver {
            seen: self.0.version.load(Ordering::Acquire),
            shared: self.0.clone(),
        }
    }

    pub(crate) fn borrow(&self) -> Ref<'_, T> {
        self.0.read()
    }

    pub(crate) fn send_replace(&self, value: T) -> T {
        let mut former = value;
        self.send_modify(|kept| std::mem::swap(kept, &mut former));
        former
    }

    pub(crate) fn send_modify(&self, change: impl FnOnce(&mut T)) {
        self.send_if_modified(|value| {
            change(value);
            true
        });
    }

    /// Changes the value; `change` says whether it has. If not, nobody is woken.
    pub(crate) fn send_if_modified(&self, change: impl FnOnce(&mut T) -> bool) -> bool {
        {
            let mut value = self.0.value.write().unwrap_or_else(PoisonError::into_inner);
            if !change(&mut value) {
                return false;
            }
            self.0.version.fetch_add(1, Ordering::AcqRel);
        }
        self.0.changed.notify_waiters();
        true
    }
}

impl<T: Default> Default for Sender<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.changed.notify_waiters();
    }
}

impl<T> Receiver<T> {
    pub(crate) fn borrow(&self) -> Ref<'_, T> {
        self.shared.read()
    }

    /// The value, which counts as seen from now on.
    pub(crate) fn borrow_and_update(&mut self) -> Ref<'_, T> {
        let value = self.shared.read();
        // Under the lock: what is read is what is seen.
        self.seen = self.shared.version.load(Ordering::Acquire);
        value
    }

    /// The value as it is counts as not seen.
    pub(crate) fn mark_changed(&mut self) {
        self.seen = self.seen.wrapping_sub(1);
    }

    /// Waits for a value that was not seen, which then counts as seen. Cancel safe.
    pub(crate) async fn changed(&mut self) -> Result<(), Closed> {
        loop {
            // Before the look: a change after it is not missed.
            let changed = self.shared.changed.notified();
            let version = self.shared.version.load(Ordering::Acquire);
            if version != self.seen {
                self.seen = version;
                return Ok(());
            }
            if self.shared.closed.load(Ordering::Acquire) {
                return Err(Closed);
            }
            changed.await;
        }
    }

    /// Waits until the value is as wanted; it may be so already. Cancel safe.
    pub(crate) async fn wait_for(
        &mut self,
        mut wanted: impl FnMut(&T) -> bool,
    ) -> Result<Ref<'_, T>, Closed> {
        loop {
            let as_wanted = {
                let value = self.shared.read();
                self.seen = self.shared.version.load(Ordering::Acquire);
                wanted(&value)
            };
            if as_wanted {
                return Ok(self.shared.read());
            }
            self.changed().await?;
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            seen: self.seen,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn a_change_is_seen_once_and_the_end_is_an_error() {
        let (sender, mut receiver) = channel(1);
        sender.send_modify(|value| *value = 2);
        assert_eq!(receiver.changed().await, Ok(()));
        assert_eq!(*receiver.borrow(), 2);
        assert!(!sender.send_if_modified(|_| false));
        assert_eq!(sender.send_replace(3), 2);
        assert_eq!(*receiver.borrow_and_update(), 3);
        receiver.mark_changed();
        assert_eq!(receiver.changed().await, Ok(()));
        drop(sender);
        assert_eq!(receiver.changed().await, Err(Closed));
    }

    #[tokio::test]
    async fn a_wait_ends_when_the_value_is_as_wanted() {
        let (sender, mut receiver) = channel(0);
        let waiting = tokio::spawn(async move { receiver.wait_for(|it| *it == 3).await.is_ok() });
        for value in 1..4 {
            tokio::task::yield_now().await;
            sender.send_replace(value);
        }
        assert!(waiting.await.unwrap());
    }

    #[tokio::test]
    async fn waiters_are_woken_in_the_order_in_which_they_came() {
        for _ in 0..8 {
            let (sender, receiver) = channel(());
            let woken = Arc::new(Mutex::new(Vec::new()));
            let waiters = (0..16).map(|number| {
                let (mut receiver, woken) = (receiver.clone(), woken.clone());
                tokio::spawn(async move {
                    receiver.changed().await.unwrap();
                    woken.lock().unwrap().push(number);
                })
            });
            let waiters: Vec<_> = waiters.collect();
            tokio::task::yield_now().await;
            sender.send_replace(());
            for waiter in waiters {
                waiter.await.unwrap();
            }
            assert_eq!(*woken.lock().unwrap(), (0..16).collect::<Vec<_>>());
        }
    }
}
