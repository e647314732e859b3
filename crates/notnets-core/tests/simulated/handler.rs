//! A server's handler, as a task that runs when it was woken.

use notnets_core::call::{End, HeadError, Received, Request, Sent, StreamId};
use notnets_core::code::Code;

use super::call::Script;
use super::flow::{Entries, Flow, assert_entries, borrowed, random_entries, random_total};
use super::random::Random;
use super::side::Side;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Reads everything, then answers.
    Unary,
    /// Reads and writes as it comes.
    Streaming,
    /// Answers without looking at all that is sent.
    Early,
    /// Answers with a status only.
    TrailersOnly,
    /// Gives the call up at some point.
    Reset,
}

/// What a handler will do.
pub struct Plan {
    pub style: Style,
    pub response: Flow,
    pub head: Entries,
    pub trailers: Entries,
    pub status: Code,
}

impl Plan {
    pub fn new(key: u64, random: &mut Random, head_limit: usize, may_reset: bool) -> Self {
        let mut style =
            random.pick(&[Style::Unary, Style::Unary, Style::Streaming, Style::Early, Style::TrailersOnly]);
        if may_reset && random.once_in(6) {
            style = Style::Reset;
        }
        Self {
            style,
            response: Flow::new(!key, random_total(random)),
            head: random_entries(random, head_limit),
            trailers: if random.once_in(2) { Vec::new() } else { random_entries(random, head_limit) },
            status: Code(random.below(17) as u32),
        }
    }
}

pub struct Handler {
    pub stream: StreamId,
    pub key: usize,
    pub over: bool,
    pub must_wait_to_send: bool,
    pub must_wait_to_read: bool,
    request: Flow,
    request_ended: bool,
    response: Flow,
    head_sent: bool,
}

impl Handler {
    pub fn new(request: &Request, scripts: &[Script]) -> Self {
        let key = request.metadata.get("call").expect("the call's number");
        let key = u64::from_le_bytes(key[..].try_into().expect("8 bytes")) as usize;
        assert_entries(request.metadata.iter().skip(1), &scripts[key].entries);
        assert_eq!(request.deadline, scripts[key].deadline);
        Self {
            stream: request.stream,
            key,
            over: false,
            must_wait_to_send: false,
            must_wait_to_read: false,
            request: scripts[key].request.clone(),
            request_ended: false,
            response: scripts[key].plan.response.clone(),
            head_sent: false,
        }
    }

    pub fn is_runnable(&self, scripts: &[Script]) -> bool {
        !self.over && (self.may_read() || self.may_send(&scripts[self.key].plan))
    }

    fn may_read(&self) -> bool {
        !self.request_ended && !self.must_wait_to_read
    }

    fn may_send(&self, plan: &Plan) -> bool {
        !self.must_wait_to_send && (self.request_ended || plan.style != Style::Unary)
    }

    pub fn run(&mut self, side: &mut Side, scripts: &mut [Script], random: &mut Random) {
        side.in_turn = true;
        let script = &mut scripts[self.key];
        if script.plan.style == Style::Reset && random.once_in(4) {
            script.cut = true;
            side.session.calls().reset(self.stream, Code::INTERNAL, "gave up");
            self.over = true;
        } else if self.may_read() && (!self.may_send(&script.plan) || random.once_in(2)) {
            self.read(side);
        } else if let Err(error) = self.send(side, &script.plan, random) {
            // The entries may be a little over the limit.
            assert!(matches!(error, HeadError::TooLarge { .. }), "{error}");
            script.cut = true;
            side.session.calls().reset(self.stream, Code::RESOURCE_EXHAUSTED, "too large");
            self.over = true;
        }
    }

    fn read(&mut self, side: &mut Side) {
        match side.session.calls().take(self.stream) {
            Received::Pending => self.must_wait_to_read = true,
            Received::Data(data) => self.request.received(&data),
            Received::End(End::Requests) => {
                assert_eq!(self.request.rest(), 0, "the request ends early");
                self.request_ended = true;
            }
            // It is over, and we shall be told.
            Received::End(_) => self.must_wait_to_read = true,
        }
    }

    fn send(&mut self, side: &mut Side, plan: &Plan, random: &mut Random) -> Result<(), HeadError> {
        let connection = side.session.calls();
        let stream = self.stream;
        if plan.style == Style::TrailersOnly {
            let sent = connection.respond_trailers_only(stream, borrowed(&plan.head), plan.status)?;
            self.went(0, sent, true);
            return Ok(());
        }
        let chunk = self.response.next(random);
        let mut data = &chunk[..];
        if !self.head_sent {
            let all = chunk.len() == self.response.rest() && plan.trailers.is_empty();
            let status = (all && random.once_in(2)).then_some(plan.status);
            let sent = connection.respond(stream, borrowed(&plan.head), &mut data, status)?;
            self.head_sent = sent != Sent::Nothing;
            self.went(chunk.len() - data.len(), sent, status.is_some());
        } else if self.response.rest() > 0 {
            let sent = connection.send(stream, &mut data, false);
            self.went(chunk.len() - data.len(), sent, false);
        } else {
            let sent = connection.finish(stream, borrowed(&plan.trailers), plan.status)?;
            self.went(0, sent, true);
        }
        Ok(())
    }

    fn went(&mut self, bytes: usize, sent: Sent, last: bool) {
        self.response.done += bytes;
        match sent {
            Sent::All => self.over = last,
            Sent::Nothing => self.must_wait_to_send = true,
            // What is left may wait for room, or only be the status.
            Sent::Part => self.must_wait_to_send = self.response.rest() > 0,
            Sent::Stopped => self.over = true,
        }
    }
}
