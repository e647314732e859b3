//! The receiving half of a call in messages.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use notnets_core::call::{Buffered, End, Received, ResponseHead, Role};

use super::Call;
use super::outbound::Rest;
use crate::link::Answer;
use crate::message_prefix::Limit;
use crate::rpc::framing::Assembler;
use crate::rpc::{Code, Metadata, Payload, Status, protocol};

/// The receiving half of a call. Dropped before its end, it cancels the call.
pub struct Receiver {
    call: Call,
    head_seen: bool,
    pub(super) metadata: Metadata,
    pub(super) trailers: Metadata,
    assembler: Assembler,
    /// Data that were received and not looked at yet.
    buffered: Buffered,
    /// The status derived from the head, for a response without a gRPC status.
    http_status: Option<(Code, String)>,
    over: bool,
    /// What is left of the request. Boxed, for a receiver is moved about with its future, and hardly ever has
    /// one.
    pub(super) rest: Option<Box<Rest>>,
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

impl Receiver {
    pub(super) fn new(call: Call, max_message_size: usize) -> Self {
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
                    return Poll::Ready(message.map_err(Status::from));
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
                None => match ready!(self.poll_data(cx)) {
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

    /// The call of which only the head was received, and what has come with that.
    #[cfg(feature = "byte-stream")]
    pub(crate) fn into_raw(self) -> (Call, Buffered) {
        (self.call, self.buffered)
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Received> {
        let Self { call, assembler, .. } = self;
        assembler.gather(call);
        call.poll_data(cx)
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        if let Some(rest) = &mut self.rest
            && rest.poll(cx)
        {
            self.rest = None;
        }
        if self.head_seen {
            return Poll::Ready(Ok(()));
        }
        let answer = ready!(self.call.poll_head(cx));
        Poll::Ready(self.on_answer(answer))
    }

    pub(super) fn on_answer(&mut self, answer: Answer) -> Result<(), Status> {
        self.call.observe_answer(&answer);
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

    pub(super) fn on_head(&mut self, head: ResponseHead, buffered: Buffered) -> Result<(), Status> {
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
