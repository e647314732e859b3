//! Executors differ in what a waker owns: dropping one may drop a task, and with it its calls.

mod common;

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use common::{Host, call};
use http::{Request, Response};
use notnets::{ResponseFuture, Server, Wait};
use tonic::body::Body;

/// A task that lives as long as somebody may wake it.
struct Task(#[allow(dead_code, reason = "it is there to be dropped")] Mutex<ResponseFuture>);

impl Wake for Task {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn a_waker_that_owns_a_call_may_be_replaced() {
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let never = |_: Request<Body>| pending::<Response<Body>>();
            let host = Host::serve(Server::builder(), never);
            let channel = host.endpoint().wait(Wait::Park).connect().await.unwrap();
            let poll = |call: &mut ResponseFuture, waker: &Waker| {
                let polled = Pin::new(call).poll(&mut Context::from_waker(waker));
                assert!(matches!(polled, Poll::Pending));
            };
            let mut other = call(&channel, "/x", Body::empty());
            poll(&mut other, Waker::noop());
            let mut call = call(&channel, "/x", Body::empty());
            poll(&mut call, &Waker::from(Arc::new(Task(Mutex::new(other)))));
            poll(&mut call, Waker::noop());
        });
        done.send(()).unwrap();
    });
    ended.recv_timeout(common::LIMIT).expect("it waits for itself");
}
