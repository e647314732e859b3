//! Allocations of a unary call, on both sides together.

use allocation_counter::measure;

/// What a link adds to tonic's own. On the client: the response's head and its trailers (two maps, of two
/// allocations each), its body, and the copy of its message out of the peer's memory. On the server: the
/// request's head (a map), its body, the copy of its message, the peer's identity among its extensions
/// (three), and the future that turns the service's errors into responses.
const BY_THE_LINK: f64 = 14.0;
const CALLS: usize = 1_000;

#[test]
fn of_a_unary_call() {
    let (nothing, link) = (notnets_costs::over_nothing(64), notnets_costs::over_a_link(64));
    let tonic = measure(|| nothing.calls(CALLS)).count_total as f64 / CALLS as f64;
    let notnets = measure(|| link.calls(CALLS)).count_total as f64 / CALLS as f64;
    println!("{tonic} by tonic itself, {notnets} over a link");
    assert!(notnets - tonic <= BY_THE_LINK, "a link adds {} allocations", notnets - tonic);
}

/// By our stubs. On the client: the payload, the copy of the response out of the peer's memory, and the
/// payload decoded from that. On the server likewise two, the futures that serve the call and run its
/// handler, and the request's extensions with the peer's identity (three).
const BY_OUR_STUBS: f64 = 10.0;

#[test]
fn of_a_unary_call_by_our_stubs() {
    let bed = notnets_costs::stubs_over_a_link(64);
    let counted = measure(|| bed.calls(CALLS)).count_total as f64 / CALLS as f64;
    println!("{counted} by our stubs");
    // A table of the link's may grow once in a while.
    assert!(counted <= BY_OUR_STUBS + 0.1, "{counted} allocations");
}

/// Of a call in gRPC's own terms: on both sides the copy of its message out of the peer's memory, and on the
/// server the future that serves it.
const BY_THE_CALL: f64 = 3.0;

#[test]
fn of_a_unary_call_without_stubs() {
    for payload in [16, 64] {
        let bed = notnets_costs::rpc_over_a_link(payload);
        let counted = measure(|| bed.calls(CALLS)).count_total as f64 / CALLS as f64;
        println!("{counted} for {payload} bytes in gRPC's own terms");
        assert!(counted <= BY_THE_CALL, "{counted} allocations");
    }
}
