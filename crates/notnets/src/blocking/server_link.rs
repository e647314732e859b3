//! One link of a server: from requests to replies.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};
use foldhash::HashMap;

use super::handler::{App, Handler, Lender};
use super::link::Link;
use super::message::{Assembler, into_bytes, prefix_of, whole};
use super::seen::Seen;
use super::{Reply, Request, Status};
use notnets_core::call::{self, Connection, End, Event, HeadError, Received, Sent, StreamId};
use notnets_core::clock;
use notnets_core::code::Code;
use notnets_core::frame::PREFIX;
use notnets_core::metadata::Metadata;
use notnets_memory::Gather;

use crate::short_status::ShortStatus;
use crate::{PeerInfo, log, status_message};

/// What a server does with a link's calls.
#[derive(Debug)]
pub struct ServerLink {
    pub link: Link,
    peer: PeerInfo,
    calls: Calls,
    /// The request that is answered, if it is small; else empty. Its memory stays here for the next.
    message: Vec<u8>,
}

/// Calls that take more than one look.
#[derive(Debug, Default)]
struct Calls {
    /// Requests of which not all has come.
    incomplete: HashMap<StreamId, Incomplete>,
    /// Those of them that are to be looked at.
    readable: VecDeque<StreamId>,
    /// Replies of which not all has gone.
    unsent: HashMap<StreamId, Unsent>,
}

#[derive(Debug)]
struct Incomplete {
    request: call::Request,
    seen: Seen,
    assembler: Assembler,
    parts: Gather,
}

/// A reply on its way.
#[derive(Debug)]
struct Unsent {
    reply: Result<Reply, Status>,
    progress: Progress,
    seen: Seen,
}

#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// The head has gone.
    begun: bool,
    /// Bytes of the message and its prefix that have.
    sent: usize,
}

impl ServerLink {
    pub fn new(link: Link) -> Self {
        let peer = PeerInfo::from(link.session.peer());
        Self { link, peer, calls: Calls::default(), message: Vec::new() }
    }

    /// Are no new calls taken, and the old ones over?
    pub fn is_wound_up(&self) -> bool {
        self.link.session.is_wound_up()
    }

    /// Takes what has come, and answers it. Returns whether anything had.
    #[inline]
    pub fn turn<H: Handler>(&mut self, app: &mut App<H>) -> bool {
        if !self.link.session.has_news() {
            return false;
        }
        self.link.receive();
        self.work(app);
        true
    }

    /// Does what events ask for.
    #[inline]
    pub fn work<H: Handler>(&mut self, app: &mut App<H>) {
        if self.link.session.next_deadline().is_some() {
            self.link.session.expire(clock::now());
        }
        loop {
            self.take_events();
            if let Some(stream) = self.calls.readable.pop_front() {
                self.read_on(stream, app);
            } else if let Some(request) = self.link.session.calls().accept() {
                self.begin(request, app);
            } else {
                break;
            }
        }
        self.link.finish_turn();
    }

    #[inline]
    fn take_events(&mut self) {
        while let Some(event) = self.link.session.poll_event() {
            match event {
                Event::Readable(stream) if self.calls.incomplete.contains_key(&stream) => {
                    self.calls.readable.push_back(stream);
                }
                Event::Writable(stream) => {
                    if let Some(mut unsent) = self.calls.unsent.remove(&stream)
                        && !advance(self.link.session.calls(), stream, &mut unsent)
                    {
                        self.calls.unsent.insert(stream, unsent);
                    }
                }
                Event::Cancelled(stream, _) => {
                    self.calls.incomplete.remove(&stream);
                    self.calls.unsent.remove(&stream);
                }
                _ => {}
            }
        }
    }

    /// A request that has all come with its first data is answered at once.
    #[inline]
    fn begin<H: Handler>(&mut self, request: call::Request, app: &mut App<H>) {
        let stream = request.stream;
        let seen = Seen::new(app.observer.as_deref(), &request, &self.peer);
        if self.link.session.calls().take_only_message(stream, app.limit.bytes, &mut self.message) {
            let mut message = std::mem::take(&mut self.message);
            seen.received(PREFIX + message.len());
            match self.admit(message.len()) {
                Ok(()) => self.answer(&request, &message, None, app, seen),
                Err(over) => self.send(stream, Err(over), seen),
            }
            message.clear();
            self.message = message;
            return;
        }
        let buffered = self.link.session.calls().take_buffered(stream);
        let bytes = buffered.data.as_ref().map_or(0, Bytes::len);
        seen.received(bytes);
        if let Err(over) = self.admit(bytes) {
            return self.send(stream, Err(over), seen);
        }
        let ended = matches!(buffered.end, Some(End::Requests));
        if let Some(data) = &buffered.data
            && ended
            && let Some(message) = whole(data)
            && message.len() <= app.limit.bytes
        {
            return self.answer(&request, message, Some(data), app, seen);
        }
        let mut incomplete =
            Incomplete { request, seen, assembler: Assembler::default(), parts: Gather::default() };
        let pushed = match buffered.data {
            Some(data) => incomplete.assembler.push(data, &mut incomplete.parts, app.limit),
            None => Ok(()),
        };
        match pushed {
            Err(status) => self.send(stream, Err(status), incomplete.seen),
            Ok(()) if ended => self.complete(incomplete, app),
            Ok(()) => {
                self.calls.incomplete.insert(stream, incomplete);
                // The rest may be there already.
                self.calls.readable.push_back(stream);
            }
        }
    }

    /// Whether a call may run that begins with so many bytes, or what it ends with.
    #[inline]
    fn admit(&mut self, bytes: usize) -> Result<(), Status> {
        let Some(meter) = &self.link.meter else { return Ok(()) };
        let Err(over) = meter.begin_call(bytes as u64, clock::now()) else { return Ok(()) };
        log::over_rate(self.peer.pid, &over);
        self.link.session.count(over.rate.into());
        Err(Status::new(Code::RESOURCE_EXHAUSTED, over.to_string()))
    }

    /// Takes more of a request.
    fn read_on<H: Handler>(&mut self, stream: StreamId, app: &mut App<H>) {
        let Some(incomplete) = self.calls.incomplete.get_mut(&stream) else { return };
        loop {
            let Incomplete { assembler, parts, seen, .. } = incomplete;
            let calls = self.link.session.calls();
            match assembler.gather(parts, calls, stream) {
                0 => {}
                bytes => seen.given_back(bytes),
            }
            match calls.take(stream) {
                Received::Pending => return,
                Received::Data(data) => {
                    seen.received(data.len());
                    // Its rest is taken all the same: it is the user's next calls that are refused.
                    if let Some(meter) = &self.link.meter {
                        meter.take(data.len() as u64, clock::now());
                    }
                    let pushed = assembler.push(data, parts, app.limit);
                    if let Err(status) = pushed {
                        let Some(incomplete) = self.calls.incomplete.remove(&stream) else { return };
                        return self.send(stream, Err(status), incomplete.seen);
                    }
                }
                Received::End(end) => {
                    let Some(incomplete) = self.calls.incomplete.remove(&stream) else { return };
                    if end == End::Requests {
                        self.complete(incomplete, app);
                    }
                    return;
                }
            }
        }
    }

    /// A request that came in parts has all come.
    fn complete<H: Handler>(&mut self, incomplete: Incomplete, app: &mut App<H>) {
        let Incomplete { request, seen, assembler, parts } = incomplete;
        if assembler.is_whole() {
            let message = into_bytes(parts);
            self.answer(&request, &message, Some(&message), app, seen);
        } else {
            let text = "the request ended without a whole message";
            self.send(request.stream, Err(Status::new(Code::INTERNAL, text)), seen);
        }
    }

    #[inline]
    fn answer<H: Handler>(
        &mut self,
        request: &call::Request,
        message: &[u8],
        held: Option<&Bytes>,
        app: &mut App<H>,
        seen: Seen,
    ) {
        app.reply.clear();
        let (stream, deadline) = (request.stream, request.deadline);
        let (method, metadata, peer) = (&*request.method, &request.metadata, &self.peer);
        let lender = Lender::new(&mut self.link);
        let request = Request { method, message, metadata, deadline, peer, held, lender: &lender };
        let App { handler, reply, .. } = app;
        let result = seen.run(|| handler.handle(&request, reply));
        if let Some(deadline) = deadline {
            let now = clock::now();
            if now >= deadline {
                return self.link.session.expire(now);
            }
        }
        if let Err(status) = result {
            return self.send(stream, Err(status), seen);
        }
        // Mostly all of it goes at once, and the reply's memory stays here for the next.
        let mut progress = Progress::default();
        if !respond(self.link.session.calls(), stream, &app.reply, &mut progress, &seen) {
            let reply = Ok(std::mem::take(&mut app.reply));
            self.calls.unsent.insert(stream, Unsent { reply, progress, seen });
        }
        // Nothing is held for longer than it is needed.
        app.reply.bytes = None;
    }

    fn send(&mut self, stream: StreamId, reply: Result<Reply, Status>, seen: Seen) {
        let mut unsent = Unsent { reply, progress: Progress::default(), seen };
        if !advance(self.link.session.calls(), stream, &mut unsent) {
            self.calls.unsent.insert(stream, unsent);
        }
    }
}

/// Sends what there is room for. Returns whether the call is done with.
#[cold]
fn advance(connection: &mut Connection<()>, stream: StreamId, unsent: &mut Unsent) -> bool {
    let status = match &unsent.reply {
        Ok(reply) => return respond(connection, stream, reply, &mut unsent.progress, &unsent.seen),
        Err(status) => status,
    };
    let message = status_message::encode(&status.message);
    let message = (!message.is_empty()).then_some((status_message::KEY, message.as_bytes()));
    let entries = || message.into_iter().chain(entries(&status.metadata));
    let sent = connection.respond_trailers_only(stream, entries(), status.code).or_else(|error| {
        let short = ShortStatus::of(&error, status.code, entries());
        log_sent(connection.respond_trailers_only(stream, short.entries(), short.code()), &short, &error)
    });
    let sent = check_head(connection, stream, sent, &unsent.seen);
    if sent == Some(Sent::All) {
        unsent.seen.sent(0, Some(status.code));
    }
    sent != Some(Sent::Nothing)
}

/// Says that a status was shortened, once it is sent.
fn log_sent(
    sent: Result<Sent, HeadError>,
    short: &ShortStatus,
    error: &HeadError,
) -> Result<Sent, HeadError> {
    if sent == Ok(Sent::All) {
        short.log(error);
    }
    sent
}

#[inline]
fn respond(
    connection: &mut Connection<()>,
    stream: StreamId,
    reply: &Reply,
    progress: &mut Progress,
    seen: &Seen,
) -> bool {
    let prefix = match prefix_of(reply.payload()) {
        Ok(prefix) => prefix,
        Err(status) => {
            connection.reset(stream, status.code, "the reply is over 4 GiB");
            seen.sent(0, Some(status.code));
            return true;
        }
    };
    let mut data = prefix.chain(reply.payload());
    let total = data.remaining();
    data.advance(progress.sent);
    // Trailers with more than the status take a frame of their own.
    let with_head = reply.trailers.is_empty().then_some(Code::OK);
    let sent = match progress.begun {
        false => {
            let sent = connection.respond(stream, entries(&reply.metadata), &mut data, with_head);
            match check_head(connection, stream, sent, seen) {
                Some(Sent::All) if with_head.is_some() => {
                    seen.sent(total, Some(Code::OK));
                    return true;
                }
                Some(Sent::Nothing) => return false,
                sent => sent,
            }
        }
        true => Some(connection.send(stream, &mut data, false)),
    };
    progress.begun = true;
    seen.sent(total - data.remaining() - progress.sent, None);
    progress.sent = total - data.remaining();
    match sent {
        None | Some(Sent::Stopped) => return true,
        _ if data.has_remaining() => return false,
        _ => {}
    }
    let sent = connection.finish(stream, entries(&reply.trailers), Code::OK).or_else(|error| {
        let short = ShortStatus::of(&error, Code::OK, entries(&reply.trailers));
        log_sent(connection.finish(stream, short.entries(), short.code()), &short, &error)
    });
    let sent = check_head(connection, stream, sent, seen);
    if sent == Some(Sent::All) {
        seen.sent(0, Some(Code::OK));
    }
    sent != Some(Sent::Nothing)
}

/// A call whose metadata the client would not take is over.
fn check_head(
    connection: &mut Connection<()>,
    stream: StreamId,
    sent: Result<Sent, HeadError>,
    seen: &Seen,
) -> Option<Sent> {
    if sent.is_err() {
        seen.sent(0, Some(Code::RESOURCE_EXHAUSTED));
        connection.reset(stream, Code::RESOURCE_EXHAUSTED, "response metadata too large");
    }
    sent.ok()
}

fn entries(metadata: &Metadata) -> impl Iterator<Item = (&str, &[u8])> {
    metadata.iter().map(|(key, value)| (&**key, &**value))
}
