//! Whoever waits is woken, whatever others do.

mod common;

use std::future::pending;

use common::{Host, call, ok, poll_once, within};
use http::{Request, Response};
use notnets::{Server, Wait};
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
