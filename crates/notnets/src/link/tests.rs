//! Bounds on the work of one poll, however much the peer sends.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Barrier, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use notnets_core::Code;
use notnets_core::call::{Buffered, Failure, OpenOutcome, Request, Sent};
use notnets_core::frame::{Frame, Kind};
use notnets_core::link::handshake::{Config, Dialing, answer};
use notnets_core::link::packet::Packet;
use notnets_core::link::rendezvous::Directory;
use notnets_core::link::socket::Incoming;
use notnets_core::link::{Established, Socket};
use notnets_core::wait::Wait;

use tokio::sync::watch;

use super::driver::{Accept, Driver, NoRequests, Started, WindUp};
use super::driver_slot::DriverId;
use super::*;

/// The stream of the first call on a link.
const FIRST: StreamId = StreamId::new(1);
/// That of the second.
const SECOND: StreamId = FIRST.next();

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

fn options(wait: Wait) -> LinkOptions {
    LinkOptions { wait, ..LinkOptions::default() }
}

fn client(wait: Wait) -> (Arc<Link>, Established) {
    let (client, server) = ends();
    let (link, _) = Link::new(Role::Client, &options(wait), client).unwrap();
    (link, server)
}

/// Polls once for what is never there, and does this at each look for it.
fn poll_in_vain(link: &Link, mut look: impl FnMut()) {
    let mut cx = Context::from_waker(Waker::noop());
    let nothing = |_: &mut State| -> Option<()> {
        look();
        None
    };
    let polled = link.poll_received(&mut cx, FIRST, |failure| panic!("{failure:?}"), nothing);
    assert!(polled.is_pending());
}

#[test]
fn a_poll_ends_even_if_frames_go_on_coming() {
    let (link, mut server) = client(Wait::Adaptive);
    let mut looks = 0;
    poll_in_vain(&link, || {
        looks += 1;
        assert!(looks < 10_000, "it goes on for ever");
        assert!(server.lanes.room().unwrap() > 0);
        server.lanes.push(Frame::new(Kind::Pong, StreamId::LINK).encode());
    });
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
        poll_in_vain(&link, || {
            looks += 1;
            assert!(looks < 1_000_000, "it waits for the link to end, and keeps it from ending");
        });
    }
}

/// Opens a call that ends after this time.
fn open(link: &Link, timeout: Option<Duration>) -> StreamId {
    link.with(|state| open_on(state, timeout)).unwrap()
}

fn open_on(state: &mut State, timeout: Option<Duration>) -> StreamId {
    let calls = state.session.calls();
    let deadline = timeout.map(|timeout| calls.deadline(clock::after(timeout), clock::now));
    let none = std::iter::empty::<(&str, &[u8])>();
    let mut wakers = Some(StreamWakers::default());
    let opened = calls.open("/x", none, deadline, &mut &b""[..], true, &mut wakers);
    let Ok(OpenOutcome::Opened(stream, Sent::All)) = opened else { panic!("{opened:?}") };
    stream
}

/// A wish to wind a link up, which nobody waits for.
fn wish(wish: impl Future<Output = ()> + Send + 'static) -> WindUp {
    WindUp::new(wish, watch::Sender::new(()).subscribe())
}

/// Opens a call in the middle of the driver's first poll, as another thread may.
async fn open_meanwhile(link: Arc<Link>) {
    assert_eq!(open(&link, Some(Duration::from_millis(1))), FIRST);
    std::future::pending().await
}

#[tokio::test]
async fn what_happens_during_the_drivers_first_poll_is_not_lost() {
    let (link, _server) = client(Wait::Park);
    let meanwhile = wish(open_meanwhile(Arc::clone(&link)));
    tokio::spawn(Driver::new(Arc::clone(&link), None, NoRequests, Some(meanwhile), None).unwrap());
    while link.with(|state| state.session.calls().open_streams()) == Some(0) {
        tokio::task::yield_now().await;
    }
    let ended =
        poll_fn(|cx| link.poll_received(cx, FIRST, Err, |state| state.session.calls().response(FIRST)));
    let ended = tokio::time::timeout(Duration::from_secs(20), ended).await;
    let failure = ended.expect("its deadline is not kept").unwrap_err();
    assert_eq!(failure.code, Code::DEADLINE_EXCEEDED);
}

/// Says which requests come; the second keeps its thread until it is released.
struct SecondBlocks {
    begun: mpsc::Sender<StreamId>,
    released: Mutex<mpsc::Receiver<()>>,
}

impl Accept for SecondBlocks {
    fn accept(&self, _: &Arc<Link>, requests: &mut Vec<(Request, Buffered)>, _: bool) -> Started {
        for (request, _) in requests.drain(..) {
            self.begun.send(request.stream).unwrap();
            if request.stream == SECOND {
                let _ = tokio::task::block_in_place(|| self.released.lock().unwrap().recv());
            }
        }
        Started { tasks: false, left: false }
    }

    fn go_on(&self, _: &Arc<Link>) -> Started {
        unreachable!("nothing is left")
    }
}

/// Says which requests come. The first keeps its thread until the second has come; the second is left, once
/// the driver is back that the first had kept.
struct SecondIsLeft {
    begun: mpsc::Sender<StreamId>,
    come: Barrier,
}

impl Accept for SecondIsLeft {
    fn accept(&self, link: &Arc<Link>, requests: &mut Vec<(Request, Buffered)>, _: bool) -> Started {
        for (request, _) in requests.drain(..) {
            if request.stream == FIRST {
                self.begun.send(FIRST).unwrap();
                tokio::task::block_in_place(|| self.come.wait());
            } else {
                tokio::task::block_in_place(|| {
                    self.come.wait();
                    while !link.lock_here().driver.is_driven_by(DriverId::OWN) {
                        std::thread::yield_now();
                    }
                });
                return Started { tasks: true, left: true };
            }
        }
        Started { tasks: false, left: false }
    }

    fn go_on(&self, _: &Arc<Link>) -> Started {
        self.begun.send(SECOND).unwrap();
        Started { tasks: false, left: false }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_relief_has_left_is_started_by_the_driver_that_replaces_it() {
    let (client, server) = ends();
    let (client, _) = Link::new(Role::Client, &options(Wait::Park), client).unwrap();
    let (server, _) = Link::new(Role::Server, &options(Wait::Park), server).unwrap();
    let (begun, accepted) = mpsc::channel();
    let accepts = SecondIsLeft { begun, come: Barrier::new(2) };
    open(&client, None);
    tokio::spawn(Driver::new(server, None, accepts, None, None).unwrap());
    let limit = Duration::from_secs(20);
    let both = tokio::task::spawn_blocking(move || {
        let first = accepted.recv_timeout(limit);
        open(&client, None);
        client.socket.ring();
        [first, accepted.recv_timeout(limit)]
    });
    assert_eq!(both.await.unwrap(), [Ok(FIRST), Ok(SECOND)]);
}

/// Is overtaken by a relief, which goes to sleep, before the requests that it takes can be seen. Then each
/// that is gone on with keeps its thread until it is released.
struct Overtaken {
    waiting: Mutex<VecDeque<StreamId>>,
    taken: mpsc::Sender<()>,
    begun: mpsc::Sender<StreamId>,
    released: Mutex<mpsc::Receiver<()>>,
}

impl Accept for Overtaken {
    fn accept(&self, link: &Arc<Link>, requests: &mut Vec<(Request, Buffered)>, leave: bool) -> Started {
        assert!(leave);
        self.taken.send(()).unwrap();
        tokio::task::block_in_place(|| {
            while link.lock_here().driver.is_driven_by(DriverId::OWN) || link.lock_here().driver.is_busy() {
                std::thread::yield_now();
            }
        });
        self.waiting.lock().unwrap().extend(requests.drain(..).map(|(request, _)| request.stream));
        Started { tasks: false, left: true }
    }

    fn go_on(&self, _: &Arc<Link>) -> Started {
        let next = self.waiting.lock().unwrap().pop_front();
        if let Some(stream) = next {
            self.begun.send(stream).unwrap();
            let _ = tokio::task::block_in_place(|| self.released.lock().unwrap().recv());
        }
        Started { tasks: false, left: false }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_driver_has_taken_is_gone_on_with_though_a_relief_came_too_early_for_it() {
    let (client, server) = ends();
    let (client, _) = Link::new(Role::Client, &options(Wait::Park), client).unwrap();
    let (server, _) = Link::new(Role::Server, &options(Wait::Park), server).unwrap();
    let (taken, is_taken) = mpsc::channel();
    let (begun, gone_on_with) = mpsc::channel();
    // Dropped by a test that fails: then the threads go on, too.
    let (_release, released) = mpsc::channel();
    let accepts = Overtaken { waiting: Mutex::default(), taken, begun, released: Mutex::new(released) };
    open(&client, None);
    open(&client, None);
    tokio::spawn(Driver::new(server, None, accepts, None, None).unwrap());
    let limit = Duration::from_secs(20);
    let both = tokio::task::spawn_blocking(move || {
        is_taken.recv_timeout(limit).unwrap();
        client.socket.ring();
        [gone_on_with.recv_timeout(limit), gone_on_with.recv_timeout(limit)]
    });
    assert_eq!(both.await.unwrap(), [Ok(FIRST), Ok(SECOND)]);
}

/// Says whether requests are to be left.
struct IsLeft(mpsc::Sender<(StreamId, bool)>);

impl Accept for IsLeft {
    fn accept(&self, _: &Arc<Link>, requests: &mut Vec<(Request, Buffered)>, leave: bool) -> Started {
        requests.drain(..).for_each(|(request, _)| self.0.send((request.stream, leave)).unwrap());
        Started { tasks: false, left: false }
    }

    fn go_on(&self, _: &Arc<Link>) -> Started {
        unreachable!("nothing is left")
    }
}

/// The task might be kept by the thread that a request blocks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_comes_with_what_a_task_waits_for_does_not_go_before_it() {
    let limit = Duration::from_secs(20);
    let (client, server) = ends();
    let (client, _) = Link::new(Role::Client, &options(Wait::Park), client).unwrap();
    let (server, _) = Link::new(Role::Server, &options(Wait::Park), server).unwrap();
    let (accepts, accepted) = mpsc::channel();
    open(&client, None);
    tokio::spawn(Driver::new(Arc::clone(&server), None, IsLeft(accepts), None, None).unwrap());
    let next = |accepted: mpsc::Receiver<(StreamId, bool)>| async move {
        tokio::task::spawn_blocking(move || (accepted.recv_timeout(limit), accepted)).await.unwrap()
    };
    let (first, accepted) = next(accepted).await;
    assert_eq!(first, Ok((FIRST, false)));
    let waits = |cx: &mut Context<'_>| server.poll_cancelled(cx, FIRST);
    let mut waiting = Box::pin(poll_fn(waits));
    assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    client.with(|state| {
        state.session.calls().reset(FIRST, Code::CANCELLED, "");
        open_on(state, None);
    });
    client.socket.ring();
    let (second, _accepted) = next(accepted).await;
    assert_eq!(second, Ok((SECOND, true)));
}

/// A driver that has armed the lane looks at the socket, and at the lanes once more, before it sleeps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_is_relieved_that_blocks_in_a_turn_in_which_it_had_armed_the_lane() {
    let limit = Duration::from_secs(20);
    let (client, server) = ends();
    let (client, _) = Link::new(Role::Client, &options(Wait::Park), client).unwrap();
    let (server, _) = Link::new(Role::Server, &options(Wait::Park), server).unwrap();
    open(&client, None);
    let (begun, accepted) = mpsc::channel();
    // Dropped by a test that fails: then the thread goes on, too.
    let (release, released) = mpsc::channel();
    let meanwhile = {
        let client = Arc::clone(&client);
        wish(async move {
            open(&client, None);
            std::future::pending().await
        })
    };
    let blocks = SecondBlocks { begun, released: Mutex::new(released) };
    tokio::spawn(Driver::new(server, None, blocks, Some(meanwhile), None).unwrap());
    let next = |accepted: mpsc::Receiver<StreamId>| async move {
        tokio::task::spawn_blocking(move || (accepted.recv_timeout(limit).ok(), accepted)).await.unwrap()
    };
    let (first, accepted) = next(accepted).await;
    let (second, accepted) = next(accepted).await;
    assert_eq!((first, second), (Some(FIRST), Some(SECOND)));
    open(&client, None);
    client.socket.ring();
    let (third, _accepted) = next(accepted).await;
    assert_eq!(third, Some(SECOND.next()), "no relief comes");
    release.send(()).unwrap();
}
