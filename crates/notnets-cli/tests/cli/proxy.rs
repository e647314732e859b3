//! `notnets proxy`: what passes through it, from HTTP/2 and shared memory to either.

use std::collections::HashMap;
use std::time::Duration;

use http::Request as HttpRequest;
use http_body::Body as _;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Status};
use tower_service::Service;

use crate::support::probe::pb::probe_client::ProbeClient;
use crate::support::probe::pb::{Chunk, EchoRequest, FailRequest, SplitRequest};
use crate::support::{
    ANY, CALLS_PER_CONNECTION, Probe, Way, World, dropped, handler, http2_server, in_time, key, keyed,
    server_of_ours, started, unbound, unix_server,
};
use notnets::http2::Address;
use notnets::http2::client::{Client, Options};

fn tcp(address: &str) -> Address {
    Address::Tcp(address.parse().expect("HOST:PORT"))
}

fn chunk(size: usize) -> Chunk {
    Chunk { data: vec![9; size] }
}

#[tokio::test]
async fn all_four_kinds_pass_on_every_way() {
    let world = World::new();
    let served = unix_server(&world.path("probe.sock")).await;
    // A chain from TCP over a Unix socket and shared memory to a Unix socket.
    let through_memory = world.proxy("notnets:///probe", &served).await;
    let over_unix = world.proxy(&world.unix("proxy.sock"), &through_memory.address).await;
    let over_tcp = world.proxy(ANY, &over_unix.address).await;
    let ways = world.ways().await;
    let ways = ways.iter().map(|way| &way.proxy).chain([&through_memory, &over_unix, &over_tcp]);
    for proxy in ways {
        all_four_kinds(world.client(&proxy.address).await.max_decoding_message_size(8 << 20)).await;
    }
}

async fn all_four_kinds(mut client: Probe) {
    let payload: Vec<u8> = (0..3_000_000u32).map(|byte| byte as u8).collect();
    let request = EchoRequest { payload: payload.clone(), ..EchoRequest::default() };
    let reply = in_time(client.echo(request)).await.expect("a reply").into_inner();
    assert!(reply.request.expect("an echo").payload == payload);

    let total = in_time(client.collect(tokio_stream::iter(vec![chunk(100_000); 50]))).await.expect("a total");
    assert_eq!((total.get_ref().chunks, total.get_ref().bytes), (50, 5_000_000));

    let request = SplitRequest { count: 50, size: 100_000, ..SplitRequest::default() };
    let chunks = in_time(client.split(request)).await.expect("a stream").into_inner();
    let sizes: Vec<_> = in_time(chunks.map(|chunk| chunk.expect("a chunk").data.len()).collect()).await;
    assert_eq!(sizes, [100_000; 50]);

    let (send, requests) = tokio::sync::mpsc::channel(1);
    let mut replies =
        in_time(client.chat(ReceiverStream::new(requests))).await.expect("a stream").into_inner();
    for size in [0, 1, 70_000] {
        send.send(chunk(size)).await.expect("the call is open");
        let reply = in_time(replies.message()).await.expect("no error").expect("a chunk");
        assert_eq!(reply.data.len(), size);
    }
    drop(send);
    assert!(in_time(replies.message()).await.expect("no error").is_none());
}

#[tokio::test]
async fn metadata_are_what_they_would_be_without_the_proxy() {
    let world = World::new();
    for Way { proxy, server } in world.ways().await {
        let mut direct = echoed_metadata(world.client(&server).await).await;
        let mut seen = echoed_metadata(world.client(&proxy.address).await).await;
        assert_eq!(seen["tenant"], "a, b");
        // The client's own, not the proxy's.
        let agent = if proxy.address.starts_with("notnets:") { "notnets/" } else { "tonic/" };
        let seen_agent = seen.remove("user-agent").expect("a client says what it is");
        assert!(seen_agent.starts_with(agent), "{seen_agent}");
        // Shared memory carries a point in time, HTTP/2 how long it is until then.
        let left = microseconds(&seen.remove("grpc-timeout").expect("a deadline"));
        assert!((70_000_000..=77_000_000).contains(&left), "{left} µs of 77 s");
        direct.retain(|key, _| key != "user-agent" && key != "grpc-timeout");
        assert_eq!(seen, direct, "{} to {server}", proxy.address);
    }
}

/// Calls with metadata of all sorts, looks at those of the response, and gives those of the request as
/// its handler saw them.
async fn echoed_metadata(mut client: Probe) -> HashMap<String, String> {
    let mut request = Request::new(EchoRequest::default());
    let metadata = request.metadata_mut();
    metadata.append("tenant", "a".parse().expect("ASCII"));
    metadata.append("tenant", "b".parse().expect("ASCII"));
    metadata.insert_bin("id-bin", MetadataValue::from_bytes(&[0, 255]));
    metadata.insert("x-grpc-test-echo-initial", "first".parse().expect("ASCII"));
    metadata.insert_bin("x-grpc-test-echo-trailing-bin", MetadataValue::from_bytes(&[1, 2]));
    request.set_timeout(Duration::from_secs(77));
    let response = in_time(client.echo(request)).await.expect("a reply");
    let (head, reply, _) = response.into_parts();
    assert_eq!(head.get("x-grpc-test-echo-initial").expect("an echo"), "first");
    let trailing = head.get_bin("x-grpc-test-echo-trailing-bin").expect("tonic adds trailers to the head");
    assert_eq!(&trailing.to_bytes().expect("base64")[..], [1, 2]);
    reply.metadata
}

/// A `grpc-timeout`.
fn microseconds(timeout: &str) -> u64 {
    let (number, unit) = timeout.split_at(timeout.len() - 1);
    let scale = match unit {
        "u" => 1,
        "m" => 1000,
        "S" => 1_000_000,
        unit => panic!("{unit} is not what anyone would send here"),
    };
    number.parse::<u64>().expect("a number") * scale
}

#[tokio::test]
async fn a_status_passes_with_message_and_details() {
    let world = World::new();
    for Way { proxy, .. } in world.ways().await {
        statuses(world.client(&proxy.address).await).await;
    }
}

async fn statuses(mut client: Probe) {
    let fail = FailRequest { code: 9, message: "käse %\n".to_owned(), details: vec![0, 1, 255] };
    let alone = in_time(client.fail(fail.clone())).await.expect_err("a status");
    let request = SplitRequest { count: 1, fail: Some(fail), ..SplitRequest::default() };
    let mut chunks = in_time(client.split(request)).await.expect("a stream").into_inner();
    assert!(in_time(chunks.message()).await.expect("no error").is_some());
    let after_a_chunk = in_time(chunks.message()).await.expect_err("a status");
    for status in [alone, after_a_chunk] {
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(status.message(), "käse %\n");
        assert_eq!(status.details(), [0, 1, 255]);
    }
}

#[tokio::test]
async fn a_trailers_only_reply_is_one_block_that_ends_the_stream() {
    let world = World::new();
    // The server's own trailers-only reply, and the proxy's for a server that is not there.
    for (to, code) in [
        (http2_server().await, Code::Unimplemented),
        (world.server().await, Code::Unimplemented),
        (unbound().await, Code::Unavailable),
        ("notnets:///nobody".to_owned(), Code::Unavailable),
    ] {
        let proxy = world.proxy(ANY, &to).await;
        let mut client = Client::new(tcp(&proxy.address), Options::default());
        let request =
            HttpRequest::post("/shop.Cart/Add").body(tonic::body::Body::empty()).expect("a request");
        let response = in_time(client.call(request)).await.expect("a response");
        assert!(response.body().is_end_stream());
        assert_eq!(response.headers()["grpc-status"], (code as i32).to_string());
    }
}

#[tokio::test]
async fn cancelling_reaches_the_handler() {
    let world = World::new();
    for Way { proxy, server } in world.ways().await {
        let direct = world.client(&server).await;
        cancel_all_kinds(world.client(&proxy.address).await, direct).await;
    }
}

async fn cancel_all_kinds(mut client: Probe, mut direct: Probe) {
    let unary = key("unary");
    let mut canceller = client.clone();
    let request = handler(&unary);
    let call = tokio::spawn(async move { canceller.wait(request).await });
    started(&mut direct, &unary).await;
    call.abort();
    dropped(&mut direct, &unary).await;

    let replies = key("replies");
    let mut stream = in_time(client.wait_stream(handler(&replies))).await.expect("a stream").into_inner();
    assert!(in_time(stream.message()).await.expect("no error").is_some());
    drop(stream);
    dropped(&mut direct, &replies).await;

    let both = key("both");
    let (send, requests) = tokio::sync::mpsc::channel::<Chunk>(1);
    let stream = in_time(client.chat(keyed(&both, ReceiverStream::new(requests)))).await.expect("a stream");
    started(&mut direct, &both).await;
    drop((send, stream));
    dropped(&mut direct, &both).await;

    in_time(client.echo(EchoRequest::default())).await.expect("the connection lives on");
}

/// The requests' sender lives on: it is the dropped response that counts. (tonic's own transport resets
/// such a call only when the sender goes too.)
#[tokio::test]
async fn a_dropped_response_is_enough_to_cancel() {
    let world = World::new();
    for Way { proxy, server } in world.ways().await {
        let mut direct = world.client(&server).await;
        let key = key("both");
        let (_send, requests) = tokio::sync::mpsc::channel::<Chunk>(1);
        let request = keyed(&key, ReceiverStream::new(requests));
        if proxy.address.starts_with("notnets:") {
            let mut client = world.client(&proxy.address).await;
            drop(in_time(client.chat(request)).await.expect("a stream"));
        } else {
            let mut client = ProbeClient::new(Client::new(tcp(&proxy.address), Options::default()));
            drop(in_time(client.chat(request)).await.expect("a stream"));
        }
        dropped(&mut direct, &key).await;
    }
}

#[tokio::test]
async fn a_deadline_passes_on_both_sides() {
    let world = World::new();
    for Way { proxy, server } in world.ways().await {
        let mut direct = world.client(&server).await;
        let mut client = world.client(&proxy.address).await;
        let (unary, stream) = (key("unary"), key("stream"));
        let within = |key: &str| {
            let mut request = Request::new(handler(key));
            request.set_timeout(Duration::from_millis(700));
            request
        };
        let ours = proxy.address.starts_with("notnets:");
        // tonic's own client calls a deadline CANCELLED.
        let is_late = |status: Status| match status.code() {
            Code::DeadlineExceeded => {}
            Code::Cancelled if !ours => {}
            _ => panic!("{status}"),
        };
        is_late(in_time(client.wait(within(&unary))).await.expect_err("no answer"));
        dropped(&mut direct, &unary).await;
        let mut chunks = in_time(client.wait_stream(within(&stream))).await.expect("a stream").into_inner();
        assert!(in_time(chunks.message()).await.expect("no error").is_some());
        // tonic's own transport does not hold streams to their deadlines.
        if ours || server.starts_with("notnets:") {
            is_late(in_time(chunks.message()).await.expect_err("no more"));
            dropped(&mut direct, &stream).await;
        }
    }
}

#[tokio::test]
async fn a_reader_that_stops_stops_its_writer_and_nobody_else() {
    const COUNT: u32 = 1000;
    const SIZE: u32 = 256 << 10;
    let world = World::new();
    for Way { proxy, server } in world.ways().await {
        let mut direct = world.client(&server).await;
        let mut client = world.client(&proxy.address).await;
        let key = key("flood");

        let request = SplitRequest { count: COUNT, size: SIZE, key: key.clone(), ..SplitRequest::default() };
        let mut flood = in_time(client.split(request)).await.expect("a stream").into_inner();
        assert!(in_time(flood.message()).await.expect("no error").is_some());
        for _ in 0..100 {
            in_time(client.echo(EchoRequest::default())).await.expect("other calls go on");
        }
        let sent = in_time(direct.progress(handler(&key))).await.expect("a total").into_inner().chunks;
        assert!(sent < u64::from(COUNT) / 4, "{sent} of {COUNT} chunks were sent and not read");
        let rest = in_time(flood.filter_map(Result::ok).fold(0, |count, _| count + 1)).await;
        assert_eq!(rest, COUNT - 1);
    }
}

#[tokio::test]
async fn a_handler_that_does_not_read_stops_only_its_own_caller() {
    let world = World::new();
    // tonic's server would stop all calls of the proxy's connection itself: its
    // window for a connection is no larger than that for a call.
    let http2 = world.proxy(ANY, &server_of_ours().await).await;
    let notnets = world.proxy(ANY, &world.server().await).await;
    for proxy in [http2, notnets] {
        let mut client = ProbeClient::new(Client::new(tcp(&proxy.address), Options::default()));
        let mut open = Vec::new();
        // Together they have far more to send than any default window.
        for _ in 0..8 {
            let endless = tokio_stream::iter(std::iter::repeat_with(|| chunk(256 << 10)));
            let mut replies = in_time(client.ignore(endless)).await.expect("a stream").into_inner();
            assert!(in_time(replies.message()).await.expect("no error").is_some());
            open.push(replies);
        }
        let request = EchoRequest { payload: vec![1; 1 << 20], ..EchoRequest::default() };
        in_time(client.echo(request)).await.expect("other calls go on");
        drop(open);
    }
}

#[tokio::test]
async fn more_calls_are_open_than_one_connection_to_the_server_allows() {
    const CALLS: u32 = 4 * CALLS_PER_CONNECTION + 50;
    let world = World::new();
    for Way { proxy, server } in world.ways().await {
        let mut direct = world.client(&server).await;
        let client = world.client(&proxy.address).await;
        let mut calls = tokio::task::JoinSet::new();
        let keys: Vec<_> = (0..CALLS).map(|_| key("many")).collect();
        for key in &keys {
            let (mut client, request) = (client.clone(), handler(key));
            calls.spawn(async move { client.wait(request).await });
        }
        for key in &keys {
            started(&mut direct, key).await;
        }
        calls.shutdown().await;
        for key in &keys {
            dropped(&mut direct, key).await;
        }
    }
}
