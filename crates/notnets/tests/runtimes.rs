//! Nobody's future, thread or runtime holds up others: channels between runtimes, and outside of any.

mod common;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use common::LIMIT;
use common::outside::outside;
use common::raw::Raw;
use notnets::rpc::{self, Handler, Method, Request, ServerCall};
use notnets::{Channel, Endpoint, ErrorKind, Server, Wait};
use notnets_core::link::Socket;
use notnets_core::link::rendezvous::{Directory, Listener};
use notnets_core::link::socket::Incoming;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tonic::client::Grpc;
use tonic::{Code, Status};

const ECHO: &str = "/test.Test/Echo";
/// Answers when the server has been told to.
const LATER: &str = "/test.Test/Later";
/// Answers with the first message of a stream that goes on.
const BEGIN: &str = "/test.Test/Begin";
const HANG: &str = "/test.Test/Hang";

/// Long enough to go through a runtime that idles, and short enough for a test.
const DEADLINE: Duration = Duration::from_millis(100);

/// A server in a runtime of its own.
struct Host {
    directory: tempfile::TempDir,
    answer: Arc<Notify>,
    _runtime: Runtime,
}

struct Test(Arc<Notify>);

impl Handler for Test {
    async fn call(&self, call: &mut ServerCall) -> Result<(), rpc::Status> {
        let message = call.requests.only_message().await?;
        match call.method.path() {
            HANG => std::future::pending().await,
            BEGIN => {
                call.responses.send(message).await?;
                std::future::pending().await
            }
            LATER => {
                self.0.notified().await;
                call.responses.send_last(message).await
            }
            _ => call.responses.send_last(message).await,
        }
    }
}

impl Host {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let answer = Arc::new(Notify::new());
        let server = Server::builder().directory(directory.path());
        let server = server.add_rpc_service("test.Test", Test(Arc::clone(&answer)));
        let runtime = multi_thread();
        let bound = runtime.block_on(server.bind("notnets:///test")).unwrap();
        runtime.spawn(bound.serve());
        Self { directory, answer, _runtime: runtime }
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::from_static("notnets:///test").directory(self.directory.path())
    }
}

/// A server that takes connections and never says anything.
struct Mute {
    directory: tempfile::TempDir,
    listener: Listener,
}

impl Mute {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = Directory::at(directory.path()).listen(&"mute".parse().unwrap()).unwrap();
        Self { directory, listener }
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::from_static("notnets:///mute").directory(self.directory.path())
    }
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn multi_thread() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Runs a test in a thread that may hang.
fn within(test: impl FnOnce() + Send + 'static) {
    let (done, ended) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        test();
        done.send(()).unwrap();
    });
    match ended.recv_timeout(LIMIT) {
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("not within {LIMIT:?}"),
        _ => thread.join().unwrap(),
    }
}

/// Polls once, and is not woken.
fn poll_once<F: Future + ?Sized>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// The two APIs whose calls are made here.
#[derive(Clone, Copy, Debug)]
enum Api {
    Tonic,
    Rpc,
}

const APIS: [Api; 2] = [Api::Tonic, Api::Rpc];

type Answer = Pin<Box<dyn Future<Output = Result<Bytes, Code>> + Send>>;

/// A unary call.
fn call(
    api: Api,
    channel: &Channel,
    path: &'static str,
    payload: Bytes,
    timeout: Option<Duration>,
) -> Answer {
    let channel = channel.clone();
    match api {
        Api::Tonic => Box::pin(async move {
            let mut request = tonic::Request::new(payload);
            if let Some(timeout) = timeout {
                request.set_timeout(timeout);
            }
            let reply = Grpc::new(channel).unary(request, path.parse().unwrap(), Raw).await;
            reply.map(tonic::Response::into_inner).map_err(|status: Status| status.code())
        }),
        Api::Rpc => Box::pin(async move {
            let mut request = Request::new(Method::from_static(path));
            if let Some(timeout) = timeout {
                request = request.timeout(timeout);
            }
            let reply = channel.unary_call(request, payload).await;
            let reply = reply.map(|reply| reply.message.into_bytes());
            reply.map_err(|status| Code::from(i32::try_from(status.code().0).unwrap()))
        }),
    }
}

fn echo(api: Api, channel: &Channel) -> Answer {
    call(api, channel, ECHO, Bytes::from_static(b"hello"), None)
}

#[test]
fn a_call_that_is_polled_once_and_kept_holds_up_no_other() {
    within(|| {
        let host = Host::new();
        for api in APIS {
            current_thread().block_on(async {
                let channel = host.endpoint().connect_lazy();
                let mut kept = echo(api, &channel);
                assert!(poll_once(&mut kept).is_pending());
                assert_eq!(echo(api, &channel).await.unwrap(), "hello");
                assert_eq!(kept.await.unwrap(), "hello");
            });
        }
    });
}

#[test]
fn a_call_that_is_dropped_leaves_its_dial_to_others() {
    within(|| {
        let mute = Mute::new();
        for api in APIS {
            current_thread().block_on(async {
                let channel = mute.endpoint().connect_timeout(DEADLINE).connect_lazy();
                let mut dropped = echo(api, &channel);
                assert!(poll_once(&mut dropped).is_pending());
                drop(dropped);
                assert_eq!(echo(api, &channel).await, Err(Code::Unavailable));
            });
            assert!(mute.listener.accept().unwrap().is_some());
            assert!(mute.listener.accept().unwrap().is_none(), "they share a dial");
        }
    });
}

#[test]
fn all_that_wait_for_a_dial_share_its_failure() {
    within(|| {
        let mute = Mute::new();
        for api in APIS {
            current_thread().block_on(async {
                let channel = mute.endpoint().connect_timeout(DEADLINE).connect_lazy();
                let mut kept = echo(api, &channel);
                assert!(poll_once(&mut kept).is_pending());
                let calls: Vec<_> = (0..4).map(|_| tokio::spawn(echo(api, &channel))).collect();
                for call in calls {
                    assert_eq!(call.await.unwrap(), Err(Code::Unavailable));
                }
                assert_eq!(kept.await, Err(Code::Unavailable));
            });
            assert!(mute.listener.accept().unwrap().is_some());
            assert!(mute.listener.accept().unwrap().is_none(), "they share a dial");
        }
    });
}

#[test]
fn a_dial_ends_with_its_channel() {
    within(|| {
        let mute = Mute::new();
        current_thread().block_on(async {
            let channel = mute.endpoint().connect_lazy();
            let mut kept = echo(Api::Rpc, &channel);
            assert!(poll_once(&mut kept).is_pending());
            let socket: Socket = until(|| mute.listener.accept().unwrap()).await.into();
            drop((kept, channel));
            until(|| matches!(socket.receive(), Ok(Incoming::Closed)).then_some(())).await;
        });
    });
}

/// Looks again and again, and lets others run meanwhile.
async fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    loop {
        match look() {
            Some(found) => break found,
            None => tokio::task::yield_now().await,
        }
    }
}

#[test]
fn an_error_of_connecting_is_the_channels_own() {
    within(|| {
        let directory = tempfile::tempdir().unwrap();
        let endpoint = Endpoint::from_static("notnets:///nobody").directory(directory.path());
        for error in [
            current_thread().block_on(endpoint.connect()).unwrap_err(),
            outside(endpoint.connect()).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::NotFound);
        }
    });
}

#[test]
fn a_runtime_that_idles_holds_up_no_call_of_another() {
    within(|| {
        let host = Host::new();
        for api in APIS {
            let (a, b) = (current_thread(), current_thread());
            let channel = a.block_on(async { host.endpoint().wait(Wait::Park).connect_lazy() });
            // It is kept, and nobody runs it.
            assert_eq!(b.block_on(echo(api, &channel)).unwrap(), "hello");
            a.block_on(async {
                let mut slow = call(api, &channel, LATER, Bytes::new(), None);
                // It sleeps before it is answered.
                assert!(std::future::poll_fn(|cx| Poll::Ready(slow.as_mut().poll(cx))).await.is_pending());
                host.answer.notify_one();
                assert!(slow.await.is_ok());
            });
        }
    });
}

#[test]
fn a_dial_in_a_runtime_that_idles_holds_up_no_call_of_another() {
    within(|| {
        let host = Host::new();
        for api in APIS {
            let (a, b) = (current_thread(), current_thread());
            let channel = a.block_on(async { host.endpoint().connect_lazy() });
            let mut kept = echo(api, &channel);
            assert!(a.block_on(async { poll_once(&mut kept) }).is_pending());
            assert_eq!(b.block_on(echo(api, &channel)).unwrap(), "hello");
            assert_eq!(a.block_on(kept).unwrap(), "hello");
        }
    });
}

#[test]
fn a_deadline_holds_whichever_runtime_idles() {
    within(|| {
        let host = Host::new();
        for api in APIS {
            for wait in [Wait::Adaptive, Wait::Park] {
                let a = current_thread();
                let channel = a.block_on(host.endpoint().wait(wait).connect()).unwrap();
                let hang = || call(api, &channel, HANG, Bytes::new(), Some(DEADLINE));
                assert_eq!(current_thread().block_on(hang()), Err(Code::DeadlineExceeded));
                assert_eq!(multi_thread().block_on(hang()), Err(Code::DeadlineExceeded));
                assert_eq!(outside(hang()), Err(Code::DeadlineExceeded));
                assert_eq!(a.block_on(hang()), Err(Code::DeadlineExceeded));
            }
        }
    });
}

#[test]
fn a_deadline_holds_within_a_response_too() {
    within(|| {
        let host = Host::new();
        let a = current_thread();
        let channel = a.block_on(host.endpoint().connect()).unwrap();
        let deadline = DEADLINE * 5;
        // They begin while the channel's runtime runs, and are read on when it does no more.
        let tonic = || {
            let mut request = tonic::Request::new(Bytes::new());
            request.set_timeout(deadline);
            let mut grpc = Grpc::new(channel.clone());
            let mut replies = a.block_on(async move {
                let replies = grpc.server_streaming(request, BEGIN.parse().unwrap(), Raw).await;
                replies.unwrap().into_inner()
            });
            async move {
                while replies.message().await?.is_some() {}
                Ok::<_, Status>(())
            }
        };
        let rpc = || {
            let request = Request::new(Method::from_static(BEGIN)).timeout(deadline);
            let mut replies = a.block_on(channel.server_streaming_call(request, Bytes::new())).unwrap();
            async move {
                while replies.message().await?.is_some() {}
                Ok::<_, rpc::Status>(())
            }
        };
        let ended = |code| assert_eq!(code, Code::DeadlineExceeded);
        let ended_rpc = |code| assert_eq!(code, rpc::Code::DEADLINE_EXCEEDED);
        ended(current_thread().block_on(tonic()).unwrap_err().code());
        ended(outside(tonic()).unwrap_err().code());
        ended_rpc(current_thread().block_on(rpc()).unwrap_err().code());
        ended_rpc(outside(rpc()).unwrap_err().code());
    });
}

#[test]
fn a_deadline_holds_while_a_call_waits_to_send() {
    within(|| {
        let host = Host::new();
        let a = current_thread();
        let channel = a.block_on(host.endpoint().connect()).unwrap();
        let fill = async {
            let request = Request::new(Method::from_static(HANG)).timeout(DEADLINE);
            let (mut sender, _receiver) = channel.streaming_call(request).await.unwrap();
            while sender.send(Bytes::from_static(&[7; 100_000])).await.is_ok() {}
        };
        outside(fill);
    });
}

#[test]
fn a_deadline_holds_while_a_call_waits_for_a_link_or_its_turn() {
    within(|| {
        let (mute, host) = (Mute::new(), Host::new());
        for api in APIS {
            let a = current_thread();
            let channel = a.block_on(async { mute.endpoint().connect_lazy() });
            let call_it = |channel| call(api, channel, ECHO, Bytes::new(), Some(DEADLINE));
            assert_eq!(outside(call_it(&channel)), Err(Code::DeadlineExceeded));
            assert_eq!(current_thread().block_on(call_it(&channel)), Err(Code::DeadlineExceeded));

            let channel = a.block_on(host.endpoint().concurrency_limit(1).connect()).unwrap();
            let mut holder = call(api, &channel, HANG, Bytes::new(), None);
            assert!(poll_once(&mut holder).is_pending());
            assert_eq!(outside(call_it(&channel)), Err(Code::DeadlineExceeded));
        }
    });
}

#[test]
fn a_call_may_move_from_a_runtime_that_ends() {
    within(|| {
        let host = Host::new();
        for api in APIS {
            let home = multi_thread();
            let channel = home.block_on(host.endpoint().connect()).unwrap();
            let mut moves = call(api, &channel, HANG, Bytes::new(), Some(DEADLINE));
            let first = current_thread();
            assert!(first.block_on(async { poll_once(&mut moves) }).is_pending());
            drop(first);
            assert!(poll_once(&mut moves).is_pending());
            assert_eq!(current_thread().block_on(moves), Err(Code::DeadlineExceeded));
        }
    });
}

#[test]
fn calls_of_each_size_are_made_outside_of_any_runtime() {
    within(|| {
        let host = Host::new();
        let a = multi_thread();
        for api in APIS {
            let inside = || a.block_on(async { host.endpoint().connect_lazy() });
            for make in [
                &|| a.block_on(host.endpoint().connect()).unwrap() as Channel,
                &inside,
                &|| host.endpoint().connect_lazy(),
                &|| outside(host.endpoint().connect()).unwrap(),
            ] as [&dyn Fn() -> Channel; 4]
            {
                let channel = make();
                for size in [0, 64, 64 << 10, 200 << 10, 1 << 20, 3 << 20] {
                    let payload = Bytes::from(vec![7; size]);
                    let reply = outside(call(api, &channel, ECHO, payload.clone(), None)).unwrap();
                    assert!(reply == payload, "{size}: {} bytes came", reply.len());
                }
            }
        }
    });
}

#[test]
fn a_channel_that_was_made_outside_of_any_runtime_serves_all() {
    within(|| {
        let host = Host::new();
        for api in APIS {
            let channel = host.endpoint().connect_lazy();
            let threads: Vec<_> = [current_thread, multi_thread]
                .into_iter()
                .map(|make| {
                    let channel = channel.clone();
                    std::thread::spawn(move || {
                        for _ in 0..20 {
                            assert_eq!(make().block_on(echo(api, &channel)).unwrap(), "hello");
                        }
                    })
                })
                .collect();
            for _ in 0..20 {
                assert_eq!(outside(echo(api, &channel)).unwrap(), "hello");
            }
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        }
    });
}

#[test]
fn a_channel_whose_runtime_has_ended_goes_on_where_it_is_called() {
    within(|| {
        let host = Host::new();
        for api in APIS {
            for make in [current_thread, multi_thread] {
                let first = make();
                let channel = first.block_on(host.endpoint().connect()).unwrap();
                let lazy = first.block_on(async { host.endpoint().connect_lazy() });
                assert_eq!(first.block_on(echo(api, &channel)).unwrap(), "hello");
                drop(first);
                for channel in [channel, lazy] {
                    assert_eq!(outside(echo(api, &channel)).unwrap(), "hello");
                    assert_eq!(multi_thread().block_on(echo(api, &channel)).unwrap(), "hello");
                    assert_eq!(current_thread().block_on(echo(api, &channel)).unwrap(), "hello");
                }
            }
        }
    });
}

#[test]
fn a_dial_whose_runtime_ends_is_made_again() {
    within(|| {
        let mute = Mute::new();
        for api in APIS {
            for make in [current_thread, multi_thread] {
                let first = make();
                let endpoint = mute.endpoint().connect_timeout(DEADLINE);
                let channel = first.block_on(async { endpoint.connect_lazy() });
                let mut waits = echo(api, &channel);
                assert!(first.block_on(async { poll_once(&mut waits) }).is_pending());
                drop(first);
                assert_eq!(current_thread().block_on(waits), Err(Code::Unavailable));
                while mute.listener.accept().unwrap().is_some() {}
            }
        }
    });
}

#[test]
fn calls_of_local_tasks_and_of_blocked_workers() {
    within(|| {
        let host = Host::new();
        for api in APIS {
            let local = tokio::task::LocalSet::new();
            let runtime = current_thread();
            let channel = runtime.block_on(async { host.endpoint().connect_lazy() });
            local.block_on(&runtime, async {
                let call = tokio::task::spawn_local(call(api, &channel, HANG, Bytes::new(), Some(DEADLINE)));
                assert_eq!(echo(api, &channel).await.unwrap(), "hello");
                assert_eq!(call.await.unwrap(), Err(Code::DeadlineExceeded));
            });
            let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            let channel = runtime.block_on(async { host.endpoint().connect_lazy() });
            let spawned = runtime.spawn(async move {
                tokio::task::block_in_place(|| {
                    assert_eq!(outside(echo(api, &channel)).unwrap(), "hello");
                    outside(call(api, &channel, HANG, Bytes::new(), Some(DEADLINE)))
                })
            });
            assert_eq!(runtime.block_on(spawned).unwrap(), Err(Code::DeadlineExceeded));
        }
    });
}

#[test]
fn a_request_that_is_streamed_outside_of_any_runtime() {
    within(|| {
        let host = Host::new();
        let channel = host.endpoint().connect_lazy();
        let message = Bytes::from(vec![7; 300 << 10]);
        let reply = outside(async {
            let request = tonic::Request::new(tokio_stream::once(message.clone()));
            Grpc::new(channel).client_streaming(request, ECHO.parse().unwrap(), Raw).await
        });
        assert!(reply.unwrap().into_inner() == message);
    });
}
