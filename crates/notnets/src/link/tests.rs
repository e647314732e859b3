//! What one poll may do, however much the peer sends.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use notnets_core::call::Failure;
use notnets_core::frame::{Frame, Kind};
use notnets_core::limits::Limits;
use notnets_core::link::handshake::{Config, Dialing, answer};
use notnets_core::link::packet::Packet;
use notnets_core::link::rendezvous::Directory;
use notnets_core::link::socket::Incoming;
use notnets_core::link::{Established, Socket};

use super::driver::{Driver, NoRequests};
use super::*;

/// Both ends of a new link.
fn ends() -> (Established, Established) {
    let temporary = tempfile::tempdir().unwrap();
    let directory = Directory::at(temporary.path());
    let name = "test".parse().unwrap();
    let listener = directory.listen(&name).unwrap();
    let dialing = Socket::from(directory.connect(&name).unwrap());
    let server = Socket::from(listener.accept().unwrap().unwrap());
    let dialing = Dialing::start(dialing, Config::default(), "test", "").unwrap();
    let Incoming::Packet(Packet::Hello(hello), descriptor) = server.receive().unwrap() else { panic!() };
    let server = answer(server, hello, descriptor, Config::default()).unwrap();
    let welcome = dialing.socket().receive().unwrap();
    (dialing.finish(welcome).unwrap(), server)
}

fn client() -> (Arc<Link>, Established) {
    let (client, server) = ends();
    let (link, _) = Link::new(Role::Client, Limits::default(), Wait::Adaptive, client).unwrap();
    (link, server)
}

#[test]
fn a_poll_ends_even_if_frames_go_on_coming() {
    let (link, mut server) = client();
    let mut looks = 0;
    let mut cx = Context::from_waker(Waker::noop());
    let polled = link.poll_received(&mut cx, 1, |_| {
        looks += 1;
        assert!(looks < 10_000, "it goes on for ever");
        assert!(server.lanes.room().unwrap() > 0);
        server.lanes.push(Frame::new(Kind::Pong, 0).encode());
        None::<()>
    });
    assert!(polled.is_pending());
}

#[tokio::test]
async fn one_poll_of_the_driver_takes_few_packets() {
    let (link, server) = client();
    let mut driver = Driver::new(Arc::clone(&link), None, NoRequests, None).unwrap();
    let fill = || (0..).find(|_| server.socket.send(&Packet::Doorbell, None).is_err()).unwrap();
    assert!(fill() > 100);
    let mut taken = 0;
    while taken == 0 {
        let polled: Poll<Failure> = poll_fn(|cx| Poll::Ready(Pin::new(&mut driver).poll(cx))).await;
        assert!(polled.is_pending());
        taken = fill();
        tokio::task::yield_now().await;
    }
    assert!(taken <= 100, "{taken} in one go");
}

#[test]
fn a_poll_ends_when_the_peer_breaks_the_rules() {
    for wait in [Wait::Adaptive, Wait::Spin, Wait::Park] {
        let (client, mut server) = ends();
        let (link, _) = Link::new(Role::Client, Limits::default(), wait, client).unwrap();
        for _ in 0..3 {
            assert!(server.lanes.room().unwrap() > 0);
            server.lanes.push([u64::MAX; 7]);
        }
        let mut looks = 0;
        let mut cx = Context::from_waker(Waker::noop());
        let polled = link.poll_received(&mut cx, 1, |_| {
            looks += 1;
            assert!(looks < 1_000_000, "it waits for the link to end, and keeps it from ending");
            None::<()>
        });
        assert!(polled.is_pending());
    }
}
