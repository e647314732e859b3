//! What is said on a link's socket (`docs/protocol.md`, "Packets").
//!
//! The socket keeps packets apart. A packet is a byte for its kind and little-endian fields; strings
//! come with their length in two bytes. Each packet fits in [`MAX_PACKET`] bytes and carries at
//! most one descriptor. What a peer sends is checked here, once.

use std::str;

use notnets_memory::lane::{Blocks, Geometry};

use crate::limits::Limits;

/// A doorbell, encoded: it is sent too often for a buffer of its own.
pub(super) const DOORBELL: [u8; 1] = [0];
/// No packet is longer.
pub const MAX_PACKET: usize = 1024;
/// `NOTN`: a packet that begins a link begins with it.
pub const MAGIC: u32 = u32::from_le_bytes(*b"NOTN");
/// The versions of the protocol that this code speaks, from and to.
pub const VERSIONS: (u16, u16) = (1, 1);

/// A random number for each life of a process.
pub type Incarnation = [u8; 16];

/// Something said on the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// There is something to look at in the lanes.
    Doorbell,
    /// A client begins a link. Comes with the descriptor of its first segment.
    Hello(Hello),
    /// The server takes it. Comes with the descriptor of its first segment.
    Welcome(Terms),
    /// The server does not.
    Refused {
        /// Why.
        reason: Refusal,
        /// In a sentence.
        text: String,
    },
    /// More blocks. Comes with the descriptor of their segment.
    Offer {
        /// The segment's id, never used again on this link.
        segment: u32,
        /// What is in it.
        blocks: Blocks,
    },
    /// They are taken. Comes with the descriptor of the table of releases for them.
    Accept {
        /// The segment that was offered.
        segment: u32,
    },
    /// They are not.
    Decline {
        /// The segment that was offered.
        segment: u32,
    },
    /// A tool asks for the counters, not for a link.
    Inspect,
    /// Here they are. Comes with the descriptor of the stats segment.
    Stats,
}

/// Why a server refuses a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Refusal {
    /// No version in common.
    Version = 1,
    /// The client's uid is not admitted.
    Identity = 2,
    /// Too many links, or no memory.
    Resources = 3,
    /// It is shutting down.
    ShuttingDown = 4,
    /// The client's first packet was not as it must be.
    Protocol = 5,
}

/// How a client begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The oldest and newest version that it speaks.
    pub versions: (u16, u16),
    /// What it is willing to receive, and how its first segment is cut.
    pub terms: Terms,
    /// The name it looked for.
    pub name: String,
    /// Its user agent, sent once for all calls.
    pub user_agent: String,
}

/// What either side says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The version that is spoken from now on; in a hello the newest.
    pub version: u16,
    /// Bits for what may be used beyond the version. None so far; unknown ones are ignored.
    pub features: u64,
    /// Of the process.
    pub incarnation: Incarnation,
    /// What it is willing to receive.
    pub limits: Limits,
    /// How its first segment is cut.
    pub geometry: Geometry,
}

/// A packet that does not parse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPacket {
    /// Of no known kind.
    #[error("a packet of unknown kind {0}")]
    Kind(u8),
    /// Cut off, or with bytes left over.
    #[error("a packet of the wrong length")]
    Length,
    /// A hello that does not begin with `NOTN`.
    #[error("a packet with the wrong magic {0:#x}")]
    Magic(u32),
    /// A string that is not UTF-8.
    #[error("a packet with a string that is not UTF-8")]
    NotUtf8,
}

impl Packet {
    /// As it is sent.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        match self {
            Self::Doorbell => out.extend(DOORBELL),
            Self::Hello(hello) => {
                out.push(1);
                out.extend(MAGIC.to_le_bytes());
                out.extend(hello.versions.0.to_le_bytes());
                out.extend(hello.versions.1.to_le_bytes());
                hello.terms.encode(&mut out);
                put_string(&mut out, &hello.name, LONGEST_OF_TWO);
                put_string(&mut out, &hello.user_agent, LONGEST_OF_TWO);
            }
            Self::Welcome(terms) => {
                out.push(2);
                terms.encode(&mut out);
            }
            Self::Refused { reason, text } => {
                out.extend([3, *reason as u8]);
                put_string(&mut out, text, MAX_PACKET - 4);
            }
            Self::Offer { segment, blocks } => {
                out.push(4);
                for field in [*segment, blocks.bytes, blocks.count] {
                    out.extend(field.to_le_bytes());
                }
            }
            Self::Accept { segment } => {
                out.push(5);
                out.extend(segment.to_le_bytes());
            }
            Self::Decline { segment } => {
                out.push(6);
                out.extend(segment.to_le_bytes());
            }
            Self::Inspect => {
                out.push(7);
                out.extend(MAGIC.to_le_bytes());
            }
            Self::Stats => out.push(8),
        }
        debug_assert!(out.len() <= MAX_PACKET);
        out
    }

    /// As it was received.
    ///
    /// # Errors
    /// When it is not exactly one packet.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadPacket> {
        let mut fields = Fields(bytes);
        let packet = match fields.u8()? {
            0 => Self::Doorbell,
            1 => {
                fields.magic()?;
                Self::Hello(Hello {
                    versions: (fields.u16()?, fields.u16()?),
                    terms: Terms::decode(&mut fields)?,
                    name: fields.string()?,
                    user_agent: fields.string()?,
                })
            }
            2 => Self::Welcome(Terms::decode(&mut fields)?),
            3 => Self::Refused { reason: Refusal::decode(fields.u8()?), text: fields.string()? },
            4 => Self::Offer {
                segment: fields.u32()?,
                blocks: Blocks { bytes: fields.u32()?, count: fields.u32()? },
            },
            5 => Self::Accept { segment: fields.u32()? },
            6 => Self::Decline { segment: fields.u32()? },
            7 => {
                fields.magic()?;
                Self::Inspect
            }
            8 => Self::Stats,
            kind => return Err(BadPacket::Kind(kind)),
        };
        match fields.0 {
            [] => Ok(packet),
            _ => Err(BadPacket::Length),
        }
    }
}

impl Terms {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.version.to_le_bytes());
        out.extend(self.features.to_le_bytes());
        out.extend(self.incarnation);
        let Limits { metadata_bytes, streams, stream_window, link_window, segment_bytes } = self.limits;
        let Geometry { slots, small, large } = self.geometry;
        for field in [
            metadata_bytes,
            streams,
            stream_window,
            link_window,
            segment_bytes,
            slots,
            small.bytes,
            small.count,
            large.bytes,
            large.count,
        ] {
            out.extend(field.to_le_bytes());
        }
    }

    fn decode(fields: &mut Fields<'_>) -> Result<Self, BadPacket> {
        Ok(Self {
            version: fields.u16()?,
            features: fields.u64()?,
            incarnation: fields.array()?,
            limits: Limits {
                metadata_bytes: fields.u32()?,
                streams: fields.u32()?,
                stream_window: fields.u32()?,
                link_window: fields.u32()?,
                segment_bytes: fields.u32()?,
            },
            geometry: Geometry {
                slots: fields.u32()?,
                small: Blocks { bytes: fields.u32()?, count: fields.u32()? },
                large: Blocks { bytes: fields.u32()?, count: fields.u32()? },
            },
        })
    }
}

impl Refusal {
    /// A reason that we don't know is one of protocol.
    fn decode(byte: u8) -> Self {
        match byte {
            1 => Self::Version,
            2 => Self::Identity,
            3 => Self::Resources,
            4 => Self::ShuttingDown,
            _ => Self::Protocol,
        }
    }
}

/// Two strings of a packet have room for so many bytes each, beside its other fields.
const LONGEST_OF_TWO: usize = 400;

/// Appends a string, cut to what a packet has room for.
fn put_string(out: &mut Vec<u8>, string: &str, longest: usize) {
    let mut len = string.len().min(longest);
    while !string.is_char_boundary(len) {
        len -= 1;
    }
    out.extend((len as u16).to_le_bytes());
    out.extend(&string.as_bytes()[..len]);
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadPacket> {
        let (first, rest) = self.0.split_first_chunk().ok_or(BadPacket::Length)?;
        self.0 = rest;
        Ok(*first)
    }

    fn u8(&mut self) -> Result<u8, BadPacket> {
        self.array().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, BadPacket> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, BadPacket> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, BadPacket> {
        self.array().map(u64::from_le_bytes)
    }

    fn magic(&mut self) -> Result<(), BadPacket> {
        match self.u32()? {
            MAGIC => Ok(()),
            other => Err(BadPacket::Magic(other)),
        }
    }

    fn string(&mut self) -> Result<String, BadPacket> {
        let len = self.u16()? as usize;
        let (string, rest) = self.0.split_at_checked(len).ok_or(BadPacket::Length)?;
        self.0 = rest;
        str::from_utf8(string).map(str::to_owned).map_err(|_| BadPacket::NotUtf8)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn terms() -> Terms {
        Terms {
            version: 1,
            features: 0,
            incarnation: [7; 16],
            limits: Limits::default(),
            geometry: Geometry::default(),
        }
    }

    #[test]
    fn packets_round_trip() {
        let hello = Hello {
            versions: VERSIONS,
            terms: terms(),
            name: "inventory".into(),
            user_agent: "agent/1 ".repeat(1000),
        };
        let Packet::Hello(back) = Packet::decode(&Packet::Hello(hello.clone()).encode()).unwrap() else {
            panic!()
        };
        assert_eq!((back.terms, &back.name), (hello.terms, &hello.name));
        assert_eq!(back.user_agent.len(), 400, "cut to what has room");
        let refused = Packet::Refused { reason: Refusal::Resources, text: "é".repeat(1000) };
        assert_eq!(refused.encode().len(), MAX_PACKET, "as long as a packet may be");
        assert!(Packet::decode(&refused.encode()).is_ok());
        let blocks = Blocks { bytes: 64, count: 3 };
        for packet in [
            Packet::Doorbell,
            Packet::Welcome(terms()),
            Packet::Refused { reason: Refusal::Identity, text: "no".into() },
            Packet::Offer { segment: 2, blocks },
            Packet::Accept { segment: 2 },
            Packet::Decline { segment: 2 },
            Packet::Inspect,
            Packet::Stats,
        ] {
            assert_eq!(Packet::decode(&packet.encode()), Ok(packet));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_round_trip(bytes in prop::collection::vec(0u8..12, 0..120)) {
            if let Ok(packet) = Packet::decode(&bytes)
                && !matches!(packet, Packet::Refused { .. })
            {
                prop_assert_eq!(packet.encode(), bytes);
            }
        }
    }
}
