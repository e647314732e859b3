//! Sending.
//!
//! A head is encoded when it is pushed and taken back if it can't be, for it may define strings that
//! the peer must see in order. Data stay with the caller until they are in the peer's reach.

use bytes::Buf;
use notnets_memory::lane::Blocks;
use notnets_memory::{ReadMemory, WriteMemory};

use super::loans::LoanedPiece;
use super::payloads::PayloadKind;
use super::plan::{Plan, inline_data, write_inline};
use super::sharing::{Beginning, LEAST_SHARED};
use super::state::Input;
use super::stream::Outflow;
use super::{Connection, Deadline, Event, HeadError, OpenOutcome, Role, Sent, StreamId};
use crate::code::Code;
use crate::frame::{Frame, Kind, Payload, SharedReference};
use crate::limits::{MIN_CHARGE, charge};
use crate::messages::Messages;
use crate::metadata;
use crate::stats::Want;

/// Segments that are added on demand, by the size of their blocks. Large blocks hold a quarter of a
/// stream's default window, so that some are filled while others are read. Blocks that are used in turns are
/// a mebibyte or more together.
const GROWTH: [Blocks; 3] =
    [Blocks { bytes: 1024, count: 256 }, Blocks { bytes: 16 * 1024, count: 64 }, LARGEST];
pub(super) const LARGEST: Blocks = Blocks { bytes: 64 * 1024, count: 32 };

/// Data that have to be copied.
#[derive(Clone, Copy)]
struct Private {
    /// As many as this, from their beginning.
    bytes: usize,
    /// How they count.
    kind: PayloadKind,
}

impl Private {
    /// All data, however many.
    const ALL: Self = Self { bytes: usize::MAX, kind: PayloadKind::SentPrivate };
}

/// What came of pushing data without copying them.
enum InPlace {
    /// These of them have to be copied.
    Not(Private),
    /// `false` if there was no room.
    Pushed(bool),
    /// They wait: for credit, or for the peer's answer.
    Waits,
}

/// What is sent as it is.
enum Referred {
    Shared(SharedReference),
    Loaned(LoanedPiece),
}

impl<T, W: WriteMemory, R: ReadMemory> Connection<T, W, R> {
    /// Client: opens a stream with as much of `data` as fits now. `end` means that after `data`
    /// nothing comes. `user` is taken when it is opened.
    ///
    /// # Errors
    /// When the head is too large for the peer.
    pub fn open<'a>(
        &mut self,
        method: &str,
        entries: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        deadline: Option<Deadline>,
        data: &mut impl Buf,
        end: bool,
        user: &mut Option<T>,
    ) -> Result<OpenOutcome, HeadError> {
        debug_assert_eq!(self.role, Role::Client);
        if self.draining {
            return Ok(OpenOutcome::Draining);
        }
        if self.active >= self.peer.streams {
            if let Some(counters) = &self.counters {
                counters.wants(Want::Stream);
            }
            self.wants_open = true;
            return Ok(OpenOutcome::Blocked);
        }
        let stream = self.last.next();
        self.begin_head();
        // The method's tag goes into the frame itself, its bytes if any before the entries.
        let written = metadata::write_string(&mut self.scratch, &mut self.send_strings, method)
            .and_then(|()| metadata::write(&mut self.scratch, &mut self.send_strings, entries));
        self.check_head(written)?;
        let tag = u16::from_le_bytes([self.scratch[0], self.scratch[1]]);
        let argument = deadline.map_or(0, |deadline| deadline.on_wire);
        let frame = Frame { code: tag.into(), argument, ..Frame::new(Kind::Request, stream) };
        let mut flow = Outflow::new(self.peer.stream_window);
        let private = self.private(data);
        if !self.push(frame, 2, data, private, &mut flow, end) {
            self.wants_open = true;
            return Ok(OpenOutcome::Blocked);
        }
        self.last = stream;
        self.active += 1;
        let counted = self.count_open(tag, method, stream, deadline);
        let entry = self.streams.insert(stream, self.own.stream_window, self.peer.stream_window);
        entry.counted = counted;
        entry.user = user.take();
        entry.deadline = deadline.map(|deadline| deadline.at);
        entry.send.flow = flow;
        if end && !data.has_remaining() {
            entry.end_sent();
        }
        entry.request_at = self.lanes.pushed();
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline.at, stream));
        }
        let sent = if data.has_remaining() { self.send_rest(stream, data, end) } else { Sent::All };
        Ok(OpenOutcome::Opened(stream, sent))
    }

    /// Server: the response's head, with as much of `data` as fits now. With `status`, the response
    /// ends there if all data fit.
    ///
    /// # Errors
    /// When the head is too large for the peer.
    pub fn respond<'a>(
        &mut self,
        stream: StreamId,
        entries: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        data: &mut impl Buf,
        status: Option<Code>,
    ) -> Result<Sent, HeadError> {
        let frame = Frame::new(Kind::Response, stream);
        self.send_head(frame, entries, data, status)
    }

    /// Server: a response that is only a status and metadata.
    ///
    /// # Errors
    /// When the head is too large for the peer.
    pub fn respond_trailers_only<'a>(
        &mut self,
        stream: StreamId,
        entries: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        status: Code,
    ) -> Result<Sent, HeadError> {
        let frame = Frame { trailers_only: true, ..Frame::new(Kind::Response, stream) };
        self.send_head(frame, entries, &mut &[][..], Some(status))
    }

    /// Server: ends a response whose head was sent.
    ///
    /// # Errors
    /// When the trailers are too large for the peer.
    pub fn finish<'a>(
        &mut self,
        stream: StreamId,
        entries: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        status: Code,
    ) -> Result<Sent, HeadError> {
        let frame = Frame::new(Kind::Trailers, stream);
        self.send_head(frame, entries, &mut &[][..], Some(status))
    }

    /// Sends more data. `end` (of a client) means that after `data` nothing comes.
    pub fn send(&mut self, stream: StreamId, data: &mut impl Buf, end: bool) -> Sent {
        let mut least = LEAST_SHARED;
        loop {
            let Some(entry) = self.streams.get_mut(stream).filter(|entry| entry.state.may_send()) else {
                self.wake_queued();
                return Sent::Stopped;
            };
            if !data.has_remaining() && !end {
                return Sent::All;
            }
            let mut flow = entry.send.flow;
            if data.has_remaining() && flow.credit < MIN_CHARGE {
                entry.send.starved = true;
                self.count_wait(stream, Want::StreamCredit);
                self.wake_queued();
                return Sent::Nothing;
            }
            if data.has_remaining() && self.send_credit < MIN_CHARGE {
                self.starved.insert(stream);
                self.count_wait(stream, Want::LinkCredit);
                self.wake_queued();
                return Sent::Nothing;
            }
            let frame = Frame::new(Kind::Data, stream);
            let in_place = if data.remaining() < least {
                InPlace::Not(Private::ALL)
            } else {
                self.push_in_place(frame, data, &mut least, &mut flow, end)
            };
            let pushed = match in_place {
                InPlace::Not(private) => {
                    self.begin_head();
                    self.push(frame, 0, data, private, &mut flow, end)
                }
                InPlace::Pushed(pushed) => pushed,
                InPlace::Waits => {
                    self.wake_queued();
                    return Sent::Nothing;
                }
            };
            if !pushed {
                self.queue(stream);
                return Sent::Nothing;
            }
            if let Some(entry) = self.streams.get_mut(stream) {
                entry.send.flow = flow;
                if let Some(counters) = &mut self.counters {
                    counters.goes_on(&mut entry.counted);
                }
                if end && !data.has_remaining() {
                    entry.end_sent();
                }
            }
            if !data.has_remaining() {
                return Sent::All;
            }
        }
    }

    fn send_head<'a>(
        &mut self,
        frame: Frame,
        entries: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        data: &mut impl Buf,
        status: Option<Code>,
    ) -> Result<Sent, HeadError> {
        let stream = frame.stream;
        let Some(entry) = self.streams.get(stream).filter(|entry| entry.state.may_send()) else {
            self.wake_queued();
            return Ok(Sent::Stopped);
        };
        let mut flow = entry.send.flow;
        self.begin_head();
        let written = metadata::write(&mut self.scratch, &mut self.send_strings, entries);
        self.check_head(written)?;
        let frame = Frame { code: status.map_or(0, |status| status.0), ..frame };
        let private = self.private(data);
        if !self.push(frame, 0, data, private, &mut flow, status.is_some()) {
            self.queue(stream);
            return Ok(Sent::Nothing);
        }
        if let Some(status) = status.filter(|_| !data.has_remaining()) {
            if let Some(counters) = &mut self.counters
                && let Some(entry) = self.streams.get_mut(stream)
            {
                counters.end(&mut entry.counted, status);
            }
            self.apply(stream, Input::StatusSent);
            return Ok(Sent::All);
        }
        if let Some(entry) = self.streams.get_mut(stream) {
            entry.send.flow = flow;
        }
        Ok(match self.send_rest(stream, data, false) {
            // The status is still to be sent.
            Sent::All if status.is_some() => Sent::Part,
            sent => sent,
        })
    }

    /// Pushes what is left after a first frame.
    fn send_rest(&mut self, stream: StreamId, data: &mut impl Buf, end: bool) -> Sent {
        match self.send(stream, data, end) {
            Sent::Nothing => Sent::Part,
            sent => sent,
        }
    }

    /// Those of these data that can go into a frame with a head.
    #[inline]
    fn private(&mut self, data: &impl Buf) -> Private {
        if data.remaining() < LEAST_SHARED { Private::ALL } else { self.private_of_large(data) }
    }

    #[cold]
    fn private_of_large(&mut self, data: &impl Buf) -> Private {
        match self.sharing.look(data, &self.loans, LEAST_SHARED) {
            Beginning::Private(bytes, kind) => Private { bytes, kind },
            Beginning::Shared(_) | Beginning::Loaned(_) | Beginning::Unanswered => {
                Private { bytes: 0, ..Private::ALL }
            }
        }
    }

    /// Pushes the beginning of data without copying it, if it can be. Pieces below the least are not looked
    /// at.
    #[cold]
    fn push_in_place(
        &mut self,
        frame: Frame,
        data: &mut impl Buf,
        least: &mut usize,
        flow: &mut Outflow,
        end: bool,
    ) -> InPlace {
        let credit = flow.credit;
        let what = match self.sharing.look(data, &self.loans, *least) {
            Beginning::Private(bytes, kind) => return InPlace::Not(Private { bytes, kind }),
            Beginning::Unanswered => {
                self.sharing.wait(frame.stream);
                return InPlace::Waits;
            }
            Beginning::Loaned(piece) if self.waits_for_credit(credit, piece.len()) => {
                if let Some(entry) = self.streams.get_mut(frame.stream) {
                    entry.send.starved = true;
                }
                return InPlace::Waits;
            }
            Beginning::Loaned(piece) if charge(piece.len()) > credit.min(self.send_credit) => {
                return InPlace::Not(Private { bytes: piece.len(), kind: PayloadKind::SentNoCredit });
            }
            Beginning::Shared(reference) => Referred::Shared(reference),
            Beginning::Loaned(piece) => {
                // What is left of the loan at its end may be little.
                *least = 1;
                Referred::Loaned(piece)
            }
        };
        InPlace::Pushed(self.push_reference(frame, what, data, flow, end).is_some())
    }

    /// Returns `true` if so many bytes, which go in one piece, have to wait for credit of their stream, which
    /// will come: three quarters of a window at least do once all is taken.
    fn waits_for_credit(&self, credit: u64, bytes: usize) -> bool {
        let cost = charge(bytes);
        cost > credit && cost <= u64::from(self.peer.stream_window) / 2
    }

    /// Pushes a reference to the beginning of the data. Returns `None` if there is no room.
    fn push_reference(
        &mut self,
        mut frame: Frame,
        what: Referred,
        data: &mut impl Buf,
        flow: &mut Outflow,
        end: bool,
    ) -> Option<()> {
        if !self.is_next() {
            return None;
        }
        let (length, cost);
        (frame.payload, length, cost) = match what {
            Referred::Shared(reference) => {
                let length = reference.length as usize;
                self.count_payload(PayloadKind::SentShared, length);
                (Payload::Shared(reference), length, MIN_CHARGE)
            }
            Referred::Loaned(piece) => {
                let (payload, cost) = self.commit_loaned(piece)?;
                (payload, piece.len(), cost)
            }
        };
        let ended = flow.messages.after(&data.chunk()[..length]);
        data.advance(length);
        frame.end = end && !data.has_remaining();
        self.publish(&frame);
        if let Some(counters) = &self.counters {
            counters.sent(length, ended);
        }
        self.send_credit -= cost;
        flow.credit -= cost;
        Some(())
    }

    /// Pushes one frame with the head that is in the scratch from `skip` on and as much of the private
    /// bytes of `data` as there is credit and room in one block for. It carries END when all of `data` went.
    /// Returns `false` when nothing was pushed.
    #[inline]
    fn push(
        &mut self,
        mut frame: Frame,
        skip: usize,
        data: &mut impl Buf,
        private: Private,
        flow: &mut Outflow,
        end: bool,
    ) -> bool {
        let pushed = self.try_push(&mut frame, skip, data, private, flow, end).is_some();
        if pushed {
            self.send_strings.commit();
        } else {
            self.send_strings.roll_back();
        }
        pushed
    }

    #[inline]
    fn try_push(
        &mut self,
        frame: &mut Frame,
        skip: usize,
        data: &mut impl Buf,
        private: Private,
        flow: &mut Outflow,
        end: bool,
    ) -> Option<()> {
        if !self.is_next() {
            return None;
        }
        let head = &self.scratch[skip..];
        let credit = self.send_credit.min(flow.credit);
        let (sent, ended) = match Plan::new(frame.kind, head.len(), data, credit, private.bytes) {
            Plan::Blocked => return None,
            Plan::Inline { bytes, message } => {
                write_inline(frame, head, data, bytes, message);
                let ended = if message {
                    1
                } else if bytes == 0 {
                    0
                } else {
                    flow.messages.after(inline_data(frame))
                };
                (bytes, ended)
            }
            Plan::Block { bytes } => {
                self.write_block(frame, skip, data, Private { bytes, ..private }, &mut flow.messages)?
            }
        };
        frame.end = end && !data.has_remaining();
        self.publish(frame);
        if sent == 0 {
            return Some(());
        }
        if let Some(counters) = &self.counters {
            counters.sent(sent, ended);
        }
        let cost = charge(sent);
        self.send_credit -= cost;
        flow.credit -= cost;
        Some(())
    }

    /// Returns `true` if data can be pushed: control frames go before them.
    #[inline]
    fn is_next(&mut self) -> bool {
        self.flush();
        !self.has_control() && self.has_room()
    }

    #[inline]
    fn publish(&mut self, frame: &Frame) {
        crate::failpoint!(crate::failpoint::frame(crate::failpoint::Step::Sending, frame.kind));
        self.lanes.push(frame.encode());
        crate::failpoint!(crate::failpoint::frame(crate::failpoint::Step::Sent, frame.kind));
    }

    /// Puts the head and up to so many of the data into a block. Returns how many of the data went, and how
    /// many messages end with them; `None` when there is no block.
    #[inline]
    fn write_block(
        &mut self,
        frame: &mut Frame,
        skip: usize,
        data: &mut impl Buf,
        private: Private,
        messages: &mut Messages,
    ) -> Option<(usize, u64)> {
        let head = &self.scratch[skip..];
        let wanted = data.remaining();
        let total = head.len() + private.bytes;
        // A head may fill the largest block there is: then its data follow in frames of their own.
        let Some(mut loan) = self.lanes.loan(total, head.len().max(1)) else {
            self.want_segment(head.len() + wanted);
            return None;
        };
        let short = loan.room() < total;
        let bytes = private.bytes.min(loan.room() - head.len());
        let arena = self.lanes.arena();
        if !head.is_empty() {
            arena.write(&mut loan, head);
        }
        let is_one = bytes == wanted && messages.are_one(data.chunk(), bytes);
        let (mut left, mut ended) = (bytes, u64::from(is_one));
        while left > 0 {
            let chunk = data.chunk();
            let n = arena.write(&mut loan, &chunk[..chunk.len().min(left)]);
            if !is_one {
                ended += messages.after(&chunk[..n]);
            }
            data.advance(n);
            left -= n;
        }
        frame.payload = Payload::Reference(arena.commit(loan, head.len() as u32));
        if bytes >= LEAST_SHARED {
            self.count_payload(private.kind, bytes);
        }
        if short {
            self.want_segment(wanted);
        }
        Some((bytes, ended))
    }

    fn begin_head(&mut self) {
        self.scratch.clear();
    }

    #[inline]
    fn check_head(&mut self, written: Result<(), metadata::KeyTooLong>) -> Result<(), HeadError> {
        let bytes = self.scratch.len();
        let limit = (self.peer.metadata_bytes as usize).min(self.lanes.arena().largest_block());
        let checked = match written {
            Ok(()) if bytes > limit => Err(HeadError::TooLarge { bytes, limit }),
            other => other.map_err(HeadError::from),
        };
        if checked.is_err() {
            self.send_strings.roll_back();
        }
        checked
    }

    #[inline]
    fn has_room(&mut self) -> bool {
        if self.detached {
            return false;
        }
        match self.lanes.room() {
            Ok(room) => room > 0,
            Err(lie) => {
                self.violation.get_or_insert(lie.into());
                false
            }
        }
    }

    /// Pushes control frames while there is room.
    #[inline]
    pub(super) fn flush(&mut self) {
        self.sharing.catch_up();
        if self.has_control() {
            self.push_control();
        }
    }

    /// Returns `true` if there are control frames to be pushed.
    #[inline]
    pub(super) fn has_control(&self) -> bool {
        !self.control.is_empty() || self.sharing.has_frames()
    }

    fn push_control(&mut self) {
        while self.has_control() && self.has_room() {
            let frame = self.sharing.pop_frame().or_else(|| self.control.pop());
            let Some(frame) = frame else { break };
            self.publish(&frame);
        }
    }

    fn queue(&mut self, stream: StreamId) {
        if let Some(entry) = self.streams.get_mut(stream)
            && !std::mem::replace(&mut entry.send.queued, true)
        {
            self.queued.push_back(stream);
            self.count_wait(stream, Want::Room);
        }
    }

    /// Returns `true` if [`wake_queued`](Self::wake_queued) would find room for something that waits. Looks
    /// at as little of the peer's memory as shows that.
    pub fn can_go_on(&mut self) -> bool {
        if self.has_control() {
            return self.has_room();
        }
        let wants_open = self.wants_open && self.active < self.peer.streams;
        (wants_open || !self.queued.is_empty()) && self.has_room() && self.lanes.arena().has_free_soon()
    }

    /// Gives room to what waits for it: to control frames, then to streams, as many as there is room for. A
    /// caller that is woken for room and can't use it calls this for the next: the peer rings only when it
    /// takes something.
    #[inline]
    pub fn wake_queued(&mut self) {
        self.sharing.catch_up();
        if self.waits_for_space() {
            self.wake_those_queued();
        }
    }

    fn wake_those_queued(&mut self) {
        self.flush();
        if self.has_control() || !self.has_room() || !self.lanes.arena().has_free() {
            return;
        }
        let room = self.lanes.room().unwrap_or(0);
        let mut woken = 0;
        while woken < room {
            let Some(stream) = self.queued.pop_front() else { break };
            let Some(entry) = self.streams.get_mut(stream) else { continue };
            entry.send.queued = false;
            if entry.state.may_send() {
                woken += 1;
                self.events.push_back(Event::Writable(stream));
            }
        }
        if self.wants_open && self.active < self.peer.streams {
            self.wants_open = false;
            self.events.push_back(Event::CanOpen);
        }
    }

    /// Remembers that more blocks would help for a payload of this many bytes.
    fn want_segment(&mut self, bytes: usize) {
        if !self.may_grow || self.wants_segment.is_some() {
            return;
        }
        let class = GROWTH.into_iter().find(|blocks| blocks.bytes as usize >= bytes);
        let class = class.unwrap_or(GROWTH[GROWTH.len() - 1]);
        if self.lanes.arena().wants_more(class.bytes as usize) {
            self.wants_segment = Some(class);
        }
    }
}
