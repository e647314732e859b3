//! Names in a pod: which replica is chosen, and how much memory of the region a busy link takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use notnets::Wait;
use notnets::blocking;
use notnets_core::link::rendezvous::Directory;
use notnets_memory::Coherence;
use notnets_memory::region::format::Plan;
use tokio::task::JoinSet;
use tonic::{Code, Request, Status};

use crate::support::client::Client;
use crate::support::helper::Helper;
use crate::support::pod::{Pod, endpoint};
use crate::support::service::payload;
use crate::support::{LIMIT, eventually, within};

const REGION: u64 = 32 << 20;

/// What a new connection from host 0 is told by whoever it reaches: who that takes the caller for.
async fn who(pod: &Pod) -> Result<String, Status> {
    Client::new(endpoint(&pod.host(0)).connect_lazy()).text("who", "").await
}

/// The process that new connections from host 0 come to, once that is `expected`.
async fn reaches(pod: &Pod, expected: &Helper) {
    let begin = std::time::Instant::now();
    let mut last = None;
    loop {
        let client = Client::new(endpoint(&pod.host(0)).connect_lazy());
        match within(client.text("pid", "")).await {
            Ok(pid) if pid == expected.pid().to_string() => return,
            // Names get around with the next look of an agent.
            Ok(_) => {}
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                last = Some(status);
            }
        }
        let late = begin.elapsed() >= LIMIT;
        assert!(!late, "no connection comes to {}: {last:?} {:?}", expected.pid(), pod.survey(0));
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
    eventually("what others needed is given back", || pod.granted(0) == 0);
    let client = Client::new(endpoint(&pod.host(0)).connect_lazy());
    let sent = payload(1 << 20);
    let echo = within(client.unary("echo", Request::new(sent.clone()))).await.unwrap();
    assert!(echo.into_inner() == sent);
    assert_eq!(pod.granted(0), 0, "no memory of the region is needed");

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

/// Calls that are made while a replica on the caller's host ends, killed or in order, go to the next at once:
/// nobody waits for the one that has gone, of which the time allowed for connecting would be half.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_on_the_own_host_that_ends_is_not_waited_for() {
    const SOON: Duration = Duration::from_secs(5);
    let pod = Pod::new(Coherence::Hardware, 2, REGION);
    let far = pod.server(1, "");
    reaches(&pod, &far).await;
    for round in 0..6 {
        let mut near = pod.server(0, "");
        reaches(&pod, &near).await;
        let over = Arc::new(AtomicBool::new(false));
        let mut callers = JoinSet::new();
        for _ in 0..3 {
            let (endpoint, over) = (endpoint(&pod.host(0)), Arc::clone(&over));
            callers.spawn(async move {
                let mut longest = Duration::ZERO;
                while !over.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    // What the dead one had taken fails; that is not the matter here.
                    let _ = Client::new(endpoint.connect_lazy()).text("pid", "").await;
                    longest = longest.max(began.elapsed());
                }
                longest
            });
        }
        if round % 2 == 0 {
            near.kill();
        } else {
            near.tell("stop");
            near.expect("stopping");
            near.expect("stopped");
        }
        reaches(&pod, &far).await;
        over.store(true, Ordering::Relaxed);
        while let Some(longest) = within(callers.join_next()).await {
            let longest = longest.unwrap();
            assert!(longest < SOON, "round {round}: a call took {longest:?}");
        }
    }
}

#[tokio::test]
async fn several_replicas_on_the_own_host_are_told_apart() {
    let pod = Pod::new(Coherence::Hardware, 1, REGION);
    let (mut first, second) = (pod.server(0, ""), pod.server(0, ""));
    reaches(&pod, &first).await;
    first.kill();
    reaches(&pod, &second).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocking_clients_find_replicas_in_pods_too() {
    let pod = Pod::new(Coherence::Software, 2, 64 << 20);
    let far = pod.server(1, &format!("max_message={LARGE}"));
    reaches(&pod, &far).await;
    let connect = |wait| {
        let endpoint = blocking::Endpoint::new(crate::support::pod::NAME).unwrap().directory(pod.host(0));
        endpoint.wait(wait).max_message_size(LARGE).connect()
    };
    let text = |reply: Vec<u8>| String::from_utf8(reply).unwrap();
    for wait in [Wait::Spin, Wait::Adaptive, Wait::Park] {
        let mut client = connect(wait).unwrap();
        for bytes in [0, 100, 20_000, LARGE] {
            let reply = client.call("/lives.Probe/check", &payload(bytes)).unwrap();
            assert_eq!(text(reply), "true", "{bytes} bytes");
            let reply = client.call("/lives.Probe/pattern", bytes.to_string().as_bytes()).unwrap();
            assert!(reply == payload(bytes), "{bytes} bytes");
        }
        let reply = client.call("/lives.Probe/who", b"").unwrap();
        assert!(text(reply).starts_with(&caller(Some(0))));
    }
    let near = pod.server(0, "");
    reaches(&pod, &near).await;
    let mut client = connect(Wait::default()).unwrap();
    let reply = client.call("/lives.Probe/who", b"").unwrap();
    assert!(!text(reply).contains("on host"), "by the kernel's word");
    drop((near, client));

    // A server of the blocking API is met on the same host as well.
    eventually("what others needed is given back", || pod.granted(0) == 0);
    let server = blocking::Server::builder().directory(pod.host(0)).bind(crate::support::pod::NAME).unwrap();
    let stopper = server.stopper();
    let serving = std::thread::spawn(move || {
        server.serve(|request, reply| {
            reply.message.extend_from_slice(request.message);
            Ok(())
        });
    });
    let mut client = connect(Wait::default()).unwrap();
    assert_eq!(client.call("/lives.Probe/any", b"it is here").unwrap(), b"it is here");
    assert_eq!(pod.granted(0), 0, "no memory of the region is needed");
    stopper.stop();
    serving.join().unwrap();
}

const LARGE: usize = 8 << 20;
const AT_ONCE: usize = 64;

/// Makes calls with large messages, all at once: first from here, then to here.
async fn exchange(client: &Client, meanwhile: impl Fn() -> bool) {
    let sent = payload(LARGE);
    for method in ["check", "pattern"] {
        let mut calls = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (client, sent) = (client.clone(), sent.clone());
            calls.spawn(async move {
                let request = if method == "check" { sent.clone() } else { LARGE.to_string().into() };
                let reply = client.unary(method, Request::new(request)).await.unwrap().into_inner();
                // Not `assert_eq`, which would print them.
                assert!(if method == "check" { reply == "true" } else { reply == sent }, "{method}");
            });
        }
        let mut seen = false;
        while let Some(ended) = within(calls.join_next()).await {
            ended.unwrap();
            seen = seen || meanwhile();
        }
        assert!(seen, "{method}: not what it should be at any time");
    }
}

async fn large_messages(coherence: Coherence) {
    let pod = Pod::new(coherence, 2, 128 << 20);
    let server = pod.server(1, &format!("multi max_message={LARGE}"));
    reaches(&pod, &server).await;
    let client = Client::new(endpoint(&pod.host(0)).connect_lazy()).max_message(LARGE);
    within(client.text("pid", "")).await.unwrap();
    // As the agents have it in their tables, without waiting for a whole survey.
    let granted = || [0, 1].map(|host| pod.granted(host));
    eventually("what others needed is given back", || granted().iter().all(|granted| *granted <= 1));
    // A busy machine may keep calls from being open at once.
    let until = Instant::now() + LIMIT;
    loop {
        exchange(&client, || granted().iter().any(|granted| *granted > 2)).await;
        let [near, far] = granted();
        if near > 2 && far > 2 {
            break;
        }
        assert!(Instant::now() < until, "both sides have taken further extents: {near} and {far}");
    }
    drop(client);
    eventually("all is given back when the link ends", || granted() == [0, 0]);
    let survey = [0, 1].map(|host| pod.survey(host));
    assert!(survey.iter().all(|host| host.granted + host.kept == 0), "{survey:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busy_links_take_further_extents_where_hardware_is_coherent() {
    large_messages(Coherence::Hardware).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busy_links_take_further_extents_where_software_keeps_coherence() {
    large_messages(Coherence::Software).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_region_makes_links_slower_and_keeps_none_from_beginning() {
    for coherence in [Coherence::Hardware, Coherence::Software] {
        // Three extents on each host, of which one is kept for links to begin with; then one alone.
        for (bytes, extents) in [(8 << 20, 3), (4 << 20, 1)] {
            let plan = Plan { coherence, extent_bytes: Some(1 << 20), ..Plan::new("pod0", 2) };
            let pod = Pod::of(bytes, plan);
            assert_eq!(pod.survey(0).free, extents);
            let server = pod.server(1, &format!("max_message={LARGE}"));
            reaches(&pod, &server).await;
            eventually("what others could read is free again", || pod.survey(0).free == extents);
            let client = Client::new(endpoint(&pod.host(0)).connect_lazy()).max_message(LARGE);
            within(client.text("pid", "")).await.unwrap();
            for _ in 0..4 {
                let reply = within(client.text("check", payload(LARGE))).await.unwrap();
                assert_eq!(reply, "true");
                let asked = Request::new(LARGE.to_string().into());
                let reply = within(client.unary("pattern", asked)).await.unwrap();
                assert!(reply.into_inner() == payload(LARGE));
            }
            // It is there still, and another process finds room.
            let most = extents.max(2) - 1;
            assert!(pod.granted(0) <= most && pod.granted(1) <= most);
            if extents > 1 {
                let options = format!("uri={}", crate::support::pod::NAME);
                let mut other = Helper::client(&pod.host(0), &options);
                other.tell("pid");
                other.expect(&server.pid().to_string());
            }
            assert_eq!(within(client.text("pid", "")).await.unwrap(), server.pid().to_string());
        }
    }
}

/// It has no room for another process of the client's host, until one ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_room_in_a_pod_keeps_no_other_call_waiting() {
    let pod = Pod::of(REGION, Plan { processes: 1, ..Plan::new("pod0", 2) });
    let server = pod.server(1, "");
    let mut occupant = Helper::client(&pod.host(0), &format!("uri={}", crate::support::pod::NAME));
    let patient = Client::new(endpoint(&pod.host(0)).connect_lazy());
    let patient = tokio::spawn(async move { patient.text("pid", "").await });
    for _ in 0..5 {
        let endpoint = endpoint(&pod.host(0)).connect_timeout(Duration::from_millis(50));
        let begin = Instant::now();
        let status = within(Client::new(endpoint.connect_lazy()).text("pid", "")).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    }
    occupant.kill();
    assert_eq!(within(patient).await.unwrap().unwrap(), server.pid().to_string());
}
