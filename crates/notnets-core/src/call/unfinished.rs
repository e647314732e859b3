//! Messages that have come in part: how much a peer can have this side keep of them.
//!
//! What is put together to a message is the application's memory, and its credit has gone back to the peer.
//! So each stream could hold the largest message but for its last byte. What all of a link hold is counted
//! here, and the call that adds to it beyond the limit ends. A call that is the only one with much may have a
//! message of any length: only what the others hold counts against it.

use notnets_memory::{ReadMemory, WriteMemory};

use super::stream::Failure;
use super::{Connection, StreamId};
use crate::code::Code;

impl<T, W: WriteMemory, R: ReadMemory> Connection<T, W, R> {
    /// The application keeps these bytes of a message, all of them that it has taken, until it takes more.
    pub fn keep_unfinished(&mut self, stream: StreamId, bytes: usize) {
        let Some(entry) = self.streams.get_mut(stream).filter(|entry| entry.state.may_receive()) else {
            return;
        };
        let before = std::mem::replace(&mut entry.receive.unfinished, bytes as u64);
        self.unfinished = self.unfinished - before + bytes as u64;
        self.check_unfinished(stream);
    }

    /// More of a message that is put together has come.
    pub(super) fn add_unfinished(&mut self, stream: StreamId, bytes: usize) {
        if let Some(entry) = self.streams.get_mut(stream) {
            entry.receive.unfinished += bytes as u64;
            self.unfinished += bytes as u64;
        }
    }

    /// Ends the call if there is too much of other messages beside its own.
    pub(super) fn check_unfinished(&mut self, stream: StreamId) {
        let own = self.streams.get(stream).map_or(0, |entry| entry.receive.unfinished);
        if own > 0 && self.unfinished - own > self.own.unfinished_bytes {
            self.end_unfinished(stream);
        }
    }

    #[cold]
    fn end_unfinished(&mut self, stream: StreamId) {
        let message = "too many bytes of messages of which the rest has not come: see max_unfinished_bytes";
        self.fail(stream, Failure::new(Code::RESOURCE_EXHAUSTED, message), "too many unfinished messages");
    }
}
