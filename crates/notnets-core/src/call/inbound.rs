//! What the peer sends: one `match` over its frames, and what the application takes of it.

use bytes::Bytes;
use notnets_memory::{ReadMemory, WriteMemory};

use super::control::FENCE;
use super::queue::{Queue, with_prefix};
use super::state::Input;
use super::stream::{Buffered, End, Failure, Received, ResponseHead, Stream};
use super::{Connection, Event, Request, Role, StreamId, Violation};
use crate::clock::Timestamp;
use crate::code::Code;
use crate::frame::{Frame, Kind, PREFIX, Payload};
use crate::limits::charge;
use crate::metadata::{self, Metadata};

/// Credit is given back when this part of a window has been taken: rarely, but before it runs dry.
const GIVE_BACK: u64 = 4;

impl<T, W: WriteMemory, R: ReadMemory> Connection<T, W, R> {
    /// Takes up to `max` of the peer's descriptors, and pushes what waited for room. Returns how many
    /// were taken. After a [`violation`](Self::violation) it takes none. `now` is asked only for requests whose
    /// deadline came as the time that is left.
    #[inline]
    pub fn receive(&mut self, max: usize, now: impl Fn() -> Timestamp) -> usize {
        let mut taken = 0;
        while taken < max && self.violation.is_none() && !self.detached {
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
        self.flush();
        self.wake_queued();
        taken
    }

    #[inline]
    fn handle(&mut self, frame: &Frame, now: &impl Fn() -> Timestamp) -> Result<(), Violation> {
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
                // The client has heard that we go away: it opens nothing behind this.
                self.draining |= self.going_away;
                self.events.push_back(Event::GoAway);
                Ok(())
            }
            (Kind::Pong, _) => {
                self.events.push_back(Event::Pong(frame.argument));
                Ok(())
            }
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
        let tag = u16::try_from(frame.code).map_err(|_| Violation::State(id, frame.kind))?;
        let method = self.receive_strings.read(tag, &mut fetched.head).map_err(metadata::BadHead::from)?;
        let metadata = metadata::read(&mut fetched.head, &mut self.receive_strings)?;
        let Fetched { data, cost, .. } = fetched;
        self.spend_link_credit(id, cost)?;
        self.last = id;
        if self.draining || self.streams.len() >= self.own.streams as usize {
            self.give_link_credit(cost);
            let (code, reason) = match self.draining {
                true => (Code::UNAVAILABLE, "the server shuts down"),
                false => (Code::RESOURCE_EXHAUSTED, "too many streams"),
            };
            self.control.reset(id, code, true, reason);
            return self.check_answers();
        }
        let deadline = match frame.argument {
            0 => None,
            left if self.sends_time_left => Some(now().add_nanos(left)),
            nanos => Some(Timestamp::from_nanos(nanos)),
        };
        let window = u64::from(self.own.stream_window);
        let credit = window.checked_sub(cost).ok_or(Violation::Window(id))?;
        let stream = self.streams.insert(id, self.own.stream_window, self.peer.stream_window);
        stream.deadline = deadline;
        stream.receive.credit = credit;
        data.push_into(&mut stream.receive.queue, frame);
        if frame.end {
            stream.end_received();
        }
        self.active += 1;
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, id));
        }
        if self.arrived.len() >= self.own.streams as usize {
            // Some of them were taken back before the application accepted any.
            self.arrived.retain(|(id, ..)| self.streams.contains(*id));
        }
        self.arrived.push_back((id, method, metadata));
        self.events.push_back(Event::Request);
        Ok(())
    }

    fn on_response(&mut self, frame: &Frame) -> Result<(), Violation> {
        let id = frame.stream;
        let mut fetched = self.fetch(frame)?;
        let metadata = metadata::read(&mut fetched.head, &mut self.receive_strings)?;
        let Fetched { data, cost, .. } = fetched;
        self.spend_link_credit(id, cost)?;
        let Some(stream) = self.open_stream(id, frame.kind)? else {
            self.give_link_credit(cost);
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
        stream.receive.credit = stream.receive.credit.checked_sub(cost).ok_or(Violation::Window(id))?;
        data.push_into(&mut stream.receive.queue, frame);
        stream.receive.head = Some(match frame.trailers_only {
            true => ResponseHead::TrailersOnly(Code(frame.code), metadata),
            false => ResponseHead::Head(metadata),
        });
        match frame.end {
            true => self.end_response(id, End::Trailers(Code(frame.code), Metadata::new())),
            false => self.events.push_back(Event::Readable(id)),
        }
        Ok(())
    }

    fn on_data(&mut self, frame: &Frame) -> Result<(), Violation> {
        let id = frame.stream;
        let client = self.role == Role::Client;
        let Fetched { head, data, cost } = self.fetch(frame)?;
        // The client's end is told by an END here, the server's by its trailers.
        let pointless = data.is_none() && !frame.end;
        if !head.is_empty() || pointless || (client && frame.end) {
            return Err(Violation::State(id, frame.kind));
        }
        self.spend_link_credit(id, cost)?;
        let Some(stream) = self.open_stream(id, frame.kind)? else {
            self.give_link_credit(cost);
            return Ok(());
        };
        if !stream.state.may_receive() || (client && !stream.receive.head_seen) {
            return Err(Violation::State(id, frame.kind));
        }
        stream.receive.credit = stream.receive.credit.checked_sub(cost).ok_or(Violation::Window(id))?;
        data.push_into(&mut stream.receive.queue, frame);
        if frame.end {
            stream.end_received();
        }
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
            let user = self.streams.get_mut(id).and_then(|stream| stream.user.take());
            self.apply(id, Input::ResetReceived);
            self.events.push_back(Event::Cancelled(id, user));
            self.check_answers()?;
        } else {
            let failure = Failure {
                code: Code(frame.code),
                message: String::from_utf8_lossy(&bytes[..*len as usize]).into(),
                retry_safe: frame.refused,
            };
            self.end_response(id, End::Failed(failure));
        }
        Ok(())
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
        let sum = stream.send.credit.checked_add(credit).filter(|sum| *sum <= limit);
        stream.send.credit = sum.ok_or(Violation::Window(frame.stream))?;
        if std::mem::take(&mut stream.send.starved) {
            self.events.push_back(Event::Writable(frame.stream));
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

    /// Copies head and data out of the peer's memory, once, and gives its block back. What is over a
    /// limit is not copied: a block can be much larger than what was granted.
    #[inline]
    fn fetch(&mut self, frame: &Frame) -> Result<Fetched, Violation> {
        let restored = if frame.message { PREFIX } else { 0 };
        let (split, data) = (frame.payload.head_len(), frame.payload.data_len() + restored);
        if split > self.own.metadata_bytes as usize {
            return Err(Violation::HeadTooLarge { bytes: split, limit: self.own.metadata_bytes });
        }
        if data as u64 > self.receive_credit.min(self.own.stream_window.into()) {
            return Err(Violation::Window(frame.stream));
        }
        let bytes = match &frame.payload {
            Payload::Inline { bytes, .. } if frame.message => {
                let head = if split == 0 { Bytes::new() } else { Bytes::copy_from_slice(&bytes[..split]) };
                return Ok(Fetched { head, data: Data::InFrame, cost: charge(data) });
            }
            Payload::Inline { bytes, len, .. } => bytes[..*len as usize].to_vec(),
            Payload::Reference(reference) => {
                self.lanes.check(reference)?;
                let mut copy = vec![0; reference.length as usize];
                self.lanes.read(reference, &mut copy)?;
                self.lanes.release(reference);
                if frame.message { with_prefix(&copy, split) } else { copy }
            }
        };
        Ok(Fetched::split(bytes, split))
    }

    #[inline]
    fn spend_link_credit(&mut self, stream: StreamId, cost: u64) -> Result<(), Violation> {
        self.receive_credit = self.receive_credit.checked_sub(cost).ok_or(Violation::Window(stream))?;
        Ok(())
    }

    #[inline]
    pub(super) fn give_link_credit(&mut self, credit: u64) {
        self.taken += credit;
        if self.taken >= u64::from(self.own.link_window) / GIVE_BACK {
            self.receive_credit += self.taken;
            self.control.window(StreamId::LINK, std::mem::take(&mut self.taken));
        }
    }

    /// Server: the next request, unless the client has taken it back meanwhile.
    pub fn accept(&mut self) -> Option<Request> {
        loop {
            let (stream, method, metadata) = self.arrived.pop_front()?;
            match self.streams.get(stream) {
                Some(entry) if !entry.state.is_reset() => {
                    return Some(Request { stream, method, metadata, deadline: entry.deadline });
                }
                // Ended before the application saw it.
                Some(_) | None => {}
            }
        }
    }

    /// Client: the response's head, once it is there.
    pub fn response(&mut self, stream: StreamId) -> Option<Result<ResponseHead, Failure>> {
        let Some(entry) = self.streams.get_mut(stream) else { return Some(Err(gone())) };
        if let Some(head) = entry.receive.head.take() {
            return Some(Ok(head));
        }
        match &entry.receive.end {
            Some(End::Failed(failure)) => Some(Err(failure.clone())),
            _ => None,
        }
    }

    /// Takes a stream's next data, and its end if nothing comes between.
    pub fn take_buffered(&mut self, stream: StreamId) -> Buffered {
        let data = self.take_data(stream);
        let Some(entry) = self.streams.get(stream) else {
            return Buffered { data, end: Some(End::Failed(gone())) };
        };
        let receive = &entry.receive;
        let end = if receive.queue.is_empty() { receive.end.clone() } else { None };
        Buffered { data, end }
    }

    /// Server: brings the end of a call forward.
    pub fn shorten(&mut self, stream: StreamId, deadline: Timestamp) {
        let Some(entry) = self.streams.get_mut(stream) else { return };
        if entry.deadline.is_none_or(|present| deadline < present) {
            if let Some(present) = entry.deadline.replace(deadline) {
                self.deadlines.remove(&(present, stream));
            }
            self.deadlines.insert((deadline, stream));
        }
    }

    /// The next data of a stream, or its end. Taking data gives the peer credit for more.
    #[inline]
    pub fn take(&mut self, stream: StreamId) -> Received {
        if let Some(data) = self.take_data(stream) {
            return Received::Data(data);
        }
        match self.streams.get(stream) {
            Some(entry) => entry.receive.end.clone().map_or(Received::Pending, Received::End),
            None => Received::End(End::Failed(gone())),
        }
    }

    /// Takes data that are one small message of at most so many bytes and nothing more, when it is known that no
    /// others come. Returns whether it did; else [`take`](Self::take) has what there is.
    #[inline]
    pub fn take_only_message(&mut self, stream: StreamId, most: usize, message: &mut Vec<u8>) -> bool {
        let Some(entry) = self.streams.get_mut(stream).filter(|entry| entry.state.has_received_all()) else {
            return false;
        };
        let queue = &mut entry.receive.queue;
        let Some(only) = queue.message().filter(|only| only.len() <= most) else { return false };
        message.extend_from_slice(only);
        let cost = charge(only.len() + PREFIX);
        queue.pop_message();
        self.on_data_taken(stream, cost);
        true
    }

    #[inline]
    fn take_data(&mut self, stream: StreamId) -> Option<Bytes> {
        let data = self.streams.get_mut(stream)?.receive.queue.pop()?;
        self.on_data_taken(stream, charge(data.len()));
        Some(data)
    }

    /// Gives the peer credit for more, now and then.
    #[inline]
    fn on_data_taken(&mut self, stream: StreamId, cost: u64) {
        if let Some(entry) = self.streams.get_mut(stream)
            && entry.state.may_receive()
        {
            entry.receive.taken += cost;
            if entry.receive.taken >= u64::from(self.own.stream_window) / GIVE_BACK {
                entry.receive.credit += entry.receive.taken;
                self.control.window(stream, std::mem::take(&mut entry.receive.taken));
            }
        }
        self.give_link_credit(cost);
        self.flush();
    }
}

/// A frame's payload, copied out of the peer's memory.
struct Fetched {
    head: Bytes,
    data: Data,
    /// What the data cost.
    cost: u64,
}

impl Fetched {
    /// Splits a payload into its head and its data. Most frames have only one of them: then nothing is moved.
    #[inline]
    fn split(bytes: Vec<u8>, split: usize) -> Self {
        let mut rest = Bytes::from(bytes);
        let head = match split {
            0 => Bytes::new(),
            _ if split == rest.len() => std::mem::take(&mut rest),
            _ => rest.split_to(split),
        };
        match rest.len() {
            0 => Self { head, data: Data::None, cost: 0 },
            len => Self { head, data: Data::Bytes(rest), cost: charge(len) },
        }
    }
}

/// A frame's data.
enum Data {
    None,
    /// A whole message that came in the descriptor: it is copied from there to where it waits.
    InFrame,
    Bytes(Bytes),
}

impl Data {
    fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    #[inline]
    fn push_into(self, queue: &mut Queue, frame: &Frame) {
        match (self, &frame.payload) {
            (Self::InFrame, Payload::Inline { bytes, len, head }) => {
                queue.push_message(bytes, (*head).into(), (*len).into());
            }
            (Self::Bytes(bytes), _) => queue.push(bytes),
            (Self::None | Self::InFrame, _) => {}
        }
    }
}

fn gone() -> Failure {
    Failure::new(Code::CANCELLED, "the call is over")
}
