//! Replicas of a name in a pod: the nearest is chosen, and the next one if that is gone.

use notnets_core::link::rendezvous::Directory;
use notnets_memory::Coherence;
use tonic::{Code, Status};

use crate::support::client::Client;
use crate::support::helper::Helper;
use crate::support::pod::{Pod, endpoint};
use crate::support::{LIMIT, within};

const REGION: u64 = 32 << 20;

/// What a new connection from host 0 is told by whoever it reaches: who that takes the caller for.
async fn who(pod: &Pod) -> Result<String, Status> {
    Client::new(endpoint(&pod.host(0)).connect_lazy()).text("who", "").await
}

/// The process that new connections from host 0 come to, once that is `expected`.
async fn reaches(pod: &Pod, expected: &Helper) {
    let begin = std::time::Instant::now();
    loop {
        let client = Client::new(endpoint(&pod.host(0)).connect_lazy());
        match within(client.text("pid", "")).await {
            Ok(pid) if pid == expected.pid().to_string() => return,
            // Names get around with the next look of an agent.
            Ok(_) => {}
            Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status:?}"),
        }
        assert!(begin.elapsed() < LIMIT, "new connections don't come to {}", expected.pid());
    }
}

/// By the kernel's word, on one host; else by that of the agent of host 0.
fn caller(host: Option<u16>) -> String {
    let pid = std::process::id();
    match host {
        None => format!("Some({pid}) "),
        Some(host) => format!("Some({pid}) on host {host} "),
    }
}

#[tokio::test]
async fn a_replica_on_the_own_host_is_chosen_and_reached_without_the_region() {
    let pod = Pod::new(Coherence::Software, 2, REGION);
    let far = pod.server(1, "");
    reaches(&pod, &far).await;
    let mut near = pod.server(0, "");
    reaches(&pod, &near).await;
    let told = within(who(&pod)).await.unwrap();
    assert!(told.starts_with(&caller(None)) && !told.contains("on host"), "{told}");
    let (asked, client) = (pod.survey(0), Client::new(endpoint(&pod.host(0)).connect_lazy()));
    let sent = crate::support::service::payload(1 << 20);
    let echo = within(client.unary("echo", tonic::Request::new(sent.clone()))).await.unwrap();
    assert!(echo.into_inner() == sent);
    assert_eq!(pod.survey(0).granted, asked.granted, "no memory of the region is needed");

    near.kill();
    reaches(&pod, &far).await;
    let told = within(who(&pod)).await.unwrap();
    assert!(told.starts_with(&caller(Some(0))), "{told}");
    // What it had was an open link: only new connections choose anew.
    let status = within(client.text("pid", "")).await;
    assert!(status.is_err() || status.unwrap() == far.pid().to_string());

    let near = pod.server(0, "");
    reaches(&pod, &near).await;
    let names = Directory::at(pod.host(0)).names().unwrap();
    assert!(names.is_empty(), "places where processes meet are no names: {names:?}");
    let left = std::fs::read_dir(pod.host(0)).unwrap().count();
    assert_eq!(left, 2, "the agent's socket and the server's: the dead one's is gone");
}

#[tokio::test]
async fn a_replica_that_refuses_or_hangs_leaves_the_call_to_the_next() {
    let pod = Pod::new(Coherence::Hardware, 2, REGION);
    let far = pod.server(1, "");
    reaches(&pod, &far).await;
    let near = pod.server(0, "max_links=0");
    // It is found: its refusal is what one gets when there is no other.
    let begin = std::time::Instant::now();
    while pod.survey(0).services.is_empty() {
        assert!(begin.elapsed() < LIMIT);
    }
    for _ in 0..5 {
        let client = Client::new(endpoint(&pod.host(0)).connect_lazy());
        assert_eq!(within(client.text("pid", "")).await.unwrap(), far.pid().to_string());
    }
    drop(near);
    let near = pod.server(0, "");
    reaches(&pod, &near).await;
    near.suspend();
    let client = Client::new(endpoint(&pod.host(0)).connect_lazy());
    assert_eq!(within(client.text("pid", "")).await.unwrap(), far.pid().to_string());
}

#[tokio::test]
async fn several_replicas_on_the_own_host_are_told_apart() {
    let pod = Pod::new(Coherence::Hardware, 1, REGION);
    let (mut first, second) = (pod.server(0, ""), pod.server(0, ""));
    reaches(&pod, &first).await;
    first.kill();
    reaches(&pod, &second).await;
}
