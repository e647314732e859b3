//! One call on one connection: the request's parts out, the response's in.

use std::future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame};
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::body::Body;

use super::connection::{Life, OpenCall};
use super::replay::{Part, Replay};
/// Why a call has no response.
pub enum Failed {
    /// It was never sent.
    Unsent(h2::Error),
    /// The server says that it has not processed it.
    Unprocessed(h2::Error),
    /// It ended with that.
    Ended(Status),
}

/// Makes a call on a connection, up to its response's head.
///
/// The request's headers never end the stream: gRPC wants an empty frame of data with the end of a stream of
/// no requests, and servers wait for it.
///
/// # Errors
/// When there is no response, with whether the call can be made again.
pub async fn exchange(
    sender: SendRequest<Bytes>,
    head: Request<()>,
    body: Replay,
    call: OpenCall,
) -> Result<Response<Body>, (Failed, Replay)> {
    let mut sender = match sender.ready().await {
        Ok(sender) => sender,
        Err(error) => return Err((Failed::Unsent(error), body)),
    };
    let (response, stream) = match sender.send_request(head, false) {
        Ok(begun) => begun,
        // The connection takes no more calls. A head that can't be sent is a fault of the caller's.
        Err(error) if error.is_go_away() || error.is_io() => return Err((Failed::Unsent(error), body)),
        Err(error) => return Err((Failed::Ended(call.life.status_of(&error)), body)),
    };
    // A connection ends when nobody can send on it any more.
    drop(sender);
    let mut request = Outgoing { body, stream, unsent: None };
    let mut response = pin!(response);
    let mut is_sent = false;
    let answered = loop {
        tokio::select! {
            biased;
            answered = response.as_mut() => break answered,
            () = request.send(), if !is_sent => is_sent = true,
        }
    };
    let response = match answered {
        Ok(response) => response,
        Err(error) if is_unprocessed(&error) => return Err((Failed::Unprocessed(error), request.body)),
        Err(error) => return Err((Failed::Ended(call.life.status_of(&error)), request.body)),
    };
    call.life.answered();
    request.body.forget();
    // The request goes on whether or not its response is read.
    let sending = (!is_sent).then(|| Sending(tokio::spawn(async move { request.send().await })));
    Ok(response.map(|received| Body::new(ResponseBody { received, call, _sending: sending })))
}

/// Only streams beyond the last one of a GOAWAY end with it: those were not processed, and neither were those
/// that were refused.
fn is_unprocessed(error: &h2::Error) -> bool {
    error.is_remote()
        && (error.is_go_away() || (error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM)))
}

/// A request on its way.
struct Outgoing {
    body: Replay,
    stream: SendStream<Bytes>,
    /// Data that there was no room for yet, and whether they are the last.
    unsent: Option<(Bytes, bool)>,
}

impl Outgoing {
    /// Sends what is left of the request; may be dropped and called again. An error in it resets the call.
    async fn send(&mut self) {
        loop {
            let sent = match self.unsent {
                Some(_) => self.send_data().await,
                None => {
                    let part = tokio::select! {
                        biased;
                        // The server wants no more of it.
                        _ = future::poll_fn(|cx| self.stream.poll_reset(cx)) => return,
                        part = self.body.next() => part,
                    };
                    match part {
                        Ok(Part::Data(data, is_last)) => {
                            self.unsent = Some((data, is_last));
                            Ok(Sent::More)
                        }
                        Ok(Part::Trailers(trailers)) => {
                            self.stream.send_trailers(trailers).map(|()| Sent::All)
                        }
                        Ok(Part::End) => self.stream.send_data(Bytes::new(), true).map(|()| Sent::All),
                        Err(_) => {
                            self.stream.send_reset(Reason::CANCEL);
                            return;
                        }
                    }
                }
            };
            // How the call ended is with its response.
            if !matches!(sent, Ok(Sent::More)) {
                return;
            }
        }
    }

    /// Sends what there is room for of the unsent data.
    async fn send_data(&mut self) -> Result<Sent, h2::Error> {
        let Some((mut data, is_last)) = self.unsent.clone() else { return Ok(Sent::More) };
        if !data.is_empty() {
            self.stream.reserve_capacity(data.len());
            let capacity = match future::poll_fn(|cx| self.stream.poll_capacity(cx)).await {
                Some(capacity) => capacity?,
                // The stream is over.
                None => return Ok(Sent::All),
            };
            let rest = data.split_off(capacity.min(data.len()));
            if !rest.is_empty() {
                self.stream.send_data(data, false)?;
                self.unsent = Some((rest, is_last));
                return Ok(Sent::More);
            }
        }
        self.stream.send_data(data, is_last)?;
        self.unsent = None;
        Ok(if is_last { Sent::All } else { Sent::More })
    }
}

/// How much of a request has been sent.
enum Sent {
    More,
    All,
}

/// A request that is still being sent; dropping it ends that.
struct Sending(JoinHandle<()>);

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A response's body, which counts as an open call as long as it is there.
struct ResponseBody {
    received: RecvStream,
    call: OpenCall,
    _sending: Option<Sending>,
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let failed = |life: &Life, error| Poll::Ready(Some(Err(life.status_of(&error))));
        match ready!(this.received.poll_data(cx)) {
            Some(Ok(data)) => {
                this.call.life.answered();
                // An error means that the stream has ended, which is said next.
                let _ = this.received.flow_control().release_capacity(data.len());
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            // The server has what it wanted of the request, and says so.
            Some(Err(error)) if error.is_reset() && error.reason() == Some(Reason::NO_ERROR) => {}
            Some(Err(error)) => return failed(&this.call.life, error),
            None => {}
        }
        match ready!(this.received.poll_trailers(cx)) {
            Ok(trailers) => Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers)))),
            Err(error) => failed(&this.call.life, error),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.received.is_end_stream()
    }
}
