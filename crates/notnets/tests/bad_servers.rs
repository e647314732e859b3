//! Servers that hang or break the rules: their clients are told why, and go on living.

mod common;

use std::time::{Duration, Instant};

use common::{call, within};
use notnets::{Channel, Endpoint};
use notnets_core::call::Connection;
use notnets_core::link::handshake::{Config, answer};
use notnets_core::link::packet::Packet;
use notnets_core::link::rendezvous::{Directory, Listener};
use notnets_core::link::socket::Incoming;
use notnets_core::link::{Established, Socket};
use notnets_core::{Role, ValidLimits, clock};
use tonic::Code;
use tonic::body::Body;

/// A server made by hand.
struct Bad {
    directory: tempfile::TempDir,
    listener: Listener,
}

impl Bad {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = Directory::at(directory.path()).listen(&"bad".parse().unwrap()).unwrap();
        Self { directory, listener }
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::from_static("notnets:///bad").directory(self.directory.path())
    }

    /// Shakes hands with the client that connects meanwhile.
    async fn meet(&self, endpoint: Endpoint) -> (Channel, Established) {
        let connecting = tokio::spawn(async move { endpoint.connect().await });
        let socket: Socket = until(|| self.listener.accept().unwrap()).await.into();
        let (hello, descriptor) = until(|| match socket.receive() {
            Ok(Incoming::Packet(Packet::Hello(hello), descriptor)) => Some((hello, descriptor)),
            _ => None,
        })
        .await;
        let established = answer(socket, hello, descriptor, Config::default()).unwrap();
        (within("connecting", connecting).await.unwrap().unwrap(), established)
    }
}

/// Looks again and again.
async fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    within("what is looked for", async {
        loop {
            match look() {
                Some(found) => break found,
                None => tokio::task::yield_now().await,
            }
        }
    })
    .await
}

/// Reads the client's packets until it has closed its end.
async fn closed(socket: &Socket) {
    until(|| matches!(socket.receive(), Ok(Incoming::Closed)).then_some(())).await;
}

#[tokio::test]
async fn nonsense_ends_the_link_and_its_calls_say_why() {
    let bad = Bad::new();
    let (channel, mut server) = bad.meet(bad.endpoint()).await;
    let waiting = tokio::spawn(call(&channel, "/a.B/C", Body::empty()));
    until(|| server.lanes.is_ready().then_some(())).await;
    server.lanes.push([u64::MAX; 7]);
    server.socket.ring();
    let status = within("the call's end", waiting).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Internal, "{status:?}");
    assert!(status.message().contains("unknown"), "{status:?}");
    closed(&server.socket).await;
}

#[tokio::test]
async fn a_client_closes_the_link_that_it_was_told_to_leave() {
    let bad = Bad::new();
    let (channel, server) = bad.meet(bad.endpoint()).await;
    let mut connection: Connection<()> =
        Connection::new(Role::Server, server.lanes, ValidLimits::default(), server.peer_limits);
    connection.go_away();
    connection.lanes().bell_is_due();
    server.socket.ring();
    // It has no calls there, and none can be made.
    closed(&server.socket).await;
    drop(channel);
}

#[tokio::test]
async fn keepalive_asks_as_often_as_it_was_told_to() {
    let bad = Bad::new();
    let often = bad.endpoint().keep_alive_interval(Duration::from_millis(20)).keep_alive_while_idle(true);
    let (channel, server) = bad.meet(often.keep_alive_timeout(Duration::from_secs(3600))).await;
    let mut connection: Connection<()> =
        Connection::new(Role::Server, server.lanes, ValidLimits::default(), server.peer_limits);
    for _ in 0..3 {
        // It is answered at once.
        until(|| (connection.receive(1, clock::now) > 0).then_some(())).await;
        if connection.lanes().bell_is_due() {
            server.socket.ring();
        }
    }
    drop(channel);
}

#[tokio::test]
async fn keepalive_waits_no_longer_than_it_was_told_to() {
    let bad = Bad::new();
    let rarely = bad.endpoint().keep_alive_interval(Duration::from_secs(2)).keep_alive_while_idle(true);
    let (channel, mut server) = bad.meet(rarely.keep_alive_timeout(Duration::from_millis(1))).await;
    until(|| server.lanes.is_ready().then_some(())).await;
    let asked = Instant::now();
    closed(&server.socket).await;
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?} for a timeout of 1 ms", asked.elapsed());
    drop(channel);
}
