//! Packets between a process and the agent of its host, on a Unix socket (`docs/pod.md`, "Packets").
//!
//! As on a link's socket, a packet is a byte for its kind and little-endian fields. Everything received is
//! checked here, once.

use bytes::{Buf, BufMut, TryGetError};

use super::mailbox::{MAIL_HEADER, MAX_MAIL};
use super::table::{ExtentId, HostIncarnation, ProcessId};
use super::watch::LinkPlace;
use notnets_core::name::{MAX_NAME_LENGTH, Name};
use notnets_memory::region::RegionOffset;
use notnets_memory::remote_lanes::LanePlace;

/// No packet is longer.
pub const MAX_PACKET: usize = 2048;
/// Bytes of a message from one process to another, at most.
pub const MAX_BODY: usize = MAX_MAIL - MAIL_HEADER;
/// Instances of a name in one answer, at most.
pub const MAX_INSTANCES: usize = 64;
/// `NNPD` and the version of these packets.
const MAGIC: u64 = u64::from_le_bytes(*b"NNPD\x01\0\0\0");

/// A packet from a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromProcess {
    /// First of all: it wants to be in the pod. With a token it has been given before it is the same
    /// process as then; with another one it is new.
    Join {
        /// A random number of its own.
        token: [u64; 2],
        /// Its identity, if it was in the pod before.
        before: Option<(HostIncarnation, ProcessId)>,
    },
    /// It is back after the agent's restart, and has links with this process.
    Knows(ProcessId),
    /// It is back after the agent's restart, and has listed all of them.
    Ready,
    /// It wants an extent.
    Grant {
        /// For links that have memory already. The last extents are kept for those that have none.
        more: bool,
    },
    /// It serves a name.
    Serve(Name),
    /// It serves it no more.
    Unserve(Name),
    /// Asks for the processes that serve a name.
    Resolve {
        /// To find the answer by.
        query: u32,
        /// The name.
        name: Name,
    },
    /// To another process.
    Send {
        /// Which one.
        to: ProcessId,
        /// The content; at most [`MAX_BODY`] bytes.
        body: Vec<u8>,
    },
    /// It reads nothing of this process any more.
    Done(ProcessId),
    /// In place of [`Join`](Self::Join): it only wants to look at the region.
    Look,
    /// In place of [`Join`](Self::Join): the host is to leave the pod for good, and its agent to end.
    LeaveHost,
    /// It leaves the pod, though it goes on: it has let go of all memory, its own and others'.
    Leave,
    /// It gives back an extent, which nobody reads or writes any more. If payloads lie in it, others may
    /// still read them that have claimed it.
    Return(u32),
    /// It wants an extent for payloads.
    GrantPayloads,
    /// It reads payloads in this extent from now on.
    Claim(ExtentId),
    /// It reads none there any more.
    Unclaim(ExtentId),
    /// Processes of this host have gone on between two looks.
    Heard {
        /// As asked.
        host: u16,
    },
    /// It wants a link to be watched for it. Comes with a descriptor of the socket on which its user is rung.
    Watch {
        /// Its number for the link.
        link: u32,
        /// Where the link lies.
        place: LinkPlace,
    },
    /// It wants that no more.
    Unwatch {
        /// Its number for the link.
        link: u32,
    },
    /// For no longer than this may a message wait for its parked sides.
    WakeWithin {
        /// In microseconds.
        wake_us: u32,
    },
    /// It wants the bell: it will ring when a side of it parks and no other is parked.
    WantBell,
}

/// A packet from the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToProcess {
    /// It is in the pod. Comes with the region's descriptor.
    Joined {
        /// The host's incarnation. If it is another than before, so are all process ids on it.
        incarnation: HostIncarnation,
        /// Which process it is from now on.
        id: ProcessId,
        /// How long a message may wait for a watcher by default, in microseconds.
        wake_us: u32,
    },
    /// It is not, or something that it asked for is not to be had: why, in a sentence.
    Refused(String),
    /// An extent of the host's is its own until it ends.
    Granted(u32),
    /// No memory is left.
    NoExtent {
        /// As asked.
        more: bool,
    },
    /// Its name can be found.
    Serving(Name),
    /// It can't: why, in a sentence.
    NotServing(Name, String),
    /// The processes that serve the name, nearest first.
    Resolved {
        /// As asked.
        query: u32,
        /// Empty if nobody serves it.
        instances: Vec<ProcessId>,
    },
    /// From another process.
    Mail {
        /// Which one.
        from: ProcessId,
        /// The content.
        body: Vec<u8>,
    },
    /// This process has ended, or can't be reached. Answer with [`FromProcess::Done`].
    Gone {
        /// Which one.
        id: ProcessId,
        /// Whether it has certainly ended. Else its host is silent, and it may still read.
        ended: bool,
    },
    /// The region that it asked to look at. Comes with the region's descriptor.
    Region {
        /// The number of this host.
        host: u16,
    },
    /// An extent for payloads is its own until it ends.
    GrantedPayloads(u32),
    /// No memory is left for payloads.
    NoPayloads,
    /// All hosts can see that it reads payloads in this extent.
    Claimed(ExtentId),
    /// This host has left the pod, as it was asked to.
    HostLeft {
        /// The number of this host.
        host: u16,
    },
    /// The heart of this host has not beaten for long. Look how far links with its processes are.
    Listen {
        /// Its number.
        host: u16,
        /// Answer with [`FromProcess::Heard`] if they are farther than at the look before.
        again: bool,
    },
    /// The answer to [`FromProcess::Watch`].
    Watching {
        /// As asked.
        link: u32,
        /// Whether the agent watches it. Else there is no room for more.
        watched: bool,
    },
    /// The answer to [`FromProcess::WantBell`]. Comes with the descriptor of an event, which is counted up to
    /// ring.
    Bell,
}

/// A packet that does not parse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed packet, or unsupported protocol version")]
pub struct BadPodPacket;

impl From<TryGetError> for BadPodPacket {
    fn from(_: TryGetError) -> Self {
        Self
    }
}

impl FromProcess {
    /// As it is sent.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        match self {
            Self::Join { token, before } => {
                out.put_u8(1);
                out.put_u64_le(MAGIC);
                token.iter().for_each(|word| out.put_u64_le(*word));
                if let Some((incarnation, id)) = before {
                    incarnation.0.iter().for_each(|word| out.put_u64_le(*word));
                    put_process_id(&mut out, *id);
                }
            }
            Self::Knows(id) => {
                out.put_u8(2);
                put_process_id(&mut out, *id);
            }
            Self::Grant { more } => out.put_slice(&[3, u8::from(*more)]),
            Self::Serve(name) => {
                out.put_u8(4);
                out.put_slice(name.as_str().as_bytes());
            }
            Self::Unserve(name) => {
                out.put_u8(5);
                out.put_slice(name.as_str().as_bytes());
            }
            Self::Resolve { query, name } => {
                out.put_u8(6);
                out.put_u32_le(*query);
                out.put_slice(name.as_str().as_bytes());
            }
            Self::Send { to, body } => {
                out.put_u8(7);
                put_process_id(&mut out, *to);
                out.put_slice(body);
            }
            Self::Done(id) => {
                out.put_u8(8);
                put_process_id(&mut out, *id);
            }
            Self::Ready => out.put_u8(9),
            Self::Look => {
                out.put_u8(10);
                out.put_u64_le(MAGIC);
            }
            Self::Leave => out.put_u8(11),
            Self::Return(extent) => {
                out.put_u8(12);
                out.put_u32_le(*extent);
            }
            Self::GrantPayloads => out.put_u8(13),
            Self::Claim(extent) => put_extent(&mut out, 14, *extent),
            Self::Unclaim(extent) => put_extent(&mut out, 15, *extent),
            Self::LeaveHost => {
                out.put_u8(16);
                out.put_u64_le(MAGIC);
            }
            Self::Heard { host } => {
                out.put_u8(17);
                out.put_u16_le(*host);
            }
            Self::Watch { link, place } => {
                out.put_u8(18);
                out.put_u32_le(*link);
                put_place(&mut out, place);
            }
            Self::Unwatch { link } => {
                out.put_u8(19);
                out.put_u32_le(*link);
            }
            Self::WakeWithin { wake_us } => {
                out.put_u8(20);
                out.put_u32_le(*wake_us);
            }
            Self::WantBell => out.put_u8(21),
        }
        out
    }

    /// As it was received.
    ///
    /// # Errors
    /// When it is not exactly one packet.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadPodPacket> {
        let mut fields = bytes;
        let packet = match fields.try_get_u8()? {
            1 => {
                if fields.try_get_u64_le()? != MAGIC {
                    return Err(BadPodPacket);
                }
                let token = words(&mut fields)?;
                let before = match fields {
                    [] => None,
                    _ => Some((HostIncarnation(words(&mut fields)?), process_id(&mut fields)?)),
                };
                Self::Join { token, before }
            }
            2 => Self::Knows(process_id(&mut fields)?),
            3 => Self::Grant { more: flag(&mut fields)? },
            4 => Self::Serve(name(&mut fields)?),
            5 => Self::Unserve(name(&mut fields)?),
            6 => Self::Resolve { query: fields.try_get_u32_le()?, name: name(&mut fields)? },
            7 => Self::Send { to: process_id(&mut fields)?, body: body(&mut fields)? },
            8 => Self::Done(process_id(&mut fields)?),
            9 => Self::Ready,
            10 if fields.try_get_u64_le()? == MAGIC => Self::Look,
            11 => Self::Leave,
            12 => Self::Return(fields.try_get_u32_le()?),
            13 => Self::GrantPayloads,
            14 => Self::Claim(extent(&mut fields)?),
            15 => Self::Unclaim(extent(&mut fields)?),
            16 if fields.try_get_u64_le()? == MAGIC => Self::LeaveHost,
            17 => Self::Heard { host: fields.try_get_u16_le()? },
            18 => Self::Watch { link: fields.try_get_u32_le()?, place: place(&mut fields)? },
            19 => Self::Unwatch { link: fields.try_get_u32_le()? },
            20 => Self::WakeWithin { wake_us: fields.try_get_u32_le()? },
            21 => Self::WantBell,
            _ => return Err(BadPodPacket),
        };
        whole(packet, fields)
    }
}

impl ToProcess {
    /// As it is sent.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        match self {
            Self::Joined { incarnation, id, wake_us } => {
                out.put_u8(1);
                incarnation.0.iter().for_each(|word| out.put_u64_le(*word));
                put_process_id(&mut out, *id);
                out.put_u32_le(*wake_us);
            }
            Self::Refused(text) => {
                out.put_u8(2);
                put_text(&mut out, text);
            }
            Self::Granted(extent) => {
                out.put_u8(3);
                out.put_u32_le(*extent);
            }
            Self::NoExtent { more } => out.put_slice(&[4, u8::from(*more)]),
            Self::Serving(name) => {
                out.put_u8(5);
                out.put_slice(name.as_str().as_bytes());
            }
            Self::NotServing(name, text) => {
                out.put_slice(&[6, name.as_str().len() as u8]);
                out.put_slice(name.as_str().as_bytes());
                put_text(&mut out, text);
            }
            Self::Resolved { query, instances } => {
                out.put_u8(7);
                out.put_u32_le(*query);
                instances.iter().take(MAX_INSTANCES).for_each(|instance| put_process_id(&mut out, *instance));
            }
            Self::Mail { from, body } => {
                out.put_u8(8);
                put_process_id(&mut out, *from);
                out.put_slice(body);
            }
            Self::Gone { id, ended } => {
                out.put_slice(&[9, u8::from(*ended)]);
                put_process_id(&mut out, *id);
            }
            Self::Region { host } => {
                out.put_u8(10);
                out.put_u16_le(*host);
            }
            Self::GrantedPayloads(extent) => {
                out.put_u8(11);
                out.put_u32_le(*extent);
            }
            Self::NoPayloads => out.put_u8(12),
            Self::Claimed(extent) => put_extent(&mut out, 13, *extent),
            Self::HostLeft { host } => {
                out.put_u8(14);
                out.put_u16_le(*host);
            }
            Self::Listen { host, again } => {
                out.put_slice(&[15, u8::from(*again)]);
                out.put_u16_le(*host);
            }
            Self::Watching { link, watched } => {
                out.put_slice(&[16, u8::from(*watched)]);
                out.put_u32_le(*link);
            }
            Self::Bell => out.put_u8(17),
        }
        out
    }

    /// As it was received.
    ///
    /// # Errors
    /// When it is not exactly one packet.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadPodPacket> {
        let mut fields = bytes;
        let packet = match fields.try_get_u8()? {
            1 => Self::Joined {
                incarnation: HostIncarnation(words(&mut fields)?),
                id: process_id(&mut fields)?,
                wake_us: fields.try_get_u32_le()?,
            },
            2 => Self::Refused(text(&mut fields)?),
            3 => Self::Granted(fields.try_get_u32_le()?),
            4 => Self::NoExtent { more: flag(&mut fields)? },
            5 => Self::Serving(name(&mut fields)?),
            6 => {
                let len = usize::from(fields.try_get_u8()?);
                let (mut called, rest) = fields.split_at_checked(len).ok_or(BadPodPacket)?;
                fields = rest;
                Self::NotServing(name(&mut called)?, text(&mut fields)?)
            }
            7 => {
                let query = fields.try_get_u32_le()?;
                let mut instances = Vec::new();
                while !fields.is_empty() && instances.len() < MAX_INSTANCES {
                    instances.push(process_id(&mut fields)?);
                }
                Self::Resolved { query, instances }
            }
            8 => Self::Mail { from: process_id(&mut fields)?, body: body(&mut fields)? },
            9 => {
                let ended = flag(&mut fields)?;
                Self::Gone { id: process_id(&mut fields)?, ended }
            }
            10 => Self::Region { host: fields.try_get_u16_le()? },
            11 => Self::GrantedPayloads(fields.try_get_u32_le()?),
            12 => Self::NoPayloads,
            13 => Self::Claimed(extent(&mut fields)?),
            14 => Self::HostLeft { host: fields.try_get_u16_le()? },
            15 => {
                let again = flag(&mut fields)?;
                Self::Listen { host: fields.try_get_u16_le()?, again }
            }
            16 => Self::Watching { watched: flag(&mut fields)?, link: fields.try_get_u32_le()? },
            17 => Self::Bell,
            _ => return Err(BadPodPacket),
        };
        whole(packet, fields)
    }
}

fn put_process_id(out: &mut Vec<u8>, id: ProcessId) {
    let ProcessId { host, process, generation } = id;
    out.put_u64_le(u64::from(host) | u64::from(process) << 16 | u64::from(generation) << 32);
}

fn put_extent(out: &mut Vec<u8>, kind: u8, ExtentId { host, extent }: ExtentId) {
    out.put_u8(kind);
    out.put_u16_le(host);
    out.put_u16_le(extent);
}

fn extent(fields: &mut &[u8]) -> Result<ExtentId, BadPodPacket> {
    Ok(ExtentId { host: fields.try_get_u16_le()?, extent: fields.try_get_u16_le()? })
}

fn put_place(out: &mut Vec<u8>, place: &LinkPlace) {
    let LinkPlace { lanes: LanePlace { own, peer, peer_slots }, peer: process, activity, waits } = place;
    let line = |line: &Option<RegionOffset>| line.map_or(0, |line| line.0);
    for offset in [own.0, peer.0, line(activity), line(waits)] {
        out.put_u64_le(offset);
    }
    out.put_u32_le(*peer_slots);
    put_process_id(out, *process);
}

fn place(fields: &mut &[u8]) -> Result<LinkPlace, BadPodPacket> {
    let mut offset = || fields.try_get_u64_le().map(RegionOffset);
    let line = |line: RegionOffset| Some(line).filter(|line| line.0 != 0);
    let (own, peer, activity, waits) = (offset()?, offset()?, line(offset()?), line(offset()?));
    let lanes = LanePlace { own, peer, peer_slots: fields.try_get_u32_le()? };
    Ok(LinkPlace { lanes, peer: process_id(fields)?, activity, waits })
}

/// A sentence, cut to what a packet has room for.
fn put_text(out: &mut Vec<u8>, text: &str) {
    let most = MAX_PACKET - 2 - MAX_NAME_LENGTH;
    let end = (0..=text.len().min(most)).rev().find(|end| text.is_char_boundary(*end));
    out.put_slice(&text.as_bytes()[..end.unwrap_or(0)]);
}

fn flag(fields: &mut &[u8]) -> Result<bool, BadPodPacket> {
    match fields.try_get_u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(BadPodPacket),
    }
}

fn words(fields: &mut &[u8]) -> Result<[u64; 2], BadPodPacket> {
    Ok([fields.try_get_u64_le()?, fields.try_get_u64_le()?])
}

fn process_id(fields: &mut &[u8]) -> Result<ProcessId, BadPodPacket> {
    let word = fields.try_get_u64_le()?;
    Ok(ProcessId { host: word as u16, process: (word >> 16) as u16, generation: (word >> 32) as u32 })
}

/// All that is left, as text.
fn text(fields: &mut &[u8]) -> Result<String, BadPodPacket> {
    let text = str::from_utf8(std::mem::take(fields)).map_err(|_| BadPodPacket)?;
    Ok(text.to_owned())
}

/// All that is left, as a name.
fn name(fields: &mut &[u8]) -> Result<Name, BadPodPacket> {
    text(fields)?.parse().map_err(|_| BadPodPacket)
}

/// All that is left, as a message between processes.
fn body(fields: &mut &[u8]) -> Result<Vec<u8>, BadPodPacket> {
    if fields.len() > MAX_BODY {
        return Err(BadPodPacket);
    }
    Ok(std::mem::take(fields).to_vec())
}

/// A packet of which nothing is left over.
fn whole<T>(packet: T, fields: &[u8]) -> Result<T, BadPodPacket> {
    if fields.is_empty() { Ok(packet) } else { Err(BadPodPacket) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_round_trip(bytes in prop::collection::vec(prop_oneof![0u8..22, any::<u8>()], 0..80)) {
            if let Ok(packet) = FromProcess::decode(&bytes) {
                prop_assert_eq!(packet.encode(), bytes.clone());
            }
            if let Ok(packet) = ToProcess::decode(&bytes) {
                prop_assert_eq!(packet.encode(), bytes);
            }
        }
    }

    fn link_place(activity: Option<RegionOffset>, waits: Option<RegionOffset>) -> LinkPlace {
        let lanes = LanePlace { own: RegionOffset(1), peer: RegionOffset(2), peer_slots: 3 };
        let peer = ProcessId { host: 4, process: 5, generation: 6 };
        LinkPlace { lanes, peer, activity, waits }
    }

    #[test]
    fn packets_round_trip_and_fit() {
        let id = ProcessId { host: 1, process: 2, generation: 3 };
        let name: Name = "n".repeat(MAX_NAME_LENGTH).parse().unwrap();
        for packet in [
            FromProcess::Join { token: [1, 2], before: None },
            FromProcess::Join { token: [1, 2], before: Some((HostIncarnation([3, 4]), id)) },
            FromProcess::Knows(id),
            FromProcess::Ready,
            FromProcess::Grant { more: false },
            FromProcess::Grant { more: true },
            FromProcess::Serve(name.clone()),
            FromProcess::Unserve(name.clone()),
            FromProcess::Resolve { query: 7, name: name.clone() },
            FromProcess::Send { to: id, body: vec![1; MAX_BODY] },
            FromProcess::Done(id),
            FromProcess::Look,
            FromProcess::Leave,
            FromProcess::Return(7),
            FromProcess::GrantPayloads,
            FromProcess::Claim(ExtentId { host: 1, extent: 2 }),
            FromProcess::Unclaim(ExtentId { host: 3, extent: 4 }),
            FromProcess::LeaveHost,
            FromProcess::Heard { host: 3 },
            FromProcess::Watch { link: 7, place: link_place(Some(RegionOffset(8192)), None) },
            FromProcess::Watch { link: 7, place: link_place(None, Some(RegionOffset(64))) },
            FromProcess::Unwatch { link: 7 },
            FromProcess::WakeWithin { wake_us: 20 },
            FromProcess::WantBell,
        ] {
            let bytes = packet.encode();
            assert!(bytes.len() <= MAX_PACKET);
            assert_eq!(FromProcess::decode(&bytes), Ok(packet));
        }
        for packet in [
            ToProcess::Joined { incarnation: HostIncarnation([1, 2]), id, wake_us: 500 },
            ToProcess::Refused("no".into()),
            ToProcess::Granted(7),
            ToProcess::NoExtent { more: false },
            ToProcess::NoExtent { more: true },
            ToProcess::Serving(name.clone()),
            ToProcess::NotServing(name, "no".into()),
            ToProcess::Resolved { query: 7, instances: vec![id; MAX_INSTANCES] },
            ToProcess::Mail { from: id, body: vec![1; MAX_BODY] },
            ToProcess::Gone { id, ended: true },
            ToProcess::Gone { id, ended: false },
            ToProcess::Region { host: 3 },
            ToProcess::GrantedPayloads(7),
            ToProcess::NoPayloads,
            ToProcess::Claimed(ExtentId { host: 1, extent: 2 }),
            ToProcess::HostLeft { host: 3 },
            ToProcess::Listen { host: 3, again: true },
            ToProcess::Watching { link: 7, watched: true },
            ToProcess::Watching { link: 7, watched: false },
            ToProcess::Bell,
        ] {
            let bytes = packet.encode();
            assert!(bytes.len() <= MAX_PACKET);
            assert_eq!(ToProcess::decode(&bytes), Ok(packet));
        }
        assert!(ToProcess::Refused("é".repeat(5000)).encode().len() <= MAX_PACKET);
    }
}
