//! What is counted of the calls of a link.

use notnets_memory::{ReadMemory, WriteMemory};

use super::{Connection, Deadline, Failure, StreamId};
use crate::code::Code;
use crate::link::segments::SegmentBytes;
use crate::stats::{Count, Counted, LinkCounters, WaitsFor, Want};

impl<T, W: WriteMemory, R: ReadMemory> Connection<T, W, R> {
    /// Has calls, frames and waits counted there.
    pub fn count_in(&mut self, counters: LinkCounters) {
        self.counters = Some(counters);
    }

    /// The counters, if there are any.
    #[inline]
    pub fn counters(&mut self) -> Option<&mut LinkCounters> {
        self.counters.as_mut()
    }

    /// The link is over: calls that are open have ended with it.
    pub fn count_end(&mut self, failure: &Failure) {
        let Some(mut counters) = self.counters.take() else { return };
        let open: Vec<StreamId> = self.streams.ids().collect();
        for stream in open {
            if let Some(entry) = self.streams.get_mut(stream) {
                counters.end_unanswered(&mut entry.counted, failure.code, &failure.message);
            }
        }
    }

    /// The link goes to sleep.
    #[inline]
    pub fn count_park(&mut self) {
        if let Some(counters) = &mut self.counters {
            let arena = self.lanes.arena();
            counters.park(|| arena.lent_as_seen());
        }
    }

    /// The link was polled for as long as that may pay off.
    #[cold]
    pub fn count_poll_in_vain(&mut self) {
        if let Some(counters) = &mut self.counters {
            counters.count(Count::PollsInVain, 1);
        }
    }

    /// Bytes of further segments have changed.
    pub fn count_segments(&mut self, bytes: SegmentBytes) {
        if let Some(counters) = &self.counters {
            counters.segments(bytes);
        }
    }

    /// Client: a call of this method begins on a stream.
    #[inline]
    pub(super) fn count_open(
        &mut self,
        tag: u16,
        method: &str,
        stream: StreamId,
        deadline: Option<Deadline>,
    ) -> Counted {
        let Some(counters) = &mut self.counters else { return Counted::default() };
        let method = counters.method(self.send_strings.id(tag, method), method);
        counters.begin(stream, method, deadline.map(|deadline| deadline.at), WaitsFor::Peer)
    }

    /// A call has ended without an answer of the server's application.
    #[inline]
    pub(super) fn count_unanswered(&mut self, stream: StreamId, code: Code, why: &str) {
        if let Some(counters) = &mut self.counters
            && let Some(entry) = self.streams.get_mut(stream)
        {
            counters.end_unanswered(&mut entry.counted, code, why);
        }
    }

    /// Messages have come whole.
    #[inline]
    pub(super) fn count_received(&mut self, messages: u64) {
        if messages > 0
            && let Some(counters) = &self.counters
        {
            counters.messages_received(messages);
        }
    }

    /// Something could not be sent on a stream.
    #[cold]
    pub(super) fn count_wait(&mut self, stream: StreamId, want: Want) {
        if let Some(counters) = &mut self.counters {
            counters.wants(want);
        }
        let is_for_room = matches!(want, Want::Room);
        self.count_waits_for(stream, if is_for_room { WaitsFor::Room } else { WaitsFor::Credit });
    }

    /// A call waits for something else from now on.
    #[inline]
    pub(super) fn count_waits_for(&mut self, stream: StreamId, what: WaitsFor) {
        if let Some(counters) = &mut self.counters
            && let Some(entry) = self.streams.get_mut(stream)
        {
            counters.waits_for(&mut entry.counted, what);
        }
    }
}
