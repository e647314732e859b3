//! Payloads in sealed memory, which go by reference.
//!
//! A payload is *shared* with a peer once: its descriptor goes over the link's socket in a packet, a SHARE
//! frame tells a peer that polls its lanes to look there, and the peer answers whether it takes it. From then
//! on data that lie in it travel as a reference. What a peer has not taken is copied as everything else is.
//! When this process refers to a payload no more, UNSHARE lets the peer forget it.
//!
//! A payload that the peer has taken lives on at the peer for as long as something there refers to it. The
//! peer may send it back, and so share it as its own: then the tables of both sides hold it. They count for
//! nothing, or it would be held for ever.
//!
//! Between hosts no descriptor can be passed. There a payload lies in the region, and the SHARE frame says
//! where (`places.rs`). Data never wait for an answer there, which takes two agents.

use std::collections::{HashMap, VecDeque};
use std::io::IoSlice;
use std::sync::{Arc, Weak};

use bytes::{Buf, Bytes};
use notnets_memory::sealed::endings;
use notnets_memory::{Returns, Sealed, WeakSealed};

use super::loans::{Found, LoanedPiece, Loans};
use super::payloads::PayloadKind;
use super::places::{Place, Places, Placing};
use super::{StreamId, Violation};
use crate::frame::{Frame, Kind, Payload, SharedReference};

/// Pieces of a message that are smaller are copied: to look for them costs more.
pub const LEAST_SHARED: usize = 16 << 10;
/// Data of this size wait for the peer's answer about their payload, which takes less time than to copy them.
const WORTH_WAITING: usize = 128 << 10;
/// Payloads of which the peer has not said whether it takes them.
const MAX_UNANSWERED: usize = 8;
/// Payloads that are shared over one link at a time, in each direction. Each takes a descriptor and a
/// mapping.
pub const MAX_PAYLOADS: usize = 256;
/// Fewer own payloads are looked through only when one was let go of.
const LEAST_LOOKED_AT: usize = 8;
/// A look at the pieces of a message sees so many.
const PIECES: usize = 8;

/// The payloads that both sides of a link have shared.
#[derive(Debug)]
pub(super) struct Sharing {
    /// The peer takes payloads.
    sends: bool,
    /// The peer may share payloads.
    receives: bool,
    /// Where payloads lie, if not in files.
    places: Option<Box<dyn Places>>,
    /// The peer's that are being claimed, with their bytes.
    claiming: HashMap<u32, u64>,
    /// Our own, by their serial numbers.
    own: HashMap<u64, Own>,
    /// The number of the next one.
    next: u32,
    /// To be sent in a packet each.
    to_send: VecDeque<(u32, Sealed)>,
    /// Frames about payloads, in order.
    frames: VecDeque<Frame>,
    /// Streams whose data wait for an answer.
    waiting: Vec<StreamId>,
    /// What was let go of anywhere in this process when the own ones were looked through.
    endings: u64,
    /// How many own ones there have to be before they are looked through because one more comes.
    look_at: usize,
    /// The peer's, by its numbers.
    peer: HashMap<u32, Theirs>,
    /// The last number of the peer's.
    last: u32,
    /// Bytes of the peer's payloads that may still be taken.
    bytes_left: u64,
    /// The peer has sent a packet that was not read yet.
    wants_packets: bool,
    /// Wakes the link's driver when a payload is let go of.
    returns: Option<Weak<Returns>>,
}

#[derive(Debug)]
struct Own {
    number: u32,
    sealed: WeakSealed,
    answer: Answer,
}

/// A payload of the peer's.
#[derive(Debug)]
struct Theirs {
    sealed: Sealed,
    /// All of it, for those that are referred to. They keep one more `Sealed`.
    bytes: Option<Bytes>,
}

impl Theirs {
    fn len(&self) -> u64 {
        self.sealed.as_slice().len() as u64
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Outstanding,
    Taken,
    Declined,
}

/// Payloads that are shared over a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SharedPayloads {
    /// Own ones that the peer has taken.
    pub own: usize,
    /// The peer's that were taken.
    pub peer: usize,
    /// Bytes of the peer's.
    pub peer_bytes: u64,
}

/// How data that are to be sent begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// With so many bytes that have to be copied, or more; and how they go then.
    Private(usize, PayloadKind),
    /// With bytes that can be referred to.
    Shared(SharedReference),
    /// With a part of a loan.
    Loaned(LoanedPiece),
    /// With bytes that it is not yet known about.
    Unanswered,
}

impl Sharing {
    pub fn new() -> Self {
        Self {
            sends: false,
            receives: false,
            places: None,
            claiming: HashMap::new(),
            own: HashMap::new(),
            next: 0,
            to_send: VecDeque::new(),
            frames: VecDeque::new(),
            waiting: Vec::new(),
            endings: 0,
            look_at: LEAST_LOOKED_AT,
            peer: HashMap::new(),
            last: 0,
            bytes_left: 0,
            wants_packets: false,
            returns: None,
        }
    }

    /// The driver of the link is woken by this for payloads that are let go of.
    pub fn notice(&mut self, returns: &Arc<Returns>) {
        self.returns = Some(Arc::downgrade(returns));
    }

    /// Both sides know how. The peer's payloads may have so many bytes together.
    pub fn begin(&mut self, bytes: u64) {
        self.sends = true;
        self.receives = true;
        self.bytes_left = bytes;
    }

    /// Payloads lie in a region.
    pub fn begin_placing(&mut self, placing: Placing) {
        self.sends = placing.sends;
        self.receives = placing.bytes > 0;
        self.bytes_left = placing.bytes;
        self.places = Some(placing.places);
    }

    /// The link is over: nothing more is sent or comes. What was handed out stays.
    pub fn end(&mut self) {
        let returns = self.returns.take();
        *self = Self { returns, ..Self::new() };
    }

    #[inline]
    pub fn is_on(&self) -> bool {
        self.sends || self.receives
    }

    #[inline]
    pub fn has_frames(&self) -> bool {
        !self.frames.is_empty()
    }

    pub fn pop_frame(&mut self) -> Option<Frame> {
        self.frames.pop_front()
    }

    /// Looks at the beginning of data for loans and for what lies in sealed memory, which it begins to share.
    /// Pieces below the least are not looked at.
    pub fn look(&mut self, data: &impl Buf, loans: &Loans, least: usize) -> Beginning {
        let mut slices = [IoSlice::new(&[]); PIECES];
        let count = data.chunks_vectored(&mut slices);
        let mut private = 0;
        let mut kind = PayloadKind::SentPrivate;
        for slice in &slices[..count] {
            if slice.len() >= least {
                match loans.find(slice) {
                    Found::Elsewhere => {}
                    Found::Sent(bytes) => {
                        return Beginning::Private(private + bytes, PayloadKind::SentRepeated);
                    }
                    Found::Loaned(_) if private > 0 => return Beginning::Private(private, kind),
                    Found::Loaned(piece) => return Beginning::Loaned(piece),
                }
            }
            if slice.len() >= LEAST_SHARED
                && let Some((sealed, offset)) = Sealed::find(slice)
            {
                let answer = if self.may_send(&sealed) { self.answer(&sealed) } else { None };
                let waits = self.places.is_none() && slice.len() >= WORTH_WAITING;
                match answer {
                    Some((_, Answer::Outstanding)) if !waits => {
                        kind = PayloadKind::SentUnanswered;
                    }
                    Some((_, Answer::Declined)) => kind = PayloadKind::SentDeclined,
                    None if self.may_send(&sealed) => kind = PayloadKind::SentOverLimit,
                    None => kind = PayloadKind::SentUnsupported,
                    Some(_) if private > 0 => return Beginning::Private(private, kind),
                    Some((_, Answer::Outstanding)) => return Beginning::Unanswered,
                    Some((payload, Answer::Taken)) => {
                        return Beginning::Shared(SharedReference {
                            payload,
                            offset: offset as u64,
                            length: slice.len() as u64,
                        });
                    }
                }
            }
            private += slice.len();
        }
        Beginning::Private(if count < PIECES { usize::MAX } else { private }, kind)
    }

    /// Returns `true` if the link has a way to share these bytes.
    fn may_send(&self, sealed: &Sealed) -> bool {
        self.sends && (self.places.is_some() || sealed.descriptor().is_some())
    }

    /// The number of a payload, and what the peer has said to it. `None` if it can't be shared now.
    fn answer(&mut self, sealed: &Sealed) -> Option<(u32, Answer)> {
        if let Some(own) = self.own.get(&sealed.serial()) {
            return Some((own.number, own.answer));
        }
        if self.own.len() >= self.look_at {
            self.forget_ended();
            self.look_at = (2 * self.own.len()).clamp(LEAST_LOOKED_AT, MAX_PAYLOADS);
        }
        let unanswered = self.own.values().filter(|own| own.answer == Answer::Outstanding);
        if self.own.len() >= MAX_PAYLOADS || unanswered.count() >= MAX_UNANSWERED {
            return None;
        }
        let number = self.next.checked_add(1)?;
        match &mut self.places {
            Some(places) => {
                let place = places.place(number, sealed)?;
                self.frames
                    .push_back(Frame { payload: place.encode(), ..link_frame(Kind::Share, number, 0) });
            }
            None => self.to_send.push_back((number, sealed.clone())),
        }
        self.next = number;
        let own = Own { number: self.next, sealed: sealed.downgrade(), answer: Answer::Outstanding };
        self.own.insert(sealed.serial(), own);
        if let Some(returns) = self.returns.as_ref().and_then(Weak::upgrade) {
            sealed.tell(&returns);
        }
        Some((self.next, Answer::Outstanding))
    }

    /// The next payload for a packet to the peer.
    pub fn take_to_send(&mut self) -> Option<(u32, Sealed)> {
        self.to_send.pop_front()
    }

    #[inline]
    pub fn has_to_send(&self) -> bool {
        !self.to_send.is_empty()
    }

    /// The packet has gone: the peer finds it when it is told by a frame, too.
    pub fn on_sent(&mut self, payload: u32) {
        self.frames.push_back(link_frame(Kind::Share, payload, 0));
    }

    pub fn wait(&mut self, stream: StreamId) {
        if !self.waiting.contains(&stream) {
            self.waiting.push(stream);
        }
    }

    /// The peer's answer. Returns the streams whose data waited for one.
    pub fn on_answer(&mut self, payload: u32, taken: bool) -> Result<Vec<StreamId>, Violation> {
        let own = self.own.values_mut().find(|own| own.number == payload);
        let own = own.filter(|own| own.answer == Answer::Outstanding).ok_or(Violation::Payload(payload))?;
        own.answer = if taken { Answer::Taken } else { Answer::Declined };
        if let Some(places) = &mut self.places {
            places.on_answer(payload, taken);
        }
        Ok(std::mem::take(&mut self.waiting))
    }

    /// Tells the peer which payloads this process refers to no more, and which it has claimed.
    #[inline]
    pub fn catch_up(&mut self) {
        if self.own.len() + self.claiming.len() > 0 {
            self.look_after_payloads();
        }
    }

    #[cold]
    fn look_after_payloads(&mut self) {
        if !self.own.is_empty() && self.endings != endings() {
            self.forget_ended();
        }
        if !self.claiming.is_empty() {
            self.take_claimed();
        }
    }

    #[cold]
    fn forget_ended(&mut self) {
        self.endings = endings();
        let Self { own, frames, peer, places, .. } = self;
        let before = own.len();
        // What the peer has sent back, and is referred to by nothing but that.
        let mut sent_back = HashMap::<u64, usize>::new();
        for theirs in peer.values_mut().filter(|theirs| own.contains_key(&theirs.sealed.serial())) {
            theirs.bytes = None;
            *sent_back.entry(theirs.sealed.serial()).or_default() += 1;
        }
        own.retain(|serial, own| {
            let tables = sent_back.get(serial).copied().unwrap_or_default();
            let ends = own.sealed.holders() <= tables && own.answer != Answer::Outstanding;
            if ends && own.answer == Answer::Taken {
                frames.push_back(link_frame(Kind::Unshare, own.number, 0));
                if let Some(places) = places {
                    places.forget(own.number);
                }
            }
            !ends
        });
        if own.len() < before {
            // There may be room for them now.
            own.retain(|_, own| own.answer != Answer::Declined);
        }
    }

    /// The peer has shared a payload: it has sent it in a packet, or says where it lies.
    pub fn on_share(&mut self, payload: u32, place: &Payload) -> Result<(), Violation> {
        if self.places.is_some() {
            let place = Place::decode(place).ok_or(Violation::Payload(payload))?;
            return self.on_place(payload, place);
        }
        self.wants_packets |= payload > self.last;
        Ok(())
    }

    fn on_place(&mut self, payload: u32, place: Place) -> Result<(), Violation> {
        let has_room = self.check(payload, place.bytes)?;
        let Some(places) = self.places.as_mut().filter(|_| has_room) else {
            self.frames.push_back(link_frame(Kind::Shared, payload, 0));
            return Ok(());
        };
        self.bytes_left -= place.bytes;
        self.claiming.insert(payload, place.bytes);
        places.claim(payload, place);
        Ok(())
    }

    /// Answers what was claimed, or can't be.
    #[cold]
    fn take_claimed(&mut self) {
        while let Some((payload, sealed)) = self.places.as_mut().and_then(|places| places.poll()) {
            if let Some(bytes) = self.claiming.remove(&payload) {
                self.bytes_left += bytes;
                self.on_packet(payload, sealed);
            }
        }
    }

    #[inline]
    pub fn wants_packets(&self) -> bool {
        self.wants_packets
    }

    /// The packet was sent before the frame, so that one look is enough.
    pub fn take_wants_packets(&mut self) -> bool {
        std::mem::take(&mut self.wants_packets)
    }

    /// A payload of the peer's that is expected to have so many bytes.
    pub fn check(&mut self, payload: u32, bytes: u64) -> Result<bool, Violation> {
        // Its answers are to be read before it goes on.
        if !self.receives || payload <= self.last || self.frames.len() > 2 * MAX_PAYLOADS {
            return Err(Violation::Payload(payload));
        }
        self.last = payload;
        Ok(bytes <= self.bytes_left && self.peer.len() + self.claiming.len() < MAX_PAYLOADS)
    }

    /// A payload of the peer's was taken, or declined.
    pub fn on_packet(&mut self, payload: u32, sealed: Option<Sealed>) {
        let taken = sealed.is_some();
        if let Some(sealed) = sealed {
            let theirs = Theirs { sealed, bytes: None };
            self.bytes_left = self.bytes_left.saturating_sub(theirs.len());
            self.peer.insert(payload, theirs);
        }
        self.frames.push_back(link_frame(Kind::Shared, payload, taken.into()));
    }

    /// The peer refers to a payload no more.
    pub fn on_unshare(&mut self, payload: u32) -> Result<(), Violation> {
        let theirs = self.peer.remove(&payload).ok_or(Violation::Payload(payload))?;
        self.bytes_left += theirs.len();
        Ok(())
    }

    pub fn payloads(&self) -> SharedPayloads {
        SharedPayloads {
            own: self.own.values().filter(|own| own.answer == Answer::Taken).count(),
            peer: self.peer.len(),
            peer_bytes: self.peer.values().map(Theirs::len).sum(),
        }
    }

    /// The bytes that a reference of the peer's refers to.
    pub fn resolve(&mut self, reference: &SharedReference) -> Result<Bytes, Violation> {
        let SharedReference { payload, offset, length } = *reference;
        let bad = || Violation::Payload(payload);
        let theirs = self.peer.get_mut(&payload).ok_or_else(bad)?;
        let bytes = theirs.bytes.get_or_insert_with(|| Bytes::from_owner(theirs.sealed.clone()));
        let end = offset.checked_add(length).filter(|end| *end <= bytes.len() as u64).ok_or_else(bad)?;
        if length == 0 {
            return Err(bad());
        }
        Ok(bytes.slice(offset as usize..end as usize))
    }
}

fn link_frame(kind: Kind, payload: u32, code: u32) -> Frame {
    Frame { argument: payload.into(), code, ..Frame::new(kind, StreamId::LINK) }
}
