//! A message that is put together in one piece as its data come, for who waits for all of it.
//!
//! Each byte is copied once, out of the peer's memory to where it stays, and nobody is woken before the
//! message is whole. It is the application's memory: the peer gets its credit back at once.

use bytes::Bytes;
use notnets_memory::{ReadMemory, Reference, WriteMemory};

use super::fetched::Data;
use super::queue::Piece;
use super::stream::Receive;
use super::{Connection, Event, StreamId, Violation};
use crate::frame::{Frame, Payload};
use crate::limits::charge;

/// Room that is made at once for a message that is announced as longer. Until data are there it is no memory.
const MAX_RESERVED: usize = 4 << 20;

/// A message of which a part has come.
#[derive(Debug)]
pub(super) struct Gathering {
    /// What the application has taken before, until it is at the beginning of `bytes`.
    first: Bytes,
    bytes: Vec<u8>,
    /// Bytes of the whole message.
    total: usize,
}

impl Gathering {
    fn begin(&mut self) {
        if self.bytes.capacity() == 0 {
            self.bytes.reserve_exact(self.total.min(MAX_RESERVED));
            self.bytes.extend_from_slice(&std::mem::take(&mut self.first));
        }
    }

    fn append(&mut self, bytes: &[u8]) {
        self.begin();
        self.bytes.extend_from_slice(bytes);
    }

    fn is_whole(&self) -> bool {
        self.bytes.len() >= self.total
    }
}

impl Receive {
    /// No more of a message is put together: what there is of it can be taken.
    pub fn finish_gathering(&mut self) {
        let Some(Gathering { first, bytes, total }) = self.gathering.take().map(|gathering| *gathering)
        else {
            return;
        };
        let mut message = if bytes.is_empty() { first } else { Bytes::from(bytes) };
        let behind = message.split_off(total.min(message.len()));
        for bytes in [message, behind] {
            if !bytes.is_empty() {
                self.queue.push(Piece { bytes, cost: 0 });
            }
        }
    }
}

impl<T, W: WriteMemory, R: ReadMemory> Connection<T, W, R> {
    /// Puts a message of `total` bytes together in one piece, of which the application has taken the `first`
    /// ones, and nothing else since. It is [taken](Self::take) as all data are, once it is whole or no more
    /// of it comes.
    ///
    /// # Errors
    /// `first`, when the rest comes otherwise.
    pub fn gather(&mut self, stream: StreamId, first: Bytes, total: usize) -> Result<(), Bytes> {
        let Some(entry) = self.streams.get_mut(stream).filter(|entry| entry.state.may_receive()) else {
            return Err(first);
        };
        let receive = &mut entry.receive;
        if receive.gathering.is_some() || !receive.queue.is_copied() {
            return Err(first);
        }
        let mut gathering = Box::new(Gathering { first, bytes: Vec::new(), total });
        let mut cost = 0;
        while let Some(piece) = receive.queue.pop() {
            gathering.append(&piece.bytes);
            cost += piece.cost;
        }
        let whole = gathering.is_whole();
        receive.gathering = Some(gathering);
        if whole {
            receive.finish_gathering();
        }
        if cost > 0 {
            self.on_data_taken(stream, cost);
        }
        Ok(())
    }

    /// The block of these data, if they belong to a message that is put together.
    #[inline]
    pub(super) fn gathered_block<'a>(&mut self, frame: &'a Frame) -> Option<&'a Reference> {
        let Payload::Reference(reference) = &frame.payload else { return None };
        if reference.head > 0 || reference.length == 0 || frame.message {
            return None;
        }
        let entry = self.streams.get_mut(frame.stream)?;
        (entry.receive.gathering.is_some() && entry.state.may_receive()).then_some(reference)
    }

    /// Data in a block that belong to a message that is put together.
    pub(super) fn on_gathered(&mut self, frame: &Frame, reference: &Reference) -> Result<(), Violation> {
        let id = frame.stream;
        let length = reference.length as usize;
        if length as u64 > self.receive_credit.min(self.own.stream_window.into()) {
            return Err(Violation::Window(id));
        }
        self.lanes.check(reference)?;
        self.bytes_left = self.bytes_left.saturating_sub(length);
        let cost = charge(length);
        let charge = self.charge(id, cost)?;
        let Some(entry) = self.streams.get_mut(id) else { return Err(Violation::State(id, frame.kind)) };
        entry.receive.accept(charge, id)?;
        if let Some(gathering) = &mut entry.receive.gathering {
            gathering.begin();
            self.lanes.read(reference, &mut gathering.bytes)?;
        }
        self.lanes.release(reference);
        self.after_gathering(frame, cost);
        Ok(())
    }

    /// Other data on a stream on which a message is put together.
    #[cold]
    pub(super) fn gather_data(&mut self, frame: &Frame, data: Data) {
        let Some(entry) = self.streams.get_mut(frame.stream) else { return };
        let receive = &mut entry.receive;
        let cost = match (data, &mut receive.gathering) {
            (Data::Piece(piece), Some(gathering)) if piece.is_copied() => {
                gathering.append(&piece.bytes);
                piece.cost
            }
            (data, _) => {
                receive.finish_gathering();
                data.push_into(&mut receive.queue, frame);
                0
            }
        };
        self.after_gathering(frame, cost);
    }

    fn after_gathering(&mut self, frame: &Frame, cost: u64) {
        let id = frame.stream;
        let Some(entry) = self.streams.get_mut(id) else { return };
        let whole = entry.receive.gathering.as_ref().is_none_or(|gathering| gathering.is_whole());
        if whole || frame.end {
            entry.receive.finish_gathering();
            self.events.push_back(Event::Readable(id));
        }
        if frame.end {
            entry.end_received();
        }
        if cost > 0 {
            self.on_data_taken(id, cost);
        }
    }
}
