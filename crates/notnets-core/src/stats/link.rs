//! The counters of one link, written where it is driven.

use std::sync::Arc;

use notnets_memory::process::ForkGuard;
use notnets_memory::{OwnMemory, OwnWords, Ticks, WORD, WriteMemory};

use super::counts::Count;
use super::histogram::bucket;
use super::layout::{AREA, add_method, call, link, method, use_others};
use super::text::write_text;
use super::{Stats, seconds_now};
use crate::call::{PayloadKind, StreamId};
use crate::clock::Timestamp;
use crate::code::Code;
use crate::link::segments::SegmentBytes;
use crate::link::{IdentitySource, PeerIdentity};

/// A string that is no method's, as far as is known.
const UNKNOWN: u16 = 0;
/// A call that is in no place of the list.
const UNLISTED: u8 = link::CALLS_LISTED as u8;

/// What is at the other end of a link, for those who look at the counters.
#[derive(Clone, Copy, Debug)]
pub struct LinkAbout<'a> {
    /// The peer.
    pub peer: &'a PeerIdentity,
    /// The address that a client has dialled; a client's user agent.
    pub target: &'a str,
    /// A connection of HTTP/2 is behind it.
    pub is_http2: bool,
}

/// The counters of one link.
#[derive(Debug)]
pub struct LinkCounters {
    area: OwnWords<{ AREA / WORD }>,
    stats: Arc<Stats>,
    clock: Ticks,
    fine_bits: u32,
    /// The first words of the blocks of the methods whose strings have these ids.
    by_string: Vec<u16>,
    /// Places of the list of calls that are free, a bit for each.
    free: u64,
    parked_since: u64,
    /// In a forked child the counters are not mapped.
    fork: Option<ForkGuard>,
}

/// What is counted of a call when it ends.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    /// In ticks; 0 for a call that isn't counted, or no more.
    since: u64,
    /// The first word of its method's block.
    method: u16,
    place: u8,
    waits_for: WaitsFor,
}

/// What a call waits for, as this side sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum WaitsFor {
    /// The peer.
    #[default]
    Peer = 1,
    /// This side's application.
    Application = 2,
    /// Room in the ring, or a block.
    Room = 3,
    /// Credit for the stream or the link: the peer's application does not take what it has.
    Credit = 4,
}

impl WaitsFor {
    pub(super) fn of_number(number: u8) -> Self {
        let others = [Self::Application, Self::Room, Self::Credit];
        others.into_iter().find(|waits| *waits as u8 == number).unwrap_or(Self::Peer)
    }

    /// A name for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Application => "application",
            Self::Room => "room",
            Self::Credit => "credit",
        }
    }
}

impl LinkCounters {
    /// In an area that is all zero.
    pub(super) fn new(area: OwnMemory, stats: Arc<Stats>, number: u64, about: LinkAbout<'_>) -> Self {
        let clock = stats.clock();
        let credentials = &about.peer.credentials;
        area.store(link::SINCE, seconds_now());
        area.store(link::PEER_PID, credentials.pid.map_or(u64::MAX, u64::from));
        area.store(link::PEER_UID, credentials.uid.into());
        area.store(
            link::TRANSPORT,
            match about.peer.identity_source {
                IdentitySource::Agent { host } => 16 + u64::from(host),
                IdentitySource::Kernel => u64::from(about.is_http2),
            },
        );
        write_text(&area, link::TARGET, link::TARGET_WORDS, about.target);
        // Pairs with the load in `LinkSnapshot::read`: what was stored before is there.
        area.store_release(link::NUMBER, number);
        let area = OwnWords::new(area);
        let fork = ForkGuard::new().ok();
        let fine_bits = clock.fine_bits();
        let (by_string, free) = (Vec::new(), u64::MAX);
        Self { area, stats, clock, fine_bits, by_string, free, parked_since: 0, fork }
    }

    /// The first word of the block of a method whose path is the link's string with that id.
    #[inline]
    pub(crate) fn method(&mut self, string: Option<u16>, path: &str) -> u16 {
        let Some(string) = string else { return self.others() };
        match self.by_string.get(string as usize) {
            Some(method) if *method != UNKNOWN => *method,
            _ => self.new_method(string as usize, path),
        }
    }

    #[cold]
    fn new_method(&mut self, string: usize, path: &str) -> u16 {
        let method = match add_method(self.area.memory(), AREA, path) {
            Some(block) => block as u16,
            None => self.others(),
        };
        if self.by_string.len() <= string {
            self.by_string.resize(string + 1, UNKNOWN);
        }
        self.by_string[string] = method;
        method
    }

    #[cold]
    fn others(&mut self) -> u16 {
        use_others(self.area.memory()) as u16
    }

    /// A call begins.
    #[inline]
    pub(crate) fn begin(
        &mut self,
        stream: StreamId,
        method: u16,
        deadline: Option<Timestamp>,
        waits_for: WaitsFor,
    ) -> Counted {
        self.area.add(usize::from(method) + method::STARTED, 1);
        let since = self.clock.now();
        let place = self.free.trailing_zeros() as u8;
        if place < UNLISTED {
            self.free &= self.free - 1;
            let deadline = deadline.map_or(0, Timestamp::as_nanos);
            let call = [stream.get(), since, deadline, what_waits(method, waits_for)];
            self.area.store_each::<{ call::WORDS }>(place_of(place), call);
        }
        Counted { since, method, place, waits_for }
    }

    /// A call has ended. It is counted once.
    #[inline]
    pub(crate) fn end(&mut self, counted: &mut Counted, status: Code) {
        let now = self.clock.now();
        if counted.since == 0 {
            return;
        }
        let block = usize::from(counted.method);
        let ticks = now.saturating_sub(counted.since);
        counted.since = 0;
        let status = (status.0 as usize).min(method::STATUSES - 1);
        self.area.add(block + method::STATUS + status, 1);
        self.area.add(block + method::TICKS, ticks);
        self.area.add(block + method::TIMES + bucket(ticks, self.fine_bits), 1);
        if counted.place < UNLISTED {
            self.free |= 1 << counted.place;
            self.area.store(place_of(counted.place) + call::STREAM, 0);
        }
    }

    /// A call has ended without an answer of the server's application.
    #[cold]
    pub(crate) fn end_unanswered(&mut self, counted: &mut Counted, status: Code, why: &str) {
        if counted.since == 0 {
            return;
        }
        self.end(counted, status);
        self.count(Count::Unanswered, 1);
        write_text(self.area.memory(), link::FAILURE, link::FAILURE_WORDS, &format!("{status}: {why}"));
    }

    /// Something was sent: if a call had to wait for that, its application goes on.
    #[inline]
    pub(crate) fn goes_on(&self, counted: &mut Counted) {
        if matches!(counted.waits_for, WaitsFor::Room | WaitsFor::Credit) {
            self.waits_for(counted, WaitsFor::Application);
        }
    }

    /// Counts so many more.
    #[inline]
    pub fn count(&self, count: Count, more: u64) {
        self.area.add(link::COUNTS + count as usize, more);
    }

    /// A frame with data was sent, with which so many messages end.
    #[inline]
    pub(crate) fn sent(&self, bytes: usize, messages: u64) {
        self.count(Count::FramesSent, 1);
        self.count(Count::BytesSent, bytes as u64);
        self.count(Count::MessagesSent, messages);
    }

    /// A frame with data has come, with which so many messages end as far as the frame says.
    #[inline]
    pub(crate) fn received(&self, bytes: usize, messages: u64) {
        self.count(Count::FramesReceived, 1);
        self.count(Count::BytesReceived, bytes as u64);
        self.count(Count::MessagesReceived, messages);
    }

    /// Messages have ended with a frame that did not say so itself.
    #[inline]
    pub(crate) fn messages_received(&self, messages: u64) {
        self.count(Count::MessagesReceived, messages);
    }

    /// A request was refused.
    #[cold]
    pub(crate) fn refused(&self) {
        self.count(Count::Refused, 1);
    }

    /// Something could not be sent for want of this.
    #[cold]
    pub(crate) fn wants(&self, want: Want) {
        self.count(want.count(), 1);
    }

    /// A large payload went or came.
    #[cold]
    pub(crate) fn payload(&self, kind: PayloadKind, bytes: usize) {
        let at = link::PAYLOADS + 2 * kind as usize;
        self.area.add(at, 1);
        self.area.add(at + 1, bytes as u64);
    }

    /// Has the bytes of the link's further segments as they are now.
    pub(crate) fn segments(&self, bytes: SegmentBytes) {
        self.area.store(link::SEGMENTS_OFFERED, bytes.offered as u64);
        self.area.store(link::SEGMENTS_MAPPED, bytes.mapped as u64);
    }

    /// The peer is rung.
    #[inline]
    pub(crate) fn rung(&self) {
        self.count(Count::DoorbellsRung, 1);
    }

    /// The socket has brought something.
    pub(crate) fn doorbell(&mut self) {
        self.count(Count::DoorbellsReceived, 1);
        self.awake();
    }

    /// The link sleeps from now on.
    #[inline]
    pub(crate) fn park(&mut self, out: impl FnOnce() -> (usize, usize)) {
        if self.parked_since == 0 {
            self.parked_since = self.clock.now();
            self.count(Count::Parks, 1);
            self.area.store(link::PARKED_SINCE, self.parked_since);
            let (blocks, bytes) = out();
            self.area.store(link::BLOCKS_OUT, blocks as u64);
            self.area.store(link::BYTES_OUT, bytes as u64);
        }
    }

    /// The link is driven again.
    #[inline]
    pub(crate) fn awake(&mut self) {
        if self.parked_since != 0 {
            let slept = self.clock.now().saturating_sub(std::mem::take(&mut self.parked_since));
            self.area.add(link::PARKED_TICKS, slept);
            self.area.store(link::PARKED_SINCE, 0);
        }
    }

    /// A call waits for this from now on.
    #[inline]
    pub(crate) fn waits_for(&self, counted: &mut Counted, what: WaitsFor) {
        if counted.waits_for != what && counted.since != 0 {
            counted.waits_for = what;
            if counted.place < UNLISTED {
                let word = place_of(counted.place) + call::METHOD;
                self.area.store(word, what_waits(counted.method, what));
            }
        }
    }
}

impl Drop for LinkCounters {
    fn drop(&mut self) {
        if self.fork.is_some_and(|fork| !fork.is_forked_child()) {
            self.stats.give_back(self.area.memory().split_to(AREA));
        }
    }
}

/// What is wanting when something can't be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Want {
    /// Room in the ring, or a block.
    Room,
    /// Credit of the stream.
    StreamCredit,
    /// Credit of the link.
    LinkCredit,
    /// A stream of those that may be open at once.
    Stream,
}

impl Want {
    fn count(self) -> Count {
        match self {
            Self::Room => Count::NoRoom,
            Self::StreamCredit => Count::NoStreamCredit,
            Self::LinkCredit => Count::NoLinkCredit,
            Self::Stream => Count::NoStream,
        }
    }
}

/// The word of what a call is and waits for.
#[inline]
fn what_waits(method: u16, what: WaitsFor) -> u64 {
    u64::from(method) | u64::from(what as u8) << 16
}

#[inline]
fn place_of(place: u8) -> usize {
    link::CALLS + usize::from(place) * call::WORDS
}
