//! `notnets proxy`: what passes through it.

use http::Request as HttpRequest;
use http_body::Body as _;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request};
use tower_service::Service;

use crate::http2::Address;
use crate::http2::client::Client;
use crate::support::probe::pb::probe_client::ProbeClient;
use crate::support::probe::pb::{Chunk, EchoRequest, FailRequest, SplitRequest};
use crate::support::{
    CALLS_PER_CONNECTION, Proxy, client, dropped, handler, in_time, key, keyed, server, server_of_ours,
    started, unix_server,
};

const ANY: &str = "127.0.0.1:0";

fn tcp(address: &str) -> Address {
    Address::Tcp(address.parse().expect("HOST:PORT"))
}

fn chunk(size: usize) -> Chunk {
    Chunk { data: vec![9; size] }
}

#[tokio::test]
async fn all_four_kinds_pass_over_tcp_and_unix_sockets() {
    let directory = tempfile::tempdir().expect("a directory");
    let served = unix_server(&directory.path().join("probe.sock")).await;
    let socket = format!("unix:{}", directory.path().join("proxy.sock").display());
    let over_unix = Proxy::start(&socket, &served).await;
    let over_tcp = Proxy::start(ANY, &over_unix.address).await;
    for proxy in [&over_unix, &over_tcp] {
        let mut client = client(&proxy.address).await.max_decoding_message_size(8 << 20);
        let payload: Vec<u8> = (0..3_000_000u32).map(|byte| byte as u8).collect();
        let request = EchoRequest { payload: payload.clone(), ..EchoRequest::default() };
        let reply = in_time(client.echo(request)).await.expect("a reply").into_inner();
        assert!(reply.request.expect("an echo").payload == payload);

        let total =
            in_time(client.collect(tokio_stream::iter(vec![chunk(100_000); 50]))).await.expect("a total");
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
}

#[tokio::test]
async fn metadata_is_what_it_would_be_without_the_proxy() {
    let server = server().await;
    let proxy = Proxy::start(ANY, &server).await;
    let mut seen = Vec::new();
    for address in [&server, &proxy.address] {
        let mut request = Request::new(EchoRequest::default());
        let metadata = request.metadata_mut();
        metadata.append("tenant", "a".parse().expect("ASCII"));
        metadata.append("tenant", "b".parse().expect("ASCII"));
        metadata.insert_bin("id-bin", MetadataValue::from_bytes(&[0, 255]));
        metadata.insert("x-grpc-test-echo-initial", "first".parse().expect("ASCII"));
        metadata.insert_bin("x-grpc-test-echo-trailing-bin", MetadataValue::from_bytes(&[1, 2]));
        request.set_timeout(std::time::Duration::from_secs(77));
        let response = in_time(client(address).await.echo(request)).await.expect("a reply");
        let (head, reply, _) = response.into_parts();
        assert_eq!(head.get("x-grpc-test-echo-initial").expect("an echo"), "first");
        let trailing =
            head.get_bin("x-grpc-test-echo-trailing-bin").expect("tonic adds trailers to the head");
        assert_eq!(&trailing.to_bytes().expect("base64")[..], [1, 2]);
        seen.push(reply.metadata);
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[1]["tenant"], "a, b");
    assert_eq!(seen[1]["grpc-timeout"], "77000000u");
    assert!(seen[1]["user-agent"].starts_with("tonic/"));
}

#[tokio::test]
async fn a_status_passes_with_message_and_details() {
    let proxy = Proxy::start(ANY, &server().await).await;
    let mut client = client(&proxy.address).await;
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
    let unbound = {
        let listener = tokio::net::TcpListener::bind(ANY).await.expect("a free port");
        listener.local_addr().expect("an address").to_string()
    };
    // The server's own trailers-only reply, and the proxy's for a server that is not there.
    for (to, code) in [(server().await, Code::Unimplemented), (unbound, Code::Unavailable)] {
        let proxy = Proxy::start(ANY, &to).await;
        let mut client = Client::new(tcp(&proxy.address));
        let request =
            HttpRequest::post("/shop.Cart/Add").body(tonic::body::Body::empty()).expect("a request");
        let response = in_time(client.call(request)).await.expect("a response");
        assert!(response.body().is_end_stream());
        assert_eq!(response.headers()["grpc-status"], (code as i32).to_string());
    }
}

#[tokio::test]
async fn cancelling_reaches_the_handler() {
    let server = server().await;
    let proxy = Proxy::start(ANY, &server).await;
    let mut direct = client(&server).await;
    let mut client = client(&proxy.address).await;

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

    // The requests' sender lives on: it is the dropped response that counts.
    // (tonic's own transport resets such a call only when the sender goes too.)
    let both = key("both");
    let (_send, requests) = tokio::sync::mpsc::channel::<Chunk>(1);
    let mut resetting = ProbeClient::new(Client::new(tcp(&proxy.address)));
    let stream =
        in_time(resetting.chat(keyed(&both, ReceiverStream::new(requests)))).await.expect("a stream");
    started(&mut direct, &both).await;
    drop(stream);
    dropped(&mut direct, &both).await;

    in_time(client.echo(EchoRequest::default())).await.expect("the connection lives on");
}

#[tokio::test]
async fn a_reader_that_stops_stops_its_writer_and_nobody_else() {
    const COUNT: u32 = 1000;
    const SIZE: u32 = 256 << 10;
    let server = server().await;
    let proxy = Proxy::start(ANY, &server).await;
    let mut direct = client(&server).await;
    let mut client = client(&proxy.address).await;
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

#[tokio::test]
async fn a_handler_that_does_not_read_stops_only_its_own_caller() {
    // tonic's server would stop all calls of the proxy's connection itself: its
    // window for a connection is no larger than that for a call.
    let server = server_of_ours().await;
    let proxy = Proxy::start(ANY, &server).await;
    let mut client = ProbeClient::new(Client::new(tcp(&proxy.address)));
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

#[tokio::test]
async fn more_calls_are_open_than_one_connection_to_the_server_allows() {
    const CALLS: u32 = 4 * CALLS_PER_CONNECTION + 50;
    let server = server().await;
    let proxy = Proxy::start(ANY, &server).await;
    let mut direct = client(&server).await;
    let client = client(&proxy.address).await;
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
