//! Calls of the four kinds on a channel.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use notnets_memory::LoanedBytes;

use super::Outbound as _;
use super::outbound::{RequestHead, Rest, StreamHead, WholeRequest};
use super::{Answered, Exchange, Opened, Opening, Receiver, Sender};
use crate::Channel;
use crate::rpc::framing::{Framed, FramedMessage};
use crate::rpc::{Code, Deadline, Payload, Reply, Request, Status};

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
        let opening = self.opening(request.deadline);
        let outbound = WholeRequest::new(request, Framed::new(message.into())?);
        let mut exchange = Exchange::new(opening, outbound);
        let (call, head, buffered) = poll_fn(|cx| exchange.poll_answered(cx)).await?;
        let mut receiver = Receiver::new(call, max_message_size);
        receiver.rest = exchange.into_rest();
        receiver.on_head(head, buffered)?;
        Ok(receiver)
    }

    /// Makes a call with a stream of messages, which is answered by one or by a stream of them. Returns once
    /// the call is on its way to the server.
    ///
    /// # Errors
    /// With the reason why the call could not be made.
    pub async fn streaming_call(&self, request: Request) -> Result<(Sender, Receiver), Status> {
        let mut opening = self.opening(request.deadline);
        let max_message_size = request.max_message_size;
        let head = StreamHead(request);
        opening.configure(head.method());
        let opened = poll_fn(|cx| {
            ready!(opening.poll_turn(cx))?;
            opening.poll_open(cx, &head)
        });
        let opened = opened.await;
        let observation = opening.take_observation();
        if let (Some(observation), Err(status)) = (&observation, &opened) {
            observation.end(status.code());
        }
        let Opened { mut call, answer, .. } = opened?;
        if let Some(observation) = observation {
            call.observe(observation, true);
        }
        let sender = Sender::new(call.sending());
        let mut receiver = Receiver::new(call, max_message_size);
        if let Poll::Ready(answer) = answer {
            receiver.on_answer(answer)?;
        }
        Ok((sender, receiver))
    }

    /// Gives memory of the channel's link to write so many bytes in, which are then not copied when they are
    /// sent over it: as a message, or as a `bytes` field of type `Bytes` of one.
    ///
    /// It is memory of the link for 16 KiB and more, up to half of a segment (1 MiB) in one piece, while the
    /// link is up and has as much to spare. Else it is private memory, and used in the same way. So is that
    /// of links to other hosts. The first loans of a link are mostly private: they make it ask for more
    /// memory.
    ///
    /// ```no_run
    /// use bytes::BufMut;
    /// use notnets::rpc::{Method, Request};
    ///
    /// # async fn example(channel: notnets::Channel, pixels: &[u8]) -> Result<(), notnets::rpc::Status> {
    /// const SHOW: Method = Method::from_static("/screen.Screen/Show");
    /// let mut frame = channel.loan(1 << 20);
    /// frame.put_u32(640);
    /// frame.put_slice(pixels);
    /// channel.unary_call(Request::new(SHOW), frame).await?;
    /// # Ok(()) }
    /// ```
    pub fn loan(&self, len: usize) -> LoanedBytes {
        match self.shared.present() {
            Some(link) => link.loan(len),
            None => LoanedBytes::private(len),
        }
    }

    /// Opens a call that has to be over by then, unless the channel's calls have to be over earlier.
    pub(crate) fn opening(&self, deadline: Option<Deadline>) -> Opening {
        let own = self.timeout().map(Deadline::after);
        let deadline = [own, deadline].into_iter().flatten().min();
        Opening::new(&self.shared, deadline.map(Deadline::time))
    }
}

impl<H: RequestHead, M: FramedMessage> Exchange<WholeRequest<H, M>> {
    /// Waits for the response's head, and sends what is left of the request meanwhile.
    pub(crate) fn poll_answered(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answered, Status>> {
        let answered = self.poll_head(cx);
        if answered.is_pending() {
            self.outbound().poll_rest(cx);
        }
        answered
    }

    /// What is left to send when the response has begun: mostly nothing, and then nothing is moved.
    #[inline]
    pub(crate) fn into_rest(mut self) -> Option<Box<Rest<M>>> {
        if self.outbound().has_rest() { self.into_outbound().into_rest() } else { None }
    }
}
