//! `notnets proxy` beside clients that misbehave in every way: those of others never notice.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;

use crate::frames::{
    CONTINUATION, Connection, END_HEADERS, Frame, HEADERS, PING, PREFACE, RESET, SETTINGS, call,
};
use crate::support::probe::pb::probe_client::ProbeClient;
use crate::support::probe::pb::{Chunk, EchoRequest, SplitRequest};
use crate::support::{ANY, Probe, World, handler, in_time, key};
use notnets::http2::Address;
use notnets::http2::client::{Client, Options};

/// Clients of each kind.
const STRANGERS: usize = 10;
/// How long the good client calls beside those of one kind.
const LONG_ENOUGH: Duration = Duration::from_millis(300);
/// How long one of its calls may take, on a machine with other work.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a client does that misbehaves, through its generated code.
#[derive(Clone, Copy, Debug)]
enum Calls {
    /// Opens streams and reads none of them.
    Unread,
    /// Reads a little of streams, slowly.
    Slow,
    /// Gives up on calls as soon as they are made.
    Cancelled,
    /// Begins requests and doesn't end them.
    Unfinished,
    /// Sends to handlers that don't read.
    Ignored,
    /// Waits for answers that never come.
    Waiting,
}

/// What one does that speaks HTTP/2 itself, or doesn't.
#[derive(Clone, Copy, Debug)]
enum Bytes {
    /// Connects and says nothing.
    Nothing,
    /// Says half of what a connection begins with.
    HalfAPreface,
    Garbage,
    GarbageAfterThePreface,
    /// Half a frame's head.
    HalfAFrame,
    /// Headers that never end.
    EndlessHeaders,
    /// Opens calls and resets them.
    Resets,
    Pings,
    Settings,
    /// Opens calls with no window for their answers, and answers no ping.
    NoWindow,
}

const CALLS: [Calls; 6] =
    [Calls::Unread, Calls::Slow, Calls::Cancelled, Calls::Unfinished, Calls::Ignored, Calls::Waiting];

const BYTES: [Bytes; 10] = [
    Bytes::Nothing,
    Bytes::HalfAPreface,
    Bytes::Garbage,
    Bytes::GarbageAfterThePreface,
    Bytes::HalfAFrame,
    Bytes::EndlessHeaders,
    Bytes::Resets,
    Bytes::Pings,
    Bytes::Settings,
    Bytes::NoWindow,
];

#[tokio::test(flavor = "multi_thread")]
async fn a_good_client_does_not_notice_what_others_call() {
    let world = World::new();
    for way in world.ways().await {
        let good = stranger(&world, &way.proxy.address).await;
        for kind in CALLS {
            let mut strangers = JoinSet::new();
            for _ in 0..STRANGERS {
                let client = stranger(&world, &way.proxy.address).await;
                strangers.spawn(misbehave(kind, client));
            }
            calls_never_fail(good.clone(), &format!("{kind:?} on {}", way.proxy.address)).await;
            in_time(strangers.shutdown()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_client_does_not_notice_what_others_send() {
    let world = World::new();
    for server in world.servers().await {
        let proxy = world.proxy(ANY, &server).await;
        let good = stranger(&world, &proxy.address).await;
        for kind in BYTES {
            let mut strangers = JoinSet::new();
            for _ in 0..STRANGERS {
                strangers.spawn(send(kind, proxy.address.clone()));
            }
            calls_never_fail(good.clone(), &format!("{kind:?}")).await;
            // One that comes later is served, too.
            calls_never_fail(stranger(&world, &proxy.address).await, &format!("later: {kind:?}")).await;
            in_time(strangers.shutdown()).await;
        }
    }
}

/// A client with a connection of its own.
async fn stranger(world: &World, proxy: &str) -> Probe {
    if proxy.starts_with("notnets:") {
        return world.client(proxy).await;
    }
    // Its windows are as large as they can be.
    let address = Address::Tcp(proxy.parse().expect("HOST:PORT"));
    let client = Client::new(address, Options::default());
    ProbeClient::new(tower::util::BoxCloneService::new(client))
}

async fn calls_never_fail(mut client: Probe, beside: &str) {
    let begin = Instant::now();
    let mut worst = Duration::ZERO;
    let mut count = 0;
    while begin.elapsed() < LONG_ENOUGH {
        let request = EchoRequest { payload: vec![3; 5000], ..EchoRequest::default() };
        let called = Instant::now();
        let answer = tokio::time::timeout(PATIENCE, client.echo(request)).await;
        worst = worst.max(called.elapsed());
        match answer {
            Ok(Ok(_)) => count += 1,
            Ok(Err(status)) => panic!("{beside}: call {count} failed: {status}"),
            Err(_) => panic!("{beside}: call {count} was not answered"),
        }
    }
    println!("{beside}: {count} calls, at most {worst:?}");
}

async fn misbehave(kind: Calls, client: Probe) {
    let mut open = JoinSet::new();
    match kind {
        Calls::Cancelled => loop {
            let calls = (0..50).map(|_| {
                let mut client = client.clone();
                tokio::spawn(async move { client.wait(handler(&key("given-up"))).await })
            });
            let calls: Vec<_> = calls.collect();
            tokio::task::yield_now().await;
            calls.iter().for_each(tokio::task::JoinHandle::abort);
            for call in calls {
                let _ = call.await;
            }
        },
        _ => {
            for _ in 0..80 {
                open.spawn(one_call(kind, client.clone()));
            }
            while open.join_next().await.is_some() {}
        }
    }
    std::future::pending().await
}

async fn one_call(kind: Calls, mut client: Probe) -> Result<(), tonic::Status> {
    let flood = SplitRequest { count: 1000, size: 256 << 10, ..SplitRequest::default() };
    match kind {
        Calls::Unread => {
            let _stream = client.split(flood).await?;
            std::future::pending().await
        }
        Calls::Slow => {
            let mut stream = client.split(flood).await?.into_inner();
            loop {
                stream.message().await?;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        Calls::Unfinished => {
            let (_send, requests) = tokio::sync::mpsc::channel::<Chunk>(1);
            client.collect(ReceiverStream::new(requests)).await.map(drop)
        }
        Calls::Ignored => {
            let endless = std::iter::repeat_with(|| Chunk { data: vec![9; 64 << 10] });
            let _stream = client.ignore(tokio_stream::iter(endless)).await?;
            std::future::pending().await
        }
        Calls::Waiting | Calls::Cancelled => client.wait(handler(&key("waits"))).await.map(drop),
    }
}

async fn send(kind: Bytes, proxy: String) {
    match kind {
        // Many more than have room in the lobby.
        Bytes::Nothing | Bytes::HalfAPreface => {
            let mut open = Vec::new();
            for _ in 0..30 {
                let mut stream = TcpStream::connect(&proxy).await.expect("it listens");
                if matches!(kind, Bytes::HalfAPreface) {
                    let _ = stream.write_all(&PREFACE[..10]).await;
                }
                open.push(stream);
            }
            std::future::pending().await
        }
        Bytes::Garbage => loop {
            let mut stream = TcpStream::connect(&proxy).await.expect("it listens");
            let _ = stream.write_all(&[0xa5; 1000]).await;
        },
        Bytes::GarbageAfterThePreface => loop {
            let mut connection = Connection::connect(&proxy).await;
            let _ = connection.0.write_all(&[0x5a; 1000]).await;
        },
        Bytes::HalfAFrame => {
            let mut connection = Connection::connect(&proxy).await;
            let _ = connection.0.write_all(&[0, 0, 5, HEADERS]).await;
            std::future::pending().await
        }
        Bytes::EndlessHeaders => {
            let mut connection = Connection::connect(&proxy).await;
            connection.send(Frame::new(HEADERS, 0, 1, &call("/a/b", &proxy))).await;
            // A literal without an index: `x: y`.
            flood(connection, Frame::new(CONTINUATION, 0, 1, &[0, 1, b'x', 1, b'y'])).await
        }
        Bytes::Resets => {
            let mut connection = Connection::connect(&proxy).await;
            for stream in (1..).step_by(2) {
                let block = call("/notnets.probe.Probe/Wait", &proxy);
                connection.send(Frame::new(HEADERS, END_HEADERS, stream, &block)).await;
                connection.send(Frame::new(RESET, 0, stream, &[0, 0, 0, 8])).await;
                if stream % 100 == 1 {
                    tokio::task::yield_now().await;
                }
            }
        }
        Bytes::Pings => flood(Connection::connect(&proxy).await, Frame::new(PING, 0, 0, &[0; 8])).await,
        Bytes::Settings => flood(Connection::connect(&proxy).await, Frame::new(SETTINGS, 0, 0, &[])).await,
        Bytes::NoWindow => {
            let mut connection = Connection::connect(&proxy).await;
            // The initial window is none.
            connection.send(Frame::new(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])).await;
            for stream in (1..200).step_by(2) {
                let block = call("/notnets.probe.Probe/Echo", &proxy);
                connection.send(Frame::new(HEADERS, END_HEADERS | 1, stream, &block)).await;
            }
            std::future::pending().await
        }
    }
}

/// Sends one frame over and over, and reads nothing.
async fn flood(mut connection: Connection, frame: Frame) {
    let many = frame.bytes().repeat(100);
    while connection.0.write_all(&many).await.is_ok() {}
    std::future::pending().await
}
