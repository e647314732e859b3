//! Calls of the four kinds, served directly.

use std::future::{Future, poll_fn};
use std::task::{Context, Poll, ready};

use bytes::Buf;
use http::HeaderMap;
use notnets_core::call::{HeadError, Role, Sent};
use notnets_core::code::Code;
use prost::Message;
use tonic::codegen::tokio_stream::Stream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::batch::{After, Batch};
use super::decoded::{Decoding, decode_whole, is_whole};
use super::encoded::Encoded;
use super::service::{Call, Serving, Settings};
use super::streaming::messages;
use crate::http::{RequestBody, application_entries, boxed, to_tonic, trailer_entries};
use crate::rpc::{FramedMessage, ResponseHalf, View};

// A future that serves a call is to be small, for it is allocated for each call: what it is made of stays
// where it was captured, and an answer of one message is polled as a struct.
impl Call {
    /// Serves a call with one message that is answered by one.
    pub fn unary<M1, M2, F, R>(mut self, settings: Settings, handler: F) -> Serving
    where
        M1: Message + Default + Send + 'static,
        M2: Message + Send + 'static,
        F: FnOnce(Request<M1>) -> R + Send + 'static,
        R: Future<Output = Result<Response<M2>, Status>> + Send + 'static,
    {
        Serving(Box::pin(async move {
            self.0.halves.turn.come().await;
            let mut answer = match self.only_message(settings).await {
                Ok(message) => Answer::new(handler(self.request(message)).await, settings),
                Err(status) => Answer::status(&status),
            };
            let sent = poll_fn(|cx| answer.poll(cx, &self.0.halves.response)).await;
            end(&mut self.0.halves.response, sent);
        }))
    }

    /// Serves a call with one message that is answered by a stream of them.
    pub fn server_streaming<M1, M2, F, R, S>(mut self, settings: Settings, handler: F) -> Serving
    where
        M1: Message + Default + Send + 'static,
        M2: Message + Send + 'static,
        F: FnOnce(Request<M1>) -> R + Send + 'static,
        R: Future<Output = Result<Response<S>, Status>> + Send + 'static,
        S: Stream<Item = Result<M2, Status>> + Send + 'static,
    {
        Serving(Box::pin(async move {
            self.0.halves.turn.come().await;
            let result = match self.only_message(settings).await {
                Ok(message) => handler(self.request(message)).await,
                Err(status) => Err(status),
            };
            self.send_stream(result, settings).await;
        }))
    }

    /// Serves a call with a stream of messages that is answered by one.
    pub fn client_streaming<M1, M2, F, R>(mut self, settings: Settings, handler: F) -> Serving
    where
        M1: Message + Default + Send + 'static,
        M2: Message + Send + 'static,
        F: FnOnce(Request<Streaming<M1>>) -> R + Send + 'static,
        R: Future<Output = Result<Response<M2>, Status>> + Send + 'static,
    {
        Serving(Box::pin(async move {
            self.0.halves.turn.come().await;
            let messages = self.all_messages(settings);
            let mut answer = Answer::new(handler(self.request(messages)).await, settings);
            let sent = poll_fn(|cx| answer.poll(cx, &self.0.halves.response)).await;
            end(&mut self.0.halves.response, sent);
        }))
    }

    /// Serves a call with a stream of messages that is answered by another one.
    pub fn streaming<M1, M2, F, R, S>(mut self, settings: Settings, handler: F) -> Serving
    where
        M1: Message + Default + Send + 'static,
        M2: Message + Send + 'static,
        F: FnOnce(Request<Streaming<M1>>) -> R + Send + 'static,
        R: Future<Output = Result<Response<S>, Status>> + Send + 'static,
        S: Stream<Item = Result<M2, Status>> + Send + 'static,
    {
        Serving(Box::pin(async move {
            self.0.halves.turn.come().await;
            let messages = self.all_messages(settings);
            let result = handler(self.request(messages)).await;
            self.send_stream(result, settings).await;
        }))
    }

    /// Makes a request for the handler, of what the call has come with.
    fn request<M>(&mut self, message: M) -> Request<M> {
        let headers = self.0.headers.take().map_or_else(HeaderMap::new, |headers| *headers);
        let metadata = MetadataMap::from_headers(headers);
        Request::from_parts(metadata, std::mem::take(&mut self.0.extensions), message)
    }

    /// Reads the messages of a request as they come.
    fn all_messages<M>(&mut self, settings: Settings) -> Streaming<M>
    where
        M: Message + Default + Send + 'static,
    {
        let requests = self.0.halves.requests.take();
        let decoding = Decoding::new(Role::Server, settings.decoding);
        let (body, decoder) = messages(RequestBody::of_pieces(requests), decoding);
        Streaming::new_request(decoder, body, None, settings.decoding)
    }

    /// Reads the only message of a request. As tonic's server does, it waits for the request's end, and drops
    /// further messages.
    async fn only_message<M: Message + Default>(&mut self, settings: Settings) -> Result<M, Status> {
        let requests = &mut self.0.halves.requests;
        let first = match requests.take_all() {
            Some(bytes) if is_whole(&bytes, settings.decoding) => return decode_whole(bytes),
            first => first,
        };
        let mut decoding = Box::new(Decoding::new(Role::Server, settings.decoding));
        if let Some(first) = first {
            decoding.push(first);
        }
        let mut only = None;
        loop {
            if let Some(message) = decoding.next()? {
                only.get_or_insert(message);
                continue;
            }
            decoding.gather(requests);
            match poll_fn(|cx| requests.poll_data(cx)).await {
                Some(Ok(bytes)) => decoding.push(bytes),
                Some(Err(failure)) => return Err(to_tonic(&failure.into())),
                None => {
                    decoding.end()?;
                    return only.ok_or_else(|| Status::internal("Missing request message."));
                }
            }
        }
    }

    /// Answers with a stream.
    async fn send_stream<S, M>(&mut self, result: Result<Response<S>, Status>, settings: Settings)
    where
        S: Stream<Item = Result<M, Status>>,
        M: Message,
    {
        let sent = match result {
            Ok(response) => try_send_stream(&self.0.halves.response, response, settings).await,
            Err(status) => {
                let mut answer = Answer::status(&status);
                poll_fn(|cx| answer.poll(cx, &self.0.halves.response)).await
            }
        };
        end(&mut self.0.halves.response, sent);
    }
}

async fn try_send_stream<S, M>(
    half: &ResponseHalf,
    response: Response<S>,
    settings: Settings,
) -> Result<(), Cut>
where
    S: Stream<Item = Result<M, Status>>,
    M: Message,
{
    let (metadata, stream, _) = response.into_parts();
    let headers = metadata.into_headers();
    let mut batch = Batch::new(stream, settings.encoding);
    // Messages that are ready go with the head, and so does the end.
    let mut after = poll_fn(|cx| Poll::Ready(batch.fill(cx))).await;
    let end = matches!(after, After::End).then_some(Code::OK);
    let bytes = &mut batch.bytes;
    let sent = poll_fn(|cx| half.poll_send_head(cx, application_entries(&headers), bytes, end)).await?;
    if check(sent)? == Sent::All && end.is_some() {
        return Ok(());
    }
    loop {
        while !batch.bytes.is_empty() {
            check(poll_fn(|cx| half.poll_send(cx, &mut batch.bytes)).await)?;
        }
        let (code, headers) = match after {
            After::Pending | After::Full => {
                after = poll_fn(|cx| batch.poll_fill(cx)).await;
                continue;
            }
            After::End => (Code::OK, HeaderMap::new()),
            After::Failed(status) => trailers(&status),
        };
        let sent = poll_fn(|cx| half.poll_finish(cx, || trailer_entries(&headers), code)).await;
        return check(sent).map(|_| ());
    }
}

/// An answer of one message, or of a status.
struct Answer {
    /// `None` if it has no metadata.
    head: Option<Box<HeaderMap>>,
    message: Option<Encoded>,
    /// How the call ends, if not well.
    failure: Option<Box<(Code, HeaderMap)>>,
    next: Next,
    /// Bytes of the message that were sent.
    sent: usize,
}

/// What is sent next of an answer.
#[derive(Clone, Copy)]
enum Next {
    /// A status, which is all.
    Status,
    /// The head, with as much of the rest as fits.
    Head,
    /// What is left of the message, then the end.
    Message,
}

impl Answer {
    #[inline]
    fn new<M: Message>(result: Result<Response<M>, Status>, settings: Settings) -> Self {
        let response = match result {
            Ok(response) => response,
            Err(status) => return Self::status(&status),
        };
        let (metadata, message, _) = response.into_parts();
        let head = boxed(metadata.into_headers());
        match Encoded::new(&message, settings.encoding) {
            Ok(message) => Self { head, message: Some(message), failure: None, next: Next::Head, sent: 0 },
            Err(status) => Self { head, next: Next::Head, ..Self::status(&status) },
        }
    }

    #[cold]
    fn status(status: &Status) -> Self {
        let failure = Some(Box::new(trailers(status)));
        Self { head: None, message: None, failure, next: Next::Status, sent: 0 }
    }

    /// Sends what is left.
    fn poll(&mut self, cx: &mut Context<'_>, half: &ResponseHalf) -> Poll<Result<(), Cut>> {
        let Self { head, message, failure, next, sent: before } = self;
        let (code, trailers) = match failure.as_deref() {
            None => (Code::OK, None),
            Some((code, headers)) => (*code, Some(headers)),
        };
        let entries = || trailers.into_iter().flat_map(trailer_entries);
        loop {
            let mut rest = match message {
                Some(message) => message.view(*before),
                None => View::default(),
            };
            let len = rest.remaining();
            let end = trailers.is_none().then_some(Code::OK);
            let sent = match next {
                Next::Status => {
                    let sent = ready!(half.poll_trailers_only(cx, entries, code));
                    return Poll::Ready(check(sent).map(|_| ()));
                }
                Next::Head => {
                    let entries = head.iter().flat_map(|headers| application_entries(headers));
                    half.poll_send_head(cx, entries, &mut rest, end)
                }
                Next::Message if len > 0 => half.poll_send(cx, &mut rest).map(Ok),
                Next::Message => {
                    let sent = ready!(half.poll_finish(cx, entries, code));
                    return Poll::Ready(check(sent).map(|_| ()));
                }
            };
            // Also of what has to wait a part may have gone.
            *before += len - rest.remaining();
            let sent = check(ready!(sent)?)?;
            if matches!(next, Next::Head) && sent == Sent::All && end.is_some() {
                return Poll::Ready(Ok(()));
            }
            *next = Next::Message;
        }
    }
}

/// The answer was sent, or nothing more of it can be.
fn end(half: &mut ResponseHalf, sent: Result<(), Cut>) {
    match sent {
        Ok(()) | Err(Cut::Abandoned) => half.end(),
        Err(Cut::TooLarge(error)) => half.head_too_large(&error),
    }
}

/// Why an answer is not sent to its end.
enum Cut {
    /// The client listens no more.
    Abandoned,
    /// Metadata are more than the client takes.
    TooLarge(HeadError),
}

impl From<HeadError> for Cut {
    fn from(error: HeadError) -> Self {
        Self::TooLarge(error)
    }
}

/// Fails when the call is over and takes nothing any more.
fn check(sent: Sent) -> Result<Sent, Cut> {
    if sent == Sent::Stopped { Err(Cut::Abandoned) } else { Ok(sent) }
}

/// Returns a status as trailers: its code beside the rest.
#[cold]
fn trailers(status: &Status) -> (Code, HeaderMap) {
    let mut headers = HeaderMap::new();
    match status.add_header(&mut headers) {
        Ok(()) => (code(status), headers),
        // It can't be sent as it is: tonic says why.
        Err(other) => {
            let mut headers = HeaderMap::new();
            let _unsendable = other.add_header(&mut headers);
            (code(&other), headers)
        }
    }
}

fn code(status: &Status) -> Code {
    Code(status.code() as u32)
}
