//! Packets on a link's socket (`docs/protocol.md`, "Packets").
//!
//! The socket keeps packets apart. A packet is a byte for its kind and little-endian fields; strings
//! come with their length in two bytes. Each packet fits in [`MAX_PACKET`] bytes and carries at
//! most one descriptor. Packets from a peer are checked here, once.

use std::str;

use bytes::{Buf, BufMut, TryGetError};
use notnets_memory::lane::{Blocks, Geometry};

use crate::limits::Limits;

/// A doorbell, encoded: it is sent too often for a buffer of its own.
pub const DOORBELL: [u8; 1] = [0];
/// No packet is longer.
pub const MAX_PACKET: usize = 1024;
/// `NOTN`: a packet that begins a link begins with it.
pub const MAGIC: u32 = u32::from_le_bytes(*b"NOTN");
/// The versions of the protocol that this code speaks, from and to.
pub const VERSIONS: (u16, u16) = (1, 1);

/// A bit of [`Terms::features`]: payloads in sealed memory are shared.
pub const SHARING: u64 = 1;
/// A bit of [`Terms::features`]: further segments are retired when they are not used any more.
pub const RETIRING: u64 = 2;
/// A bit of [`Terms::features`]: payloads that lie in a region are read there.
pub const PLACING: u64 = 4;

/// A random number for each life of a process.
pub type Incarnation = [u8; 16];

/// A packet on the socket.
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
        /// Its blocks.
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
    /// A payload that frames will refer to. Comes with the descriptor of its sealed memory.
    Share {
        /// Its number, never used again on this link.
        payload: u32,
        /// Its size.
        bytes: u64,
    },
    /// Blocks that their owner uses no more.
    Retire {
        /// Their segment, which was accepted.
        segment: u32,
    },
    /// They are not mapped any more, and their table of releases is not either.
    Retired {
        /// The segment that was retired.
        segment: u32,
    },
    /// Another process has taken the server's name over.
    TakenOver,
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
    /// Its limits, and how its first segment is cut.
    pub terms: Terms,
    /// The name it looked for.
    pub name: String,
    /// Its user agent, sent once for all calls.
    pub user_agent: String,
}

/// The terms that each side announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The version that is spoken from now on; in a hello the newest.
    pub version: u16,
    /// Bits for what may be used beyond the version, if both sides announce it. Unknown ones are ignored.
    pub features: u64,
    /// Of the process.
    pub incarnation: Incarnation,
    /// The limits on what it receives.
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

impl From<TryGetError> for BadPacket {
    fn from(_: TryGetError) -> Self {
        Self::Length
    }
}

impl Packet {
    /// As it is sent.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        match self {
            Self::Doorbell => out.put_slice(&DOORBELL),
            Self::Hello(hello) => {
                out.put_u8(1);
                out.put_u32_le(MAGIC);
                out.put_u16_le(hello.versions.0);
                out.put_u16_le(hello.versions.1);
                hello.terms.encode(&mut out);
                put_string(&mut out, &hello.name, LONGEST_OF_TWO);
                put_string(&mut out, &hello.user_agent, LONGEST_OF_TWO);
            }
            Self::Welcome(terms) => {
                out.put_u8(2);
                terms.encode(&mut out);
            }
            Self::Refused { reason, text } => {
                out.put_slice(&[3, *reason as u8]);
                put_string(&mut out, text, MAX_PACKET - 4);
            }
            Self::Offer { segment, blocks } => {
                out.put_u8(4);
                for field in [*segment, blocks.bytes, blocks.count] {
                    out.put_u32_le(field);
                }
            }
            Self::Accept { segment } => {
                out.put_u8(5);
                out.put_u32_le(*segment);
            }
            Self::Decline { segment } => {
                out.put_u8(6);
                out.put_u32_le(*segment);
            }
            Self::Inspect => {
                out.put_u8(7);
                out.put_u32_le(MAGIC);
            }
            Self::Stats => out.put_u8(8),
            Self::Share { payload, bytes } => {
                out.put_u8(9);
                out.put_u32_le(*payload);
                out.put_u64_le(*bytes);
            }
            Self::Retire { segment } => {
                out.put_u8(10);
                out.put_u32_le(*segment);
            }
            Self::Retired { segment } => {
                out.put_u8(11);
                out.put_u32_le(*segment);
            }
            Self::TakenOver => {
                out.put_u8(12);
                out.put_u32_le(MAGIC);
            }
        }
        debug_assert!(out.len() <= MAX_PACKET);
        out
    }

    /// As it was received.
    ///
    /// # Errors
    /// When it is not exactly one packet.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadPacket> {
        let mut fields = bytes;
        let packet = match fields.try_get_u8()? {
            0 => Self::Doorbell,
            1 => {
                check_magic(&mut fields)?;
                Self::Hello(Hello {
                    versions: (fields.try_get_u16_le()?, fields.try_get_u16_le()?),
                    terms: Terms::decode(&mut fields)?,
                    name: string(&mut fields)?,
                    user_agent: string(&mut fields)?,
                })
            }
            2 => Self::Welcome(Terms::decode(&mut fields)?),
            3 => Self::Refused { reason: Refusal::decode(fields.try_get_u8()?), text: string(&mut fields)? },
            4 => Self::Offer {
                segment: fields.try_get_u32_le()?,
                blocks: Blocks { bytes: fields.try_get_u32_le()?, count: fields.try_get_u32_le()? },
            },
            5 => Self::Accept { segment: fields.try_get_u32_le()? },
            6 => Self::Decline { segment: fields.try_get_u32_le()? },
            7 => {
                check_magic(&mut fields)?;
                Self::Inspect
            }
            8 => Self::Stats,
            9 => Self::Share { payload: fields.try_get_u32_le()?, bytes: fields.try_get_u64_le()? },
            10 => Self::Retire { segment: fields.try_get_u32_le()? },
            11 => Self::Retired { segment: fields.try_get_u32_le()? },
            12 => {
                check_magic(&mut fields)?;
                Self::TakenOver
            }
            kind => return Err(BadPacket::Kind(kind)),
        };
        if fields.is_empty() { Ok(packet) } else { Err(BadPacket::Length) }
    }
}

impl Terms {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u16_le(self.version);
        out.put_u64_le(self.features);
        out.put_slice(&self.incarnation);
        let Limits { metadata_bytes, streams, stream_window, link_window, segment_bytes, .. } = self.limits;
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
            out.put_u32_le(field);
        }
    }

    fn decode(fields: &mut &[u8]) -> Result<Self, BadPacket> {
        Ok(Self {
            version: fields.try_get_u16_le()?,
            features: fields.try_get_u64_le()?,
            incarnation: array(fields)?,
            limits: Limits {
                metadata_bytes: fields.try_get_u32_le()?,
                streams: fields.try_get_u32_le()?,
                stream_window: fields.try_get_u32_le()?,
                link_window: fields.try_get_u32_le()?,
                segment_bytes: fields.try_get_u32_le()?,
                ..Limits::new()
            },
            geometry: Geometry {
                slots: fields.try_get_u32_le()?,
                small: Blocks { bytes: fields.try_get_u32_le()?, count: fields.try_get_u32_le()? },
                large: Blocks { bytes: fields.try_get_u32_le()?, count: fields.try_get_u32_le()? },
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

/// The room for each of a packet's two strings, in bytes, beside its other fields.
const LONGEST_OF_TWO: usize = 400;

/// Appends a string, cut to what a packet has room for.
fn put_string(out: &mut Vec<u8>, string: &str, longest: usize) {
    let mut len = string.len().min(longest);
    while !string.is_char_boundary(len) {
        len -= 1;
    }
    out.put_u16_le(len as u16);
    out.put_slice(&string.as_bytes()[..len]);
}

/// Takes an array from the front of a packet.
fn array<const N: usize>(fields: &mut &[u8]) -> Result<[u8; N], BadPacket> {
    let mut array = [0; N];
    fields.try_copy_to_slice(&mut array)?;
    Ok(array)
}

/// Takes the magic number from the front of a packet.
fn check_magic(fields: &mut &[u8]) -> Result<(), BadPacket> {
    match fields.try_get_u32_le()? {
        MAGIC => Ok(()),
        other => Err(BadPacket::Magic(other)),
    }
}

/// Takes a string from the front of a packet.
fn string(fields: &mut &[u8]) -> Result<String, BadPacket> {
    let len = fields.try_get_u16_le()? as usize;
    let (string, rest) = fields.split_at_checked(len).ok_or(BadPacket::Length)?;
    *fields = rest;
    str::from_utf8(string).map(str::to_owned).map_err(|_| BadPacket::NotUtf8)
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
            Packet::TakenOver,
            Packet::Stats,
            Packet::Share { payload: 7, bytes: 1 << 40 },
            Packet::Retire { segment: 2 },
            Packet::Retired { segment: 2 },
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
