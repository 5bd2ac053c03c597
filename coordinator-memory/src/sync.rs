//! A mutex that does not pass panics on.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Data shared by members. A panic of one of them (a user's test may well contain one) must not
/// become a panic of all: every change is complete before its guard is dropped.
#[derive(Debug, Default)]
pub(crate) struct Shared<T>(Mutex<T>);

impl<T> Shared<T> {
    pub(crate) fn new(data: T) -> Self {
        Self(Mutex::new(data))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
