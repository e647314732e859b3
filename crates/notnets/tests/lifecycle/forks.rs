//! A channel in a forked child: its segments are not inherited, so what the parent had open ends with
//! an error, and new calls get a link of their own.

use notnets::ErrorKind;
use tempfile::tempdir;

use crate::support::client::{Client, endpoint};
use crate::support::helper::Helper;
use crate::support::{counters, eventually, within};

fn a_child_uses_its_parents_channel(options: &str) {
    let directory = tempdir().unwrap();
    let mut server = Helper::server(directory.path(), "");
    let mut forker = Helper::start("forker", directory.path(), options);
    server.expect("produce began");
    forker.expect(
        "child: Unavailable: this process was forked from the one that connected: connect after the fork",
    );
    let (child, who) = (forker.answer(), forker.answer());
    let pid = child.strip_prefix("child: ").expect("the child says its pid");
    assert!(who.starts_with(&format!("child: Some({pid}) ")), "the kernel sees another caller: {who}");
    forker.expect("child: done");
    // The child has ended as processes do, having dropped all it had. The parent has noticed nothing.
    forker.expect("child ended with 0");
    forker.expect("parent: produced 1000 more");
    forker.expect("parent: still here");
    assert!(forker.finish().success());
    server.expect("produce is gone");
}

#[test]
fn outside_of_any_runtime() {
    let directory = tempdir().unwrap();
    let _server = Helper::server(directory.path(), "");
    let mut forker = Helper::start("forker_outside", directory.path(), "");
    let first = forker.answer();
    let child = forker.answer();
    let pid = child.strip_prefix("child: ").expect("the child says its pid");
    for _ in 0..2 {
        let who = forker.answer();
        assert!(who.starts_with(&format!("child: Some({pid}) ")), "the kernel sees another caller: {who}");
    }
    forker.expect("child ended with 0");
    forker.expect(&first);
    assert!(forker.finish().success());
}

#[test]
fn of_a_current_thread_runtime() {
    a_child_uses_its_parents_channel("");
}

#[test]
fn of_a_multi_thread_runtime() {
    a_child_uses_its_parents_channel("multi");
}

#[test]
fn amid_the_calls_of_other_threads() {
    let directory = tempdir().unwrap();
    let _server = Helper::server(directory.path(), "multi");
    let mut forker = Helper::start("forker_amid_calls", directory.path(), "");
    forker.expect("forked");
}

/// As a program does that binds, and turns itself into a daemon then.
#[tokio::test]
async fn a_server_that_is_forked_after_it_took_its_name() {
    for options in ["", "blocking"] {
        forked_after_it_took_its_name(options).await;
    }
}

async fn forked_after_it_took_its_name(options: &str) {
    let directory = tempdir().unwrap();
    let mut server = Helper::start("bound_before_fork", directory.path(), options);
    let child = server.answer();
    server.wait();
    // Until the child serves, whoever took the name has ended.
    let connected = within(async {
        loop {
            match endpoint(directory.path()).connect().await {
                Ok(channel) => break channel,
                Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error}"),
            }
            tokio::task::yield_now().await;
        }
    });
    let client = Client::new(connected.await);
    assert_eq!(within(client.text("pid", "")).await.unwrap(), child);
    eventually("the call is counted", || counters(directory.path()).calls() == 1);
    assert_eq!(counters(directory.path()).links_open, 1);
    server.tell("stop");
    server.expect("stopped");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "the name is given back");
}
