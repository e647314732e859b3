//! How links end of old age, and what their calls end with when the server goes away.

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Host, call, ok, within};
use http::Request;
use notnets::Server;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tonic::Status;
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

/// A server in a runtime of its own, whose handlers never answer, and its calls that have begun.
fn serve_in(runtime: &Runtime) -> (Host, Arc<Semaphore>) {
    let begun = Arc::new(Semaphore::new(0));
    let handler = {
        let begun = Arc::clone(&begun);
        move |_: Request<Body>| {
            let begun = Arc::clone(&begun);
            async move {
                begun.add_permits(1);
                std::future::pending().await
            }
        }
    };
    let _inside = runtime.enter();
    (Host::serve(Server::builder(), handler), begun)
}

/// A caller may try another server then, as when the server's process has ended.
#[tokio::test]
async fn calls_of_a_server_whose_runtime_ends_are_unavailable() {
    let current = || Builder::new_current_thread().enable_all().build().unwrap();
    let multi = || Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for round in 0..20 {
        let runtime = if round % 2 == 0 { multi() } else { current() };
        let (host, begun) = serve_in(&runtime);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = std::thread::spawn(move || {
            runtime.block_on(async { stopped.await.unwrap() });
            runtime.shutdown_background();
        });
        let channel = host.connect().await;
        let calls: Vec<_> = (0..3).map(|_| tokio::spawn(call(&channel, "/x", Body::empty()))).collect();
        let _begun = within("the calls", begun.acquire_many(3)).await.unwrap();
        stop.send(()).unwrap();
        serving.join().unwrap();
        for call in calls {
            let response = within("the end of a call", call).await.unwrap();
            let status = match response {
                Ok(response) => Status::from_header_map(response.headers()).expect("a call that failed"),
                Err(status) => status,
            };
            assert_eq!(status.code(), tonic::Code::Unavailable, "{round}: {status:?}");
        }
    }
}
