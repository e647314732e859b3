//! Calls of the four kinds on a channel.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use notnets_core::call::{Buffered, End, Received, ResponseHead, Role, Sent};

use super::{Call, Exchange, Opened, Opening, Outbound, SendHalf};
use crate::Channel;
use crate::link::Answer;
use crate::message_prefix::Limit;
use crate::rpc::framing::{Assembler, Framed};
use crate::rpc::outgoing::Outgoing;
use crate::rpc::{Code, Deadline, Metadata, Payload, Reply, Request, Status, protocol};

/// Calls in gRPC's own terms. Dropping what these methods return ends the call.
impl Channel {
    /// Makes a unary call.
    ///
    /// ```no_run
    /// use notnets::rpc::{Method, Request};
    ///
    /// # async fn example(channel: notnets::Channel) -> Result<(), notnets::rpc::Status> {
    /// const GREET: Method = Method::from_static("/greeter.Greeter/Greet");
    /// let reply = channel.unary_call(Request::new(GREET), "hello").await?;
    /// println!("{} bytes", reply.message.len());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The status that the server ended the call with, or what kept the call from being made.
    pub async fn unary_call(&self, request: Request, message: impl Into<Payload>) -> Result<Reply, Status> {
        let mut receiver = self.server_streaming_call(request, message).await?;
        let Some(message) = receiver.message().await? else {
            return Err(Status::new(Code::INTERNAL, "the response has no message"));
        };
        if receiver.message().await?.is_some() {
            return Err(Status::new(Code::INTERNAL, "the response has more than one message"));
        }
        Ok(Reply { metadata: receiver.metadata, message, trailers: receiver.trailers })
    }

    /// Makes a call with one message that is answered by a stream of them. Returns once the response's head
    /// is there.
    ///
    /// # Errors
    /// The status that the server ended the call with, or what kept the call from being made.
    pub async fn server_streaming_call(
        &self,
        request: Request,
        message: impl Into<Payload>,
    ) -> Result<Receiver, Status> {
        let max_message_size = request.max_message_size;
        let opening = self.opening(&request);
        let outbound = WholeRequest { request, message: Framed::new(message.into())?, rest: None };
        let mut exchange = Exchange::new(opening, outbound);
        let answered = poll_fn(|cx| {
            let answered = exchange.poll_head(cx);
            if answered.is_pending() {
                exchange.outbound().poll_rest(cx);
            }
            answered
        });
        let (call, head, buffered) = answered.await?;
        let mut receiver = Receiver::new(call, max_message_size);
        receiver.rest = exchange.into_outbound().into_rest();
        receiver.on_head(head, buffered)?;
        Ok(receiver)
    }

    /// Makes a call with a stream of messages, which is answered by one or by a stream of them. Returns once
    /// the call is on its way to the server.
    ///
    /// # Errors
    /// With the reason why the call could not be made.
    pub async fn streaming_call(&self, request: Request) -> Result<(Sender, Receiver), Status> {
        let mut opening = self.opening(&request);
        let max_message_size = request.max_message_size;
        let head = StreamHead(request);
        let opened = poll_fn(|cx| {
            ready!(opening.poll_turn(cx))?;
            opening.poll_open(cx, &head)
        });
        let Opened { call, answer, .. } = opened.await?;
        let sender = Sender { half: call.sending(), outgoing: Outgoing::default() };
        let mut receiver = Receiver::new(call, max_message_size);
        if let Poll::Ready(answer) = answer {
            receiver.on_answer(answer)?;
        }
        Ok((sender, receiver))
    }

    fn opening(&self, request: &Request) -> Opening {
        let own = self.timeout().map(Deadline::after);
        let deadline = [own, request.deadline].into_iter().flatten().min();
        Opening::new(&self.shared, deadline.map(Deadline::time))
    }
}

/// A request with its only message, which is kept until its response is there.
struct WholeRequest {
    request: Request,
    message: Framed,
    /// The part of the message that did not fit when the call was opened, if there is one: how much of the
    /// message was sent. It goes beside the response.
    rest: Option<(SendHalf, usize)>,
}

impl WholeRequest {
    /// Sends what is left of the message, as soon as there is room.
    fn poll_rest(&mut self, cx: &mut Context<'_>) {
        let Some((half, sent)) = &mut self.rest else { return };
        let mut rest = self.message.view(*sent);
        let polled = half.poll_send(cx, &mut rest, true);
        *sent = self.message.len() - rest.remaining();
        if polled.is_ready() {
            self.rest = None;
        }
    }

    fn into_rest(self) -> Option<Box<Rest>> {
        let (half, sent) = self.rest?;
        Some(Box::new(Rest { half, outgoing: Outgoing::new(self.message, sent) }))
    }
}

impl Outbound for WholeRequest {
    fn method(&self) -> &str {
        self.request.method.path()
    }

    fn entries<'a>(&'a self, _user_agent: &'a str) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.request.metadata.iter()
    }

    fn prefetch(&mut self, _cx: &mut Context<'_>) -> Result<(), Status> {
        self.rest = None;
        Ok(())
    }

    fn data(&self) -> impl Buf + '_ {
        self.message.view(0)
    }

    fn is_whole(&self) -> bool {
        true
    }

    fn send_rest(&mut self, call: &Call, unsent: usize) {
        self.rest = Some((call.sending(), self.message.len() - unsent));
    }
}

/// A request whose messages come later.
struct StreamHead(Request);

impl Outbound for StreamHead {
    fn method(&self) -> &str {
        self.0.method.path()
    }

    fn entries<'a>(&'a self, _user_agent: &'a str) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.0.metadata.iter()
    }

    fn prefetch(&mut self, _cx: &mut Context<'_>) -> Result<(), Status> {
        Ok(())
    }

    fn data(&self) -> impl Buf + '_ {
        &[][..]
    }

    fn is_whole(&self) -> bool {
        false
    }

    fn send_rest(&mut self, _call: &Call, _unsent: usize) {}
}

/// A part of a message that is sent while the response is received.
struct Rest {
    half: SendHalf,
    outgoing: Outgoing,
}

/// The sending half of a call. Dropped before [`finish`](Self::finish), it fails the call with `CANCELLED`: a
/// server never takes what was cut off for all there is.
pub struct Sender {
    half: SendHalf,
    outgoing: Outgoing,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl Sender {
    /// Sends a message as soon as there is room for it. If the future is dropped before, the message goes out
    /// before the next.
    ///
    /// # Errors
    /// When the call is over: its [`Receiver`] knows why.
    pub async fn send(&mut self, message: impl Into<Payload>) -> Result<(), Status> {
        let message = Framed::new(message.into())?;
        self.flush().await?;
        self.outgoing.set(message);
        self.flush().await
    }

    /// Says that no more messages come.
    ///
    /// # Errors
    /// When the call is over: its [`Receiver`] knows why.
    pub async fn finish(mut self) -> Result<(), Status> {
        self.flush().await?;
        check(poll_fn(|cx| self.half.poll_send(cx, &mut &[][..], true)).await)
    }

    /// Waits until the call is over, and takes no more messages.
    pub async fn stopped(&mut self) {
        poll_fn(|cx| self.half.poll_stopped(cx)).await;
    }

    async fn flush(&mut self) -> Result<(), Status> {
        let Self { half, outgoing } = self;
        check(poll_fn(|cx| outgoing.poll(cx, |cx, rest| half.poll_send(cx, rest, false))).await)
    }
}

fn check(sent: Sent) -> Result<(), Status> {
    if sent == Sent::Stopped {
        return Err(Status::new(Code::CANCELLED, "the call is over: its receiving half knows why"));
    }
    Ok(())
}

/// The receiving half of a call. Dropped before its end, it cancels the call.
pub struct Receiver {
    call: Call,
    head_seen: bool,
    metadata: Metadata,
    trailers: Metadata,
    assembler: Assembler,
    /// Data that were received and not looked at yet.
    buffered: Buffered,
    /// The status derived from the head, for a response without a gRPC status.
    http_status: Option<(Code, String)>,
    over: bool,
    /// Boxed, for a receiver is moved about with its future, and hardly ever has one.
    rest: Option<Box<Rest>>,
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

impl Receiver {
    fn new(call: Call, max_message_size: usize) -> Self {
        Self {
            call,
            head_seen: false,
            metadata: Metadata::new(),
            trailers: Metadata::new(),
            assembler: Assembler::new(Limit { receiver: Role::Client, bytes: max_message_size }),
            buffered: Buffered { data: None, end: None },
            http_status: None,
            over: false,
            rest: None,
        }
    }

    /// Waits for the metadata of the response's head.
    ///
    /// # Errors
    /// The status of a call that ended without a head.
    pub async fn head(&mut self) -> Result<&Metadata, Status> {
        poll_fn(|cx| self.poll_head(cx)).await?;
        Ok(&self.metadata)
    }

    /// Waits for the next message. `None` is the good end of the call. Nothing is lost when the future is
    /// dropped.
    ///
    /// # Errors
    /// The status that the call ended with. A message over the limit ends it.
    pub async fn message(&mut self) -> Result<Option<Payload>, Status> {
        poll_fn(|cx| self.poll_message(cx)).await
    }

    /// The metadata of a call that ended well: known once [`message`](Self::message) has returned `None`.
    pub fn trailers(&self) -> &Metadata {
        &self.trailers
    }

    /// Waits for the next message, as [`message`](Self::message) does.
    ///
    /// # Errors
    /// The status that the call ended with.
    pub fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Payload>, Status>> {
        loop {
            ready!(self.poll_head(cx))?;
            match self.assembler.next() {
                Ok(None) => {}
                message => {
                    if message.is_err() {
                        self.end();
                    }
                    return Poll::Ready(message);
                }
            }
            if self.over {
                return Poll::Ready(Ok(None));
            }
            if let Some(data) = self.buffered.data.take() {
                self.assembler.push(data);
                continue;
            }
            let end = match self.buffered.end.take() {
                Some(end) => end,
                None => match ready!(self.call.poll_data(cx)) {
                    Received::Data(data) => {
                        self.assembler.push(data);
                        continue;
                    }
                    Received::End(end) => end,
                    Received::Pending => return Poll::Pending,
                },
            };
            self.end();
            return Poll::Ready(self.on_end(end).map(|()| None));
        }
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        if let Some(Rest { half, outgoing }) = self.rest.as_deref_mut()
            && outgoing.poll(cx, |cx, rest| half.poll_send(cx, rest, true)).is_ready()
        {
            self.rest = None;
        }
        if self.head_seen {
            return Poll::Ready(Ok(()));
        }
        let answer = ready!(self.call.poll_head(cx));
        Poll::Ready(self.on_answer(answer))
    }

    fn on_answer(&mut self, answer: Answer) -> Result<(), Status> {
        match answer {
            Ok((head, buffered)) => {
                if buffered.end.is_some() {
                    self.call.closed();
                }
                self.on_head(head, buffered)
            }
            Err(failure) => {
                self.head_seen = true;
                self.end();
                Err(failure.into())
            }
        }
    }

    fn on_head(&mut self, head: ResponseHead, buffered: Buffered) -> Result<(), Status> {
        self.head_seen = true;
        let (mut metadata, status) = match head {
            ResponseHead::Head(metadata) => (metadata, None),
            ResponseHead::TrailersOnly(status, metadata) => (metadata, Some(status)),
        };
        self.http_status = protocol::take_http_status(&mut metadata);
        let other_type = protocol::take_other_type(&mut metadata);
        if let Some(status) = status {
            self.end();
            self.trailers = Metadata::received(metadata);
            return self.on_status(status);
        }
        if let Some(other_type) = other_type {
            self.end();
            let (code, text) = self.http_status.take().unwrap_or_else(|| {
                let text = String::from_utf8_lossy(&other_type);
                (Code::UNKNOWN, format!("the response is of type {text:?}, which is not gRPC's"))
            });
            return Err(Status::new(code, text));
        }
        self.metadata = Metadata::received(metadata);
        self.buffered = buffered;
        Ok(())
    }

    fn on_end(&mut self, end: End) -> Result<(), Status> {
        match end {
            End::Failed(failure) => Err(failure.into()),
            End::Requests => Ok(()),
            End::Trailers(code, metadata) => {
                self.trailers = Metadata::received(metadata);
                self.on_status(code)
            }
        }
    }

    fn on_status(&mut self, code: Code) -> Result<(), Status> {
        if let (Code::NONE, Some((code, text))) = (code, self.http_status.take()) {
            return Err(Status::new(code, text));
        }
        if let Some(status) = Status::from_trailers(code, &mut self.trailers) {
            return Err(status);
        }
        if !self.assembler.is_between_messages() {
            return Err(Status::new(Code::INTERNAL, "the response ended within a message"));
        }
        Ok(())
    }

    /// Lets go of the call; it is cancelled if it is not over.
    fn end(&mut self) {
        self.over = true;
        self.rest = None;
        self.call.end();
    }
}
