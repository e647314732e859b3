//! Payloads in sealed memory, between two connections without threads or time.

use bytes::{Buf, Bytes};
use std::sync::{Arc, Mutex};

use notnets_core::call::{
    Event, OpenOutcome, PayloadKind, Place, Places, Placing, Received, Sent, SharedPayloads, StreamId,
    Violation,
};
use notnets_core::frame::{Frame, Kind, Payload, SharedReference};
use notnets_core::pair::{HeapConnection, Pair};
use notnets_memory::Sealed;
use notnets_memory::region::RegionOffset;

const MIB: usize = 1 << 20;

fn pair(bytes: u64) -> Pair {
    let mut pair = Pair::default();
    pair.client.begin_sharing(bytes);
    pair.server.begin_sharing(bytes);
    pair
}

fn sealed(len: usize) -> Sealed {
    Sealed::filled_by(len, |bytes| bytes.iter_mut().zip(0..).for_each(|(byte, i)| *byte = (i % 251) as u8))
        .unwrap()
}

fn open(client: &mut HeapConnection) -> StreamId {
    match client.open("/a/b", [], None, &mut &[][..], false, &mut Some(())) {
        Ok(OpenOutcome::Opened(stream, _)) => stream,
        other => panic!("{other:?}"),
    }
}

/// Carries the packets of one side to the other, which has what they bring, or has not.
fn carry(from: &mut HeapConnection, to: &mut HeapConnection, arrives: bool) -> usize {
    let mut packets = 0;
    while let Some((payload, sealed)) = from.take_payload_to_send() {
        from.on_payload_sent(payload);
        let has_room = to.check_payload(payload, sealed.as_slice().len() as u64).unwrap();
        to.on_payload(payload, (has_room && arrives).then_some(sealed));
        packets += 1;
    }
    packets
}

/// Sends all of it, and returns what comes: in the pieces in which it does.
fn send(pair: &mut Pair, stream: StreamId, bytes: &Bytes, arrives: bool) -> Vec<Bytes> {
    let (mut data, mut came) = (bytes.clone(), Vec::new());
    while came.iter().map(Bytes::len).sum::<usize>() < bytes.len() {
        let sent = if data.has_remaining() { pair.client.send(stream, &mut data, false) } else { Sent::All };
        carry(&mut pair.client, &mut pair.server, arrives);
        pair.drive();
        let before = came.len();
        while let Received::Data(data) = pair.server.take(stream) {
            came.push(data);
        }
        pair.drive();
        let writable =
            std::iter::from_fn(|| pair.client.poll_event()).any(|event| event == Event::Writable(stream));
        assert!(sent == Sent::All || writable || came.len() > before, "somebody is told to go on");
    }
    assert!(came.concat() == bytes[..]);
    came
}

fn is_of(bytes: &Bytes, sealed: &Sealed) -> bool {
    sealed.as_slice().as_ptr_range().contains(&bytes.as_ptr())
}

#[test]
fn a_payload_is_shared_once_and_then_referred_to() {
    let mut pair = pair(u64::MAX);
    let stream = open(&mut pair.client);
    let payload = sealed(MIB);
    let bytes = Bytes::from_owner(payload.clone());
    for part in [0..MIB, 5..MIB - 5, 0..200_000, 300_000..320_000] {
        let came = send(&mut pair, stream, &bytes.slice(part), true);
        assert!(came.len() == 1 && is_of(&came[0], &payload));
    }
    let small = send(&mut pair, stream, &bytes.slice(0..1000), true);
    assert!(!is_of(&small[0], &payload), "to refer to a few bytes would cost more");
    assert_eq!(pair.client.shared().own, 1);
    assert_eq!(pair.server.shared(), SharedPayloads { own: 0, peer: 1, peer_bytes: MIB as u64 });
}

#[test]
fn what_is_of_middling_size_is_copied_until_the_peer_has_answered() {
    let mut pair = pair(u64::MAX);
    let stream = open(&mut pair.client);
    let payload = sealed(64 << 10);
    let bytes = Bytes::from_owner(payload.clone());
    assert!(!is_of(&send(&mut pair, stream, &bytes, true)[0], &payload));
    assert!(is_of(&send(&mut pair, stream, &bytes, true)[0], &payload));
}

#[test]
fn what_the_peer_has_no_room_for_or_does_not_get_is_copied() {
    for (limit, arrives) in [(MIB as u64 - 1, true), (u64::MAX, false)] {
        let mut pair = pair(limit);
        let stream = open(&mut pair.client);
        let payload = sealed(MIB);
        let bytes = Bytes::from_owner(payload.clone());
        for _ in 0..2 {
            let came = send(&mut pair, stream, &bytes, arrives);
            assert!(came.iter().all(|piece| !is_of(piece, &payload)));
        }
        assert_eq!(pair.server.shared(), SharedPayloads::default());
    }
}

#[test]
fn a_peer_that_does_not_know_of_it_gets_copies() {
    let mut pair = Pair::default();
    let stream = open(&mut pair.client);
    let payload = sealed(MIB);
    let came = send(&mut pair, stream, &Bytes::from_owner(payload.clone()), true);
    assert!(came.iter().all(|piece| !is_of(piece, &payload)));
}

#[test]
fn the_peer_forgets_what_is_dropped_and_its_readers_keep_it() {
    let mut pair = pair(2 * MIB as u64);
    let stream = open(&mut pair.client);
    let mut kept = Vec::new();
    // More than there is room for at a time.
    for round in 0..10u8 {
        let payload = Sealed::filled_by(MIB, |bytes| bytes.fill(round)).unwrap();
        let mut data = Bytes::from_owner(payload.clone());
        assert_eq!(pair.client.send(stream, &mut data, false), Sent::Nothing);
        // As another process would map it.
        let (number, sent) = pair.client.take_payload_to_send().unwrap();
        pair.client.on_payload_sent(number);
        assert_eq!(pair.server.check_payload(number, MIB as u64), Ok(true), "round {round}");
        pair.server.on_payload(number, Some(Sealed::copy_of(sent.as_slice()).unwrap()));
        drop(sent);
        pair.drive();
        assert_eq!(pair.client.send(stream, &mut data, false), Sent::All);
        drop((payload, data));
        pair.client.wake_queued();
        pair.drive();
        let Received::Data(data) = pair.server.take(stream) else { panic!() };
        kept.push((round, data));
        let shared = (pair.client.shared().own, pair.server.shared().peer);
        assert_eq!(shared, (0, 0), "nothing refers to it any more where it was made");
    }
    assert!(kept.iter().all(|(round, data)| *data == vec![*round; MIB]));
}

/// Each side's table holds what the other has shared, and neither is to wait for the other.
#[test]
fn what_is_sent_back_is_forgotten_once_nobody_else_refers_to_it() {
    let mut pair = pair(u64::MAX);
    let stream = open(&mut pair.client);
    pair.drive();
    pair.server.accept().expect("the request");
    pair.server.respond(stream, [], &mut &[][..], None).unwrap();
    pair.drive();
    assert!(matches!(pair.client.response(stream), Some(Ok(_))));
    let mut kept = Vec::new();
    for round in 0..100u8 {
        let payload = Sealed::filled_by(MIB, |bytes| bytes.fill(round)).unwrap();
        let mut data = Bytes::from_owner(payload.clone());
        assert_eq!(pair.client.send(stream, &mut data, false), Sent::Nothing);
        let (number, sent) = pair.client.take_payload_to_send().unwrap();
        pair.client.on_payload_sent(number);
        assert_eq!(pair.server.check_payload(number, MIB as u64), Ok(true));
        // As another process would map it.
        pair.server.on_payload(number, Some(Sealed::copy_of(sent.as_slice()).unwrap()));
        drop(sent);
        pair.drive();
        assert_eq!(pair.client.send(stream, &mut data, false), Sent::All);
        pair.drive();
        let Received::Data(mut back) = pair.server.take(stream) else { panic!() };
        assert_eq!(pair.server.send(stream, &mut back, false), Sent::Nothing);
        let (number, sent) = pair.server.take_payload_to_send().unwrap();
        pair.server.on_payload_sent(number);
        drop(sent);
        assert_eq!(pair.client.check_payload(number, MIB as u64), Ok(true));
        // A file is mapped once in a process.
        pair.client.on_payload(number, Some(payload));
        pair.drive();
        assert_eq!(pair.server.send(stream, &mut back, false), Sent::All);
        pair.drive();
        let Received::Data(back) = pair.client.take(stream) else { panic!() };
        assert!(back == vec![round; MIB]);
        if round % 16 == 0 {
            kept.push((round, back));
        }
    }
    let shared = [pair.client.shared(), pair.server.shared()];
    assert!(shared.iter().all(|shared| shared.own < 40 && shared.peer < 40), "{shared:?}");
    assert!(kept.iter().all(|(round, bytes)| *bytes == vec![*round; MIB]));
}

#[test]
fn many_payloads_at_a_time_and_the_rest_is_copied() {
    let mut pair = pair(u64::MAX);
    let stream = open(&mut pair.client);
    let payloads: Vec<Sealed> = (0..300).map(|_| sealed(130 << 10)).collect();
    let referred = payloads
        .iter()
        .filter(|payload| {
            is_of(&send(&mut pair, stream, &Bytes::from_owner((*payload).clone()), true)[0], payload)
        })
        .count();
    assert_eq!(referred, 256);
    assert_eq!(pair.server.shared().peer, 256);
}

/// It is mapped once, however many peers read it, and given up to each of them when nothing refers to it.
#[test]
fn one_payload_for_a_thousand_peers() {
    let payload = sealed(MIB);
    let bytes = Bytes::from_owner(payload.clone());
    let mut pairs: Vec<_> = (0..1000)
        .map(|peer| {
            let mut pair = pair(MIB as u64);
            let stream = open(&mut pair.client);
            let came = send(&mut pair, stream, &bytes, true);
            assert!(came.len() == 1 && is_of(&came[0], &payload), "peer {peer}");
            (pair, came)
        })
        .collect();
    for (pair, came) in &mut pairs {
        assert_eq!((pair.client.shared().own, pair.server.shared().peer), (1, 1));
        came.clear();
    }
    // In this process the tables of the peers refer to it, too.
    let mut clients: Vec<_> = pairs.into_iter().map(|(pair, _)| pair.client).collect();
    drop((payload, bytes));
    for client in &mut clients {
        client.wake_queued();
        assert_eq!(client.shared().own, 0, "nothing refers to it any more");
    }
}

/// Each payload is counted once, by what has become of it.
#[test]
fn the_reason_of_a_copy_is_counted() {
    let len = (MIB as u64, 200_000, 20_000);
    for (quota, sent, kind) in [
        (None, len.0, PayloadKind::SentUnsupported),
        (Some(u64::MAX), len.0, PayloadKind::SentShared),
        (Some(1000), len.1, PayloadKind::SentDeclined),
        (Some(u64::MAX), len.2, PayloadKind::SentUnanswered),
    ] {
        let mut pair = quota.map_or_else(Pair::default, pair);
        let stream = open(&mut pair.client);
        let payload = Bytes::from_owner(sealed(sent as usize));
        send(&mut pair, stream, &payload, true);
        let counts: Vec<_> = pair.client.payloads().present().map(|(kind, _)| kind).collect();
        assert_eq!(counts, [kind], "{sent} bytes, of which {quota:?} are taken");
        let came: Vec<_> = pair.server.payloads().present().map(|(kind, _)| kind).collect();
        let is_shared = kind == PayloadKind::SentShared;
        let expected = if is_shared { PayloadKind::ReceivedShared } else { PayloadKind::ReceivedUntrusted };
        assert_eq!(came, [expected], "{sent} bytes");
    }
}

/// Frames and packets of a peer that breaks the rules.
#[test]
fn references_to_what_was_not_shared_are_a_violation() {
    let shared = |payload, offset, length| Frame {
        payload: Payload::Shared(SharedReference { payload, offset, length }),
        ..Frame::new(Kind::Data, StreamId::new(1))
    };
    let link =
        |kind, payload: u64, code| Frame { argument: payload, code, ..Frame::new(kind, StreamId::new(0)) };
    let wrong = [
        shared(2, 0, 1),
        shared(0, 0, 1),
        shared(1, 0, 0),
        shared(1, MIB as u64, 1),
        shared(1, 0, MIB as u64 + 1),
        shared(1, u64::MAX, 2),
        shared(1, 2, u64::MAX),
        link(Kind::Shared, 1, 1),
        link(Kind::Shared, u64::MAX, 1),
        link(Kind::Unshare, 2, 0),
        link(Kind::Unshare, u64::from(u32::MAX) + 2, 0),
    ];
    for frame in wrong {
        let mut pair = pair(u64::MAX);
        let stream = open(&mut pair.client);
        send(&mut pair, stream, &Bytes::from_owner(sealed(MIB)), true);
        pair.client.lanes().push(frame.encode());
        pair.drive();
        assert!(matches!(pair.server.violation(), Some(Violation::Payload(_))), "{frame:?}");
    }
    // A frame that begins a payload's packet again and again makes nobody read for ever.
    let mut pair = pair(u64::MAX);
    open(&mut pair.client);
    for _ in 0..3 {
        pair.client.lanes().push(link(Kind::Share, 7, 0).encode());
        pair.drive();
        assert!(pair.server.take_wants_packets() && !pair.server.wants_packets());
    }
    // Numbers are used once.
    assert_eq!(pair.server.check_payload(7, 10), Ok(true));
    assert_eq!(pair.server.check_payload(7, 10), Err(Violation::Payload(7)));
    assert_eq!(pair.server.check_payload(3, 10), Err(Violation::Payload(3)));
    // And who has not agreed on it has no use for any of it.
    for frame in [link(Kind::Share, 1, 0), link(Kind::Shared, 1, 0), link(Kind::Unshare, 1, 0)] {
        let mut pair: Pair = Pair::default();
        pair.client.lanes().push(frame.encode());
        pair.drive();
        assert!(matches!(pair.server.violation(), Some(Violation::State(..))), "{frame:?}");
    }
}

/// A region in which each payload lies at its serial number, and what both sides do with it.
#[derive(Debug, Default)]
struct Region {
    payloads: Vec<Sealed>,
    is_full: bool,
    /// What was claimed and is not answered, and what becomes of it.
    claimed: Vec<(u32, Place)>,
    claims: bool,
    answered: Vec<(u32, bool)>,
    forgotten: Vec<u32>,
}

#[derive(Debug)]
struct Side(Arc<Mutex<Region>>);

impl Places for Side {
    fn place(&mut self, _: u32, sealed: &Sealed) -> Option<Place> {
        let mut region = self.0.lock().unwrap();
        if region.is_full {
            return None;
        }
        region.payloads.push(Sealed::copy_of(sealed.as_slice()).unwrap());
        let offset = RegionOffset(region.payloads.len() as u64 - 1);
        Some(Place { offset, bytes: sealed.as_slice().len() as u64, checksum: 0 })
    }

    fn on_answer(&mut self, payload: u32, taken: bool) {
        self.0.lock().unwrap().answered.push((payload, taken));
    }

    fn forget(&mut self, payload: u32) {
        self.0.lock().unwrap().forgotten.push(payload);
    }

    fn claim(&mut self, payload: u32, place: Place) {
        self.0.lock().unwrap().claimed.push((payload, place));
    }

    fn poll(&mut self) -> Option<(u32, Option<Sealed>)> {
        let mut region = self.0.lock().unwrap();
        let (payload, place) = region.claims.then(|| region.claimed.pop()).flatten()?;
        Some((payload, region.payloads.get(place.offset.0 as usize).cloned()))
    }
}

/// Only the server reads payloads where they lie.
fn placing(bytes: u64) -> (Pair, Arc<Mutex<Region>>) {
    let (mut pair, region) = (Pair::default(), Arc::default());
    let side = || Box::new(Side(Arc::clone(&region)));
    pair.client.begin_placing(Placing { places: side(), sends: true, bytes: 0 });
    pair.server.begin_placing(Placing { places: side(), sends: false, bytes });
    (pair, region)
}

#[test]
fn a_payload_in_a_region_is_referred_to_once_it_is_claimed() {
    let (mut pair, region) = placing(u64::MAX);
    let stream = open(&mut pair.client);
    let payload = sealed(MIB);
    let bytes = Bytes::from_owner(payload.clone());
    for _ in 0..3 {
        let came = send(&mut pair, stream, &bytes, true);
        assert!(came.len() > 1, "nobody waits for a claim");
    }
    assert_eq!(region.lock().unwrap().claimed.len(), 1, "it is shared once");
    region.lock().unwrap().claims = true;
    pair.server.tell_claims();
    pair.drive();
    let came = send(&mut pair, stream, &bytes, true);
    assert!(came.len() == 1 && is_of(&came[0], &region.lock().unwrap().payloads[0]));
    assert_eq!(region.lock().unwrap().answered, [(1, true)]);
    assert_eq!(pair.server.shared(), SharedPayloads { own: 0, peer: 1, peer_bytes: MIB as u64 });
    drop((payload, bytes));
    pair.client.tell_returns();
    send(&mut pair, stream, &Bytes::from_static(b"next"), true);
    assert_eq!(region.lock().unwrap().forgotten, [1]);
    assert_eq!(pair.server.shared(), SharedPayloads::default());
    assert!(came[0] == sealed(MIB).as_slice(), "what was handed out stays");
}

#[test]
fn what_can_not_be_claimed_or_placed_is_copied() {
    let (mut pair, region) = placing(MIB as u64 / 2);
    let stream = open(&mut pair.client);
    region.lock().unwrap().is_full = true;
    let large = Bytes::from_owner(sealed(MIB));
    assert!(send(&mut pair, stream, &large, true).len() > 1);
    assert!(pair.client.payloads().of(PayloadKind::SentOverLimit).frames > 0);
    region.lock().unwrap().is_full = false;
    // It is more than the server claims.
    (0..2).for_each(|_| assert!(send(&mut pair, stream, &large, true).len() > 1));
    assert_eq!(region.lock().unwrap().answered, [(1, false)]);
    // It is gone when it is looked at.
    let small = Bytes::from_owner(sealed(100_000));
    send(&mut pair, stream, &small, true);
    region.lock().unwrap().payloads.clear();
    region.lock().unwrap().claims = true;
    pair.server.tell_claims();
    pair.drive();
    assert!(send(&mut pair, stream, &small, true).len() > 1);
    assert_eq!(region.lock().unwrap().answered, [(1, false), (2, false)]);
    assert_eq!(pair.server.shared(), SharedPayloads::default());
}

#[test]
fn who_does_not_read_in_a_region_must_not_be_told_of_places() {
    let place = Place { offset: RegionOffset(0), bytes: 100, checksum: 0 };
    let share = |payload| Frame { argument: 1, payload, ..Frame::new(Kind::Share, StreamId::LINK) };
    let (mut pair, _) = placing(u64::MAX);
    pair.server.lanes().push(share(place.encode()).encode());
    pair.drive();
    assert_eq!(pair.client.violation(), Some(&Violation::Payload(1)));
    // Nor is a SHARE without a place anything to one that does.
    let (mut pair, _) = placing(u64::MAX);
    pair.client.lanes().push(share(Payload::EMPTY).encode());
    pair.drive();
    assert_eq!(pair.server.violation(), Some(&Violation::Payload(1)));
}
