//! Frames from the peer: one `match` over their kinds.

use notnets_memory::{ReadMemory, WriteMemory};

use super::control::FENCE;
use super::fetched::Fetched;
use super::state::Input;
use super::stream::{End, Failure, ResponseHead, Stream};
use super::{Connection, ENTRY_BYTES, Event, Role, StreamId, Violation};
use crate::clock::Timestamp;
use crate::code::Code;
use crate::frame::{Frame, Kind, Payload};
use crate::metadata::{self, Metadata};
use crate::stats::WaitsFor;
use crate::text::shown;

/// Once this many bytes lay in the blocks of one batch, others get a turn. Descriptors are quickly taken; a
/// block that is copied takes as long as thousands of them.
pub(super) const BATCH_BYTES: usize = 512 << 10;

impl<T, W: WriteMemory, R: ReadMemory> Connection<T, W, R> {
    /// Takes up to `max` of the peer's descriptors, as far as they carry no more than 512 KiB in
    /// blocks, and pushes what waited for room. Returns how many were taken. After a
    /// [`violation`](Self::violation) it takes none. `now` is asked only for requests whose deadline came as
    /// the time that is left.
    #[inline]
    pub fn receive(&mut self, max: usize, now: impl Fn() -> Timestamp) -> usize {
        let mut taken = 0;
        self.bytes_left = if self.detached { 0 } else { BATCH_BYTES };
        while taken < max && self.violation.is_none() && self.bytes_left > 0 {
            let Some(descriptor) = self.lanes.pop() else { break };
            taken += 1;
            let handled = match Frame::decode(descriptor) {
                Ok(frame) => self.handle(&frame, &now),
                Err(bad) => Err(bad.into()),
            };
            if let Err(violation) = handled {
                self.violation = Some(violation);
            }
        }
        self.tell_returns();
        self.flush();
        self.wake_queued();
        taken
    }

    #[inline]
    fn handle(&mut self, frame: &Frame, now: &impl Fn() -> Timestamp) -> Result<(), Violation> {
        crate::failpoint!(crate::failpoint::frame(crate::failpoint::Step::Taken, frame.kind));
        match (frame.kind, self.role) {
            (Kind::Request, Role::Server) => self.on_request(frame, now),
            (Kind::Response, Role::Client) => self.on_response(frame),
            (Kind::Trailers, Role::Client) => self.on_trailers(frame),
            (Kind::GoAway, Role::Client) => {
                self.on_go_away(StreamId::new(frame.argument));
                Ok(())
            }
            (Kind::Data, _) => self.on_data(frame),
            (Kind::Reset, _) => self.on_reset(frame),
            (Kind::Window, _) => self.on_window(frame),
            (Kind::Closed, _) => {
                self.apply(frame.stream, Input::ResetAnswered);
                Ok(())
            }
            (Kind::Ping, _) => {
                self.control.pong(frame.argument);
                Ok(())
            }
            (Kind::Pong, Role::Server) if frame.argument == FENCE => {
                // The client acknowledges GOAWAY: it opens nothing behind this.
                self.draining |= self.going_away;
                self.events.push_back(Event::GoAway);
                Ok(())
            }
            (Kind::Pong, _) => {
                self.events.push_back(Event::Pong(frame.argument));
                Ok(())
            }
            (Kind::Share | Kind::Shared | Kind::Unshare, _) => self.on_sharing(frame),
            (kind @ (Kind::Request | Kind::Response | Kind::Trailers | Kind::GoAway), _) => {
                Err(Violation::State(frame.stream, kind))
            }
        }
    }

    fn on_request(&mut self, frame: &Frame, now: &impl Fn() -> Timestamp) -> Result<(), Violation> {
        let id = frame.stream;
        if id <= self.last {
            return Err(Violation::State(id, frame.kind));
        }
        let mut fetched = self.fetch(frame)?;
        let head_bytes = fetched.head.len();
        let tag = u16::try_from(frame.code).map_err(|_| Violation::State(id, frame.kind))?;
        let method = self.receive_strings.read(tag, &mut fetched.head).map_err(metadata::BadHead::from)?;
        let string = self.receive_strings.id(tag);
        let metadata = metadata::read(&mut fetched.head, &mut self.receive_strings)?;
        let Fetched { data, cost, .. } = fetched;
        let charge = self.charge(id, cost)?;
        self.last = id;
        let held = if head_bytes == 0 { 0 } else { head_bytes + metadata.len() * ENTRY_BYTES };
        if self.refuses_requests() || self.heads + held as u64 > self.heads_limit {
            self.refund(charge);
            let (code, reason) = if self.draining {
                (Code::UNAVAILABLE, "the server shuts down")
            } else if self.refuses_requests() {
                (Code::RESOURCE_EXHAUSTED, "too many streams")
            } else {
                (Code::RESOURCE_EXHAUSTED, "too much metadata in open calls")
            };
            self.control.reset(id, code, true, reason);
            if let Some(counters) = &self.counters {
                counters.refused();
            }
            return self.check_answers();
        }
        let deadline = match frame.argument {
            0 => None,
            left if self.sends_time_left => Some(now().add_nanos(left)),
            nanos => Some(Timestamp::from_nanos(nanos)),
        };
        let stream = self.streams.insert(id, self.own.stream_window, self.peer.stream_window);
        self.active += 1;
        self.heads += held as u64;
        stream.head_bytes = held;
        stream.deadline = deadline;
        if let Some(counters) = &mut self.counters {
            let method = counters.method(string, &method);
            stream.counted = counters.begin(id, method, deadline, WaitsFor::Application);
        }
        stream.receive.accept(charge, id)?;
        let ended = data.ended(&mut stream.receive.messages, frame);
        data.push_into(&mut stream.receive.queue, frame);
        if frame.end {
            stream.end_received();
        }
        self.count_received(ended);
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, id));
        }
        if self.arrived.len() >= self.own.streams as usize {
            // Some of them were taken back before the application accepted any.
            self.arrived.retain(|(id, ..)| self.streams.contains(*id));
        }
        self.arrived.push_back((id, method, metadata));
        Ok(())
    }

    fn on_response(&mut self, frame: &Frame) -> Result<(), Violation> {
        let id = frame.stream;
        let mut fetched = self.fetch(frame)?;
        let metadata = metadata::read(&mut fetched.head, &mut self.receive_strings)?;
        let Fetched { data, cost, .. } = fetched;
        let charge = self.charge(id, cost)?;
        let Some(stream) = self.open_stream(id, frame.kind)? else {
            self.refund(charge);
            if frame.end {
                self.apply(id, Input::ResetAnswered);
            }
            return Ok(());
        };
        let status_without_end = frame.trailers_only && !frame.end;
        if stream.receive.head_seen || !stream.state.may_receive() || status_without_end {
            return Err(Violation::State(id, frame.kind));
        }
        stream.receive.head_seen = true;
        stream.receive.accept(charge, id)?;
        let ended = data.ended(&mut stream.receive.messages, frame);
        data.push_into(&mut stream.receive.queue, frame);
        stream.receive.head = Some(if frame.trailers_only {
            ResponseHead::TrailersOnly(Code(frame.code), metadata)
        } else {
            ResponseHead::Head(metadata)
        });
        self.count_received(ended);
        if frame.end {
            self.end_response(id, End::Trailers(Code(frame.code), Metadata::new()));
        } else {
            self.events.push_back(Event::Readable(id));
        }
        Ok(())
    }

    fn on_data(&mut self, frame: &Frame) -> Result<(), Violation> {
        let id = frame.stream;
        let client = self.role == Role::Client;
        if let Some(reference) = self.gathered_block(frame).filter(|_| !client || !frame.end) {
            return self.on_gathered(frame, reference);
        }
        let Fetched { head, data, cost } = self.fetch(frame)?;
        // A client ends its direction by END here, a server by its trailers.
        let pointless = data.is_none() && !frame.end;
        if !head.is_empty() || pointless || (client && frame.end) {
            return Err(Violation::State(id, frame.kind));
        }
        let charge = self.charge(id, cost)?;
        let Some(stream) = self.open_stream(id, frame.kind)? else {
            self.refund(charge);
            return Ok(());
        };
        if !stream.state.may_receive() || (client && !stream.receive.head_seen) {
            return Err(Violation::State(id, frame.kind));
        }
        stream.receive.accept(charge, id)?;
        let ended = data.ended(&mut stream.receive.messages, frame);
        if stream.receive.gathering.is_some() {
            self.count_received(ended);
            self.gather_data(frame, data);
            return Ok(());
        }
        data.push_into(&mut stream.receive.queue, frame);
        if frame.end {
            stream.end_received();
        }
        self.count_received(ended);
        self.count_waits_for(id, WaitsFor::Application);
        self.events.push_back(Event::Readable(id));
        Ok(())
    }

    fn on_trailers(&mut self, frame: &Frame) -> Result<(), Violation> {
        let id = frame.stream;
        let Fetched { mut head, data, .. } = self.fetch(frame)?;
        let metadata = metadata::read(&mut head, &mut self.receive_strings)?;
        if !data.is_none() {
            return Err(Violation::State(id, frame.kind));
        }
        let Some(stream) = self.open_stream(id, frame.kind)? else {
            self.apply(id, Input::ResetAnswered);
            return Ok(());
        };
        if !stream.state.may_receive() || !stream.receive.head_seen {
            return Err(Violation::State(id, frame.kind));
        }
        self.end_response(id, End::Trailers(Code(frame.code), metadata));
        Ok(())
    }

    fn on_reset(&mut self, frame: &Frame) -> Result<(), Violation> {
        let id = frame.stream;
        let Payload::Inline { bytes, len, .. } = &frame.payload else {
            return Err(Violation::State(id, frame.kind));
        };
        let Some(stream) = self.known_stream(id, frame.kind)? else { return Ok(()) };
        if stream.state.is_reset() {
            // Both sides gave up at once: neither answers.
            self.apply(id, Input::ResetAnswered);
            return Ok(());
        }
        self.control.closed(id);
        self.discard(id);
        if self.role == Role::Server {
            self.count_unanswered(id, Code(frame.code), "the client has reset the call");
            let user = self.streams.get_mut(id).and_then(|stream| stream.user.take());
            self.apply(id, Input::ResetReceived);
            self.events.push_back(Event::Cancelled(id, user));
            self.check_answers()?;
        } else {
            let failure = Failure {
                // A call that is cut short has not ended well, whatever its server says.
                code: if frame.code == Code::OK.0 { Code::UNKNOWN } else { Code(frame.code) },
                message: shown(&String::from_utf8_lossy(&bytes[..*len as usize])).into(),
                retry_safe: frame.refused,
            };
            self.end_response(id, End::Failed(failure));
        }
        Ok(())
    }

    /// Returns `true` if no request is taken now.
    #[inline]
    pub(super) fn refuses_requests(&self) -> bool {
        self.draining || self.streams.len() >= self.own.streams as usize
    }

    /// A client that keeps to its limit of streams counts each until it has our answer.
    fn check_answers(&self) -> Result<(), Violation> {
        let waiting = self.control.streams();
        // One more for the link itself.
        if waiting > self.own.streams as usize + 1 { Err(Violation::Unread(waiting)) } else { Ok(()) }
    }

    fn on_window(&mut self, frame: &Frame) -> Result<(), Violation> {
        let credit = frame.argument;
        if frame.stream == StreamId::LINK {
            let sum = self.send_credit.checked_add(credit).filter(|sum| *sum <= self.peer.link_window.into());
            self.send_credit = sum.ok_or(Violation::Window(StreamId::LINK))?;
            self.events.extend(std::mem::take(&mut self.starved).into_iter().map(Event::Writable));
            return Ok(());
        }
        let limit = self.peer.stream_window.into();
        let Some(stream) = self.known_stream(frame.stream, frame.kind)? else { return Ok(()) };
        let sum = stream.send.flow.credit.checked_add(credit).filter(|sum| *sum <= limit);
        stream.send.flow.credit = sum.ok_or(Violation::Window(frame.stream))?;
        if std::mem::take(&mut stream.send.starved) {
            self.events.push_back(Event::Writable(frame.stream));
        }
        Ok(())
    }

    fn on_sharing(&mut self, frame: &Frame) -> Result<(), Violation> {
        if !self.sharing.is_on() {
            return Err(Violation::State(frame.stream, frame.kind));
        }
        let payload = u32::try_from(frame.argument).unwrap_or_default();
        match frame.kind {
            Kind::Share => self.sharing.on_share(payload, &frame.payload)?,
            Kind::Shared => {
                let answered = self.sharing.on_answer(payload, frame.code != 0)?;
                self.events.extend(answered.into_iter().map(Event::Writable));
            }
            _ => self.sharing.on_unshare(payload)?,
        }
        Ok(())
    }

    fn on_go_away(&mut self, last: StreamId) {
        self.draining = true;
        self.events.push_back(Event::GoAway);
        if std::mem::take(&mut self.wants_open) {
            // Not on this link: they have to look for another one.
            self.events.push_back(Event::CanOpen);
        }
        let mut refused: Vec<StreamId> = self.streams.ids().filter(|id| *id > last).collect();
        refused.sort_unstable();
        for id in refused {
            if self.streams.get(id).is_some_and(|stream| stream.state.is_reset()) {
                self.apply(id, Input::ResetAnswered);
                continue;
            }
            let failure = Failure {
                code: Code::UNAVAILABLE,
                message: "the server shuts down and has not taken the call".into(),
                retry_safe: true,
            };
            self.end_response(id, End::Failed(failure));
        }
    }

    /// The stream if it is known here, `None` if it is over. A number that was never used is a violation.
    fn known_stream(&mut self, id: StreamId, kind: Kind) -> Result<Option<&mut Stream<T>>, Violation> {
        if id == StreamId::LINK || id > self.last {
            return Err(Violation::State(id, kind));
        }
        Ok(self.streams.get_mut(id))
    }

    /// The stream if it is known here and this side has not reset it.
    fn open_stream(&mut self, id: StreamId, kind: Kind) -> Result<Option<&mut Stream<T>>, Violation> {
        Ok(self.known_stream(id, kind)?.filter(|stream| !stream.state.is_reset()))
    }
}
