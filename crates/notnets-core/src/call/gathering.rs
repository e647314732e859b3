//! A message that is put together in one piece as its data come, for who waits for all of it.
//!
//! Each byte is copied once, out of the peer's memory to where it stays, and nobody is woken before the
//! message is whole. It is the application's memory: the peer gets its credit back at once.

use bytes::Bytes;
use notnets_memory::{ReadMemory, Reference, WriteMemory};

use super::fetched::Data;
use super::lending::LEAST_LENT;
use super::payloads::PayloadKind;
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
    /// Bytes of the whole message.
    total: usize,
    parts: Parts,
}

/// The part of a message that has come.
#[derive(Debug)]
enum Parts {
    /// In one piece of private memory. What the application has taken before is `first`, until it is at the
    /// beginning of `bytes`.
    Copied { first: Bytes, bytes: Vec<u8> },
    /// Where they are.
    Held(Vec<Bytes>),
}

impl Gathering {
    fn new(first: Bytes, total: usize, holds: bool) -> Box<Self> {
        let parts = if holds {
            Parts::Held(if first.is_empty() { Vec::new() } else { vec![first] })
        } else {
            Parts::Copied { first, bytes: Vec::new() }
        };
        Box::new(Self { total, parts })
    }

    /// The memory that the parts are copied to.
    fn memory(&mut self) -> Option<&mut Vec<u8>> {
        let Parts::Copied { first, bytes } = &mut self.parts else { return None };
        if bytes.capacity() == 0 {
            bytes.reserve_exact(self.total.min(MAX_RESERVED));
            bytes.extend_from_slice(&std::mem::take(first));
        }
        Some(bytes)
    }

    fn append(&mut self, part: Bytes) {
        match &mut self.parts {
            Parts::Held(parts) => parts.push(part),
            Parts::Copied { .. } => {
                self.memory().into_iter().for_each(|bytes| bytes.extend_from_slice(&part))
            }
        }
    }

    fn is_whole(&self) -> bool {
        let come = match &self.parts {
            Parts::Copied { bytes, .. } => bytes.len(),
            Parts::Held(parts) => parts.iter().map(Bytes::len).sum(),
        };
        come >= self.total
    }

    fn into_pieces(self) -> Vec<Bytes> {
        let (first, bytes) = match self.parts {
            Parts::Held(parts) => return parts,
            Parts::Copied { first, bytes } => (first, bytes),
        };
        let mut message = if bytes.is_empty() { first } else { Bytes::from(bytes) };
        let behind = message.split_off(self.total.min(message.len()));
        vec![message, behind]
    }
}

impl Receive {
    /// No more of a message is put together: what there is of it can be taken.
    pub fn finish_gathering(&mut self) {
        let gathered = self.gathering.take().map(|gathering| gathering.into_pieces());
        self.push_gathered(gathered.into_iter().flatten());
    }

    fn push_gathered(&mut self, pieces: impl IntoIterator<Item = Bytes>) {
        let pieces = pieces.into_iter().filter(|bytes| !bytes.is_empty());
        pieces.for_each(|bytes| self.queue.push(Piece { bytes, cost: 0 }));
    }
}

impl<T, W: WriteMemory, R: ReadMemory> Connection<T, W, R> {
    /// Puts a message of `total` bytes together in one piece, of which the application has taken the `first`
    /// ones, and nothing else since. Where it can stay in the peer's blocks, those that don't lie one behind
    /// the other are pieces of their own. It is [taken](Self::take) as all data are, once it is whole or no
    /// more of it comes.
    ///
    /// # Errors
    /// `first`, when the rest comes otherwise.
    pub fn gather(&mut self, stream: StreamId, first: Bytes, total: usize) -> Result<(), Bytes> {
        let holds = self.may_hold(total);
        let Some(entry) = self.streams.get_mut(stream).filter(|entry| entry.state.may_receive()) else {
            return Err(first);
        };
        let receive = &mut entry.receive;
        if receive.gathering.is_some() {
            return Err(first);
        }
        let mut come = first.len();
        if !receive.queue.is_copied() {
            self.keep_unfinished(stream, come);
            return Err(first);
        }
        let mut gathering = Gathering::new(first, total, holds);
        let mut cost = 0;
        while let Some(piece) = receive.queue.pop() {
            come += piece.bytes.len();
            gathering.append(piece.bytes);
            cost += piece.cost;
        }
        receive.gathering = Some(gathering);
        let whole = self.finish_whole(stream);
        if cost > 0 {
            self.on_data_taken(stream, cost);
        }
        if !whole {
            self.keep_unfinished(stream, come);
        }
        Ok(())
    }

    /// A message that is whole can be taken. Returns `false` if more of one has to come.
    fn finish_whole(&mut self, stream: StreamId) -> bool {
        let Some(entry) = self.streams.get_mut(stream) else { return true };
        let Some(gathering) = entry.receive.gathering.take_if(|gathering| gathering.is_whole()) else {
            return entry.receive.gathering.is_none();
        };
        let mut pieces = gathering.into_pieces();
        self.join(&mut pieces);
        if let Some(entry) = self.streams.get_mut(stream) {
            entry.receive.push_gathered(pieces);
        }
        true
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
        let Receive { gathering, messages, .. } = &mut entry.receive;
        let ended = if let Some(bytes) = gathering.as_mut().and_then(|gathering| gathering.memory()) {
            let before = bytes.len();
            self.lanes.read(reference, bytes)?;
            self.lanes.release(reference);
            let ended = messages.after(&bytes[before..]);
            if length >= LEAST_LENT {
                self.count_payload(PayloadKind::ReceivedUntrusted, length);
            }
            ended
        } else {
            self.hold(id, reference)?
        };
        if let Some(counters) = &self.counters {
            counters.received(length, ended);
        }
        self.after_gathering(frame, cost, length);
        Ok(())
    }

    /// A part of a message that stays where it is, if it can. Returns how many messages end with it.
    fn hold(&mut self, stream: StreamId, reference: &Reference) -> Result<u64, Violation> {
        let part = match self.lend(reference) {
            Some(lent) => lent,
            None => self.copy_out(reference)?.into(),
        };
        let Some(entry) = self.streams.get_mut(stream) else { return Ok(0) };
        let ended = entry.receive.messages.after(&part);
        if let Some(gathering) = &mut entry.receive.gathering {
            gathering.append(part);
        }
        Ok(ended)
    }

    /// Other data on a stream on which a message is put together.
    #[cold]
    pub(super) fn gather_data(&mut self, frame: &Frame, data: Data) {
        let Some(entry) = self.streams.get_mut(frame.stream) else { return };
        let receive = &mut entry.receive;
        let (cost, length) = match (data, &mut receive.gathering) {
            (Data::Piece(piece), Some(gathering)) if piece.is_copied() => {
                let length = piece.bytes.len();
                gathering.append(piece.bytes);
                (piece.cost, length)
            }
            (data, _) => {
                receive.finish_gathering();
                data.push_into(&mut receive.queue, frame);
                (0, 0)
            }
        };
        self.after_gathering(frame, cost, length);
    }

    /// Data of this length have been put behind what there was of a message.
    fn after_gathering(&mut self, frame: &Frame, cost: u64, length: usize) {
        let id = frame.stream;
        let whole = self.finish_whole(id);
        self.add_unfinished(id, length);
        let Some(entry) = self.streams.get_mut(id) else { return };
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
        if !whole && !frame.end {
            self.check_unfinished(id);
        }
    }
}
