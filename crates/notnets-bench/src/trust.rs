//! The processes of a benchmark are this program, so that they may trust each other's memory.

use notnets::TrustPeerMemory;

/// The token that lets servers read payloads where their clients have put them.
#[expect(unsafe_code, reason = "the token has no other constructor, so that it can't be made unnoticed")]
pub fn trust_peer_memory() -> TrustPeerMemory {
    // SAFETY: servers and clients of a benchmark are this program, which writes to no block that it has lent,
    // and none of them forks.
    unsafe { TrustPeerMemory::new() }
}
