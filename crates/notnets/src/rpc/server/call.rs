//! A call as its handler has it: messages in, head, messages and trailers out.

use std::future::poll_fn;

use notnets_core::call::{HeadError, Role, Sent};
use notnets_memory::LoanedBytes;

use super::incoming::{IncomingCall, RequestHalf, ResponseHalf, Turn};
use crate::message_prefix::{Limit, MAX_MESSAGE_SIZE};
use crate::rpc::framing::{Assembler, Framed};
use crate::rpc::outgoing::Outgoing;
use crate::rpc::{Code, Deadline, Metadata, Method, Payload, PeerInfo, Status};
use crate::status_message;

const DEFAULT_LIMIT: Limit = Limit { receiver: Role::Server, bytes: MAX_MESSAGE_SIZE };

/// A call that a server was sent, for its [`Handler`](super::Handler).
#[derive(Debug)]
#[non_exhaustive]
pub struct ServerCall {
    /// The method that is called.
    pub method: Method,
    /// The client's metadata.
    pub metadata: Metadata,
    /// By when the call has to be over. It is ended then, and its handler dropped.
    pub deadline: Option<Deadline>,
    /// The caller.
    pub peer: PeerInfo,
    /// The client's messages.
    pub requests: Requests,
    /// The answer.
    pub responses: Responses,
}

impl ServerCall {
    pub(super) fn new(call: IncomingCall) -> (Self, Turn) {
        let IncomingCall { method, metadata, deadline, peer, turn, requests, response } = call;
        let call = Self {
            method: Method::received(method),
            metadata: Metadata::received(metadata),
            deadline: deadline.map(Deadline::at),
            peer,
            requests: Requests { half: requests, assembler: Assembler::new(DEFAULT_LIMIT) },
            responses: Responses::new(response),
        };
        (call, turn)
    }
}

/// The messages that a call's client sends. What came with the call besides is in [`ServerCall`].
pub struct Requests {
    half: RequestHalf,
    assembler: Assembler,
}

impl std::fmt::Debug for Requests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Requests").finish_non_exhaustive()
    }
}

impl Requests {
    /// Refuses messages of more bytes with `RESOURCE_EXHAUSTED`. 4 MiB unless set.
    pub fn set_max_message_size(&mut self, bytes: usize) {
        self.assembler.set_limit(bytes);
    }

    /// Waits for the next message. `None` is the end of them. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// When a message is over the limit, or the call is cut short.
    pub async fn message(&mut self) -> Result<Option<Payload>, Status> {
        loop {
            if let Some(message) = self.assembler.next()? {
                return Ok(Some(message));
            }
            let Self { half, assembler } = self;
            assembler.gather(half);
            match poll_fn(|cx| half.poll_data(cx)).await {
                Some(Ok(data)) => self.assembler.push(data),
                Some(Err(failure)) => return Err(failure.into()),
                None if self.assembler.is_between_messages() => return Ok(None),
                None => return Err(Status::new(Code::INTERNAL, "the request ended within a message")),
            }
        }
    }

    /// Waits for the only message of a call that has one.
    ///
    /// # Errors
    /// As [`message`](Self::message), and when the client sent no message, or more than one.
    pub async fn only_message(&mut self) -> Result<Payload, Status> {
        let Some(message) = self.message().await? else {
            return Err(Status::new(Code::UNIMPLEMENTED, "the request has no message"));
        };
        match self.message().await? {
            None => Ok(message),
            Some(_) => Err(Status::new(Code::UNIMPLEMENTED, "the request has more than one message")),
        }
    }
}

/// The answer to a call: its head, its messages and its trailers. The status is what the handler returns.
pub struct Responses {
    half: ResponseHalf,
    /// The head, until it is sent.
    head: Option<Metadata>,
    trailers: Metadata,
    outgoing: Outgoing,
}

impl std::fmt::Debug for Responses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Responses").finish_non_exhaustive()
    }
}

impl Responses {
    fn new(half: ResponseHalf) -> Self {
        let head = Some(Metadata::new());
        let trailers = Metadata::new();
        Self { half, head, trailers, outgoing: Outgoing::default() }
    }

    /// The metadata of the head, which is sent with the first message. `None` once it is sent.
    pub fn metadata(&mut self) -> Option<&mut Metadata> {
        self.head.as_mut()
    }

    /// The metadata that are sent with the status `OK`. Those of another status are its own.
    pub fn trailers(&mut self) -> &mut Metadata {
        &mut self.trailers
    }

    /// Gives memory of the client's link to write so many bytes in, which are then not copied when they are
    /// sent: as [`Channel::loan`](crate::Channel::loan) does on the other side.
    ///
    /// ```no_run
    /// use bytes::BufMut;
    /// use notnets::rpc::{Handler, ServerCall, Status};
    ///
    /// struct Camera;
    ///
    /// impl Handler for Camera {
    ///     async fn call(&self, call: &mut ServerCall) -> Result<(), Status> {
    ///         let mut picture = call.responses.loan(1 << 20);
    ///         picture.put_bytes(0x7f, 640 * 480); // whatever fills it
    ///         call.responses.send_last(picture).await
    ///     }
    /// }
    /// ```
    pub fn loan(&self, len: usize) -> LoanedBytes {
        self.half.loan(len)
    }

    /// Sends the head now, before there is a message.
    ///
    /// # Errors
    /// When the call is over, or the head is too large for the client.
    pub async fn send_head(&mut self) -> Result<(), Status> {
        self.flush().await?;
        if self.head.is_some() { self.send_with_head(None).await.map(drop) } else { Ok(()) }
    }

    /// Sends a message as soon as there is room for it. If the future is dropped before, the message goes out
    /// before the next.
    ///
    /// # Errors
    /// When the call is over, or the head is too large for the client.
    pub async fn send(&mut self, message: impl Into<Payload>) -> Result<(), Status> {
        let message = Framed::new(message.into())?;
        self.flush().await?;
        self.outgoing.set(message);
        self.flush().await
    }

    /// Takes the last message, to be sent together with the status that the handler returns: the reply of a
    /// unary call is then one frame.
    ///
    /// # Errors
    /// When the call is over, or the head is too large for the client.
    pub async fn send_last(&mut self, message: impl Into<Payload>) -> Result<(), Status> {
        let message = Framed::new(message.into())?;
        self.flush().await?;
        self.outgoing.set(message);
        Ok(())
    }

    /// Sends what is left of a message.
    async fn flush(&mut self) -> Result<(), Status> {
        if self.outgoing.is_empty() {
            return Ok(());
        }
        if self.head.is_some() {
            self.send_with_head(None).await?;
        }
        let Self { half, outgoing, .. } = self;
        check(poll_fn(|cx| outgoing.poll(cx, |cx, rest| half.poll_send(cx, rest))).await)
    }

    /// Sends the head with as much of the message as fits, and with `status` the end. Returns `true` if the
    /// end went out as well.
    async fn send_with_head(&mut self, status: Option<Code>) -> Result<bool, Status> {
        let Self { half, outgoing, head, .. } = self;
        let sent = poll_fn(|cx| {
            let entries = head.iter().flat_map(Metadata::iter);
            outgoing.offer(|rest| half.poll_send_head(cx, entries, rest, status))
        });
        let sent = sent.await;
        // Not before: if the future is dropped the head is still to be sent.
        *head = None;
        let sent = sent.map_err(|error| {
            half.head_too_large(&error);
            head_error(&error)
        })?;
        check(sent)?;
        Ok(status.is_some() && sent == Sent::All)
    }

    /// Sends what the handler has ended with.
    pub(super) async fn finish(mut self, result: Result<(), Status>) {
        let code = match &result {
            Ok(()) => Code::OK,
            Err(status) if status.code() == Code::OK => Code::UNKNOWN,
            Err(status) => status.code(),
        };
        if self.half.is_over() {
            return;
        }
        match self.send_end(code, &result).await {
            // The client listens no more, or the link has reset the call.
            Ok(()) | Err(_) => self.half.end(),
        }
    }

    async fn send_end(&mut self, code: Code, result: &Result<(), Status>) -> Result<(), Status> {
        // One frame can end with a status; trailers with more than that take a frame of their own.
        if result.is_ok() && self.head.is_some() {
            let status = self.trailers.is_empty().then_some(code);
            if self.send_with_head(status).await? {
                return Ok(());
            }
        }
        self.flush().await?;
        let Self { half, trailers, head, .. } = self;
        let message = result.as_ref().err().and_then(Status::encoded_message);
        let metadata = result.as_ref().err().map_or(&*trailers, Status::metadata);
        let entries = || metadata.iter().chain(message.as_deref().map(|text| (status_message::KEY, text)));
        let is_alone = head.is_some();
        let sent = poll_fn(|cx| {
            if is_alone {
                half.poll_trailers_only(cx, entries, code)
            } else {
                half.poll_finish(cx, entries, code)
            }
        });
        check(sent.await)
    }
}

fn check(sent: Sent) -> Result<(), Status> {
    if sent == Sent::Stopped { Err(Status::new(Code::CANCELLED, "the call is over")) } else { Ok(()) }
}

fn head_error(error: &HeadError) -> Status {
    Status::new(Code::RESOURCE_EXHAUSTED, error.to_string())
}
