//! What the tests of agents share: a small pod.

use notnets_memory::Coherence;
use notnets_memory::region::superblock::{Superblock, Uuid};

/// A lease, in milliseconds.
pub const LEASE: u64 = 300;

/// Two hosts without coherence, with a few processes each.
pub fn superblock() -> Superblock {
    Superblock {
        coherence: Coherence::Software,
        uuid: Uuid(*b"sixteen byte id."),
        unit: 4096,
        partition_bytes: 48 << 10,
        extent_bytes: 4096,
        hosts: 2,
        processes: 4,
        services: 4,
        mailbox_slots: 64,
        heartbeat_ms: 10,
        lease_ms: LEASE as u32,
        pod: "pod0".into(),
    }
}
