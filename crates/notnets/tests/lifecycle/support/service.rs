//! The service that helpers serve: calls of all kinds over plain bytes, that say how their handlers
//! fare.

use std::convert::Infallible;
use std::future::pending;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};

use bytes::Bytes;
use notnets::rpc::{self, Handler, ServerCall};
use notnets::{Channel, PeerInfo, SharedBytes};
use tokio_stream::{Stream, StreamExt};
use tonic::body::Body;
use tonic::server::{Grpc, NamedService};
use tonic::{Request, Response, Status, Streaming};

use super::helper::say;
use super::raw::Raw;

/// The service. Paths are `/lives.Probe/METHOD`.
#[derive(Clone, Debug, Default)]
pub struct Probe {
    /// Largest message that it receives, if not the default.
    pub max_message: Option<usize>,
}

impl NamedService for Probe {
    const NAME: &'static str = "lives.Probe";
}

type Replies = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

impl tower::Service<http::Request<Body>> for Probe {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        // To the transport all kinds of calls are streams both ways.
        let mut grpc = Grpc::new(Raw).apply_max_message_size_config(self.max_message, None);
        let handler = tower::service_fn(move |request| handle(method.clone(), request));
        Box::pin(async move { Ok(grpc.streaming(handler, request).await) })
    }
}

async fn handle(method: String, request: Request<Streaming<Bytes>>) -> Result<Response<Replies>, Status> {
    let (metadata, extensions, mut requests) = request.into_parts();
    match method.as_str() {
        "echo" => Ok(one(requests.message().await?.unwrap_or_default())),
        "pid" => Ok(one(std::process::id().to_string())),
        // As many bytes as the request asks for.
        "bytes" => Ok(one("b".repeat(number(requests.message().await?)))),
        // The same in a pattern, and whether what was sent is in it.
        "pattern" => Ok(one(payload(number(requests.message().await?)))),
        "check" => {
            let message = requests.message().await?.unwrap_or_default();
            Ok(one((message == payload(message.len())).to_string()))
        }
        "length" => Ok(one(requests.message().await?.map_or(0, |message| message.len()).to_string())),
        "who" => {
            let peer = extensions.get::<PeerInfo>().copied();
            let agent = metadata.get("user-agent").and_then(|agent| agent.to_str().ok());
            let agent = agent.unwrap_or_default();
            Ok(one(match peer {
                Some(PeerInfo { pid, host: Some(host), .. }) => format!("{pid:?} on host {host} {agent}"),
                Some(PeerInfo { pid, uid, gid, .. }) => format!("{pid:?} {uid} {gid} {agent}"),
                None => "a stranger".into(),
            }))
        }
        // Answers with metadata of as many bytes as asked for.
        "metadata" => {
            let value = "m".repeat(number(requests.message().await?));
            let mut response = one("");
            response.metadata_mut().insert("x-large", value.parse().expect("is a header's value"));
            Ok(response)
        }
        "timeout" => Ok(one(metadata
            .get("grpc-timeout")
            .map_or("none", |text| text.to_str().unwrap_or("?"))
            .to_owned())),
        // Never answers.
        "hang" => {
            let _gone = Gone::after("hang");
            pending().await
        }
        // Answers when the client has sent everything.
        "count" => {
            let _gone = Gone::after("count");
            let (mut messages, mut bytes) = (0, 0);
            while let Some(message) = requests.message().await? {
                messages += 1;
                bytes += message.len();
                if messages == 1 {
                    say("count: one message");
                }
            }
            Ok(one(format!("{messages} messages of {bytes} bytes")))
        }
        // Messages of the size that is asked for, for ever.
        "produce" => {
            let message = payload(number(requests.message().await?));
            let gone = Gone::after("produce");
            let messages = tokio_stream::iter(std::iter::repeat(message));
            Ok(Response::new(Box::pin(messages.map(move |message| {
                let _ = &gone;
                Ok(message)
            }))))
        }
        "duplex" => Ok(Response::new(Box::pin(requests))),
        method => Err(Status::unimplemented(method.to_owned())),
    }
}

/// A service of payloads that are shared, in calls in gRPC's own terms. Paths are `/lives.Sharer/METHOD`.
pub struct Sharer {
    /// Where it fetches what it keeps.
    source: Option<Channel>,
    kept: Mutex<Bytes>,
}

impl Handler for Sharer {
    async fn call(&self, call: &mut ServerCall) -> Result<(), rpc::Status> {
        let message = call.requests.only_message().await?;
        let reply = match call.method.name() {
            "Echo" => return call.responses.send_last(message).await,
            "Own" => own(number(Some(message.into_bytes()))),
            // From now on it has this, and nothing else.
            "Make" => self.keep(own(number(Some(message.into_bytes())))),
            "Keep" => self.keep(message.into_bytes()),
            "Fetch" => {
                let source = self.source.as_ref().expect("it has a source");
                let request = rpc::Request::new(rpc::Method::from_static("/lives.Sharer/Kept"));
                self.keep(source.unary_call(request, Bytes::new()).await?.message.into_bytes())
            }
            _ => self.kept.lock().unwrap().clone(),
        };
        call.responses.send_last(reply).await
    }
}

impl Sharer {
    pub fn new(source: Option<Channel>) -> Self {
        Self { source, kept: Mutex::default() }
    }

    /// Returns whether the bytes are shared, and right.
    fn keep(&self, bytes: Bytes) -> Bytes {
        let is_right = bytes.is_empty() || bytes == payload(bytes.len());
        let is_shared = SharedBytes::holds(&bytes);
        *self.kept.lock().unwrap() = bytes;
        Bytes::from_static(match (is_right, is_shared) {
            (false, _) => b"wrong",
            (true, false) => b"copied",
            (true, true) => b"shared",
        })
    }
}

fn own(length: usize) -> Bytes {
    SharedBytes::copy_from(&payload(length)).expect("there is room").into()
}

fn one(message: impl Into<Bytes>) -> Response<Replies> {
    Response::new(Box::pin(tokio_stream::once(Ok(message.into()))))
}

fn number(message: Option<Bytes>) -> usize {
    let message = message.unwrap_or_default();
    std::str::from_utf8(&message).ok().and_then(|text| text.parse().ok()).expect("a number is asked for")
}

/// Bytes of which no two neighbouring pages are alike.
pub fn payload(bytes: usize) -> Bytes {
    const PERIOD: usize = 4093;
    let pattern: Vec<u8> = (0..PERIOD).map(|i| (i * 7 % 251) as u8).collect();
    let mut payload = Vec::with_capacity(bytes);
    while payload.len() < bytes {
        let n = PERIOD.min(bytes - payload.len());
        payload.extend_from_slice(&pattern[..n]);
    }
    payload.into()
}

/// Says when a handler begins, and when it is dropped.
struct Gone(&'static str);

impl Gone {
    fn after(method: &'static str) -> Self {
        say(format_args!("{method} began"));
        Self(method)
    }
}

impl Drop for Gone {
    fn drop(&mut self) {
        say(format_args!("{} is gone", self.0));
    }
}
