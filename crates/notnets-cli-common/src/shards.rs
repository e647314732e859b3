//! Records that the threads of a program write.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Records of one kind: each thread has one almost for itself, so that to write costs nanoseconds. One for
/// each task would cost its memory.
#[derive(Debug)]
pub struct Shards<T>(Box<[Mutex<T>]>);

impl<T> Shards<T> {
    /// Makes records for so many threads.
    pub fn new(threads: usize, make: impl Fn() -> T) -> Self {
        Self((0..threads.max(1)).map(|_| Mutex::new(make())).collect())
    }

    /// The record of the task, or call, of this number.
    #[inline]
    pub fn of(&self, number: usize) -> MutexGuard<'_, T> {
        lock(&self.0[number % self.0.len()])
    }

    /// All records.
    pub fn all(&self) -> impl Iterator<Item = MutexGuard<'_, T>> {
        self.0.iter().map(lock)
    }
}

#[inline]
fn lock<T>(shard: &Mutex<T>) -> MutexGuard<'_, T> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
