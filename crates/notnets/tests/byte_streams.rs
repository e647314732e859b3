//! Streams of bytes, and HTTP/2 over them.

mod common;

use std::io::ErrorKind;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use hyper_util::rt::TokioIo;
use notnets::byte_stream::{ByteStream, ByteStreams, Incoming};
use notnets::rpc::Code;
use notnets::{Channel, Endpoint, Server};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio_stream::StreamExt as _;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

struct Bed {
    directory: TempDir,
    server: JoinHandle<Result<(), notnets::Error>>,
}

impl Bed {
    async fn new() -> (Self, Incoming, Channel) {
        let directory = tempfile::tempdir().unwrap();
        let (streams, incoming) = ByteStreams::new();
        let server = Server::builder().directory(directory.path()).add_byte_streams(streams);
        let server = tokio::spawn(server.bind("notnets:///bytes").await.unwrap().serve());
        let bed = Self { directory, server };
        let channel = bed.endpoint().connect().await.unwrap();
        (bed, incoming, channel)
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::from_static("notnets:///bytes").directory(self.directory.path())
    }
}

async fn pair() -> (Bed, ByteStream, ByteStream) {
    let (bed, mut incoming, channel) = Bed::new().await;
    let (client, server) = tokio::join!(channel.byte_stream(), incoming.accept());
    (bed, client.unwrap(), server.unwrap())
}

async fn within<F: Future>(future: F) -> F::Output {
    common::within("a stream", future).await
}

/// Bytes of which each place has others.
fn pattern(len: usize, seed: u32) -> Vec<u8> {
    (0..len as u32).map(|place| (place.wrapping_add(seed).wrapping_mul(0x9e37_79b1) >> 24) as u8).collect()
}

#[tokio::test]
async fn bytes_go_both_ways_at_once_and_arrive_as_they_were() {
    let (_bed, client, server) = pair().await;
    assert_eq!((client.peer().pid, server.peer().pid), (Some(std::process::id()), Some(std::process::id())));
    let (up, down) = (pattern(10 << 20, 1), pattern(7 << 20, 2));
    let of_client = async {
        let (mut reader, mut writer) = tokio::io::split(client);
        let write = async {
            for piece in up.chunks(70_001) {
                writer.write_all(piece).await.unwrap();
            }
            writer.shutdown().await.unwrap();
        };
        let mut received = Vec::new();
        let (_, read) = tokio::join!(write, reader.read_to_end(&mut received));
        read.unwrap();
        received
    };
    let of_server = async {
        let (mut reader, mut writer) = tokio::io::split(server);
        let mut received = Vec::new();
        let (write, read) = tokio::join!(writer.write_all(&down), reader.read_to_end(&mut received));
        write.and(read).unwrap();
        writer.shutdown().await.unwrap();
        received
    };
    let (of_client, of_server) = within(async { tokio::join!(of_client, of_server) }).await;
    assert!(of_client == down && of_server == up);
}

#[tokio::test]
async fn a_client_that_has_ended_its_bytes_still_reads() {
    let (_bed, mut client, mut server) = pair().await;
    client.write_all(b"all").await.unwrap();
    client.shutdown().await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(client.write_all(b"more").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    let mut heard = String::new();
    within(server.read_to_string(&mut heard)).await.unwrap();
    assert_eq!(heard, "all");
    server.write_all(b"and ").await.unwrap();
    server.write_all(b"back").await.unwrap();
    server.shutdown().await.unwrap();
    drop(server);
    heard.clear();
    within(client.read_to_string(&mut heard)).await.unwrap();
    assert_eq!(heard, "and back");
    assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0, "the end stays");
}

#[tokio::test]
async fn a_writer_waits_for_its_reader() {
    let (_bed, mut client, mut server) = pair().await;
    let all = pattern(64 << 20, 3);
    let mut written = 0;
    // Nobody reads: at some time there is no room.
    let mut context = Context::from_waker(Waker::noop());
    while let Poll::Ready(count) = Pin::new(&mut client).poll_write(&mut context, &all[written..]) {
        written += count.unwrap();
    }
    assert!(written > 0 && written < 48 << 20, "{written}");
    let mut read = vec![0; written];
    within(server.read_exact(&mut read)).await.unwrap();
    assert!(read == all[..written]);
    within(client.write_all(b"room")).await.unwrap();
}

#[tokio::test]
async fn an_end_that_is_dropped_resets_the_stream() {
    let (_bed, client, mut server) = pair().await;
    drop(client);
    let error = within(server.read(&mut [0; 8])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    within(async { while server.write(&[0; 64]).await.is_ok() {} }).await;

    let (_bed, mut client, server) = pair().await;
    drop(server);
    let error = within(client.read(&mut [0; 8])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    within(async { while client.write(&[0; 64]).await.is_ok() {} }).await;
}

#[tokio::test]
async fn streams_end_with_their_server() {
    let (bed, mut client, mut server) = pair().await;
    bed.server.abort();
    let error = within(client.read(&mut [0; 8])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    assert!(within(server.read(&mut [0; 8])).await.is_err());
}

#[tokio::test]
async fn a_server_that_takes_no_streams_says_so() {
    let (_bed, incoming, channel) = Bed::new().await;
    drop(incoming);
    let refused = within(channel.byte_stream()).await.unwrap_err();
    assert_eq!(refused.code(), Code::UNAVAILABLE, "{refused}");
    assert!(refused.message().contains("accepts no byte streams"), "{refused}");

    let directory = tempfile::tempdir().unwrap();
    let (_, service) = tonic_health::server::health_reporter();
    let server = Server::builder().directory(directory.path()).add_service(service);
    tokio::spawn(server.bind("notnets:///bytes").await.unwrap().serve());
    let endpoint = Endpoint::from_static("notnets:///bytes").directory(directory.path());
    let refused = within(endpoint.connect_lazy().byte_stream()).await.unwrap_err();
    assert_eq!(refused.code(), Code::UNIMPLEMENTED, "{refused}");
}

#[tokio::test]
async fn tonics_channel_and_server_run_over_streams() {
    let (_bed, incoming, below) = Bed::new().await;
    let (reporter, service) = tonic_health::server::health_reporter();
    tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
    let connect = tower::service_fn(move |_| {
        let below = below.clone();
        async move { below.byte_stream().await.map(TokioIo::new) }
    });
    let endpoint = tonic::transport::Endpoint::from_static("http://health");
    let channel = within(endpoint.connect_with_connector(connect)).await.unwrap();
    let client = HealthClient::new(channel);
    let request = || HealthCheckRequest { service: String::new() };
    let mut changes = within(client.clone().watch(request())).await.unwrap().into_inner();
    let serving = within(changes.next()).await.unwrap().unwrap();
    let calls = (0..64).map(|_| {
        let mut client = client.clone();
        tokio::spawn(async move { client.check(request()).await.unwrap().into_inner() })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(within(call).await.unwrap(), serving);
    }
    reporter.set_service_status("", tonic_health::ServingStatus::NotServing).await;
    assert_ne!(within(changes.next()).await.unwrap().unwrap(), serving);
}
