//! Calls of the four kinds, served directly.

use std::future::{Future, poll_fn};
use std::task::Poll;

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
use crate::http::{DirectCall, Halves, RequestBody, application_entries, to_tonic, trailer_entries};
use crate::rpc::{FramedMessage, RequestHalf, ResponseHalf};

impl Call {
    /// Serves a call with one message that is answered by one.
    pub fn unary<M1, M2, F, R>(self, settings: Settings, handler: F) -> Serving
    where
        M1: Message + Default + Send + 'static,
        M2: Message + Send + 'static,
        F: FnOnce(Request<M1>) -> R + Send + 'static,
        R: Future<Output = Result<Response<M2>, Status>> + Send + 'static,
    {
        Serving(Box::pin(async move {
            let DirectCall { headers, extensions, halves, .. } = self.0;
            let Halves { mut turn, mut requests, response } = halves;
            turn.come().await;
            let result = match only_message(&mut requests, settings).await {
                Ok(message) => {
                    let metadata = MetadataMap::from_headers(headers);
                    handler(Request::from_parts(metadata, extensions, message)).await
                }
                Err(status) => Err(status),
            };
            Answering(response).send_message(result, settings).await;
        }))
    }

    /// Serves a call with one message that is answered by a stream of them.
    pub fn server_streaming<M1, M2, F, R, S>(self, settings: Settings, handler: F) -> Serving
    where
        M1: Message + Default + Send + 'static,
        M2: Message + Send + 'static,
        F: FnOnce(Request<M1>) -> R + Send + 'static,
        R: Future<Output = Result<Response<S>, Status>> + Send + 'static,
        S: Stream<Item = Result<M2, Status>> + Send + 'static,
    {
        Serving(Box::pin(async move {
            let DirectCall { headers, extensions, halves, .. } = self.0;
            let Halves { mut turn, mut requests, response } = halves;
            turn.come().await;
            let result = match only_message(&mut requests, settings).await {
                Ok(message) => {
                    let metadata = MetadataMap::from_headers(headers);
                    handler(Request::from_parts(metadata, extensions, message)).await
                }
                Err(status) => Err(status),
            };
            Answering(response).send_stream(result, settings).await;
        }))
    }

    /// Serves a call with a stream of messages that is answered by one.
    pub fn client_streaming<M1, M2, F, R>(self, settings: Settings, handler: F) -> Serving
    where
        M1: Message + Default + Send + 'static,
        M2: Message + Send + 'static,
        F: FnOnce(Request<Streaming<M1>>) -> R + Send + 'static,
        R: Future<Output = Result<Response<M2>, Status>> + Send + 'static,
    {
        Serving(Box::pin(async move {
            let DirectCall { headers, extensions, halves, .. } = self.0;
            let Halves { mut turn, requests, response } = halves;
            turn.come().await;
            let metadata = MetadataMap::from_headers(headers);
            let request = Request::from_parts(metadata, extensions, all_messages(requests, settings));
            let result = handler(request).await;
            Answering(response).send_message(result, settings).await;
        }))
    }

    /// Serves a call with a stream of messages that is answered by another one.
    pub fn streaming<M1, M2, F, R, S>(self, settings: Settings, handler: F) -> Serving
    where
        M1: Message + Default + Send + 'static,
        M2: Message + Send + 'static,
        F: FnOnce(Request<Streaming<M1>>) -> R + Send + 'static,
        R: Future<Output = Result<Response<S>, Status>> + Send + 'static,
        S: Stream<Item = Result<M2, Status>> + Send + 'static,
    {
        Serving(Box::pin(async move {
            let DirectCall { headers, extensions, halves, .. } = self.0;
            let Halves { mut turn, requests, response } = halves;
            turn.come().await;
            let metadata = MetadataMap::from_headers(headers);
            let request = Request::from_parts(metadata, extensions, all_messages(requests, settings));
            let result = handler(request).await;
            Answering(response).send_stream(result, settings).await;
        }))
    }
}

/// Reads the messages of a request as they come.
fn all_messages<M>(requests: RequestHalf, settings: Settings) -> Streaming<M>
where
    M: Message + Default + Send + 'static,
{
    let decoding = Decoding::new(Role::Server, settings.decoding);
    let (body, decoder) = messages(RequestBody(requests), decoding);
    Streaming::new_request(decoder, body, None, settings.decoding)
}

/// Reads the only message of a request. As tonic's server does, it waits for the request's end, and drops
/// further messages.
async fn only_message<M: Message + Default>(
    requests: &mut RequestHalf,
    settings: Settings,
) -> Result<M, Status> {
    let first = match requests.take_all() {
        Some(bytes) if is_whole(&bytes, settings.decoding) => return decode_whole(bytes),
        first => first,
    };
    let mut decoding = Decoding::new(Role::Server, settings.decoding);
    if let Some(first) = first {
        decoding.push(first);
    }
    let mut only = None;
    loop {
        if let Some(message) = decoding.next()? {
            only.get_or_insert(message);
            continue;
        }
        match poll_fn(|cx| requests.poll_data(cx)).await {
            Some(Ok(bytes)) => decoding.push(bytes),
            Some(Err(failure)) => return Err(to_tonic(&failure.into())),
            None if !decoding.is_between_messages() => {
                return Err(Status::internal("Unexpected EOF decoding stream."));
            }
            None => return only.ok_or_else(|| Status::internal("Missing request message.")),
        }
    }
}

/// The answer to a call, on its way.
struct Answering(ResponseHalf);

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

impl Answering {
    /// Answers with one message.
    async fn send_message<M: Message>(self, result: Result<Response<M>, Status>, settings: Settings) {
        let sent = match result {
            Ok(response) => self.try_send_message(response, settings).await,
            Err(status) => self.send_status(None, status).await,
        };
        self.end(sent);
    }

    async fn try_send_message<M: Message>(
        &self,
        response: Response<M>,
        settings: Settings,
    ) -> Result<Code, Cut> {
        let (metadata, message, _) = response.into_parts();
        let headers = metadata.into_headers();
        let encoded = match Encoded::new(&message, settings.encoding) {
            Ok(encoded) => encoded,
            Err(status) => return self.send_status(Some(&headers), status).await,
        };
        drop(message);
        let mut bytes = encoded.view(0);
        if self.send_head(&headers, &mut bytes, Some(Code::OK)).await? {
            return Ok(Code::OK);
        }
        self.send(&mut bytes).await?;
        self.finish(&HeaderMap::new(), Code::OK).await
    }

    /// Answers with a stream.
    async fn send_stream<S, M>(self, result: Result<Response<S>, Status>, settings: Settings)
    where
        S: Stream<Item = Result<M, Status>>,
        M: Message,
    {
        let sent = match result {
            Ok(response) => self.try_send_stream(response, settings).await,
            Err(status) => self.send_status(None, status).await,
        };
        self.end(sent);
    }

    async fn try_send_stream<S, M>(&self, response: Response<S>, settings: Settings) -> Result<Code, Cut>
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
        if self.send_head(&headers, &mut batch.bytes, end).await? {
            return Ok(Code::OK);
        }
        loop {
            self.send(&mut batch.bytes).await?;
            match after {
                After::End => return self.finish(&HeaderMap::new(), Code::OK).await,
                After::Failed(status) => return self.send_status_after_head(status).await,
                After::Pending | After::Full => after = poll_fn(|cx| batch.poll_fill(cx)).await,
            }
        }
    }

    /// Answers with a status and no message, behind this head if there is one.
    async fn send_status(&self, head: Option<&HeaderMap>, status: Status) -> Result<Code, Cut> {
        if let Some(headers) = head {
            self.send_head(headers, &mut &[][..], None).await?;
            return self.send_status_after_head(status).await;
        }
        let (code, headers) = trailers(&status);
        let entries = || trailer_entries(&headers);
        let (sent, code) = poll_fn(|cx| self.0.poll_trailers_only(cx, entries, code)).await;
        check(sent).map(|_| code)
    }

    async fn send_status_after_head(&self, status: Status) -> Result<Code, Cut> {
        let (code, headers) = trailers(&status);
        self.finish(&headers, code).await
    }

    /// Sends the head with as much of the message as fits, and with `end` the end. Returns `true` if the end
    /// went out as well.
    async fn send_head(
        &self,
        headers: &HeaderMap,
        bytes: &mut impl Buf,
        end: Option<Code>,
    ) -> Result<bool, Cut> {
        let send = poll_fn(|cx| self.0.poll_send_head(cx, application_entries(headers), bytes, end));
        let sent = check(send.await?)?;
        Ok(sent == Sent::All && end.is_some())
    }

    /// Sends all of this.
    async fn send(&self, bytes: &mut impl Buf) -> Result<(), Cut> {
        while bytes.has_remaining() {
            check(poll_fn(|cx| self.0.poll_send(cx, bytes)).await)?;
        }
        Ok(())
    }

    /// Ends an answer whose head was sent.
    async fn finish(&self, headers: &HeaderMap, code: Code) -> Result<Code, Cut> {
        let (sent, code) = poll_fn(|cx| self.0.poll_finish(cx, || trailer_entries(headers), code)).await;
        check(sent).map(|_| code)
    }

    /// The answer was sent, or nothing more of it can be.
    fn end(mut self, sent: Result<Code, Cut>) {
        match sent {
            Ok(code) => self.0.end(code),
            Err(Cut::Abandoned) => self.0.abandoned(),
            Err(Cut::TooLarge(error)) => self.0.head_too_large(&error),
        }
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
