//! The client: one call at a time, on the calling thread.

use std::time::Duration;

use bytes::{Buf, Bytes};
use rustix::event::PollFd;

use super::link::Link;
use super::message::{Assembler, Parts, into_bytes, prefix_of};
use super::waiting::{Next, Waiting, is_ready, sleep};
use super::{Endpoint, Error, Status};
use crate::message_prefix::Limit;
use crate::observe::{AgainReason, Observation, OfChannel};
use notnets_core::call::Connection;
use notnets_core::call::{End, OpenOutcome, Received, ResponseHead, Role, Sent, StreamId};
use notnets_core::clock::{self, Timestamp};
use notnets_core::code::Code;
use notnets_core::frame::PREFIX;
use notnets_core::metadata::Metadata;
use notnets_core::session::earlier;
use notnets_memory::{Gather, LoanedBytes};

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
    observer: Option<OfChannel>,
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

/// What came back, with a message that can be kept without a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseBytes {
    /// The message, encoded. What is large is where the server has put it, if that is possible: in
    /// [shared](crate::SharedBytes) memory, or that of a server that is
    /// [trusted](super::Endpoint::trust_peer_memory). Then these bytes hold that memory. Else they were
    /// copied once, out of the server's memory to here.
    pub message: Bytes,
    /// What came before it.
    pub metadata: Metadata,
    /// What came after it.
    pub trailers: Metadata,
}

/// The call found that the server takes no calls on this link any more.
struct GoesAway;

impl Client {
    pub(super) fn new(endpoint: Endpoint, link: Link, observer: Option<OfChannel>) -> Self {
        let wait = endpoint.options.wait;
        let waiting = Waiting::new(wait, link.session.budget(wait));
        Self { endpoint, link, waiting, observer }
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
        self.call_with(call, response)
    }

    /// Makes a call whose reply's message is not copied where that can be avoided.
    ///
    /// ```no_run
    /// use notnets::blocking::{Call, Client, Status};
    ///
    /// # fn example(client: &mut Client) -> Result<(), Status> {
    /// let picture = client.call_bytes(&Call::new("/screen.Screen/Picture", b""))?.message;
    /// let first_line = picture.slice(..640); // holds the same memory
    /// # drop(first_line);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn call_bytes(&mut self, call: &Call<'_>) -> Result<ResponseBytes, Status> {
        let mut answer = Pieces::default();
        self.call_with(call, &mut answer)?;
        let Pieces { parts, metadata, trailers } = answer;
        Ok(ResponseBytes { message: into_bytes(parts), metadata, trailers })
    }

    #[inline]
    fn call_with(&mut self, call: &Call<'_>, response: &mut impl Answer) -> Result<(), Status> {
        if self.observer.is_some() {
            return self.call_observed(call, response);
        }
        self.attempt(call, None, response)
    }

    #[cold]
    fn call_observed(&mut self, call: &Call<'_>, response: &mut impl Answer) -> Result<(), Status> {
        let observer = self.observer.as_ref();
        let Some(observation) = observer.map(|calls| Observation::of_client(&*calls.0, call.method)) else {
            return self.attempt(call, None, response);
        };
        let result = self.attempt(call, Some(&observation), response);
        observation.end(result.as_ref().map_or_else(|status| status.code, |()| Code::OK));
        result
    }

    #[inline]
    fn attempt(
        &mut self,
        call: &Call<'_>,
        observation: Option<&Observation>,
        response: &mut impl Answer,
    ) -> Result<(), Status> {
        let deadline = call.timeout.map(clock::after);
        let mut dialled = false;
        loop {
            response.clear();
            if !self.link.session.is_over() {
                match self.exchange(call, deadline, observation, response) {
                    // Its server had ended: another one may have the name.
                    Ok(Err(status)) if !dialled && is_unread(&status) => {
                        if let Some(observation) = observation {
                            let reason = AgainReason::Transparent;
                            observation.attempted_again(reason, status.code, Duration::ZERO);
                        }
                    }
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

    /// Gives memory of the link to write so many bytes in. What was written becomes `bytes::Bytes`, which are
    /// not copied when they are the message of a call, once.
    ///
    /// It is memory of the link for 16 KiB and more, up to half of a segment (1 MiB) in one piece, while the
    /// link is up and has as much to spare. Else it is private memory, and used in the same way. So is that
    /// of links to other hosts. The first loans of a link are mostly private: they make it ask for more
    /// memory.
    ///
    /// ```no_run
    /// use bytes::BufMut;
    /// use notnets::blocking::{Client, Status};
    ///
    /// # fn example(client: &mut Client, pixels: &[u8]) -> Result<(), Status> {
    /// let mut frame = client.loan(1 << 20);
    /// frame.put_u32(640);
    /// frame.put_slice(pixels);
    /// client.call("/screen.Screen/Show", &frame.freeze())?;
    /// # Ok(()) }
    /// ```
    pub fn loan(&mut self, len: usize) -> LoanedBytes {
        let Some(calls) = self.link.session.live() else { return LoanedBytes::private(len) };
        let loan = calls.loan(len);
        self.link.finish_turn();
        loan
    }

    /// Does what is due on the link between calls. It does not wait.
    ///
    /// Calls do that themselves while they wait for their replies. A client that makes none for long calls
    /// this every second or so, to give memory back that a burst of large messages took: 5 to 10 s after its
    /// last use, as servers and channels do. The server's memory is let go of, too.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// # fn example(client: &mut notnets::blocking::Client, work: std::sync::mpsc::Receiver<Vec<u8>>) {
    /// loop {
    ///     match work.recv_timeout(Duration::from_secs(1)) {
    ///         Ok(message) => drop(client.call("/screen.Screen/Show", &message)),
    ///         Err(_nothing_to_do) => client.tend(),
    ///     }
    /// }
    /// # }
    /// ```
    pub fn tend(&mut self) {
        self.link.tend();
    }

    #[inline]
    fn exchange(
        &mut self,
        call: &Call<'_>,
        deadline: Option<Timestamp>,
        observation: Option<&Observation>,
        response: &mut impl Answer,
    ) -> Result<Result<(), Status>, GoesAway> {
        let prefix = match prefix_of(call.message) {
            Ok(prefix) => prefix,
            Err(status) => return Ok(Err(status)),
        };
        let mut data = prefix.chain(call.message);
        let total = data.remaining();
        let (stream, sent) = match self.open(call, deadline, observation, &mut data)? {
            Ok(opened) => opened,
            Err(status) => return Ok(Err(status)),
        };
        let mut receiving = Receiving { stream, assembler: Assembler::default(), headed: false, bytes: 0 };
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
        if let Some(observation) = observation {
            observation.sent(total - data.remaining(), None);
            observation.received(receiving.bytes);
        }
        Ok(result)
    }

    /// Opens a stream, and sends of the request what fits.
    #[inline]
    fn open(
        &mut self,
        call: &Call<'_>,
        deadline: Option<Timestamp>,
        observation: Option<&Observation>,
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
            let entries = entries.chain(observation.into_iter().flat_map(Observation::entries));
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
            if self.link.session.has_news() {
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
        if self.waiting.was_in_vain() {
            self.link.session.calls().count_poll_in_vain();
        }
        if self.link.arm() {
            self.look_at_socket(earlier(deadline, self.link.session.poll_timeout()));
            self.link.at_the_clock(clock::now());
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

/// What a reply is put into.
trait Answer {
    type Message: Parts;

    /// Forgets what came of an attempt before.
    fn clear(&mut self);
    fn message(&mut self) -> &mut Self::Message;
    fn set_metadata(&mut self, metadata: Metadata);
    fn set_trailers(&mut self, trailers: Metadata);

    /// Takes data that are one small message and the end. Returns the message's length.
    fn take_only_message(
        &mut self,
        calls: &mut Connection<()>,
        stream: StreamId,
        limit: Limit,
    ) -> Option<usize>;

    /// Has a large message put together in one piece, if it is to be. Returns how many bytes were given back,
    /// to come again.
    fn gather(
        &mut self,
        _assembler: &mut Assembler,
        _calls: &mut Connection<()>,
        _stream: StreamId,
    ) -> usize {
        0
    }
}

impl Answer for Response {
    type Message = Vec<u8>;

    #[inline]
    fn clear(&mut self) {
        self.message.clear();
        if !self.metadata.is_empty() || !self.trailers.is_empty() {
            self.metadata.clear();
            self.trailers.clear();
        }
    }

    #[inline]
    fn message(&mut self) -> &mut Vec<u8> {
        &mut self.message
    }

    #[inline]
    fn set_metadata(&mut self, metadata: Metadata) {
        self.metadata = metadata;
    }

    #[inline]
    fn set_trailers(&mut self, trailers: Metadata) {
        self.trailers = trailers;
    }

    #[inline]
    fn take_only_message(
        &mut self,
        calls: &mut Connection<()>,
        stream: StreamId,
        limit: Limit,
    ) -> Option<usize> {
        calls.take_only_message(stream, limit.bytes, &mut self.message).then_some(self.message.len())
    }
}

/// A reply whose message's parts stay where they are, if they are large.
#[derive(Default)]
struct Pieces {
    parts: Gather,
    metadata: Metadata,
    trailers: Metadata,
}

impl Answer for Pieces {
    type Message = Gather;

    fn clear(&mut self) {
        *self = Self::default();
    }

    fn message(&mut self) -> &mut Gather {
        &mut self.parts
    }

    fn set_metadata(&mut self, metadata: Metadata) {
        self.metadata = metadata;
    }

    fn set_trailers(&mut self, trailers: Metadata) {
        self.trailers = trailers;
    }

    fn take_only_message(
        &mut self,
        _calls: &mut Connection<()>,
        _stream: StreamId,
        _limit: Limit,
    ) -> Option<usize> {
        None
    }

    fn gather(&mut self, assembler: &mut Assembler, calls: &mut Connection<()>, stream: StreamId) -> usize {
        assembler.gather(&mut self.parts, calls, stream)
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
    /// Bytes of messages that have come.
    bytes: usize,
}

impl Receiving {
    /// Takes what is there. Returns how the call ended, once it has.
    #[inline]
    fn advance(
        &mut self,
        link: &mut Link,
        response: &mut impl Answer,
        limit: Limit,
    ) -> Option<Result<(), Status>> {
        let stream = self.stream;
        if !self.headed {
            match link.session.calls().response(stream) {
                // An answer that came before the link's end still counts.
                None => return link.session.failure_of(stream).map(|failure| Err(failure.into())),
                Some(Err(failure)) => return Some(Err(failure.into())),
                Some(Ok(ResponseHead::TrailersOnly(Code::OK, metadata))) => {
                    response.set_metadata(metadata);
                    return Some(Err(no_message()));
                }
                Some(Ok(ResponseHead::TrailersOnly(code, metadata))) => {
                    return Some(Err(Status::from_trailers(code, metadata)));
                }
                Some(Ok(ResponseHead::Head(metadata))) => response.set_metadata(metadata),
            }
            self.headed = true;
            if let Some(bytes) = response.take_only_message(link.session.calls(), stream, limit) {
                self.assembler = Assembler::done();
                self.bytes = PREFIX + bytes;
            }
        }
        loop {
            self.bytes -= response.gather(&mut self.assembler, link.session.calls(), stream);
            match link.session.calls().take(stream) {
                Received::Data(data) => {
                    self.bytes += data.len();
                    if let Err(status) = self.assembler.push(data, response.message(), limit) {
                        return Some(Err(status));
                    }
                }
                Received::End(End::Trailers(Code::OK, trailers)) => {
                    response.set_trailers(trailers);
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
