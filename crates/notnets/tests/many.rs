//! Many calls at once, most of which have to wait.

mod common;

use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{Host, call, ok, poll_once, within};
use http::Request;
use notnets::{Channel, Server, Wait};
use tokio::sync::Notify;
use tonic::Code;
use tonic::body::Body;

/// Calls, and how often they were polled in all.
async fn polls_of(channel: &Channel, calls: usize) -> usize {
    let polls = Arc::new(AtomicUsize::new(0));
    let counted = |_| {
        let (polls, mut call) = (Arc::clone(&polls), call(channel, "/x", Body::empty()));
        tokio::spawn(poll_fn(move |cx| {
            polls.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut call).poll(cx)
        }))
    };
    let calls: Vec<_> = (0..calls).map(counted).collect();
    within("all calls", async {
        for call in calls {
            call.await.unwrap().unwrap();
        }
    })
    .await;
    polls.load(Ordering::Relaxed)
}

#[tokio::test]
async fn thousands_of_calls_wait_for_a_few_streams() {
    let server = Server::builder().max_concurrent_streams(20);
    let host = Host::serve(server, |_: Request<Body>| async {
        tokio::task::yield_now().await;
        ok()
    });
    let channel = host.endpoint().wait(Wait::Park).connect().await.unwrap();
    let polls = polls_of(&channel, 4000).await;
    // If each stream that ends wakes all that wait, it is hundreds for each.
    assert!(polls < 4000 * 20, "{polls} polls of 4,000 calls");
}

/// Those that wait may go away, be told to and not come back, or be let down by those before them.
#[tokio::test]
async fn a_stream_that_is_free_goes_to_a_call_that_wants_it() {
    let release = Arc::new(Notify::new());
    let released = Arc::clone(&release);
    let server = Server::builder().max_concurrent_streams(1);
    let host = Host::serve(server, move |request: Request<Body>| {
        let released = Arc::clone(&released);
        async move {
            match request.uri().path() {
                "/held" => released.notified().await,
                "/never" => pending().await,
                _ => {}
            }
            ok()
        }
    });
    let channel = host.connect().await;
    let held = tokio::spawn(call(&channel, "/held", Body::empty()));
    tokio::task::yield_now().await;
    // It waits for a stream, and is not polled again.
    let mut forgotten = call(&channel, "/x", Body::empty());
    assert!(poll_once(&mut forgotten).await.is_pending());
    // More than are woken at once wait and give up, before they are woken or when they are.
    let gone: Vec<_> = (0..100).map(|_| tokio::spawn(call(&channel, "/x", Body::empty()))).collect();
    tokio::task::yield_now().await;
    for call in &gone[..50] {
        call.abort();
    }
    let last = tokio::spawn(call(&channel, "/x", Body::empty()));
    tokio::task::yield_now().await;
    release.notify_one();
    within("the one before", held).await.unwrap().unwrap();
    for call in &gone[50..] {
        call.abort();
    }
    within("the last one", last).await.unwrap().unwrap();
    drop(forgotten);
    // And with its own deadline, while nothing ends.
    let never = tokio::spawn(call(&channel, "/never", Body::empty()));
    tokio::task::yield_now().await;
    let hasty = host.endpoint().timeout(Duration::from_millis(20));
    let status = hasty.connect().await.unwrap();
    let status = within("the deadline", call(&status, "/never", Body::empty())).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    never.abort();
}
