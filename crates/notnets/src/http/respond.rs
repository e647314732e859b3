//! A response on its way to the client.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, Response};
use http_body::Body as _;
use notnets_core::call::{HeadError, Sent};
use notnets_core::code::Code;
use tonic::Status;
use tonic::body::Body;

use super::head;
use crate::rpc::ResponseHalf;

/// Sends a response to its end.
pub(crate) async fn respond(response: Response<Body>, mut call: ResponseHalf) {
    let mut responding = Responding::new(response);
    poll_fn(|cx| responding.poll(cx, &mut call)).await;
}

/// Sends a response: what is ready at once goes out with the head, a unary response in one frame.
struct Responding {
    /// Until it is sent.
    head: Option<Parts>,
    body: Body,
    /// Data of the body that are not sent yet, …
    data: Bytes,
    /// … and those after them.
    more: Bytes,
    /// The trailers that the body has ended with.
    trailers: Option<HeaderMap>,
}

impl Responding {
    fn new(response: Response<Body>) -> Self {
        let (head, body) = response.into_parts();
        Self { head: Some(head), body, data: Bytes::new(), more: Bytes::new(), trailers: None }
    }

    fn poll(&mut self, cx: &mut Context<'_>, call: &mut ResponseHalf) -> Poll<()> {
        match ready!(self.poll_sent(cx, call)) {
            Ok(()) | Err(Cut::Abandoned) => call.end(),
            Err(Cut::HeadTooLarge(error)) => call.head_too_large(&error),
            Err(Cut::Body(status)) => {
                tracing::debug!(%status, "a response's body failed");
                call.reset(Code(status.code() as u32), "the response's body failed");
            }
        }
        Poll::Ready(())
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>, call: &ResponseHalf) -> Poll<Result<(), Cut>> {
        if ready!(self.poll_send_head(cx, call))? {
            return Poll::Ready(Ok(()));
        }
        loop {
            ready!(self.poll_data(cx, call))?;
            let Some(trailers) = &self.trailers else {
                ready!(self.poll_body(cx))?;
                continue;
            };
            let status = head::grpc_status(trailers).unwrap_or(Code::NONE);
            let sent = ready!(call.poll_finish(cx, || head::trailer_entries(trailers), status));
            return Poll::Ready(check_sent(sent).map(|_| ()));
        }
    }

    /// Sends the head, with what of the body is ready. Returns `true` if that was all.
    fn poll_send_head(&mut self, cx: &mut Context<'_>, call: &ResponseHalf) -> Poll<Result<bool, Cut>> {
        let Some(parts) = self.head.take() else { return Poll::Ready(Ok(false)) };
        let sent = self.send_head(cx, call, &parts);
        if sent.is_pending() {
            self.head = Some(parts);
        }
        sent
    }

    fn send_head(
        &mut self,
        cx: &mut Context<'_>,
        call: &ResponseHalf,
        parts: &Parts,
    ) -> Poll<Result<bool, Cut>> {
        let entries = || head::response_entries(&parts.status, &parts.headers);
        if let Some(status) = head::grpc_status(&parts.headers) {
            let sent = ready!(call.poll_trailers_only(cx, entries, status));
            return Poll::Ready(check_sent(sent).map(|_| true));
        }
        self.look_ahead()?;
        // One frame can end with a status; trailers with more than that take a frame of their own.
        let plain = |trailers: &&HeaderMap| head::trailer_entries(trailers).next().is_none();
        let trailers = self.trailers.as_ref().filter(plain).filter(|_| self.more.is_empty());
        let status = trailers.map(|trailers| head::grpc_status(trailers).unwrap_or(Code::NONE));
        let data = &mut self.data;
        let sent = call.poll_send_head(cx, entries(), data, status);
        Poll::Ready(check_sent(ready!(sent)?).map(|sent| status.is_some() && sent == Sent::All))
    }

    /// Takes of the body what is ready now, until it is clear whether that is all.
    fn look_ahead(&mut self) -> Result<(), Cut> {
        // The task registers once the head is sent and it waits for more.
        let mut cx = Context::from_waker(Waker::noop());
        while self.trailers.is_none() && self.more.is_empty() {
            match self.poll_body(&mut cx) {
                Poll::Ready(taken) => taken?,
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// Takes the body's next data, or its end.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)) else {
            self.trailers = Some(HeaderMap::new());
            return Poll::Ready(Ok(()));
        };
        match frame.map_err(Cut::Body)?.into_data() {
            Ok(data) if self.data.is_empty() => self.data = data,
            Ok(data) => self.more = data,
            Err(frame) => self.trailers = Some(frame.into_trailers().unwrap_or_default()),
        }
        Poll::Ready(Ok(()))
    }

    /// Sends all data that were taken.
    fn poll_data(&mut self, cx: &mut Context<'_>, call: &ResponseHalf) -> Poll<Result<(), Cut>> {
        loop {
            if self.data.is_empty() {
                self.data = std::mem::take(&mut self.more);
            }
            if self.data.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let data = &mut self.data;
            check_sent(ready!(call.poll_send(cx, data)))?;
        }
    }
}

/// Fails when the call is over and takes nothing any more.
fn check_sent(sent: Sent) -> Result<Sent, Cut> {
    if sent == Sent::Stopped { Err(Cut::Abandoned) } else { Ok(sent) }
}

/// Why nothing more is sent.
enum Cut {
    /// The call is over; nobody listens.
    Abandoned,
    HeadTooLarge(HeadError),
    Body(Status),
}

impl From<HeadError> for Cut {
    fn from(error: HeadError) -> Self {
        Self::HeadTooLarge(error)
    }
}
