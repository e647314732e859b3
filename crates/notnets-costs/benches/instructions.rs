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
use notnets_core::call::{Connection, OpenOutcome, Role};
use notnets_core::clock;
use notnets_core::code::Code;
use notnets_core::limits::ValidLimits;
use notnets_core::link::handshake::{Config, Dialing, answer};
use notnets_core::link::packet::Packet;
use notnets_core::link::socket::Incoming;
use notnets_core::link::{Established, Socket};
use notnets_costs::pb::echo_server::EchoServer;
use notnets_costs::{Bed, RpcBed, Same, StubsBed};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

/// Calls of one count.
const CALLS: usize = 100;

fn limit(calls: usize, instructions_of_a_call: u64) -> LibraryBenchmarkConfig {
    let mut config = LibraryBenchmarkConfig::default();
    let most = instructions_of_a_call * calls as u64;
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
#[library_benchmark(config = limit(CALLS, 44_100), setup = over_a_link)]
fn unary_over_a_link(bed: Bed<notnets::Channel>) -> Bed<notnets::Channel> {
    bed.calls(CALLS);
    bed
}

// The same without a link: what tonic's own code takes of it.
#[library_benchmark(config = limit(CALLS, 19_300), setup = over_nothing)]
fn unary_over_nothing(bed: Bed<EchoServer<Same>>) -> Bed<EchoServer<Same>> {
    bed.calls(CALLS);
    bed
}

fn rpc_over_a_link() -> RpcBed {
    notnets_costs::rpc_over_a_link(64)
}

// In gRPC's own terms, without stubs and HTTP.
#[library_benchmark(config = limit(CALLS, 22_600), setup = rpc_over_a_link)]
fn unary_in_rpc_terms(bed: RpcBed) -> RpcBed {
    bed.calls(CALLS);
    bed
}

fn rpc_by_a_name() -> RpcBed {
    notnets_costs::rpc_by_a_name(64)
}

// The same by a channel that finds its only server by a name: at most 300 more.
#[library_benchmark(config = limit(CALLS, 22_850), setup = rpc_by_a_name)]
fn unary_by_a_name(bed: RpcBed) -> RpcBed {
    bed.calls(CALLS);
    bed
}

fn stubs_over_a_link() -> StubsBed {
    notnets_costs::stubs_over_a_link(64)
}

// Our stubs on both sides.
#[library_benchmark(config = limit(CALLS, 23_100), setup = stubs_over_a_link)]
fn unary_by_our_stubs(bed: StubsBed) -> StubsBed {
    bed.calls(CALLS);
    bed
}

fn stubs_over_an_awake_link() -> StubsBed {
    notnets_costs::stubs_over_an_awake_link(64)
}

// The same with both sides awake: nobody rings or sleeps, and what is polled in vain counts.
#[library_benchmark(config = limit(CALLS, 16_300), setup = stubs_over_an_awake_link)]
fn unary_by_our_stubs_awake(bed: StubsBed) -> StubsBed {
    bed.calls_in_turns(CALLS);
    bed
}

/// Calls of a batch, as many as are often open at once.
const AT_ONCE: usize = 50;
/// So many batches are counted.
const BATCHES: usize = 20;

fn over_a_busy_link() -> Bed<notnets::Channel> {
    let bed = over_a_link();
    bed.calls_at_once(AT_ONCE, 40);
    bed
}

// The same as over a link, but many at once: what waiting costs is shared. Counts of the same code differ by
// 4 % between environments.
#[library_benchmark(config = limit(AT_ONCE * BATCHES, 38_000), setup = over_a_busy_link)]
fn batch_over_a_link(bed: Bed<notnets::Channel>) -> Bed<notnets::Channel> {
    bed.calls_at_once(AT_ONCE, BATCHES);
    bed
}

fn stubs_over_a_busy_link() -> StubsBed {
    let bed = stubs_over_a_link();
    bed.calls_at_once(AT_ONCE, 40);
    bed
}

// The same with our stubs.
#[library_benchmark(config = limit(AT_ONCE * BATCHES, 13_550), setup = stubs_over_a_busy_link)]
fn batch_by_our_stubs(bed: StubsBed) -> StubsBed {
    bed.calls_at_once(AT_ONCE, BATCHES);
    bed
}

/// Two call layers over memory that both have mapped, and nothing else.
struct Layers {
    client: Connection<()>,
    server: Connection<()>,
    /// Keeps both ends open.
    _sockets: (Socket, Socket),
}

fn layers() -> Layers {
    let (client, server) = joined().expect("a link");
    let limits = ValidLimits::default();
    let end =
        |role, end: Established| (Connection::new(role, end.lanes, limits, end.peer_limits), end.socket);
    let ((client, ours), (server, theirs)) = (end(Role::Client, client), end(Role::Server, server));
    let mut layers = Layers { client, server, _sockets: (ours, theirs) };
    layers.calls(CALLS);
    layers
}

/// Both ends of a link.
fn joined() -> Result<(Established, Established), Box<dyn std::error::Error>> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (client, server) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let dialing = Dialing::start(client.into(), Config::default(), "costs", "")?;
    let server = Socket::from(server);
    let Incoming::Packet(Packet::Hello(hello), descriptor) = server.receive()? else {
        return Err("no hello".into());
    };
    let server = answer(server, hello, descriptor, Config::default())?;
    let welcome = dialing.socket().receive()?;
    Ok((dialing.finish(welcome)?, server))
}

// Without runtime, HTTP and protobuf.
#[library_benchmark(config = limit(CALLS, 4_650), setup = layers)]
fn unary_of_the_call_layer(mut layers: Layers) -> Layers {
    layers.calls(CALLS);
    layers
}

impl Layers {
    fn calls(&mut self, n: usize) {
        let Self { client, server, .. } = self;
        let message = [7; 64];
        for _ in 0..n {
            let opened = client.open("/costs.Echo/Call", [], None, &mut &message[..], true, &mut Some(()));
            let Ok(OpenOutcome::Opened(stream, _)) = opened else { panic!("{opened:?}") };
            server.receive(1, clock::now);
            let request = server.accept().expect("a request");
            let mut data = server.take_buffered(request.stream).data.expect("its message");
            let _sent = server.respond(request.stream, [], &mut data, Some(Code::OK)).expect("a small head");
            client.receive(1, clock::now);
            let head = client.response(stream).expect("a response");
            let _response = black_box((head.is_ok(), client.take_buffered(stream)));
            client.close(stream);
            while client.poll_event().is_some() || server.poll_event().is_some() {}
        }
    }
}

library_benchmark_group!(
    name = calls,
    benchmarks = [
        unary_over_a_link,
        unary_in_rpc_terms,
        unary_by_a_name,
        unary_by_our_stubs,
        unary_by_our_stubs_awake,
        batch_over_a_link,
        batch_by_our_stubs,
        unary_over_nothing,
        unary_of_the_call_layer
    ]
);
main!(library_benchmark_groups = calls);
