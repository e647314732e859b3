//! A client's call, as a task that runs when it was woken.

use notnets_core::call::{End, Failure, OpenOutcome, Received, ResponseHead, Sent, StreamId};
use notnets_core::clock::Timestamp;
use notnets_core::code::Code;
use notnets_core::pair::frozen_clock;

use super::flow::{Entries, Flow, assert_entries, borrowed};
use super::handler::{Plan, Style};
use super::random::Random;
use super::side::Side;

/// What both ends of a call know of it.
pub struct Script {
    pub plan: Plan,
    pub request: Flow,
    pub entries: Entries,
    pub deadline: Option<Timestamp>,
    /// Something happened that may end the call before its time.
    pub cut: bool,
    /// The server goes away: the call may find no link to be made on.
    pub too_late: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Opening,
    Open(StreamId),
    Over,
}

pub struct Call {
    pub phase: Phase,
    pub must_wait_to_open: bool,
    pub must_wait_to_send: bool,
    pub must_wait_to_read: bool,
    key: usize,
    sent: bool,
    head_seen: bool,
    request: Flow,
    response: Flow,
}

impl Call {
    pub fn new(key: usize, script: &Script) -> Self {
        Self {
            phase: Phase::Opening,
            must_wait_to_open: false,
            must_wait_to_send: false,
            must_wait_to_read: false,
            key,
            sent: false,
            head_seen: false,
            request: script.request.clone(),
            response: script.plan.response.clone(),
        }
    }

    pub fn is_runnable(&self) -> bool {
        match self.phase {
            Phase::Opening => !self.must_wait_to_open,
            Phase::Open(_) => self.may_send() || !self.must_wait_to_read,
            Phase::Over => false,
        }
    }

    fn may_send(&self) -> bool {
        !self.sent && !self.must_wait_to_send
    }

    pub fn run(&mut self, side: &mut Side, script: &mut Script, random: &mut Random) {
        side.in_turn = true;
        match self.phase {
            Phase::Opening => self.open(side, script, random),
            Phase::Open(stream) if self.may_send() && (self.must_wait_to_read || random.once_in(2)) => {
                self.send(side, stream, random);
            }
            Phase::Open(stream) => self.read(side, stream, script, random),
            Phase::Over => {}
        }
    }

    fn open(&mut self, side: &mut Side, script: &mut Script, random: &mut Random) {
        let chunk = self.request.next(random);
        let end = chunk.len() == self.request.rest() && random.once_in(2);
        let key = (self.key as u64).to_le_bytes();
        let entries = std::iter::once(("call", &key[..])).chain(borrowed(&script.entries));
        let mut data = &chunk[..];
        let method = if self.key.is_multiple_of(3) { "/a.B/C" } else { "/a.B/OtherMethod" };
        let calls = side.session.calls();
        let deadline = script.deadline.map(|at| calls.deadline(at, frozen_clock));
        match calls.open(method, entries, deadline, &mut data, end, &mut Some(())) {
            Ok(OpenOutcome::Opened(stream, sent)) => {
                self.phase = Phase::Open(stream);
                self.went(chunk.len() - data.len(), sent, end);
            }
            Ok(OpenOutcome::Blocked) => {
                assert_eq!(data.len(), chunk.len(), "data were taken by a call that was not opened");
                self.must_wait_to_open = true;
            }
            Ok(OpenOutcome::Draining) => {
                assert!(script.too_late, "a link that takes no calls");
                self.phase = Phase::Over;
            }
            // The entries may be a little over the limit.
            Err(_) => self.phase = Phase::Over,
        }
    }

    fn send(&mut self, side: &mut Side, stream: StreamId, random: &mut Random) {
        let chunk = self.request.next(random);
        let end = chunk.len() == self.request.rest() && random.once_in(2);
        let mut data = &chunk[..];
        let sent = side.session.calls().send(stream, &mut data, end);
        self.went(chunk.len() - data.len(), sent, end);
    }

    fn went(&mut self, bytes: usize, sent: Sent, end: bool) {
        self.request.done += bytes;
        match sent {
            Sent::All => self.sent = end,
            Sent::Nothing | Sent::Part => self.must_wait_to_send = true,
            Sent::Stopped => self.sent = true,
        }
    }

    fn read(&mut self, side: &mut Side, stream: StreamId, script: &mut Script, random: &mut Random) {
        if random.once_in(3) {
            side.look(random);
        }
        if !self.head_seen {
            match side.session.calls().response(stream) {
                None => self.must_wait_to_read = true,
                Some(Err(failure)) => self.failed(side, stream, script, &failure),
                Some(Ok(ResponseHead::Head(metadata))) => {
                    assert_entries(&metadata, &script.plan.head);
                    self.head_seen = true;
                }
                Some(Ok(ResponseHead::TrailersOnly(status, metadata))) => {
                    assert_eq!(script.plan.style, Style::TrailersOnly);
                    assert_entries(&metadata, &script.plan.head);
                    assert_eq!(status, script.plan.status);
                    self.over(side, stream);
                }
            }
            return;
        }
        match side.session.calls().take(stream) {
            Received::Pending => self.must_wait_to_read = true,
            Received::Data(data) => self.response.received(&data),
            Received::End(End::Trailers(status, metadata)) => {
                assert_eq!((status, self.response.rest()), (script.plan.status, 0));
                assert_entries(&metadata, &script.plan.trailers);
                self.over(side, stream);
            }
            Received::End(End::Failed(failure)) => self.failed(side, stream, script, &failure),
            Received::End(End::Requests) => panic!("an end of requests in a response"),
        }
    }

    fn failed(&mut self, side: &mut Side, stream: StreamId, script: &Script, failure: &Failure) {
        assert!(script.cut, "call {} on stream {stream} was not cut short: {failure:?}", self.key);
        self.over(side, stream);
    }

    fn over(&mut self, side: &mut Side, stream: StreamId) {
        side.session.calls().close(stream);
        self.phase = Phase::Over;
    }

    /// The application drops the call, or its own part of it fails.
    pub fn cut(&mut self, side: &mut Side, script: &mut Script, random: &mut Random) {
        script.cut = true;
        side.in_turn = true;
        match self.phase {
            Phase::Open(stream) if random.once_in(3) => {
                side.session.calls().fail_locally(stream, Code::CANCELLED, "the body failed");
            }
            Phase::Open(stream) => self.over(side, stream),
            // Whoever waits to open just goes.
            Phase::Opening | Phase::Over => self.phase = Phase::Over,
        }
    }
}
