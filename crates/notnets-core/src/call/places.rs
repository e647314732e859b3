//! Payloads that lie in a region which both sides of a link map: no descriptor has to be passed.
//!
//! A SHARE frame says where they lie. The peer claims them, so that their memory is not used for anything
//! else, and answers by SHARED; all else is as for sealed memory. Where that is, who may read it and how it
//! is claimed is up to [`Places`].

use std::fmt;

use notnets_memory::Sealed;
use notnets_memory::region::RegionOffset;

use crate::frame::{INLINE, Payload};

/// Bytes that name a place in a frame.
const ENCODED: usize = 20;

/// Where a payload lies in a region, as its sender has it. Nothing in it is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its first byte.
    pub offset: RegionOffset,
    /// Its length.
    pub bytes: u64,
    /// The CRC32C of it where hosts are not coherent, else 0.
    pub checksum: u32,
}

/// How payloads are shared over one link between hosts. No method waits.
pub trait Places: fmt::Debug + Send {
    /// Where the peer finds these bytes, which are put there unless they are there already. They stay there
    /// until the payload of this number is [forgotten](Self::forget), or until the peer says that it has
    /// claimed them. `None` while there is no memory for them.
    fn place(&mut self, payload: u32, sealed: &Sealed) -> Option<Place>;

    /// The peer has answered: it has claimed a payload, or does not want it.
    fn on_answer(&mut self, payload: u32, taken: bool);

    /// This side refers to a payload of its own no more.
    fn forget(&mut self, payload: u32);

    /// Begins to claim a payload of the peer's. [`poll`](Self::poll) tells how that ended.
    fn claim(&mut self, payload: u32, place: Place);

    /// The next payload that was claimed, or can't be. Ask whenever the link was rung.
    fn poll(&mut self) -> Option<(u32, Option<Sealed>)>;
}

/// The places of a link, and what goes over it.
#[derive(Debug)]
pub struct Placing {
    /// Where payloads lie.
    pub places: Box<dyn Places>,
    /// The peer takes payloads.
    pub sends: bool,
    /// Bytes of the peer's payloads that are claimed at a time. With 0 it must share none.
    pub bytes: u64,
}

impl Place {
    /// As a SHARE frame has it.
    pub fn encode(self) -> Payload {
        let mut bytes = [0; INLINE];
        bytes[..8].copy_from_slice(&self.offset.0.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[16..ENCODED].copy_from_slice(&self.checksum.to_le_bytes());
        Payload::Inline { bytes, len: ENCODED as u8, head: 0 }
    }

    /// Reads a SHARE frame's payload.
    pub fn decode(payload: &Payload) -> Option<Self> {
        let Payload::Inline { bytes, len, head: 0 } = payload else { return None };
        if usize::from(*len) != ENCODED {
            return None;
        }
        let word = |at: usize| Some(u64::from_le_bytes(bytes[at..at + 8].try_into().ok()?));
        let checksum = u32::from_le_bytes(bytes[16..ENCODED].try_into().ok()?);
        Some(Self { offset: RegionOffset(word(0)?), bytes: word(8)?, checksum })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written() {
        let place = Place { offset: RegionOffset(1 << 40 | 3), bytes: 1 << 33, checksum: 0xdead_beef };
        let payload = place.encode();
        assert_eq!(Place::decode(&payload), Some(place));
        let Payload::Inline { bytes, .. } = payload else { panic!("{payload:?}") };
        for (len, head) in [(0, 0), (19, 0), (21, 0), (20, 1)] {
            assert_eq!(Place::decode(&Payload::Inline { bytes, len, head }), None, "{len} {head}");
        }
    }
}
