//! Taking received data.

use bytes::Bytes;
use notnets_memory::{ReadMemory, WriteMemory};

use super::queue::Piece;
use super::stream::{Buffered, End, Failure, Receive, Received, ResponseHead, Stream};
use super::{Connection, Request, StreamId};
use crate::clock::Timestamp;
use crate::code::Code;
use crate::frame::PREFIX;
use crate::limits::charge;
use crate::stats::WaitsFor;

impl<T, W: WriteMemory, R: ReadMemory> Connection<T, W, R> {
    /// Server: the next request, unless the client has taken it back meanwhile.
    pub fn accept(&mut self) -> Option<Request> {
        loop {
            let (stream, method, metadata) = self.arrived.pop_front()?;
            match self.streams.get(stream) {
                Some(entry) if !entry.state.is_reset() => {
                    return Some(Request { stream, method, metadata, deadline: entry.deadline });
                }
                // Ended before the application saw it.
                Some(_) | None => {}
            }
        }
    }

    /// Client: the response's head, once it is there.
    pub fn response(&mut self, stream: StreamId) -> Option<Result<ResponseHead, Failure>> {
        let Some(entry) = self.streams.get_mut(stream) else { return Some(Err(gone())) };
        if let Some(head) = entry.receive.head.take() {
            return Some(Ok(head));
        }
        match &entry.receive.end {
            Some(End::Failed(failure)) => Some(Err(failure.clone())),
            _ => None,
        }
    }

    /// Takes a stream's next data, and its end if nothing comes between.
    pub fn take_buffered(&mut self, stream: StreamId) -> Buffered {
        let data = self.take_data(stream);
        let Some(entry) = self.streams.get(stream) else {
            return Buffered { data, end: Some(End::Failed(gone())) };
        };
        let receive = &entry.receive;
        let end = if receive.queue.is_empty() { receive.end.clone() } else { None };
        Buffered { data, end }
    }

    /// Server: brings the end of a call forward.
    pub fn shorten(&mut self, stream: StreamId, deadline: Timestamp) {
        let Some(entry) = self.streams.get_mut(stream) else { return };
        if entry.deadline.is_none_or(|present| deadline < present) {
            if let Some(present) = entry.deadline.replace(deadline) {
                self.deadlines.remove(&(present, stream));
            }
            self.deadlines.insert((deadline, stream));
        }
    }

    /// The next data of a stream, or its end. Taking data gives the peer credit for more.
    #[inline]
    pub fn take(&mut self, stream: StreamId) -> Received {
        if let Some(data) = self.take_data(stream) {
            return Received::Data(data);
        }
        match self.streams.get_mut(stream) {
            Some(Stream { receive: Receive { end: Some(end), .. }, .. }) => Received::End(end.clone()),
            Some(entry) => {
                if let Some(counters) = &self.counters {
                    counters.waits_for(&mut entry.counted, WaitsFor::Peer);
                }
                Received::Pending
            }
            None => Received::End(End::Failed(gone())),
        }
    }

    /// Takes data that are one small message of at most `most` bytes, when it is known that nothing more
    /// comes. Returns `true` if it did; else [`take`](Self::take) has what there is.
    #[inline]
    pub fn take_only_message(&mut self, stream: StreamId, most: usize, message: &mut Vec<u8>) -> bool {
        let Some(entry) = self.streams.get_mut(stream).filter(|entry| entry.state.has_received_all()) else {
            return false;
        };
        let queue = &mut entry.receive.queue;
        let Some(only) = queue.message().filter(|only| only.len() <= most) else { return false };
        message.extend_from_slice(only);
        let cost = charge(only.len() + PREFIX);
        queue.pop_message();
        self.on_last_data_taken(cost);
        true
    }

    #[inline]
    fn take_data(&mut self, stream: StreamId) -> Option<Bytes> {
        let entry = self.streams.get_mut(stream)?;
        let receive = &mut entry.receive;
        let Piece { bytes, cost } = receive.queue.pop()?;
        if receive.unfinished > 0 {
            // If they don't end the message, the application says so.
            self.unfinished -= std::mem::take(&mut receive.unfinished);
        }
        if entry.state.may_receive() {
            self.on_data_taken(stream, cost);
        } else {
            self.on_last_data_taken(cost);
        }
        Some(bytes)
    }
}

fn gone() -> Failure {
    Failure::new(Code::CANCELLED, "the call is over")
}
