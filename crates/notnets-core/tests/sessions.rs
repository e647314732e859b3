//! Both ends of a link by their sessions: doorbells, segments, keepalive and the end, without threads or
//! time.

use std::time::Duration;

use notnets_core::call::{Event, OpenOutcome, Sent, StreamId};
use notnets_core::clock::Timestamp;
use notnets_core::code::Code;
use notnets_core::frame::{Frame, Kind, Payload};
use notnets_core::limits::Limits;
use notnets_core::link::packet::{BadPacket, Packet};
use notnets_core::link::socket::Incoming;
use notnets_core::pair::{HeapSession, frozen_clock, sessions};
use notnets_core::session::{Ending, Keepalive};
use notnets_memory::lane::Geometry;

const SECOND: Duration = Duration::from_secs(1);

fn at(seconds: u32) -> Timestamp {
    Timestamp::ZERO + SECOND * seconds
}

/// A client, a server, and what a socket between them would carry.
struct Link {
    client: HeapSession,
    server: HeapSession,
}

impl Link {
    fn new() -> Self {
        let limits = Limits::default();
        let [client, server] = sessions(Geometry::default(), limits, limits);
        Self { client, server }
    }

    /// Lets both sides work until neither has anything to do.
    fn drive(&mut self) {
        let Self { client, server } = self;
        while turn(client, server) | turn(server, client) {}
    }

    /// The client opens a call without more to send.
    fn open(&mut self) -> StreamId {
        let none = std::iter::empty::<(&str, &[u8])>();
        let calls = self.client.live().expect("it has not ended");
        match calls.open("/a.B/C", none, None, &mut &b"request"[..], true, &mut Some(())) {
            Ok(OpenOutcome::Opened(stream, Sent::All)) => stream,
            opened => panic!("{opened:?}"),
        }
    }
}

/// One side takes what has come, and the other gets its packets and doorbells. Returns `true` if there was
/// anything.
fn turn(this: &mut HeapSession, other: &mut HeapSession) -> bool {
    let mut worked = this.receive(frozen_clock) > 0;
    this.offer_memory().unwrap();
    while let Some((packet, _)) = this.poll_packet() {
        let packet = packet.clone();
        other.handle_incoming(Ok(Incoming::Packet(packet, None)), frozen_clock);
        this.packet_sent();
        worked = true;
    }
    if this.finish_turn(frozen_clock) {
        other.handle_incoming(Ok(Incoming::Packet(Packet::Doorbell, None)), frozen_clock);
        worked = true;
    }
    worked
}

fn events(session: &mut HeapSession) -> Vec<Event<()>> {
    std::iter::from_fn(|| session.poll_event()).collect()
}

fn keepalive(while_idle: bool) -> Keepalive {
    Keepalive { interval: SECOND * 10, timeout: SECOND * 2, while_idle }
}

#[test]
fn only_a_side_that_is_armed_is_rung_and_only_once() {
    let mut link = Link::new();
    link.open();
    assert!(!link.client.finish_turn(frozen_clock), "the server looks for itself");
    assert!(!link.server.arm(frozen_clock), "something has come before it was armed");
    link.server.receive(frozen_clock);
    assert!(link.server.arm(frozen_clock));
    link.open();
    assert!(link.client.finish_turn(frozen_clock), "the server sleeps");
    link.open();
    assert!(!link.client.finish_turn(frozen_clock), "it was rung already");
    link.server.disarm();
    assert!(link.server.is_ready());
}

#[test]
fn a_peer_that_is_awake_and_does_not_look_is_rung_after_a_while() {
    let patience = Duration::from_micros(500);
    let mut link = Link::new();
    link.open();
    assert!(!link.client.finish_turn(frozen_clock), "the server looks for itself");
    assert!(link.client.arm(|| at(1)));
    let due = at(1) + patience;
    assert_eq!(link.client.poll_timeout(), Some(due));
    link.client.handle_timeout(due);
    assert!(link.client.finish_turn(frozen_clock), "it has not looked");
    assert!(!link.client.finish_turn(frozen_clock), "once");
    assert_eq!(link.client.poll_timeout(), Some(due + patience * 2));
    link.server.receive(frozen_clock);
    link.client.handle_timeout(due + patience * 2);
    assert!(!link.client.finish_turn(frozen_clock), "it has looked");
    assert_eq!(link.client.poll_timeout(), None);
}

#[test]
fn so_is_one_that_does_not_look_at_what_a_sleeping_side_has_sent() {
    let mut link = Link::new();
    assert!(link.client.arm(frozen_clock));
    link.open();
    assert!(!link.client.finish_turn(|| at(1)), "the server looks for itself");
    let due = link.client.poll_timeout().expect("a look at it");
    link.client.handle_timeout(due);
    assert!(link.client.finish_turn(frozen_clock), "it has not looked");
}

#[test]
fn a_peer_that_was_rung_or_has_looked_is_left_alone() {
    let mut link = Link::new();
    assert!(link.server.arm(frozen_clock));
    link.open();
    assert!(link.client.finish_turn(frozen_clock));
    assert!(link.client.arm(|| panic!("it was rung")));
    link.server.disarm();
    link.server.receive(frozen_clock);
    link.open();
    assert!(!link.client.finish_turn(frozen_clock));
    link.server.receive(frozen_clock);
    assert!(link.client.arm(|| at(1)));
    link.client.handle_timeout(at(2));
    assert!(!link.client.finish_turn(|| panic!("it has looked")));
    assert_eq!(link.client.poll_timeout(), None);
}

#[test]
fn a_side_that_runs_out_of_blocks_gets_more() {
    let mut link = Link::new();
    let none = std::iter::empty::<(&str, &[u8])>();
    let large = vec![7; 300_000];
    let mut data = &large[..];
    let opened = link.client.calls().open("/a.B/C", none, None, &mut data, true, &mut Some(())).unwrap();
    let OpenOutcome::Opened(stream, Sent::Part) = opened else { panic!("{opened:?}") };
    assert!(link.client.wants_to_offer());
    while !data.is_empty() {
        link.drive();
        link.server.calls().accept();
        while let notnets_core::call::Received::Data(_) = link.server.calls().take(stream) {}
        link.drive();
        link.client.calls().send(stream, &mut data, true);
    }
    assert!(link.client.ended().is_none() && link.server.ended().is_none());
}

/// A call whose request is large, and read. Returns when its client takes more than it had at first.
fn burst(link: &mut Link) {
    let none = std::iter::empty::<(&str, &[u8])>();
    let large = vec![7; 300_000];
    let mut data = &large[..];
    let opened = link.client.calls().open("/a.B/C", none, None, &mut data, true, &mut Some(())).unwrap();
    let OpenOutcome::Opened(stream, _) = opened else { panic!("{opened:?}") };
    while !data.is_empty() {
        link.drive();
        while link.server.calls().accept().is_some() {}
        while let notnets_core::call::Received::Data(_) = link.server.calls().take(stream) {}
        link.drive();
        link.client.calls().send(stream, &mut data, true);
    }
    link.drive();
    while let notnets_core::call::Received::Data(_) = link.server.calls().take(stream) {}
    link.client.calls().close(stream);
    link.drive();
    assert!(link.client.ended().is_none() && link.server.ended().is_none());
    let bytes = [link.client.segment_bytes().offered, link.server.segment_bytes().mapped];
    assert!(bytes[0] > 0 && bytes[0] == bytes[1], "{bytes:?}");
}

#[test]
fn what_a_burst_took_is_given_back_when_it_was_not_used_for_a_while() {
    let mut link = Link::new();
    let mut now = at(100);
    for _ in 0..3 {
        assert_eq!(link.client.poll_timeout(), None, "nobody wakes up");
        burst(&mut link);
        link.client.handle_timeout(now);
        let mut looks = 0;
        while let Some(next) = link.client.poll_timeout() {
            looks += 1;
            assert!(next > now && next <= now + SECOND * 5 && looks < 9, "{next:?}");
            now = next;
            link.client.handle_timeout(now);
            link.drive();
        }
        assert!(looks <= 2, "{looks} looks");
        assert_eq!(link.client.segment_bytes().offered, 0);
        assert_eq!(link.server.segment_bytes().mapped, 0);
        assert_eq!(link.server.poll_timeout(), None);
    }
}

#[test]
fn data_in_a_segment_that_was_retired_end_the_link() {
    let mut link = Link::new();
    burst(&mut link);
    let lanes = link.client.calls().lanes();
    let mut loan = lanes.loan(60_000, 60_000).expect("a further segment has a block");
    lanes.arena().write(&mut loan, &[7; 100]);
    let reference = lanes.arena().commit(loan, 0);
    let retire = Packet::Retire { segment: reference.segment };
    assert!(link.server.handle_incoming(Ok(Incoming::Packet(retire, None)), frozen_clock));
    let payload = Payload::Reference(reference);
    let stream = StreamId::new(9);
    let frame = Frame { payload, code: 0x4000, ..Frame::new(Kind::Request, stream) };
    link.client.calls().lanes().push(frame.encode());
    link.server.receive(frozen_clock);
    let failure = link.server.ended().expect("a violation");
    assert!(failure.message.contains("outside of its segments"), "{failure:?}");
}

#[test]
fn a_peer_that_answers_pings_is_kept() {
    let mut link = Link::new();
    link.client.keep_alive(keepalive(true), at(0));
    assert_eq!(link.client.poll_timeout(), Some(at(10)));
    link.client.handle_timeout(at(10));
    link.drive();
    assert!(events(&mut link.client).contains(&Event::Pong(1)));
    link.client.handle_timeout(at(12));
    assert!(link.client.ended().is_none());
    assert_eq!(link.client.poll_timeout(), Some(at(20)));
}

#[test]
fn a_peer_that_does_not_is_given_up() {
    let mut link = Link::new();
    link.client.keep_alive(keepalive(false), at(0));
    link.client.handle_timeout(at(10));
    assert_eq!(link.client.poll_timeout(), Some(at(20)), "no call is open");
    let stream = link.open();
    link.client.handle_timeout(at(20));
    assert_eq!(link.client.poll_timeout(), Some(at(22)));
    link.client.handle_timeout(at(22));
    let failure = link.client.failure_of(stream).expect("the link has ended");
    assert_eq!((failure.code, failure.retry_safe), (Code::UNAVAILABLE, false), "it may read the call yet");
    assert!(failure.message.contains("keepalive"), "{failure:?}");
    assert_eq!(link.client.poll_timeout(), None);
    assert!(!link.client.is_usable() && link.client.live().is_none());
}

#[test]
fn a_call_that_a_dead_server_has_not_read_is_safe_to_repeat() {
    let mut link = Link::new();
    let read = link.open();
    link.drive();
    let unread = link.open();
    link.client.handle_peer_gone(frozen_clock);
    assert!(!link.client.failure_of(read).expect("it has ended").retry_safe);
    assert!(link.client.failure_of(unread).expect("it has ended").retry_safe);
}

/// A process may lose its socket and live. Where nobody tells its end, the socket's has to do.
#[test]
fn a_call_that_a_server_without_a_socket_may_read_yet_is_not() {
    for is_watched in [false, true] {
        let mut link = Link::new();
        if is_watched {
            link.client.watch_process();
        }
        assert!(!link.client.hangs_on_death(), "nothing is unread");
        let unread = link.open();
        assert_eq!(link.client.hangs_on_death(), is_watched);
        assert!(!link.client.handle_incoming(Ok(Incoming::Closed), frozen_clock));
        assert!(!link.client.hangs_on_death(), "it is over");
        let failure = link.client.failure_of(unread).expect("it has ended");
        assert_eq!(failure.retry_safe, !is_watched);
        link.client.handle_peer_gone(frozen_clock);
        assert!(link.client.failure_of(unread).expect("it has ended").retry_safe, "now it is certain");
    }
}

/// What it has not taken by then it never will.
#[test]
fn a_call_that_comes_after_its_server_has_let_go_is_safe_to_repeat() {
    let mut link = Link::new();
    let taken = link.open();
    link.drive();
    link.server.end(Ending::RuntimeGone, frozen_clock);
    let untaken = link.open();
    link.client.end(Ending::PeerGone, frozen_clock);
    assert!(!link.client.failure_of(taken).expect("it has ended").retry_safe);
    let response = link.client.calls().response(untaken);
    assert!(matches!(&response, Some(Err(failure)) if failure.retry_safe), "{response:?}");
}

#[test]
fn what_the_peer_said_before_its_end_still_counts() {
    let mut link = Link::new();
    let stream = link.open();
    link.drive();
    let request = link.server.calls().accept().expect("a request");
    let none = std::iter::empty::<(&str, &[u8])>();
    link.server.calls().respond_trailers_only(request.stream, none, Code(5)).unwrap();
    assert!(!link.client.handle_incoming(Ok(Incoming::Closed), frozen_clock));
    assert!(matches!(link.client.calls().response(stream), Some(Ok(_))));
    assert_eq!(link.client.receive(frozen_clock), 0, "nothing comes any more");
}

#[test]
fn a_link_that_is_wound_up_ends_with_its_last_call() {
    let mut link = Link::new();
    let stream = link.open();
    link.drive();
    let request = link.server.calls().accept().expect("a request");
    link.server.go_away(at(1));
    link.drive();
    assert!(!link.client.is_usable(), "the client opens no more calls");
    assert!(!link.server.is_wound_up() && !link.client.is_wound_up());
    let none = std::iter::empty::<(&str, &[u8])>();
    link.server.calls().respond_trailers_only(request.stream, none, Code::OK).unwrap();
    link.drive();
    assert!(matches!(link.client.calls().response(stream), Some(Ok(_))));
    link.client.calls().close(stream);
    link.drive();
    assert!(link.server.is_wound_up() && link.client.is_wound_up());
}

#[test]
fn a_client_that_hears_too_late_is_refused_after_a_while() {
    let mut link = Link::new();
    link.server.go_away(at(1));
    assert_eq!(link.server.poll_timeout(), Some(at(2)));
    let late = link.open();
    link.server.handle_timeout(at(2));
    assert_eq!(link.server.poll_timeout(), None);
    link.drive();
    assert!(link.server.calls().accept().is_none(), "it takes no more calls");
    let Some(Err(failure)) = link.client.calls().response(late) else { panic!("it was not refused") };
    assert!(failure.retry_safe, "{failure:?}");
}

#[test]
fn a_peer_that_breaks_the_rules_ends_the_link_and_nothing_is_taken_after_it() {
    let mut link = Link::new();
    link.server.calls().lanes().push([u64::MAX; 7]);
    link.server.calls().lanes().push([u64::MAX; 7]);
    link.client.receive(frozen_clock);
    let failure = link.client.ended().expect("a violation").clone();
    assert_eq!(failure.code, Code::INTERNAL);
    assert!(failure.message.starts_with("the link was closed: "), "{failure:?}");
    assert!(!link.client.is_ready() && link.client.receive(frozen_clock) == 0);
    assert!(link.client.arm(frozen_clock), "there is nothing to stay awake for");
    link.client.end(Ending::PeerGone, frozen_clock);
    assert_eq!(link.client.ended(), Some(&failure), "the first reason stays");
}

#[test]
fn what_is_no_packet_or_has_no_place_ends_the_link() {
    let accept = Incoming::Packet(Packet::Accept { segment: 9 }, None);
    for incoming in [accept, Incoming::Bad(BadPacket::Length)] {
        let mut link = Link::new();
        assert!(!link.client.handle_incoming(Ok(incoming), frozen_clock));
        assert_eq!(link.client.ended().expect("a violation").code, Code::INTERNAL);
    }
}
