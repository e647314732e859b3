//! Calls of the four kinds, made directly on a channel.

use std::future::poll_fn;
use std::task::Poll;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use notnets_core::call::{Buffered, End, ResponseHead, Role};
use notnets_core::code::Code;
use notnets_core::metadata::Metadata;
use prost::Message;
use tonic::body::Body;
use tonic::codegen::tokio_stream::{Stream, StreamExt};
use tonic::metadata::MetadataMap;
use tonic::{Response, Status, Streaming};

use super::batch::Batch;
use super::decoded::{Decoding, decode_whole, is_whole};
use super::encoded::Encoded;
use super::outbound::{Head, StreamRequest};
use super::streaming::messages;
use crate::Channel;
use crate::http::{ResponseBody, response_head, timeout, to_tonic, trailers};
use crate::rpc::{Answered, Deadline, Exchange, Outbound, Rest, WholeRequest};

/// The limits of a client's messages.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits {
    pub(super) decoding: Option<usize>,
    pub(super) encoding: Option<usize>,
}

/// Makes a call with one message that is answered by one.
pub(super) async fn unary<M1, M2>(
    channel: &Channel,
    head: Head,
    message: M1,
    limits: Limits,
) -> Result<Response<M2>, Status>
where
    M1: Message,
    M2: Message + Default + Send + 'static,
{
    let (answered, rest) = send_message(channel, head, message, limits).await?;
    let (call, ResponseHead::Head(metadata), Buffered { data: Some(data), end }) = answered else {
        return only_message(read_answer(answered, rest, limits)?).await;
    };
    match end {
        Some(End::Trailers(Code::OK, trailers)) if rest.is_none() && is_whole(&data, limits.decoding) => {
            if metadata.is_empty() && trailers.is_empty() {
                return decode_whole(data).map(Response::new);
            }
            let mut metadata = own_headers(metadata)?.1;
            metadata.extend(own_headers(trailers)?.1);
            let message = decode_whole(data)?;
            Ok(Response::from_parts(MetadataMap::from_headers(metadata), message, Default::default()))
        }
        end => {
            let answered = (call, ResponseHead::Head(metadata), Buffered { data: Some(data), end });
            only_message(read_answer(answered, rest, limits)?).await
        }
    }
}

/// Makes a call with one message that is answered by a stream of them.
pub(super) async fn server_streaming<M1, M2>(
    channel: &Channel,
    head: Head,
    message: M1,
    limits: Limits,
) -> Result<Response<Streaming<M2>>, Status>
where
    M1: Message,
    M2: Message + Default + Send + 'static,
{
    let (answered, rest) = send_message(channel, head, message, limits).await?;
    read_answer(answered, rest, limits)
}

/// Makes a call with a stream of messages that is answered by one.
pub(super) async fn client_streaming<S, M1, M2>(
    channel: &Channel,
    head: Head,
    stream: S,
    limits: Limits,
) -> Result<Response<M2>, Status>
where
    S: Stream<Item = M1> + Send + 'static,
    M1: Message + 'static,
    M2: Message + Default + Send + 'static,
{
    only_message(streaming(channel, head, stream, limits).await?).await
}

/// Makes a call with a stream of messages that is answered by another one.
pub(super) async fn streaming<S, M1, M2>(
    channel: &Channel,
    head: Head,
    stream: S,
    limits: Limits,
) -> Result<Response<Streaming<M2>>, Status>
where
    S: Stream<Item = M1> + Send + 'static,
    M1: Message + 'static,
    M2: Message + Default + Send + 'static,
{
    let deadline = deadline(&head);
    let outbound = StreamRequest::new(head, Batch::new(stream.map(Ok), limits.encoding));
    let mut exchange = Exchange::new(channel.opening(deadline), outbound);
    let answered = answered(&mut exchange).await?;
    read_answer(answered, None, limits)
}

type Sent = (Answered, Option<Box<Rest<Encoded>>>);

/// Sends a request of one message, and waits until the response begins.
async fn send_message<M: Message>(
    channel: &Channel,
    head: Head,
    message: M,
    limits: Limits,
) -> Result<Sent, Status> {
    let encoded = Encoded::new(&message, limits.encoding)?;
    drop(message);
    let deadline = deadline(&head);
    let mut exchange = Exchange::new(channel.opening(deadline), WholeRequest::new(head, encoded));
    let answered = poll_fn(|cx| exchange.poll_answered(cx)).await.map_err(|status| to_tonic(&status))?;
    Ok((answered, exchange.into_rest()))
}

async fn answered<O: Outbound>(exchange: &mut Exchange<O>) -> Result<Answered, Status> {
    poll_fn(|cx| exchange.poll_head(cx)).await.map_err(|status| to_tonic(&status))
}

#[inline]
fn deadline(head: &Head) -> Option<Deadline> {
    head.headers().and_then(timeout).map(Deadline::after)
}

/// Reads a response's head, and its messages as they come.
fn read_answer<M: Message + Default + Send + 'static>(
    (call, head, buffered): Answered,
    rest: Option<Box<Rest<Encoded>>>,
    limits: Limits,
) -> Result<Response<Streaming<M>>, Status> {
    if let Some(mut rest) = rest {
        let sending = poll_fn(move |cx| if rest.poll(cx) { Poll::Ready(()) } else { Poll::Pending });
        if let Err(error) = call.spawn(sending) {
            tracing::warn!(%error, "a request's message has no runtime to be sent in");
        }
    }
    let (headers, streaming) = match head {
        ResponseHead::Head(metadata) => {
            let (code, headers) = own_headers(metadata)?;
            let decoding = Decoding::new(Role::Client, limits.decoding);
            let (body, decoder) = messages(ResponseBody::of_pieces(call, buffered), decoding);
            (headers, Streaming::new_response(decoder, body, code, None, limits.decoding))
        }
        ResponseHead::TrailersOnly(status, metadata) => {
            let (code, mut headers) = own_headers(metadata)?;
            headers.extend(trailers(Metadata::new(), status));
            let decoding = Decoding::new(Role::Client, limits.decoding);
            let (_, decoder) = messages(Body::empty(), decoding);
            let streaming = match Status::from_header_map(&headers) {
                Some(status) if status.code() != tonic::Code::Ok => return Err(status),
                Some(_) => Streaming::new_empty(decoder, Body::empty()),
                None => Streaming::new_response(decoder, Body::empty(), code, None, None),
            };
            (headers, streaming)
        }
    };
    Ok(Response::from_parts(MetadataMap::from_headers(headers), streaming, Default::default()))
}

/// Reads the only message of a response, and its trailers. As tonic's client does.
async fn only_message<M>(response: Response<Streaming<M>>) -> Result<Response<M>, Status> {
    let (mut metadata, mut body, extensions) = response.into_parts();
    let message = match body.message().await {
        Ok(Some(message)) => message,
        Ok(None) => return Err(Status::internal("Missing response message.")),
        Err(mut status) => {
            merge(status.metadata_mut(), metadata);
            return Err(status);
        }
    };
    if let Some(mut trailers) = body.trailers().await? {
        trailers.remove("grpc-status");
        merge(&mut metadata, trailers);
    }
    Ok(Response::from_parts(metadata, message, extensions))
}

/// Adds entries, which replace those that there are of their keys.
fn merge(into: &mut MetadataMap, other: MetadataMap) {
    let mut headers = std::mem::take(into).into_headers();
    headers.extend(other.into_headers());
    *into = MetadataMap::from_headers(headers);
}

/// Returns the HTTP status and the application's headers of a response's head, or of its end.
fn own_headers(metadata: Metadata) -> Result<(StatusCode, HeaderMap), Status> {
    if metadata.is_empty() {
        return Ok((StatusCode::OK, HeaderMap::new()));
    }
    let (code, mut headers) = response_head(metadata);
    headers.remove(CONTENT_TYPE);
    match headers.get("grpc-encoding").map(|value| String::from_utf8_lossy(value.as_bytes())) {
        Some(encoding) if encoding != "identity" => {
            let text = format!("Content is compressed with `{encoding}` which isn't supported");
            let mut status = Status::unimplemented(text);
            let identity = tonic::metadata::MetadataValue::from_static("identity");
            status.metadata_mut().insert("grpc-accept-encoding", identity);
            Err(status)
        }
        _ => Ok((code, headers)),
    }
}
