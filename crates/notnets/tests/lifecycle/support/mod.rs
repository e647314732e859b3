//! What the tests share: the other process, its roles, the service that it serves, and clients of it.

pub mod client;
pub mod held;
pub mod helper;
#[path = "../../common/outside.rs"]
pub mod outside;
#[cfg(feature = "pod")]
pub mod pod;
#[path = "../../common/raw.rs"]
pub mod raw;
pub mod roles;
pub mod service;

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use notnets::TrustPeerMemory;
use notnets_core::link::inspect::look;
use notnets_core::link::rendezvous::Directory;
use notnets_core::stats::Snapshot;
use tonic::Status;

/// The name that helpers serve unless told otherwise.
pub const NAME: &str = "notnets:///lives";

/// No step of a test takes longer.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Awaits something that can't take long.
pub async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, work).await.expect("this should not take so long")
}

/// The counters of the server of [`NAME`].
pub fn counters(directory: &Path) -> Snapshot {
    let served = look(&Directory::at(directory), LIMIT).expect("the directory is readable");
    let served = served.into_iter().find(|served| served.name.as_str() == "lives");
    served.expect("the name is served").counters.expect("the server answers")
}

/// All peers are helpers of this test.
#[expect(unsafe_code, reason = "the token has no other constructor")]
pub fn trust() -> TrustPeerMemory {
    // SAFETY: none writes to what it has lent or shared, and none that forks has any.
    unsafe { TrustPeerMemory::new() }
}

/// Waits until something is so.
pub fn eventually(what: &str, so: impl FnMut() -> bool) {
    assert!(comes(so), "{what}: not within {LIMIT:?}");
}

/// Waits until it is so. `false` if that is not within the limit.
pub fn comes(mut so: impl FnMut() -> bool) -> bool {
    let begin = std::time::Instant::now();
    while !so() {
        if begin.elapsed() > LIMIT {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

/// Says the status that it is safe to make the call again?
pub fn is_retry_safe(status: &Status) -> bool {
    std::error::Error::source(status).is_some_and(|source| source.is::<notnets::RetrySafe>())
}
