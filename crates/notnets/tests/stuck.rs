//! No handler holds up another, whatever it does to its thread.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use common::{Awake, Host, LIMIT, call, ok, ok_from_task, until_in_place, within};
use http::{Request, Response};
use notnets::{Channel, Server, Wait};
use tonic::body::Body;
use tower_service::Service as _;

/// Calls that are made while another is stuck.
const BESIDE: usize = 20;
/// Calls that are blocked at once, and workers for all of them.
const BLOCKED: usize = 4;

/// A service whose `/turns` is fast, but for calls with the header `block`: these keep their threads until
/// they are released.
#[derive(Clone)]
struct Turns {
    begun: Sender<()>,
    released: Arc<Mutex<Receiver<()>>>,
    in_place: bool,
}

/// What a test does to the service.
struct Controls {
    begun: Receiver<()>,
    release: Sender<()>,
}

impl Turns {
    fn new(in_place: bool) -> (Self, Controls) {
        let (begun, has_begun) = channel();
        let (release, released) = channel();
        let released = Arc::new(Mutex::new(released));
        (Self { begun, released, in_place }, Controls { begun: has_begun, release })
    }

    async fn answer(self, request: Request<Body>) -> Response<Body> {
        if request.headers().contains_key("block") {
            self.begun.send(()).unwrap();
            let block = || self.released.lock().unwrap().recv().unwrap();
            if self.in_place { tokio::task::block_in_place(block) } else { block() }
        }
        ok_from_task()
    }
}

/// A server whose short handlers are short in a build that is not optimized, too.
fn server() -> Server {
    Server::builder().in_place_limit(Duration::from_millis(1))
}

fn blocking_call(channel: &Channel) -> notnets::ResponseFuture {
    let request = Request::builder().method("POST").uri("/turns").header("block", "");
    channel.clone().call(request.body(Body::empty()).unwrap())
}

fn turn(channel: &Channel) -> notnets::ResponseFuture {
    call(channel, "/turns", Body::empty())
}

/// A method that is known for short blocks its thread once.
async fn a_short_method_that_blocks_once(wait: Wait, in_place: bool) {
    let _awake = Awake::keep();
    let (turns, controls) = Turns::new(in_place);
    let host = Host::serve(server().wait(wait), move |request| turns.clone().answer(request));
    let channel = host.endpoint().wait(wait).connect().await.unwrap();
    until_in_place(&channel, "/turns").await;
    let blocked = tokio::spawn(blocking_call(&channel));
    let begun = tokio::task::spawn_blocking(move || {
        controls.begun.recv_timeout(LIMIT).unwrap();
        controls
    });
    let controls = within("the call that blocks", begun).await.unwrap();
    for _ in 0..BESIDE {
        within("a call beside one that blocks its thread", turn(&channel)).await.unwrap();
    }
    controls.release.send(()).unwrap();
    within("the call that blocked", blocked).await.unwrap().unwrap();
    for _ in 0..BESIDE {
        within("a call after it", turn(&channel)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_handler_that_blocks_its_thread_holds_nobody_up() {
    a_short_method_that_blocks_once(Wait::Adaptive, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_handler_that_blocks_its_thread_holds_nobody_up_parking() {
    a_short_method_that_blocks_once(Wait::Park, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_handler_that_blocks_its_thread_holds_nobody_up_spinning() {
    a_short_method_that_blocks_once(Wait::Spin, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_handler_that_blocks_in_place_holds_nobody_up() {
    a_short_method_that_blocks_once(Wait::Adaptive, true).await;
}

/// Where calls of one method meet: each waits, with its thread, for all the others of its round.
#[derive(Default)]
struct Meeting {
    arrived: Mutex<usize>,
    more: Condvar,
}

impl Meeting {
    fn wait(&self) {
        let mut arrived = self.arrived.lock().unwrap();
        *arrived += 1;
        let all = arrived.div_ceil(BLOCKED) * BLOCKED;
        self.more.notify_all();
        let waited = self.more.wait_timeout_while(arrived, LIMIT, |arrived| *arrived < all);
        assert!(!waited.unwrap().1.timed_out(), "the others do not come");
    }
}

async fn meet(request: Request<Body>, meeting: Arc<Meeting>) -> Response<Body> {
    if request.uri().path() == "/meet" {
        meeting.wait();
    }
    ok_from_task()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn calls_of_one_channel_run_at_once() {
    let _awake = Awake::keep();
    let meeting = Arc::<Meeting>::default();
    let host = Host::serve(server(), move |request| meet(request, Arc::clone(&meeting)));
    let channel = host.connect().await;
    until_in_place(&channel, "/fast").await;
    for round in 0..20 {
        let calls = (0..BLOCKED).map(|_| tokio::spawn(call(&channel, "/meet", Body::empty())));
        let calls: Vec<_> = calls.collect();
        for call in calls {
            within(&format!("calls that need each other, round {round}"), call).await.unwrap().unwrap();
        }
    }
}

/// Several calls of a short method come at once, and all but the last block.
#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn handlers_that_block_one_after_the_other_are_all_relieved() {
    let _awake = Awake::keep();
    let (turns, controls) = Turns::new(false);
    let host = Host::serve(server(), {
        let turns = turns.clone();
        move |request| turns.clone().answer(request)
    });
    let channel = host.connect().await;
    until_in_place(&channel, "/turns").await;
    // Only one can hold the mutex around the receiver; the others block on that.
    let blocked: Vec<_> = (0..BLOCKED).map(|_| tokio::spawn(blocking_call(&channel))).collect();
    let begun = tokio::task::spawn_blocking(move || {
        (0..BLOCKED).for_each(|_| controls.begun.recv_timeout(LIMIT).unwrap());
        controls
    });
    let controls = within("all that block", begun).await.unwrap();
    within("a call beside them", turn(&channel)).await.unwrap();
    (0..BLOCKED).for_each(|_| controls.release.send(()).unwrap());
    for call in blocked {
        within("a call that blocked", call).await.unwrap().unwrap();
    }
}

/// The deadline of a call passes while the thread of another is blocked.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn deadlines_are_kept_meanwhile() {
    let _awake = Awake::keep();
    let (turns, controls) = Turns::new(false);
    let dropped = Arc::new(tokio::sync::Notify::new());
    let host = Host::serve(server(), {
        let dropped = Arc::clone(&dropped);
        move |request: Request<Body>| {
            let (turns, dropped) = (turns.clone(), Arc::clone(&dropped));
            async move {
                if request.uri().path() == "/never" {
                    let _dropped = OnDrop(dropped);
                    std::future::pending().await
                } else {
                    turns.answer(request).await
                }
            }
        }
    });
    let channel = host.connect().await;
    until_in_place(&channel, "/turns").await;
    let request = Request::builder().method("POST").uri("/never").header("grpc-timeout", "200m");
    let mut never = channel.clone();
    let never = tokio::spawn(never.call(request.body(Body::empty()).unwrap()));
    let blocked = tokio::spawn(blocking_call(&channel));
    let begun = tokio::task::spawn_blocking(move || {
        controls.begun.recv_timeout(LIMIT).unwrap();
        controls
    });
    let controls = within("the call that blocks", begun).await.unwrap();
    within("the handler's end at its deadline", dropped.notified()).await;
    let failed = within("the answer", never).await.unwrap().unwrap_err();
    assert_eq!(failed.code(), tonic::Code::DeadlineExceeded);
    controls.release.send(()).unwrap();
    within("the call that blocked", blocked).await.unwrap().unwrap();
}

struct OnDrop(Arc<tokio::sync::Notify>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// A client that asks whether its server is there gets its answers while a handler blocks.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn pings_are_answered_meanwhile() {
    let _awake = Awake::keep();
    let (turns, controls) = Turns::new(false);
    let pings = Duration::from_millis(50);
    let patience = Duration::from_millis(200);
    let host = Host::serve(server(), move |request| turns.clone().answer(request));
    let endpoint = host.endpoint().keep_alive_interval(pings).keep_alive_timeout(patience);
    let channel = within("connecting", endpoint.connect()).await.unwrap();
    until_in_place(&channel, "/turns").await;
    let blocked = tokio::spawn(blocking_call(&channel));
    let begun = tokio::task::spawn_blocking(move || {
        controls.begun.recv_timeout(LIMIT).unwrap();
        controls
    });
    let controls = within("the call that blocks", begun).await.unwrap();
    // As long as it takes to give a server up that does not answer.
    tokio::time::sleep((pings + patience) * 3).await;
    controls.release.send(()).unwrap();
    within("the call that blocked", blocked).await.unwrap().expect("its link was given up");
}

/// Where there is no other thread nobody can take over, and all goes on when the handler does.
#[tokio::test]
async fn a_runtime_of_one_thread_goes_on_after_a_handler_that_blocked() {
    let calls = Arc::new(AtomicUsize::new(0));
    let host = Host::serve(server(), {
        let calls = Arc::clone(&calls);
        move |request: Request<Body>| {
            let calls = Arc::clone(&calls);
            async move {
                if request.headers().contains_key("block") {
                    std::thread::sleep(Duration::from_millis(20));
                }
                calls.fetch_add(1, Ordering::Relaxed);
                ok()
            }
        }
    });
    let channel = host.connect().await;
    for round in 0..10 {
        let calls: Vec<_> =
            (0..10).map(|n| if n == round { blocking_call(&channel) } else { turn(&channel) }).collect();
        for call in calls {
            within("a call", call).await.unwrap();
        }
    }
    assert_eq!(calls.load(Ordering::Relaxed), 100);
}
