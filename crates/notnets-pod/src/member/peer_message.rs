//! What two processes write to each other, through their agents, to make a link, to give it more memory, and to end it.

use notnets_memory::lane::Blocks;
use notnets_memory::region::RegionOffset;
use notnets_memory::seal::Seal;

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
        /// What is in it.
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
}

impl PeerMessage {
    /// As it is sent.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        match self {
            Self::Hello { link, nonce, offset, packet } => {
                out.push(1);
                out.extend(link.to_le_bytes());
                out.extend(nonce.to_le_bytes());
                out.extend(offset.0.to_le_bytes());
                out.extend(packet);
            }
            Self::Answer { to, link, nonce, offset, packet } => {
                out.push(2);
                out.extend(to.to_le_bytes());
                out.extend(link.to_le_bytes());
                out.extend(nonce.to_le_bytes());
                out.extend(offset.0.to_le_bytes());
                out.extend(packet);
            }
            Self::Close { to } => {
                out.push(3);
                out.extend(to.to_le_bytes());
            }
            Self::Offer { to, segment, offset, blocks } => {
                out.push(4);
                for field in [*to, *segment, blocks.bytes, blocks.count] {
                    out.extend(field.to_le_bytes());
                }
                out.extend(offset.0.to_le_bytes());
            }
            Self::Accept { to, segment, offset } => {
                out.push(5);
                out.extend(to.to_le_bytes());
                out.extend(segment.to_le_bytes());
                out.extend(offset.0.to_le_bytes());
            }
            Self::Decline { to, segment } => {
                out.push(6);
                out.extend(to.to_le_bytes());
                out.extend(segment.to_le_bytes());
            }
        }
        out
    }

    /// As it came. `None` when it is no message.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, mut rest) = bytes.split_first()?;
        let mut u32_field = || {
            let (field, after) = rest.split_first_chunk()?;
            rest = after;
            Some(u32::from_le_bytes(*field))
        };
        match kind {
            1 => {
                let link = u32_field()?;
                let (nonce, offset, packet) = tail(rest)?;
                Some(Self::Hello { link, nonce, offset, packet })
            }
            2 => {
                let (to, link) = (u32_field()?, u32_field()?);
                let (nonce, offset, packet) = tail(rest)?;
                Some(Self::Answer { to, link, nonce, offset, packet })
            }
            3 => {
                let to = u32_field()?;
                rest.is_empty().then_some(Self::Close { to })
            }
            4 => {
                let (to, segment) = (u32_field()?, u32_field()?);
                let blocks = Blocks { bytes: u32_field()?, count: u32_field()? };
                Some(Self::Offer { to, segment, offset: last(rest)?, blocks })
            }
            5 => {
                let (to, segment) = (u32_field()?, u32_field()?);
                Some(Self::Accept { to, segment, offset: last(rest)? })
            }
            6 => {
                let (to, segment) = (u32_field()?, u32_field()?);
                rest.is_empty().then_some(Self::Decline { to, segment })
            }
            _ => None,
        }
    }
}

/// An offset with which a message ends.
fn last(rest: &[u8]) -> Option<RegionOffset> {
    Some(RegionOffset(u64::from_le_bytes(rest.try_into().ok()?)))
}

fn tail(rest: &[u8]) -> Option<(u64, RegionOffset, Vec<u8>)> {
    let (nonce, rest) = rest.split_first_chunk()?;
    let (offset, packet) = rest.split_first_chunk()?;
    Some((u64::from_le_bytes(*nonce), RegionOffset(u64::from_le_bytes(*offset)), packet.to_vec()))
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
        fn any_bytes_are_refused_or_round_trip(bytes in prop::collection::vec(prop_oneof![0u8..8, any::<u8>()], 0..60)) {
            if let Some(message) = PeerMessage::decode(&bytes) {
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
        ] {
            assert_eq!(PeerMessage::decode(&message.encode()), Some(message));
        }
    }
}
