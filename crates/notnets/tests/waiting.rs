//! Whoever waits is woken, whatever others do.

mod common;

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::thread;

use bytes::Bytes;
use common::{Frames, Host, call, data, ok, poll_once, within};
use http::{Request, Response};
use http_body::{Body as _, Frame};
use notnets::{Server, Wait};
use tokio::sync::Notify;
use tonic::body::Body;

/// `/fast` answers at once, `/slow` never.
async fn answer(request: Request<Body>) -> Response<Body> {
    match request.uri().path() {
        "/fast" => ok(),
        _ => pending().await,
    }
}

async fn holds_nobody_up(wait: Wait) {
    let host = Host::serve(Server::builder().wait(wait), answer);
    let channel = host.endpoint().wait(wait).connect().await.unwrap();
    let mut slow = call(&channel, "/slow", Body::empty());
    // A task that selects polls it once and then waits for something else.
    assert!(poll_once(&mut slow).await.is_pending());
    for _ in 0..3 {
        within("a call beside one that is not polled", call(&channel, "/fast", Body::empty())).await.unwrap();
    }
    drop(slow);
    within("a call after it", call(&channel, "/fast", Body::empty())).await.unwrap();
}

#[tokio::test]
async fn a_call_that_is_not_polled_any_more_holds_nobody_up() {
    holds_nobody_up(Wait::Adaptive).await;
}

#[tokio::test]
async fn a_call_that_is_not_polled_any_more_holds_nobody_up_spinning() {
    holds_nobody_up(Wait::Spin).await;
}

#[tokio::test]
async fn a_call_that_is_not_polled_any_more_holds_nobody_up_parking() {
    holds_nobody_up(Wait::Park).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_not_polled_any_more_holds_nobody_up_on_threads() {
    holds_nobody_up(Wait::Adaptive).await;
}

/// A handler may hand the request to another task and answer without waiting for it.
#[tokio::test]
async fn who_reads_a_request_hears_that_its_call_is_over() {
    for fail in [false, true] {
        let ended = Arc::new(Notify::new());
        let told = Arc::clone(&ended);
        let host = Host::serve(Server::builder(), move |request: Request<Body>| {
            let told = Arc::clone(&told);
            async move {
                let mut body = request.into_body();
                let (reading, reads) = tokio::sync::oneshot::channel();
                tokio::spawn(async move {
                    let mut reading = Some(reading);
                    loop {
                        if let Poll::Ready(next) = poll_once(&mut Box::pin(data(&mut body))).await {
                            if !matches!(next, Some(Ok(_))) {
                                break;
                            }
                            continue;
                        }
                        reading.take().map(|reading| reading.send(()));
                        if !matches!(data(&mut body).await, Some(Ok(_))) {
                            break;
                        }
                    }
                    told.notify_one();
                });
                // It waits for more by now.
                reads.await.unwrap();
                assert!(!fail, "a handler that panics");
                ok()
            }
        });
        let channel = host.connect().await;
        let endless = Frames(|_: &mut Context<'_>| Poll::Pending);
        let reply = within("the reply", call(&channel, "/x", Body::new(endless))).await;
        assert_eq!(reply.is_err(), fail);
        within("the end of the request's body", ended.notified()).await;
    }
}

/// A stream that always has more to say never waits, so it must notice by itself that nobody listens.
#[test]
fn a_response_that_never_pauses_ends_with_its_call() {
    response_that_never_pauses();
}

/// Where others want the cores, links look at their sockets in between. A worker of the runtime that a
/// handler keeps for long must not keep a link's task as well: another worker has it.
#[test]
fn a_response_that_never_pauses_ends_with_its_call_in_a_crowd() {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    thread::yield_now();
                }
            });
        }
        let _over = SetOnDrop(&over);
        for _ in 0..500 {
            response_that_never_pauses();
        }
    });
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn response_that_never_pauses() {
    struct Dropped(Arc<Notify>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let dropped = Arc::new(Notify::new());
    let told = Arc::clone(&dropped);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let entered = runtime.enter();
    let host = Host::serve(Server::builder(), move |request: Request<Body>| {
        let dropped = Dropped(Arc::clone(&told));
        let mut request = request.into_body();
        let mut frames = 0;
        async move {
            let more = Frames(move |cx: &mut Context<'_>| {
                let _ = &dropped;
                frames += 1;
                match frames {
                    1 => {}
                    // From here on in a task of its own.
                    2 | 3 => {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    // While this is being made the client goes away, and the link's task sees it.
                    4 => {
                        while Pin::new(&mut request).poll_frame(cx).is_pending() {
                            thread::yield_now();
                        }
                    }
                    _ => {}
                }
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"more")))))
            });
            Response::new(Body::new(more))
        }
    });
    drop(entered);
    let noticed = runtime.block_on(async {
        let channel = host.connect().await;
        let endless = Body::new(Frames(|_: &mut Context<'_>| Poll::Pending));
        let mut reply = within("the reply", call(&channel, "/x", endless)).await.unwrap();
        within("some data", data(reply.body_mut())).await.unwrap().unwrap();
        drop(reply);
        tokio::time::timeout(common::LIMIT, dropped.notified()).await
    });
    drop(host);
    // Not by dropping it, which would wait for a thread that goes round and round.
    runtime.shutdown_background();
    assert!(noticed.is_ok(), "it goes on for ever");
}
