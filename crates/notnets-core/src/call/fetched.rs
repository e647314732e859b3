//! A frame's payload, copied out of the peer's memory and checked against the peer's credit.

use bytes::Bytes;
use notnets_memory::{ReadMemory, Reference, WriteMemory};

use super::payloads::PayloadKind;
use super::queue::{Piece, Queue, with_prefix};
use super::{Connection, Violation};
use crate::frame::{Frame, Kind, PREFIX, Payload, SharedReference};
use crate::limits::{MIN_CHARGE, charge};
use crate::messages::Messages;

impl<T, W: WriteMemory, R: ReadMemory> Connection<T, W, R> {
    /// Copies head and data out of the peer's memory, once, and gives its block back. A payload over a limit
    /// is not copied, for a block can be much larger than the peer's credit; nor are data that are for
    /// nobody, if those before them were neither.
    #[inline]
    pub(super) fn fetch(&mut self, frame: &Frame) -> Result<Fetched, Violation> {
        let restored = if frame.message { PREFIX } else { 0 };
        let split = frame.payload.head_len();
        let data = frame.payload.data_len() + restored;
        if split > self.own.metadata_bytes as usize {
            return Err(Violation::HeadTooLarge { bytes: split, limit: self.own.metadata_bytes });
        }
        if data as u64 > self.receive_credit.min(self.own.stream_window.into()) {
            return Err(Violation::Window(frame.stream));
        }
        if data > 0
            && let Some(counters) = &self.counters
        {
            counters.received(data, frame.message.into());
        }
        let bytes = match &frame.payload {
            Payload::Inline { bytes, .. } if frame.message => {
                let head = if split == 0 { Bytes::new() } else { Bytes::copy_from_slice(&bytes[..split]) };
                return Ok(Fetched { head, data: Data::InFrame, cost: charge(data) });
            }
            Payload::Inline { bytes, len, .. } => bytes[..*len as usize].to_vec(),
            Payload::Reference(reference) => {
                self.lanes.check(reference)?;
                self.bytes_left = self.bytes_left.saturating_sub(reference.length as usize);
                if self.unwanted && self.are_unwanted(frame) && reference.head < reference.length {
                    return self.fetch_head(reference, data);
                }
                if !frame.message
                    && let Some(lent) = self.lend(reference)
                {
                    return self.fetch_lent(reference, lent);
                }
                let copy = self.copy_out(reference)?;
                if frame.message { with_prefix(&copy, split) } else { copy }
            }
            Payload::Shared(reference) => return self.fetch_shared(reference),
        };
        Ok(Fetched::split(bytes, split))
    }

    /// Copies the bytes that are referred to, and gives their block back.
    #[inline]
    pub(super) fn copy_out(&mut self, reference: &Reference) -> Result<Vec<u8>, Violation> {
        let mut copy = Vec::with_capacity(reference.length as usize);
        self.lanes.read(reference, &mut copy)?;
        self.lanes.release(reference);
        crate::failpoint!("block released");
        Ok(copy)
    }

    /// The head is copied, also out of a block that is held: it is kept for longer than the data.
    fn fetch_lent(&mut self, reference: &Reference, lent: Bytes) -> Result<Fetched, Violation> {
        let mut head = Vec::with_capacity(reference.head as usize);
        if reference.head > 0 {
            self.lanes.read(&Reference { length: reference.head, ..*reference }, &mut head)?;
        }
        let data = Piece::copied(lent);
        let cost = data.cost;
        Ok(Fetched { head: head.into(), data: Data::Piece(data), cost })
    }

    /// Data that are read where they are take no memory of this side's, and so hardly any credit.
    fn fetch_shared(&mut self, reference: &SharedReference) -> Result<Fetched, Violation> {
        let bytes = self.sharing.resolve(reference)?;
        self.count_payload(PayloadKind::ReceivedShared, bytes.len());
        let data = Piece { bytes, cost: MIN_CHARGE };
        Ok(Fetched { head: Bytes::new(), data: Data::Piece(data), cost: MIN_CHARGE })
    }

    /// Reads the head alone: strings that are sent for later frames are in heads.
    #[cold]
    fn fetch_head(&mut self, reference: &Reference, data: usize) -> Result<Fetched, Violation> {
        let head = self.copy_out(&Reference { length: reference.head, ..*reference })?;
        Ok(Fetched { head: head.into(), data: Data::Unwanted, cost: charge(data) })
    }

    /// Returns `true` if no stream takes the data of this frame.
    #[cold]
    fn are_unwanted(&mut self, frame: &Frame) -> bool {
        let for_somebody = match frame.kind {
            Kind::Request => !self.refuses_requests(),
            Kind::Data | Kind::Response => self.is_open(frame.stream),
            _ => true,
        };
        self.unwanted = !for_somebody;
        // Between hosts a checksum may cover head and data.
        !for_somebody && !self.lanes.is_silent()
    }
}

/// A frame's payload, copied out of the peer's memory.
pub(super) struct Fetched {
    pub head: Bytes,
    pub data: Data,
    /// The data's cost in credit.
    pub cost: u64,
}

impl Fetched {
    /// Splits a payload into its head and its data. Most frames have only one of them: then nothing is moved.
    #[inline]
    fn split(bytes: Vec<u8>, split: usize) -> Self {
        let mut rest = Bytes::from(bytes);
        let head = match split {
            0 => Bytes::new(),
            _ if split == rest.len() => std::mem::take(&mut rest),
            _ => rest.split_to(split),
        };
        match rest.len() {
            0 => Self { head, data: Data::None, cost: 0 },
            _ => {
                let piece = Piece::copied(rest);
                let cost = piece.cost;
                Self { head, data: Data::Piece(piece), cost }
            }
        }
    }
}

/// A frame's data.
pub(super) enum Data {
    None,
    /// A whole message that came in the descriptor: it is copied from there to where it waits.
    InFrame,
    Piece(Piece),
    /// Data that no stream takes: they were not copied.
    Unwanted,
}

impl Data {
    pub fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Returns how many messages end with them, unless their frame says that they are one.
    #[inline]
    pub fn ended(&self, messages: &mut Messages, frame: &Frame) -> u64 {
        match self {
            Self::Piece(piece) if !frame.message => messages.after(&piece.bytes),
            _ => 0,
        }
    }

    #[inline]
    pub fn push_into(self, queue: &mut Queue, frame: &Frame) {
        match (self, &frame.payload) {
            (Self::InFrame, Payload::Inline { bytes, len, head }) => {
                queue.push_message(bytes, (*head).into(), (*len).into());
            }
            (Self::Piece(piece), _) => queue.push(piece),
            (Self::None | Self::Unwanted | Self::InFrame, _) => {}
        }
    }
}
