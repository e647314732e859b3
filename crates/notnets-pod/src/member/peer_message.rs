//! Messages between two processes, through their agents, to make a link, to give it more memory, and to end
//! it.

use bytes::{Buf, BufMut};
use notnets_memory::lane::Blocks;
use notnets_memory::region::RegionOffset;
use notnets_memory::seal::Seal;

use crate::packet::BadPodPacket;
use notnets_core::link::packet::Incarnation;

/// A message between two processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PeerMessage {
    /// A client wants a link.
    Hello {
        /// The client's number for it.
        link: u32,
        /// A random number for the seals.
        nonce: u64,
        /// Where the client's first segment begins in the region.
        offset: RegionOffset,
        /// A HELLO as on a socket.
        packet: Vec<u8>,
    },
    /// The server's answer.
    Answer {
        /// The client's number.
        to: u32,
        /// The server's own.
        link: u32,
        /// A random number for the seals.
        nonce: u64,
        /// Where the server's first segment begins in the region.
        offset: RegionOffset,
        /// A WELCOME or REFUSED as on a socket.
        packet: Vec<u8>,
    },
    /// The sender reads nothing of this link any more.
    Close {
        /// The receiver's number for it.
        to: u32,
    },
    /// More blocks.
    Offer {
        /// The receiver's number for the link.
        to: u32,
        /// The segment's id, never used again on this link.
        segment: u32,
        /// Where it begins in the region.
        offset: RegionOffset,
        /// Its blocks.
        blocks: Blocks,
    },
    /// They are taken.
    Accept {
        /// The receiver's number for the link.
        to: u32,
        /// The segment that was offered.
        segment: u32,
        /// Where the table of releases for it begins in the region.
        offset: RegionOffset,
    },
    /// They are not.
    Decline {
        /// The receiver's number for the link.
        to: u32,
        /// The segment that was offered.
        segment: u32,
    },
    /// Blocks that their owner uses no more.
    Retire {
        /// The receiver's number for the link.
        to: u32,
        /// Their segment, which was accepted.
        segment: u32,
    },
    /// They are read no more, and their table of releases is not used any more either.
    Retired {
        /// The receiver's number for the link.
        to: u32,
        /// The segment that was retired.
        segment: u32,
    },
}

impl PeerMessage {
    /// As it is sent.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        match self {
            Self::Hello { link, nonce, offset, packet } => {
                out.put_u8(1);
                out.put_u32_le(*link);
                out.put_u64_le(*nonce);
                out.put_u64_le(offset.0);
                out.put_slice(packet);
            }
            Self::Answer { to, link, nonce, offset, packet } => {
                out.put_u8(2);
                out.put_u32_le(*to);
                out.put_u32_le(*link);
                out.put_u64_le(*nonce);
                out.put_u64_le(offset.0);
                out.put_slice(packet);
            }
            Self::Close { to } => {
                out.put_u8(3);
                out.put_u32_le(*to);
            }
            Self::Offer { to, segment, offset, blocks } => {
                out.put_u8(4);
                for field in [*to, *segment, blocks.bytes, blocks.count] {
                    out.put_u32_le(field);
                }
                out.put_u64_le(offset.0);
            }
            Self::Accept { to, segment, offset } => {
                out.put_u8(5);
                out.put_u32_le(*to);
                out.put_u32_le(*segment);
                out.put_u64_le(offset.0);
            }
            Self::Decline { to, segment } => {
                out.put_u8(6);
                out.put_u32_le(*to);
                out.put_u32_le(*segment);
            }
            Self::Retire { to, segment } => {
                out.put_u8(7);
                out.put_u32_le(*to);
                out.put_u32_le(*segment);
            }
            Self::Retired { to, segment } => {
                out.put_u8(8);
                out.put_u32_le(*to);
                out.put_u32_le(*segment);
            }
        }
        out
    }

    /// As it was received.
    ///
    /// # Errors
    /// When it is not exactly one message.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, BadPodPacket> {
        let mut fields = bytes;
        let message = match fields.try_get_u8()? {
            1 => Self::Hello {
                link: fields.try_get_u32_le()?,
                nonce: fields.try_get_u64_le()?,
                offset: offset(&mut fields)?,
                packet: std::mem::take(&mut fields).to_vec(),
            },
            2 => Self::Answer {
                to: fields.try_get_u32_le()?,
                link: fields.try_get_u32_le()?,
                nonce: fields.try_get_u64_le()?,
                offset: offset(&mut fields)?,
                packet: std::mem::take(&mut fields).to_vec(),
            },
            3 => Self::Close { to: fields.try_get_u32_le()? },
            4 => Self::Offer {
                to: fields.try_get_u32_le()?,
                segment: fields.try_get_u32_le()?,
                blocks: Blocks { bytes: fields.try_get_u32_le()?, count: fields.try_get_u32_le()? },
                offset: offset(&mut fields)?,
            },
            5 => Self::Accept {
                to: fields.try_get_u32_le()?,
                segment: fields.try_get_u32_le()?,
                offset: offset(&mut fields)?,
            },
            6 => Self::Decline { to: fields.try_get_u32_le()?, segment: fields.try_get_u32_le()? },
            7 => Self::Retire { to: fields.try_get_u32_le()?, segment: fields.try_get_u32_le()? },
            8 => Self::Retired { to: fields.try_get_u32_le()?, segment: fields.try_get_u32_le()? },
            _ => return Err(BadPodPacket),
        };
        if fields.is_empty() { Ok(message) } else { Err(BadPodPacket) }
    }
}

fn offset(fields: &mut &[u8]) -> Result<RegionOffset, BadPodPacket> {
    Ok(RegionOffset(fields.try_get_u64_le()?))
}

/// The seals of both directions, the client's first: of both processes' incarnations, and of this link.
pub(super) fn seals(client: (Incarnation, u64), server: (Incarnation, u64)) -> (Seal, Seal) {
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("8 bytes"));
    let words =
        |(incarnation, nonce): (Incarnation, u64)| [word(&incarnation[..8]), word(&incarnation[8..]), nonce];
    let both = Seal::new(words(client).into_iter().chain(words(server)));
    (both.at(0), both.at(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_round_trip(bytes in prop::collection::vec(prop_oneof![0u8..10, any::<u8>()], 0..60)) {
            if let Ok(message) = PeerMessage::decode(&bytes) {
                prop_assert_eq!(message.encode(), bytes);
            }
        }
    }

    #[test]
    fn messages_fit_into_mail() {
        let packet = vec![0; notnets_core::link::packet::MAX_PACKET];
        let message = PeerMessage::Answer { to: 1, link: 2, nonce: 3, offset: RegionOffset(4), packet };
        assert!(message.encode().len() <= crate::packet::MAX_BODY);
        let blocks = Blocks { bytes: 64, count: 3 };
        for message in [
            message,
            PeerMessage::Close { to: 1 },
            PeerMessage::Offer { to: 1, segment: 2, offset: RegionOffset(3), blocks },
            PeerMessage::Accept { to: 1, segment: 2, offset: RegionOffset(3) },
            PeerMessage::Decline { to: 1, segment: 2 },
            PeerMessage::Retire { to: 1, segment: 2 },
            PeerMessage::Retired { to: 1, segment: 2 },
        ] {
            assert_eq!(PeerMessage::decode(&message.encode()), Ok(message));
        }
    }
}
