//! The private memory that a peer can make a link hold.

use notnets_memory::{ReadMemory, WriteMemory};

use super::Connection;

/// Everything that a peer can make grow. [`Limits`](crate::limits::Limits) bound all of it, whatever
/// the peer does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Bytes received that the application has not taken.
    pub unread: usize,
    /// Bytes of messages of which the rest has not come.
    pub unfinished: u64,
    /// Requests received that the application has not accepted.
    pub requests: usize,
    /// Frames that wait for room in the ring.
    pub control: usize,
    /// Streams that wait for room or credit.
    pub waiting: usize,
    /// Deadlines that have not passed.
    pub deadlines: usize,
}

impl<T, W: WriteMemory, R: ReadMemory> Connection<T, W, R> {
    /// Counts it, which takes a look at every stream.
    pub fn backlog(&self) -> Backlog {
        Backlog {
            unread: self.streams.values().map(|stream| stream.receive.queue.bytes()).sum(),
            unfinished: self.unfinished,
            requests: self.arrived.len(),
            control: self.control.streams(),
            waiting: self.queued.len() + self.starved.len(),
            deadlines: self.deadlines.len(),
        }
    }
}
