//! Bounds on the work of one poll, however much the peer sends.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use notnets_core::Code;
use notnets_core::call::{Failure, OpenOutcome, Sent};
use notnets_core::frame::{Frame, Kind};
use notnets_core::limits::Limits;
use notnets_core::link::handshake::{Config, Dialing, answer};
use notnets_core::link::packet::Packet;
use notnets_core::link::rendezvous::Directory;
use notnets_core::link::socket::Incoming;
use notnets_core::link::{Established, Socket};

use super::driver::{Driver, NoRequests};
use super::*;

/// The stream of the first call on a link.
const FIRST: StreamId = StreamId::new(1);

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

fn client(wait: Wait) -> (Arc<Link>, Established) {
    let (client, server) = ends();
    let (link, _) = Link::new(Role::Client, Limits::default(), wait, client).unwrap();
    (link, server)
}

#[test]
fn a_poll_ends_even_if_frames_go_on_coming() {
    let (link, mut server) = client(Wait::Adaptive);
    let mut looks = 0;
    let mut cx = Context::from_waker(Waker::noop());
    let polled = link.poll_received(&mut cx, FIRST, |_| {
        looks += 1;
        assert!(looks < 10_000, "it goes on for ever");
        assert!(server.lanes.room().unwrap() > 0);
        server.lanes.push(Frame::new(Kind::Pong, StreamId::LINK).encode());
        None::<()>
    });
    assert!(polled.is_pending());
}

#[tokio::test]
async fn one_poll_of_the_driver_takes_few_packets() {
    let (link, server) = client(Wait::Adaptive);
    let mut driver = Driver::new(Arc::clone(&link), None, NoRequests, None, None).unwrap();
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
        let (link, mut server) = client(wait);
        for _ in 0..3 {
            assert!(server.lanes.room().unwrap() > 0);
            server.lanes.push([u64::MAX; 7]);
        }
        let mut looks = 0;
        let mut cx = Context::from_waker(Waker::noop());
        let polled = link.poll_received(&mut cx, FIRST, |_| {
            looks += 1;
            assert!(looks < 1_000_000, "it waits for the link to end, and keeps it from ending");
            None::<()>
        });
        assert!(polled.is_pending());
    }
}

/// Opens a call in the middle of the driver's first poll, as another thread may.
async fn open_meanwhile(link: Arc<Link>) {
    link.with(|state| {
        let at = clock::after(Duration::from_millis(1));
        let deadline = Some(state.session.calls().deadline(at, clock::now));
        let none = std::iter::empty::<(&str, &[u8])>();
        let mut wakers = Some(StreamWakers::default());
        let opened = state.session.calls().open("/x", none, deadline, &mut &b""[..], true, &mut wakers);
        assert_eq!(opened, Ok(OpenOutcome::Opened(FIRST, Sent::All)));
    });
    std::future::pending().await
}

#[tokio::test]
async fn what_happens_during_the_drivers_first_poll_is_not_lost() {
    let (link, _server) = client(Wait::Park);
    let meanwhile = Box::pin(open_meanwhile(Arc::clone(&link)));
    tokio::spawn(Driver::new(Arc::clone(&link), None, NoRequests, Some(meanwhile), None).unwrap());
    while link.with(|state| state.session.calls().open_streams()) == 0 {
        tokio::task::yield_now().await;
    }
    let ended = poll_fn(|cx| link.poll_received(cx, FIRST, |state| state.session.calls().response(FIRST)));
    let ended = tokio::time::timeout(Duration::from_secs(20), ended).await;
    let failure = ended.expect("its deadline is not kept").unwrap_err();
    assert_eq!(failure.code, Code::DEADLINE_EXCEEDED);
}
