//! How clients get to a store, and what both sides agree on.

use std::io::Write;
use std::time::{Duration, Instant};

use bytes::Bytes;
use notnets::{Endpoint, ErrorKind, TrustPeerMemory};
use notnets_examples::Result;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::{Body as HttpBody, StdError};

/// Bytes of a message: those of a whole prompt.
pub const MAX_MESSAGE: usize = 256 << 20;
/// The least that is sent by reference.
pub const PAGE: usize = 16 << 10;
/// HTTP/2's own defaults (64 KiB, 16 KiB) make blocks wait for their reader many times over. These are what
/// NotNets' benchmarks found best.
pub const WINDOW: u32 = 4 << 20;
pub const FRAME: u32 = 256 << 10;

/// How long a name may take to spread in a pod.
const PATIENCE: Duration = Duration::from_secs(30);

/// What generated clients can be made with.
pub trait Channel:
    GrpcService<
        Body,
        Error: Into<StdError>,
        ResponseBody: HttpBody<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static,
    >
{
}

impl Channel for notnets::Channel {}
impl Channel for tonic::transport::Channel {}

/// A store and its clients read blocks where they lie in the region.
#[expect(unsafe_code, reason = "the token has no other constructor, so that it can't be made unnoticed")]
pub fn trust() -> TrustPeerMemory {
    // SAFETY: all processes of the pod are this program, which changes nothing that it has shared, and none
    // of them forks.
    unsafe { TrustPeerMemory::new() }
}

/// Connects to a store in a pod.
pub async fn in_pod(address: &str) -> Result<notnets::Channel> {
    let endpoint = Endpoint::from_shared(address)?.trust_peer_memory(trust());
    let until = Instant::now() + PATIENCE;
    loop {
        match endpoint.connect().await {
            Err(error) if error.kind() == ErrorKind::NotFound && Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            connected => return Ok(connected?),
        }
    }
}

/// Connects to a store by TCP.
pub async fn over_tcp(address: &str) -> Result<tonic::transport::Channel> {
    let endpoint = tonic::transport::Endpoint::from_shared(address.to_owned())?
        .tcp_nodelay(true)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(2 * WINDOW)
        .max_frame_size(FRAME);
    Ok(endpoint.connect().await?)
}

/// Prints a line at once.
pub fn say(line: &str) -> Result {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
