//! Those who mean well: a service, and calls of it.

use std::convert::Infallible;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use notnets::rpc::{Handler, Method, Request, ServerCall, Status};
use notnets::{Bound, Channel, Endpoint, Server};
use tonic::body::Body;

use crate::latencies::Latencies;

/// Bytes of messages of which the rest has not come that a link of a victim may have: less than by default,
/// so that all of it can be sent in a test.
pub const UNFINISHED: u64 = 64 << 20;

/// The service's method.
pub const ECHO: Method = Method::from_static(crate::attacks::ECHO);
/// How long a call may take: longer means that it hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

struct Echo;

impl Handler for Echo {
    async fn call(&self, call: &mut ServerCall) -> Result<(), Status> {
        let message = call.requests.only_message().await?;
        call.responses.send_last(message.into_bytes()).await
    }
}

/// Takes nothing of what it is sent, and does not answer.
struct Idle;

impl Handler for Idle {
    async fn call(&self, _: &mut ServerCall) -> Result<(), Status> {
        std::future::pending().await
    }
}

/// Sends for as long as there is room.
struct Torrent;

impl Handler for Torrent {
    async fn call(&self, call: &mut ServerCall) -> Result<(), Status> {
        loop {
            call.responses.send(vec![7; 64 << 10]).await?;
        }
    }
}

/// Keeps a request until all of it is there, as a decoder of messages does.
async fn collect(request: http::Request<Body>) -> Result<http::Response<Body>, Infallible> {
    let _ = request.into_body().collect().await;
    Ok(http::Response::new(Body::empty()))
}

/// Takes a name.
///
/// # Errors
/// When it can't be had.
pub async fn bind(directory: &Path, name: &str) -> Result<Bound, notnets::Error> {
    let server = Server::builder()
        .directory(directory)
        .max_unfinished_bytes(UNFINISHED)
        .add_rpc_service("hostile.Test", Echo)
        .add_rpc_service("hostile.Idle", Idle)
        .add_rpc_service("hostile.Torrent", Torrent)
        .fallback_service(tower::service_fn(collect));
    server.bind(format!("notnets:///{name}").as_str()).await
}

/// An endpoint of a name in the directory.
///
/// # Errors
/// When it is none.
pub fn endpoint(directory: &Path, name: &str) -> Result<Endpoint, notnets::Error> {
    let endpoint = Endpoint::new(format!("notnets:///{name}").as_str())?.directory(directory);
    Ok(endpoint.max_unfinished_bytes(UNFINISHED))
}

/// Calls one after the other until it is told to stop, and checks each answer.
pub async fn calls(channel: Channel, stop: &AtomicBool) -> Latencies {
    let mut latencies = Latencies::default();
    let mut number = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let message = number.to_le_bytes().repeat(8);
        let begin = Instant::now();
        let call = channel.unary_call(Request::new(ECHO), message.clone());
        match tokio::time::timeout(PATIENCE, call).await {
            Ok(Ok(reply)) => {
                latencies.add(begin.elapsed());
                if reply.message.into_bytes()[..] != message[..] {
                    latencies.fail(format!("call {number} got another's answer"));
                }
            }
            Ok(Err(status)) => latencies.fail(format!("call {number} failed: {status}")),
            Err(_) => latencies.fail(format!("call {number} was not answered within {PATIENCE:?}")),
        }
        // Others' turn, as in a real process.
        tokio::task::yield_now().await;
    }
    latencies
}
