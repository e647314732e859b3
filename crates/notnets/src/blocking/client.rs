//! The client: one call at a time, on the calling thread.

use std::time::Duration;

use bytes::Buf;
use rustix::event::PollFd;

use super::link::Link;
use super::message::{Assembler, prefix_of};
use super::waiting::{Next, Waiting, is_ready, sleep};
use super::{Endpoint, Error, Status};
use crate::message_prefix::Limit;
use notnets_core::call::{End, OpenOutcome, Received, ResponseHead, Role, Sent, StreamId};
use notnets_core::clock::{self, Timestamp};
use notnets_core::code::Code;
use notnets_core::metadata::Metadata;
use notnets_core::session::earlier;

/// A connection to a name, for one thread.
///
/// When the server ends, the call that is open fails with `UNAVAILABLE`; the next one connects anew.
///
/// Between calls nobody looks at the link: a server that asks for signs of life gets none meanwhile.
#[derive(Debug)]
pub struct Client {
    endpoint: Endpoint,
    link: Link,
    waiting: Waiting,
}

/// What is called, and with what.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The path: `/package.Service/Method`.
    pub method: &'a str,
    /// The request's message, encoded.
    pub message: &'a [u8],
    /// Keys in lower case and values; those of keys that end in `-bin` in base64, as gRPC has it.
    pub metadata: &'a [(&'a str, &'a [u8])],
    /// How long all of the call may take. `None`: as long as it takes.
    pub timeout: Option<Duration>,
}

impl<'a> Call<'a> {
    /// A call without metadata and time limit.
    pub fn new(method: &'a str, message: &'a [u8]) -> Self {
        Self { method, message, metadata: &[], timeout: None }
    }
}

/// What came back. Used for one call after the other, its memory is allocated once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// The message, encoded.
    pub message: Vec<u8>,
    /// What came before it.
    pub metadata: Metadata,
    /// What came after it.
    pub trailers: Metadata,
}

/// The call found that the server takes no calls on this link any more.
struct GoesAway;

impl Client {
    pub(super) fn new(endpoint: Endpoint, link: Link) -> Self {
        let waiting = Waiting::new(endpoint.options.wait);
        Self { endpoint, link, waiting }
    }

    /// Connects to a URI like `notnets:///inventory`, with the defaults of [`Endpoint`].
    ///
    /// # Errors
    /// When there is no such name here, or its server does not want us.
    pub fn connect(uri: impl AsRef<str>) -> Result<Self, Error> {
        Endpoint::new(uri)?.connect()
    }

    /// Makes a call, and gives the reply's message.
    ///
    /// # Errors
    /// With the status that the server gave, or with that of what went wrong on the way.
    pub fn call(&mut self, method: &str, message: &[u8]) -> Result<Vec<u8>, Status> {
        let mut response = Response::default();
        self.call_into(&Call::new(method, message), &mut response)?;
        Ok(response.message)
    }

    /// Makes a call into a response that was used before.
    ///
    /// # Errors
    /// As [`call`](Self::call). The response is then what has come of it.
    pub fn call_into(&mut self, call: &Call<'_>, response: &mut Response) -> Result<(), Status> {
        let deadline = call.timeout.map(clock::after);
        let mut dialled = false;
        loop {
            response.message.clear();
            if !response.metadata.is_empty() || !response.trailers.is_empty() {
                response.metadata.clear();
                response.trailers.clear();
            }
            if !self.link.session.is_over() {
                match self.exchange(call, deadline, response) {
                    // Its server had ended: another one may have the name.
                    Ok(Err(status)) if !dialled && is_unread(&status) => {}
                    Ok(result) => return result,
                    Err(GoesAway) if dialled => {
                        let text = "the server shuts down and takes no calls";
                        return Err(Status { retry_safe: true, ..Status::new(Code::UNAVAILABLE, text) });
                    }
                    Err(GoesAway) => {}
                }
            }
            self.link = self.endpoint.dial()?;
            dialled = true;
        }
    }

    #[inline]
    fn exchange(
        &mut self,
        call: &Call<'_>,
        deadline: Option<Timestamp>,
        response: &mut Response,
    ) -> Result<Result<(), Status>, GoesAway> {
        let prefix = match prefix_of(call.message) {
            Ok(prefix) => prefix,
            Err(status) => return Ok(Err(status)),
        };
        let mut data = prefix.chain(call.message);
        let (stream, sent) = match self.open(call, deadline, &mut data)? {
            Ok(opened) => opened,
            Err(status) => return Ok(Err(status)),
        };
        let mut receiving = Receiving { stream, assembler: Assembler::default(), headed: false };
        let mut sending = sent != Sent::All;
        let limit = Limit { receiver: Role::Client, bytes: self.endpoint.max_message_size };
        let result = loop {
            if sending {
                let sent = self.link.session.calls().send(stream, &mut data, true);
                sending = !matches!(sent, Sent::All | Sent::Stopped);
            }
            match receiving.advance(&mut self.link, response, limit) {
                Some(result) => break result,
                None => self.wait(deadline),
            }
        };
        self.link.session.calls().close(stream);
        self.clear_events();
        self.link.finish_call();
        Ok(result)
    }

    /// Opens a stream, and sends of the request what fits.
    #[inline]
    fn open(
        &mut self,
        call: &Call<'_>,
        deadline: Option<Timestamp>,
        data: &mut impl Buf,
    ) -> Result<Result<(StreamId, Sent), Status>, GoesAway> {
        // What has come since the last call, perhaps that the server goes away.
        self.link.receive();
        loop {
            if let Some(ended) = self.link.session.ended() {
                // Nothing was sent, so it is as good as before the call.
                let ended = Status { retry_safe: true, ..ended.clone().into() };
                return Ok(Err(ended));
            }
            let entries = call.metadata.iter().copied();
            let calls = self.link.session.calls();
            let wire = deadline.map(|at| calls.deadline(at, clock::now));
            match calls.open(call.method, entries, wire, data, true, &mut Some(())) {
                Ok(OpenOutcome::Opened(stream, sent)) => return Ok(Ok((stream, sent))),
                Ok(OpenOutcome::Draining) => return Err(GoesAway),
                Ok(OpenOutcome::Blocked) => {}
                Err(error) => {
                    return Ok(Err(Status::new(Code::RESOURCE_EXHAUSTED, error.to_string())));
                }
            }
            if deadline.is_some_and(|deadline| clock::now() >= deadline) {
                let text = "the call's deadline passed before it could be sent";
                return Ok(Err(Status::new(Code::DEADLINE_EXCEEDED, text)));
            }
            self.wait(deadline);
        }
    }

    /// Waits until something has come, or until something else may have changed.
    #[inline]
    fn wait(&mut self, deadline: Option<Timestamp>) {
        self.clear_events();
        self.link.finish_turn();
        loop {
            if self.link.session.is_ready() {
                let look = self.waiting.arrived();
                self.link.receive();
                if look {
                    self.look_at_socket(Some(Timestamp::ZERO));
                }
                return;
            }
            match self.waiting.idle() {
                Next::Poll => continue,
                Next::Clock(now) if deadline.is_none_or(|deadline| now < deadline) => continue,
                Next::Clock(_) => {}
                Next::Sockets(_) => self.look_at_socket(Some(Timestamp::ZERO)),
                Next::Park => self.park(deadline),
            }
            self.link.receive();
            if let Some(deadline) = deadline {
                let now = clock::now();
                if now >= deadline {
                    self.link.session.calls().expire(now);
                }
            }
            return;
        }
    }

    #[cold]
    fn park(&mut self, deadline: Option<Timestamp>) {
        if self.link.arm() {
            self.look_at_socket(earlier(deadline, self.link.session.poll_timeout()));
            self.link.session.handle_timeout(clock::now());
            self.link.finish_turn();
        }
        self.link.session.disarm();
        self.waiting.arrived();
    }

    /// Looks whether something has come on the socket, or waits for it until then.
    #[cold]
    fn look_at_socket(&mut self, until: Option<Timestamp>) {
        let mut watched = self.link.watched();
        // Without a list: it is made for each wait of a client that sleeps.
        let ready = match (watched.next(), watched.next()) {
            (Some(socket), Some(process)) => look_at([socket, process], until),
            (Some(socket), None) => [look_at([socket], until)[0], false],
            (None, _) => [false; 2],
        };
        drop(watched);
        self.link.on_ready(ready.into_iter());
    }

    /// There is one call, which looks for itself.
    #[inline]
    fn clear_events(&mut self) {
        while self.link.session.poll_event().is_some() {}
    }
}

/// Returns `true` if a call's server went away and has certainly never read it.
fn is_unread(status: &Status) -> bool {
    status.retry_safe && status.code == Code::UNAVAILABLE
}

fn look_at<const N: usize>(mut watched: [PollFd<'_>; N], until: Option<Timestamp>) -> [bool; N] {
    sleep(&mut watched, until);
    watched.map(|watched| is_ready(&watched))
}

/// A call's way back.
struct Receiving {
    stream: StreamId,
    assembler: Assembler,
    headed: bool,
}

impl Receiving {
    /// Takes what is there. Returns how the call ended, once it has.
    #[inline]
    fn advance(
        &mut self,
        link: &mut Link,
        response: &mut Response,
        limit: Limit,
    ) -> Option<Result<(), Status>> {
        let stream = self.stream;
        if !self.headed {
            match link.session.calls().response(stream) {
                // An answer that came before the link's end still counts.
                None => return link.session.failure_of(stream).map(|failure| Err(failure.into())),
                Some(Err(failure)) => return Some(Err(failure.into())),
                Some(Ok(ResponseHead::TrailersOnly(Code::OK, metadata))) => {
                    response.metadata = metadata;
                    return Some(Err(no_message()));
                }
                Some(Ok(ResponseHead::TrailersOnly(code, metadata))) => {
                    return Some(Err(Status::from_trailers(code, metadata)));
                }
                Some(Ok(ResponseHead::Head(metadata))) => response.metadata = metadata,
            }
            self.headed = true;
            if link.session.calls().take_only_message(stream, limit.bytes, &mut response.message) {
                self.assembler = Assembler::done();
            }
        }
        loop {
            match link.session.calls().take(stream) {
                Received::Data(data) => {
                    if let Err(status) = self.assembler.push(&data, &mut response.message, limit) {
                        return Some(Err(status));
                    }
                }
                Received::End(End::Trailers(Code::OK, trailers)) => {
                    response.trailers = trailers;
                    let whole = self.assembler.is_whole();
                    return Some(if whole { Ok(()) } else { Err(no_message()) });
                }
                Received::End(End::Trailers(code, trailers)) => {
                    return Some(Err(Status::from_trailers(code, trailers)));
                }
                Received::End(End::Failed(failure)) => return Some(Err(failure.into())),
                // Only a server sees these; it is no end for a client.
                Received::End(End::Requests) | Received::Pending => {
                    return link.session.failure_of(stream).map(|failure| Err(failure.into()));
                }
            }
        }
    }
}

fn no_message() -> Status {
    Status::new(Code::INTERNAL, "the response is OK but has no whole message")
}
