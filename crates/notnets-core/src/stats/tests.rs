//! What a process counts is what a tool sees.

use std::os::fd::OwnedFd;
use std::time::Duration;

use notnets_memory::process::PeerCredentials;

use super::*;
use crate::call::{PayloadKind, StreamId, Tally};
use crate::clock::Timestamp;
use crate::link::segments::SegmentBytes;
use crate::link::{IdentitySource, PeerIdentity};

fn peer(identity_source: IdentitySource) -> PeerIdentity {
    let credentials = PeerCredentials { pid: Some(4711), uid: 1000, gid: 100 };
    let (incarnation, user_agent) = (Default::default(), String::new());
    PeerIdentity { credentials, incarnation, label: None, user_agent, identity_source }
}

fn link(stats: &Arc<Stats>) -> (OpenLink, LinkCounters) {
    let peer = peer(IdentitySource::Kernel);
    let (open, counters) =
        OpenLink::new(stats, LinkAbout { peer: &peer, target: "a client", is_http2: false });
    (open, counters.expect("there is room"))
}

fn look(stats: &Stats) -> Snapshot {
    let descriptor: OwnedFd = stats.descriptor().try_clone_to_owned().unwrap();
    Snapshot::read(&descriptor).unwrap()
}

/// Calls a method, and ends the call with that status.
fn call(counters: &mut LinkCounters, string: u16, path: &str, status: Code) {
    let method = counters.method(Some(string), path);
    let mut counted = counters.begin(StreamId::new(1), method, None, WaitsFor::Peer);
    counters.end(&mut counted, status);
    // That is counted once.
    counters.end(&mut counted, Code::INTERNAL);
}

#[test]
fn a_tool_sees_the_process() {
    let stats = Arc::new(Stats::of_server().unwrap());
    stats.serves("notnets:///a");
    stats.refused(&Rejection::NoHello);
    let (open, counters) = link(&stats);
    let (broken, _) = link(&stats);
    drop(counters);
    broken.close(true);
    let seen = look(&stats);
    assert_eq!((seen.pid, seen.serves, seen.names.as_str()), (std::process::id(), true, "notnets:///a"));
    assert_eq!((seen.links_open, seen.links_total, seen.broken, seen.unlisted), (1, 2, 1, 0));
    assert_eq!(seen.refused.present().collect::<Vec<_>>(), [("no_hello", 1)]);
    assert!(seen.since > 0 && seen.links.is_empty());
    drop(open);
    assert_eq!(look(&stats).links_open, 0);
}

#[test]
fn a_tool_sees_an_open_link_and_its_calls() {
    let stats = Arc::new(Stats::of_server().unwrap());
    let (_open, mut counters) = link(&stats);
    call(&mut counters, 3, "/a.B/C", Code::OK);
    call(&mut counters, 3, "/a.B/C", Code::NOT_FOUND);
    call(&mut counters, 3, "/a.B/C", Code(77));
    let method = counters.method(None, "/a.B/NotInterned");
    let deadline = Timestamp::from_nanos(5_000);
    let mut other = counters.begin(StreamId::new(8), method, Some(deadline), WaitsFor::Application);
    let method = counters.method(Some(3), "/a.B/C");
    let mut open = counters.begin(StreamId::new(9), method, None, WaitsFor::Peer);
    counters.sent(10, 1);
    counters.received(20, 0);
    counters.messages_received(3);
    counters.wants(Want::Room);
    counters.waits_for(&mut open, WaitsFor::Room);
    counters.segments(SegmentBytes { offered: 100, mapped: 20 });
    counters.park(|| (7, 7168));
    std::thread::sleep(Duration::from_millis(2));

    let seen = look(&stats).links.pop().expect("it is open");
    assert_eq!((seen.number, seen.peer_pid, seen.peer_uid), (1, Some(4711), 1000));
    assert_eq!((seen.transport, seen.target.as_str()), (Transport::Memory, "a client"));
    assert_eq!((seen.segments_offered, seen.segments_mapped), (100, 20));
    assert_eq!((seen.blocks_out, seen.bytes_out), (7, 7168));
    assert_eq!((seen.counts.of(Count::BytesSent), seen.counts.of(Count::BytesReceived)), (10, 20));
    let messages = (seen.counts.of(Count::MessagesSent), seen.counts.of(Count::MessagesReceived));
    assert_eq!(messages, (1, 3));
    assert_eq!((seen.counts.of(Count::NoRoom), seen.counts.of(Count::Parks)), (1, 1));
    assert!(seen.parked.unwrap() >= Duration::from_millis(2) && seen.parked.unwrap().as_secs() < 60);
    let [others, method] = &seen.methods[..] else { panic!("{:?}", seen.methods) };
    assert_eq!((others.path.as_str(), others.started, others.open()), ("", 1, 1));
    assert_eq!((method.path.as_str(), method.started, method.open()), ("/a.B/C", 4, 1));
    let statuses: Vec<_> = method.statuses().collect();
    assert_eq!(statuses, [("OK", 1), ("NOT_FOUND", 1), ("OTHER", 1)]);
    assert_eq!(method.times.count(), 3);
    assert!(method.seconds > 0.0 && method.times.quantile(1.0).unwrap() < 1.0);
    let [first, second] = &seen.open[..] else { panic!("{:?}", seen.open) };
    assert_eq!((first.stream, first.deadline, first.waits_for), (8, Some(deadline), WaitsFor::Application));
    assert_eq!((second.stream, second.method.as_str()), (9, "/a.B/C"));
    assert_eq!((second.deadline, second.waits_for), (None, WaitsFor::Room));
    assert!(second.age >= Duration::from_millis(2));

    counters.awake();
    counters.goes_on(&mut open);
    counters.end_unanswered(&mut other, Code::CANCELLED, "cancelled");
    let seen = look(&stats).links.pop().unwrap();
    assert!(seen.parked.is_none() && seen.counts.parked_seconds >= 0.002);
    assert_eq!((seen.failure.as_str(), seen.counts.of(Count::Unanswered)), ("CANCELLED: cancelled", 1));
    assert_eq!((seen.open.len(), seen.open[0].waits_for), (1, WaitsFor::Application));
}

#[test]
fn what_ended_links_have_counted_stays() {
    let stats = Arc::new(Stats::of_server().unwrap());
    for nth in 0..3 {
        let (_open, mut counters) = link(&stats);
        // The strings have other ids on each link.
        call(&mut counters, nth, "/a.B/C", Code::OK);
        call(&mut counters, nth + 7, "/a.B/Unknown", Code::UNIMPLEMENTED);
        counters.sent(5, 1);
        counters.payload(PayloadKind::SentShared, 9);
        counters.segments(SegmentBytes { offered: 100, mapped: 20 });
        assert_eq!(look(&stats).calls(), 2 * (u64::from(nth) + 1));
    }
    let (_open, mut counters) = link(&stats);
    call(&mut counters, 0, "/a.B/C", Code::OK);
    let seen = look(&stats);
    // Its area was another's: nothing of that is left.
    assert_eq!((seen.links.len(), seen.links[0].number, seen.links[0].methods.len()), (1, 4, 1));
    assert_eq!((seen.counts().of(Count::BytesSent), seen.links[0].counts.of(Count::BytesSent)), (15, 0));
    assert_eq!(seen.counts().payloads.of(PayloadKind::SentShared), Tally { frames: 3, bytes: 27 });
    assert_eq!(seen.segment_bytes(), (0, 0));
    let methods = seen.methods();
    assert_eq!((methods["/a.B/C"].started, methods["/a.B/C"].times.count()), (4, 4));
    // A client can't fill the table with methods that the server does not have.
    assert_eq!(methods[""].statuses().collect::<Vec<_>>(), [("UNIMPLEMENTED", 3)]);
    assert_eq!(methods.len(), 2);
}

#[test]
fn there_may_be_more_of_everything_than_there_is_room_for() {
    let stats = Arc::new(Stats::of_server().unwrap());
    let (open, mut counters) = link(&stats);
    let long = "/a.B/".to_owned() + &"x".repeat(1000);
    (0..100).for_each(|nth| call(&mut counters, nth, &format!("/{nth}{long}"), Code::OK));
    let others = counters.method(None, "");
    let begin = |nth| counters.begin(StreamId::new(nth), others, None, WaitsFor::Peer);
    let mut calls: Vec<_> = (1..=100).map(begin).collect();
    let seen = look(&stats);
    assert_eq!((seen.calls(), seen.links[0].open.len(), seen.links[0].methods.len()), (200, 64, 23));
    calls.iter_mut().for_each(|counted| counters.end(counted, Code::OK));
    assert_eq!(look(&stats).links[0].open.len(), 0);
    drop((open, counters));
    // More links, one after the other, with other methods each.
    for link_nth in 0..10 {
        let (_open, mut counters) = link(&stats);
        (0..20).for_each(|nth| call(&mut counters, nth, &format!("/{link_nth}/{nth}"), Code::OK));
    }
    assert_eq!(look(&stats).calls(), 400);

    let mut links: Vec<_> = (0..LINKS + 1)
        .map(|_| {
            let peer = peer(IdentitySource::Agent { host: 3 });
            OpenLink::new(&stats, LinkAbout { peer: &peer, target: "", is_http2: false })
        })
        .collect();
    assert!(links.pop().expect("the last").1.is_none());
    let seen = look(&stats);
    assert_eq!((seen.links.len(), seen.unlisted), (LINKS, 1));
    assert!(seen.links.iter().all(|link| link.transport == Transport::Pod { host: 3 }));
}

/// A tool that looks again and again, while links come and go, sees each call once.
#[test]
fn no_call_is_seen_twice_or_not_at_all() {
    let stats = Arc::new(Stats::of_server().unwrap());
    let descriptor = stats.descriptor().try_clone_to_owned().unwrap();
    let worker = std::thread::spawn(move || {
        for _ in 0..2_000 {
            let (_open, mut counters) = link(&stats);
            call(&mut counters, 0, "/a.B/C", Code::OK);
        }
    });
    let mut last = 0;
    while !worker.is_finished() {
        let seen = Snapshot::read(&descriptor).unwrap();
        let (calls, links) = (seen.calls(), seen.links_total);
        assert!(
            calls >= last && calls <= links + 1 && calls + 1 >= seen.links_total - seen.links_open,
            "{seen:?}"
        );
        last = calls;
    }
    worker.join().unwrap();
    assert_eq!(Snapshot::read(&descriptor).unwrap().calls(), 2_000);
}

#[test]
fn calls_past_all_links_are_those_of_a_link() {
    let calls = OutsideCalls::to("far:1").unwrap();
    let mut answered = calls.begin("/a.B/C", None);
    answered.end(Code::NOT_FOUND);
    answered.fail(Code::UNAVAILABLE, "it has ended before");
    drop(answered);
    drop(calls.begin("/a.B/C", None));
    calls.sent(10, 1);
    calls.received(20, 2);
    let mut open = calls.begin("/a.B/D", None);
    (0..100).for_each(|n| calls.begin(&format!("/a.B/{n}"), None).end(Code::OK));
    let seen = look(&of_clients().unwrap());
    let link = seen.links.iter().find(|link| link.target == "far:1").unwrap();
    assert_eq!((link.transport, link.peer_pid), (Transport::Http2, None));
    let method = |path: &str| link.methods.iter().find(|method| method.path == path).unwrap();
    let of_c = method("/a.B/C");
    assert_eq!((of_c.started, of_c.times.count()), (2, 2));
    let by_status = |code: Code| of_c.by_status[code.0 as usize];
    assert_eq!((by_status(Code::NOT_FOUND), by_status(Code::CANCELLED)), (1, 1));
    assert!(method("").started > 0, "paths have no end, counters have");
    let of = |count| link.counts.of(count);
    assert_eq!((of(Count::BytesSent), of(Count::MessagesReceived), of(Count::Unanswered)), (10, 2, 1));
    assert_eq!(link.open.iter().map(|call| call.method.as_str()).collect::<Vec<_>>(), ["/a.B/D"]);
    open.fail(Code::UNAVAILABLE, "gone");
    let seen = look(&of_clients().unwrap());
    let link = seen.links.iter().find(|link| link.target == "far:1").unwrap();
    assert!(link.open.is_empty() && link.failure.contains("gone"), "{}", link.failure);
}
