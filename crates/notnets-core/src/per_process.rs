//! A lock for what a forked child can't share with its parent.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use notnets_memory::process::ForkGuard;
use once_cell::race::OnceBox;

/// A value behind a lock. A process that was forked from the one that made it has a value of its own: a
/// thread of the parent may have held the lock when it forked, and nobody in the child would ever unlock it.
#[derive(Debug)]
pub struct PerProcess<T> {
    value: Mutex<T>,
    /// A process without a guard is taken for the one that made this.
    fork: Option<ForkGuard>,
    of_child: OnceBox<Self>,
}

impl<T> PerProcess<T> {
    /// The value of this process.
    pub fn new(value: T) -> Self {
        Self { value: Mutex::new(value), fork: ForkGuard::new().ok(), of_child: OnceBox::new() }
    }

    /// Locks the value of this process, which `make` makes in a forked child.
    #[inline]
    pub fn lock(&self, make: impl Fn() -> T) -> MutexGuard<'_, T> {
        if self.fork.is_some_and(|fork| fork.is_forked_child()) {
            return self.of_child(make);
        }
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cold]
    fn of_child(&self, make: impl Fn() -> T) -> MutexGuard<'_, T> {
        let mut value = self;
        while value.fork.is_some_and(|fork| fork.is_forked_child()) {
            value = value.of_child.get_or_init(|| Self::new(make()).into());
        }
        value.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All values that there are: this process's, and what it has of its parent's. Not those that a
    /// thread of the parent had locked.
    pub fn values(&mut self) -> Vec<MutexGuard<'_, T>> {
        let each = std::iter::successors(Some(&*self), |value| value.of_child.get());
        each.filter_map(|value| match value.value.try_lock() {
            Ok(value) => Some(value),
            Err(TryLockError::Poisoned(error)) => Some(error.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_one_value() {
        let mut value = PerProcess::new(1);
        *value.lock(|| 0) += 1;
        assert_eq!(*value.lock(|| 0), 2);
        assert_eq!(value.values().iter().map(|value| **value).collect::<Vec<_>>(), [2]);
    }
}
