//! How links end of old age.

mod common;

use std::time::{Duration, Instant};

use common::{Host, call, ok, within};
use http::Request;
use notnets::Server;
use tonic::body::Body;

#[tokio::test]
async fn ages_without_end_do_not_overflow() {
    let old = Server::builder().max_connection_age(Duration::MAX);
    let host = Host::serve(old.max_connection_age_grace(Duration::MAX), |_: Request<Body>| async { ok() });
    let channel = host.connect().await;
    within("a call", call(&channel, "/x", Body::empty())).await.unwrap();
}

#[tokio::test]
async fn calls_move_from_old_links_to_new_ones() {
    let young = Server::builder().max_connection_age(Duration::from_millis(5));
    let host = Host::serve(young, |_: Request<Body>| async { ok() });
    let channel = host.connect().await;
    let begin = Instant::now();
    // Across many links, and none fails.
    while begin.elapsed() < Duration::from_millis(500) {
        within("a call", call(&channel, "/x", Body::empty())).await.unwrap();
    }
}
