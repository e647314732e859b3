//! How streams end: with a status, a reset from either side, or their deadline.
//! [`State`](super::state::State) has the rules.

use notnets_memory::{ReadMemory, WriteMemory};

use super::state::{Input, State};
use super::stream::{End, Failure};
use super::streams::KEPT;
use super::{Connection, Event, Role, StreamId};
use crate::clock::Timestamp;
use crate::code::Code;

impl<T, W: WriteMemory, R: ReadMemory> Connection<T, W, R> {
    /// Ends a stream in both directions with a status for the peer. Its application is done with it.
    pub fn reset(&mut self, stream: StreamId, code: Code, reason: &'static str) {
        let Some(entry) = self.streams.get_mut(stream) else { return };
        if let Some(user) = entry.user.take() {
            self.events.push_back(Event::Over(user));
        }
        if !entry.state.is_reset() {
            // Another task may still read it.
            entry.receive.end = Some(End::Failed(Failure::new(code, reason)));
        }
        self.release(stream, code, reason);
    }

    /// Server: [resets](Self::reset) a call that no application has seen, and says so.
    pub fn refuse_call(&mut self, stream: StreamId, code: Code, reason: &'static str) {
        let Some(entry) = self.streams.get_mut(stream).filter(|entry| entry.state.may_send()) else { return };
        if let Some(user) = entry.user.take() {
            self.events.push_back(Event::Over(user));
        }
        entry.receive.end = Some(End::Failed(Failure::new(code, reason)));
        self.start_reset(stream, State::Abandoned, code, reason, true);
    }

    /// Client: the application lets go of a call. Resets it if it is not over.
    pub fn close(&mut self, stream: StreamId) {
        let Some(entry) = self.streams.get_mut(stream) else { return };
        entry.user = None;
        self.release(stream, Code::CANCELLED, "cancelled");
    }

    /// The application is done with a stream.
    #[inline]
    fn release(&mut self, stream: StreamId, code: Code, reason: &'static str) {
        let Some(entry) = self.streams.get_mut(stream) else { return };
        match entry.state.next(Input::Released) {
            Some(State::Vacant) => self.remove(stream),
            // The reset is on its way already.
            Some(next) if entry.state.is_reset() => entry.state = next,
            Some(next) => self.start_reset(stream, next, code, reason, false),
            None => {}
        }
    }

    /// Client: the application's own part of a call failed. It gets this status, the server a reset.
    pub fn fail_locally(&mut self, stream: StreamId, code: Code, message: &str) {
        self.fail(stream, Failure::new(code, message), "the client's request failed");
    }

    /// Returns the deadline of a call that is not over, if it has one.
    pub fn deadline_of(&self, stream: StreamId) -> Option<Timestamp> {
        self.streams.get(stream)?.deadline
    }

    /// Returns the time at which [`expire`](Self::expire) has to be called next.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Ends the calls whose deadline has passed, on this side and with a reset on the other.
    pub fn expire(&mut self, now: Timestamp) {
        while let Some((deadline, stream)) = self.deadlines.first().copied()
            && deadline <= now
        {
            self.deadlines.remove(&(deadline, stream));
            if let Some(entry) = self.streams.get_mut(stream) {
                entry.deadline = None;
            }
            let failure = Failure::new(Code::DEADLINE_EXCEEDED, "the call's deadline has passed");
            self.fail(stream, failure, "deadline exceeded");
        }
    }

    /// Server: ends all calls that are open, on this side and with a reset on the other.
    pub fn fail_all(&mut self, code: Code, reason: &'static str) {
        let open: Vec<_> = self.streams.ids().collect();
        for stream in open {
            self.fail(stream, Failure::new(code, reason), reason);
        }
    }

    /// Ends a call from this side. The peer gets a reset. A client's application reads why; a server's,
    /// which need not look at its calls, gets an event, and is done with the call.
    pub(super) fn fail(&mut self, stream: StreamId, failure: Failure, reason: &'static str) {
        let Some(entry) = self.streams.get_mut(stream) else { return };
        let input = match self.role {
            Role::Client => Input::Failed,
            Role::Server => Input::Released,
        };
        let Some(next) = entry.state.next(input) else { return };
        let code = failure.code;
        entry.receive.end = Some(End::Failed(failure));
        let event = match self.role {
            Role::Client => Event::Readable(stream),
            Role::Server => Event::Cancelled(stream, entry.user.take()),
        };
        self.start_reset(stream, next, code, reason, false);
        self.events.push_back(event);
        if self.role == Role::Client {
            self.events.push_back(Event::Writable(stream));
        }
    }

    /// Sends a reset: what was received is of no use any more, and nothing more is sent. `refused` says that
    /// no application has seen the call.
    fn start_reset(
        &mut self,
        stream: StreamId,
        next: State,
        code: Code,
        reason: &'static str,
        refused: bool,
    ) {
        let Some(entry) = self.streams.get_mut(stream) else { return };
        entry.state = next;
        if let Some(deadline) = entry.deadline.take() {
            self.deadlines.remove(&(deadline, stream));
        }
        self.count_unanswered(stream, code, reason);
        self.discard(stream);
        self.control.reset(stream, code, refused, reason);
        self.flush();
    }

    /// Applies what happens to a stream, and forgets it if that was the last.
    #[inline]
    pub(super) fn apply(&mut self, stream: StreamId, input: Input) {
        let Some(entry) = self.streams.get_mut(stream) else { return };
        let before = entry.state;
        match before.next(input) {
            Some(State::Vacant) => self.remove(stream),
            Some(next) => {
                entry.state = next;
                if before.counts() && !next.counts() {
                    self.uncount();
                }
            }
            None => {}
        }
    }

    /// The server is done with a call: its client reads what is left, and sends no more.
    pub(super) fn end_response(&mut self, stream: StreamId, end: End) {
        let Some(entry) = self.streams.get_mut(stream) else { return };
        let Some(next) = entry.state.next(Input::ResponseEnded) else { return };
        let was_sending = entry.state.may_send();
        entry.state = next;
        if let Some(counters) = &mut self.counters {
            match &end {
                End::Failed(failure) => {
                    counters.end_unanswered(&mut entry.counted, failure.code, &failure.message);
                }
                End::Trailers(code, _) => counters.end(&mut entry.counted, *code),
                End::Requests => {}
            }
        }
        entry.receive.finish_gathering();
        entry.receive.end = Some(end);
        if let Some(deadline) = entry.deadline.take() {
            self.deadlines.remove(&(deadline, stream));
        }
        self.uncount();
        self.events.push_back(Event::Readable(stream));
        if was_sending {
            self.events.push_back(Event::Writable(stream));
        }
    }

    /// The stream does not count against the server's limit any more.
    #[inline]
    fn uncount(&mut self) {
        self.active -= 1;
        if std::mem::take(&mut self.wants_open) {
            self.events.push_back(Event::CanOpen);
        }
    }

    /// Forgets data that the application will not take, and gives the link's credit for it back.
    #[inline]
    pub(super) fn discard(&mut self, stream: StreamId) {
        if let Some(entry) = self.streams.get_mut(stream) {
            let unread = entry.receive.discard();
            if entry.receive.unfinished > 0 {
                self.unfinished -= std::mem::take(&mut entry.receive.unfinished);
            }
            self.give_link_credit(unread);
        }
    }

    /// Forgets a stream.
    fn remove(&mut self, stream: StreamId) {
        let Some(entry) = self.streams.get_mut(stream) else { return };
        let unread = entry.receive.discard();
        let counts = entry.state.counts();
        if let Some(deadline) = entry.deadline {
            self.deadlines.remove(&(deadline, stream));
        }
        let user = entry.user.take();
        self.heads -= std::mem::take(&mut entry.head_bytes) as u64;
        if entry.receive.unfinished > 0 {
            self.unfinished -= std::mem::take(&mut entry.receive.unfinished);
        }
        if self.streams.remove(stream) {
            self.give_back();
        }
        if !self.starved.is_empty() {
            self.starved.remove(&stream);
        }
        self.give_link_credit(unread);
        if counts {
            self.uncount();
        }
        if let Some(user) = user {
            self.events.push_back(Event::Over(user));
        }
        // It may have been woken for room that it does not need any more.
        self.wake_queued();
    }

    /// A burst of calls is over: what is not used of the lists that it has filled is given back.
    #[cold]
    fn give_back(&mut self) {
        self.arrived.shrink_to(KEPT);
        self.queued.shrink_to(KEPT);
        self.events.shrink_to(KEPT);
        self.control.shrink_to(KEPT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::OpenOutcome;
    use crate::pair::Pair;

    #[test]
    fn the_lists_of_a_burst_are_given_back() {
        let mut pair = Pair::default();
        for burst in 0..2 {
            let mut streams = Vec::new();
            loop {
                let opened = pair.client.open("/a/b", [], None, &mut &b"message"[..], true, &mut Some(()));
                match opened {
                    Ok(OpenOutcome::Opened(stream, _)) => streams.push(stream),
                    Ok(OpenOutcome::Blocked) if pair.server.receive(128, || Timestamp::ZERO) > 0 => {}
                    other => {
                        assert!(matches!(other, Ok(OpenOutcome::Blocked)), "{other:?}");
                        break;
                    }
                }
            }
            assert!(streams.len() > 4 * KEPT && pair.server.arrived.capacity() > 4 * KEPT, "burst {burst}");
            while let Some(request) = pair.server.accept() {
                while pair.client.receive(128, || Timestamp::ZERO) > 0 {}
                pair.server.respond_trailers_only(request.stream, [], Code::OK).unwrap();
            }
            while pair.client.receive(128, || Timestamp::ZERO) > 0 {}
            for stream in streams {
                pair.client.close(stream);
            }
            for end in [&mut pair.client, &mut pair.server] {
                while end.poll_event().is_some() {}
                assert_eq!(end.open_streams(), 0);
                // Events of a last call may still have been there.
                end.give_back();
                let lists = [end.arrived.capacity(), end.queued.capacity(), end.events.capacity()];
                assert!(lists.iter().all(|capacity| *capacity <= 2 * KEPT), "{lists:?}");
            }
        }
    }
}
