//! Instructions of the hot paths, counted by Callgrind, with the limits that they are held to.
//!
//! Needs valgrind, and `cargo install gungraun-runner` in the version of the library:
//! `cargo bench -p notnets-costs`. A limit is some 5 % above what was counted when it was recorded; a
//! change that stays far below it lowers it.

#![allow(missing_docs, reason = "the macros make what they are given public")]

use std::hint::black_box;

use gungraun::{
    Callgrind, EventKind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main,
};
use notnets_core::call::Opened;
use notnets_core::code::Code;
use notnets_core::pair::Pair;
use notnets_costs::pb::echo_server::EchoServer;
use notnets_costs::{Bed, Same};

/// Calls of one count.
const CALLS: usize = 100;

fn limit(instructions_of_a_call: u64) -> LibraryBenchmarkConfig {
    let mut config = LibraryBenchmarkConfig::default();
    let most = instructions_of_a_call * CALLS as u64;
    let mut callgrind = Callgrind::with_args(["--cache-sim=no"]);
    callgrind.hard_limits([(EventKind::Ir, most)]);
    config.tool(callgrind);
    config
}

fn over_a_link() -> Bed<notnets::Channel> {
    notnets_costs::over_a_link(64)
}

fn over_nothing() -> Bed<EchoServer<Same>> {
    notnets_costs::over_nothing(64)
}

// tonic's stubs on both sides, and a link between them.
#[library_benchmark(config = limit(20_000), setup = over_a_link)]
fn unary_over_a_link(bed: Bed<notnets::Channel>) -> Bed<notnets::Channel> {
    bed.calls(CALLS);
    bed
}

// The same without a link: what tonic's own code takes of it.
#[library_benchmark(setup = over_nothing)]
fn unary_over_nothing(bed: Bed<EchoServer<Same>>) -> Bed<EchoServer<Same>> {
    bed.calls(CALLS);
    bed
}

fn pair() -> Pair {
    let mut pair = Pair::default();
    echo(&mut pair, CALLS);
    pair
}

// Two call layers over memory, and nothing else.
#[library_benchmark(config = limit(3_000), setup = pair)]
fn unary_of_the_call_layer(mut pair: Pair) -> Pair {
    echo(&mut pair, CALLS);
    pair
}

fn echo(pair: &mut Pair, calls: usize) {
    let payload = [7; 64];
    for _ in 0..calls {
        let opened = pair.client.open("/costs.Echo/Call", [], None, &mut &payload[..], true, &mut Some(()));
        let Ok(Opened::Stream(stream, _)) = opened else { panic!("{opened:?}") };
        pair.server.receive(1);
        let request = pair.server.accept().expect("a request");
        let at_hand = pair.server.take_at_hand(request.stream);
        let mut data = at_hand.data.expect("its message");
        let _sent = pair.server.respond(request.stream, [], &mut data, Some(Code::OK)).expect("a small head");
        pair.client.receive(1);
        let head = pair.client.response(stream).expect("a response");
        black_box((head, pair.client.take_at_hand(stream)));
        pair.client.close(stream);
        while pair.client.poll_event().is_some() || pair.server.poll_event().is_some() {}
    }
}

library_benchmark_group!(
    name = calls,
    benchmarks = [unary_over_a_link, unary_over_nothing, unary_of_the_call_layer]
);
main!(library_benchmark_groups = calls);
