//! Allocations of large messages by tonic's stubs. Not beside the tests of small calls, whose counts depend
//! on nobody keeping them from their core.

use allocation_counter::measure;

/// Payloads that a message and its echo allocate by tonic's stubs. Two are the link's, which copies each
/// byte out of the peer's memory once in each direction, as `allocations.rs` shows; its other copy is into a
/// block. The others are tonic's own: buffers that grow by doubling, and the field that is a `Vec`. Without a
/// link, where bodies are of another shape, they are eleven.
const BY_TONICS_STUBS: f64 = 9.5;

#[test]
fn of_a_large_message_by_tonics_stubs() {
    const PAYLOAD: usize = 1 << 20;
    const FEW: usize = 20;
    let link = notnets_costs::over_a_link(PAYLOAD);
    let allocated = measure(|| link.calls(FEW)).bytes_total as f64 / (FEW * PAYLOAD) as f64;
    println!("{allocated} payloads for a message and its echo by tonic's stubs");
    assert!(allocated <= BY_TONICS_STUBS, "{allocated} payloads");
}
