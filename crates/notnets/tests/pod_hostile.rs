//! A process in a pod that writes letters which lead nowhere: it gets no link, or loses it, and nobody else
//! notices.

mod two_hosts;

use std::os::fd::OwnedFd;
use std::path::Path;

use notnets_core::Wait;
use notnets_core::limits::Limits;
use notnets_core::link::packet::{Hello, Packet, Refusal, Terms, VERSIONS};
use notnets_memory::lane::Geometry;
use notnets_memory::region::Region;
use notnets_memory::region::pool::Pool;
use notnets_memory::remote_lanes::PodSegment;
use notnets_memory::{Coherence, PAGE};
use notnets_pod::packet::{FromProcess, ToProcess};
use notnets_pod::table::ProcessId;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv, send,
    socket_with,
};
use two_hosts::{LIMIT, Pod};

const NAME: &str = "good";

#[test]
fn a_first_segment_that_lies_elsewhere_is_refused() {
    attack(|pod, villain, own| {
        let layout = *pod.region.layout();
        let [here, there] = [0, 1].map(|host| move |extent| layout.extent(host, extent));
        let last = here(layout.extents() - 1).end().0;
        let page = PAGE as u64;
        let instances = [
            0,
            page,
            layout.control(0).start().0,
            layout.control(1).start().0,
            there(0).start().0,
            own + 1,
            own + 64,
            last - page,
            last,
            there(layout.extents() - 1).end().0,
            u64::MAX,
            u64::MAX - page + 1,
            u64::MAX - own + 1,
        ];
        for place in instances {
            let link = villain.hello(place, Geometry::default());
            let (reason, why) = villain.answer(link).expect_err(&format!("no link at {place:#x}"));
            assert!(reason == Refusal::Protocol && why.contains("not its host's"), "at {place:#x}: {why}");
        }
        call(pod);
        let link = villain.hello(own, Geometry::default());
        assert!(villain.answer(link).is_ok(), "one that is right is taken");
    });
}

#[test]
fn further_segments_that_lie_elsewhere_end_their_link() {
    attack(|pod, villain, own| {
        let layout = *pod.region.layout();
        let (control, theirs) = (layout.control(0).start().0, layout.extent(1, 0).start().0);
        let (offer, accept, decline) = (4, 5, 6);
        for (kind, fields, place) in [
            // Of sixteen blocks of 16 KiB: their segment's id, bytes and number.
            (offer, vec![1, 16384, 16], Some(0)),
            (offer, vec![1, 16384, 16], Some(control)),
            (offer, vec![1, 16384, 16], Some(theirs)),
            (offer, vec![1, 16384, 16], Some(own + 64)),
            (offer, vec![1, 16384, 16], Some(u64::MAX)),
            (offer, vec![1, 16384, 16], Some(u64::MAX - PAGE as u64 + 1)),
            // What can't be blocks, or more than anybody may give.
            (offer, vec![1, 0, 16], Some(own)),
            (offer, vec![1, 16384, 0], Some(own)),
            (offer, vec![1, 3, 16], Some(own)),
            (offer, vec![1, u32::MAX, u32::MAX], Some(own)),
            (offer, vec![1, 16384, u32::MAX], Some(own)),
            // The first segment's id.
            (offer, vec![0, 16384, 16], Some(own)),
            // Nothing was offered to it.
            (accept, vec![1], Some(own)),
            (accept, vec![0], Some(own)),
            (decline, vec![1], None),
        ] {
            let link = villain.hello(own, Geometry::default());
            let to = villain.answer(link).expect("a link");
            let fields = [&[to], &fields[..]].concat();
            let letter = fields.iter().flat_map(|field| field.to_le_bytes());
            let place_bytes = place.iter().flat_map(|place: &u64| place.to_le_bytes());
            villain.write(&std::iter::once(kind).chain(letter).chain(place_bytes).collect::<Vec<_>>());
            villain.closed(link, &format!("{kind} {fields:?} {place:?}"));
        }
        call(pod);
    });
}

#[test]
fn letters_that_are_none_change_nothing() {
    attack(|pod, villain, own| {
        let link = villain.hello(own, Geometry::default());
        let to = villain.answer(link).expect("a link");
        for kind in 0..=u8::MAX {
            for length in [0, 3, 4, 11, 16, 27, 60] {
                villain.write(&[vec![kind], vec![0xff; length]].concat());
            }
            // They have been read by then: the mailbox between the hosts is for all processes, and not to be
            // filled.
            let next = villain.hello(0, Geometry::default());
            assert!(villain.answer(next).is_err(), "after {kind}");
        }
        call(pod);
        // It still is one.
        villain.write(&[vec![3], to.to_le_bytes().to_vec()].concat());
        villain.closed(link, "asked to");
    });
}

/// Lets a villain have its way with a server. It has a first segment as it should be, which lies at that
/// place.
fn attack(act: impl FnOnce(&Pod, &mut Villain, u64)) {
    let pod = Pod::new(Coherence::Software);
    pod.serving(
        NAME,
        |builder| builder,
        || {
            let mut villain = Villain::join(&pod);
            let own = villain.segment();
            act(&pod, &mut villain, own);
        },
    );
}

/// A call from host 0, as everybody should make it.
fn call(pod: &Pod) {
    let mut client = pod.client(NAME, Wait::Adaptive);
    assert_eq!(client.call("/test.Test/Echo", b"well").unwrap(), b"well");
}

/// A process on host 0 that says what it likes to its agent, which passes on what it says to others.
struct Villain {
    agent: OwnedFd,
    server: ProcessId,
    region: Region,
    own: Option<PodSegment>,
    /// Numbers of its links.
    links: u32,
}

impl Villain {
    fn join(pod: &Pod) -> Self {
        let agent = connected(&pod.host(0).join(".pod-pod0"));
        let nobody = ProcessId { host: 0, process: 0, generation: 0 };
        let mut villain = Self { agent, server: nobody, region: pod.region.clone(), own: None, links: 0 };
        villain.say(&FromProcess::Join { token: [7, 11], before: None });
        villain.hear(|packet| matches!(packet, ToProcess::Joined { .. }).then_some(()));
        villain.server = loop {
            villain.say(&FromProcess::Resolve { query: 1, name: NAME.parse().unwrap() });
            let instances = villain.hear(|packet| match packet {
                ToProcess::Resolved { instances, .. } => Some(instances),
                _ => None,
            });
            match instances[..] {
                [place] => break place,
                _ => std::thread::yield_now(),
            }
        };
        villain
    }

    /// A first segment as it should be: where it lies.
    fn segment(&mut self) -> u64 {
        self.say(&FromProcess::Grant { more: false });
        let extent = self.hear(|packet| match packet {
            ToProcess::Granted(extent) => Some(extent as usize),
            _ => None,
        });
        let (pool, geometry) = (Pool::default(), Geometry::default());
        pool.add(self.region.own(self.region.layout().extent(0, extent)).unwrap());
        let own = PodSegment::new(Pool::allocate(&pool, geometry.segment_bytes()).unwrap(), geometry, None);
        self.own.insert(own).range().start().0
    }

    /// Asks for a link whose first segment begins there. Returns its number.
    fn hello(&mut self, place: u64, geometry: Geometry) -> u32 {
        self.links += 1;
        let (version, limits) = (VERSIONS.1, Limits::default());
        let terms = Terms { version, features: 0, incarnation: [1; 16], limits, geometry };
        let (name, user_agent) = (NAME.to_owned(), String::new());
        let packet = Packet::Hello(Hello { versions: VERSIONS, terms, name, user_agent }).encode();
        let nonce = 5u64.to_le_bytes();
        self.write(&[&[1][..], &self.links.to_le_bytes(), &nonce, &place.to_le_bytes(), &packet].concat());
        self.links
    }

    /// What the server says to that: its own number for the link, or why there is none.
    fn answer(&mut self, link: u32) -> Result<u32, (Refusal, String)> {
        self.hear(|packet| {
            let ToProcess::Mail { body, .. } = packet else { return None };
            let (kind, rest) = body.split_first()?;
            let (to, rest) = word(rest)?;
            let (theirs, rest) = word(rest).filter(|_| (*kind, to) == (2, link))?;
            match Packet::decode(&rest[16..]).unwrap() {
                Packet::Welcome(_) => Some(Ok(theirs)),
                Packet::Refused { reason, text } => Some(Err((reason, text))),
                other => panic!("{other:?}"),
            }
        })
    }

    /// Waits until the server has said that the link is over.
    fn closed(&mut self, link: u32, why: &str) {
        let over = [&[3][..], &link.to_le_bytes()].concat();
        let heard = self
            .try_hear(|packet| matches!(packet, ToProcess::Mail { body, .. } if body == over).then_some(()));
        assert!(heard.is_some(), "the link goes on: {why}");
    }

    /// Writes to the server.
    fn write(&mut self, letter: &[u8]) {
        self.say(&FromProcess::Send { to: self.server, body: letter.to_vec() });
    }

    fn say(&mut self, packet: &FromProcess) {
        send(&self.agent, &packet.encode(), SendFlags::NOSIGNAL).unwrap();
    }

    /// The first packet that is of interest.
    fn hear<T>(&mut self, interest: impl FnMut(ToProcess) -> Option<T>) -> T {
        self.try_hear(interest).expect("an answer in time")
    }

    fn try_hear<T>(&mut self, mut interest: impl FnMut(ToProcess) -> Option<T>) -> Option<T> {
        let mut bytes = [0; 4096];
        loop {
            let (_, length) = recv(&self.agent, &mut bytes[..], RecvFlags::empty()).ok()?;
            assert!(length > 0, "the agent hangs up");
            if let Some(found) = interest(ToProcess::decode(&bytes[..length]).unwrap()) {
                return Some(found);
            }
        }
    }
}

fn connected(path: &Path) -> OwnedFd {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    connect(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    set_socket_timeout(&socket, Timeout::Recv, Some(LIMIT)).unwrap();
    socket
}

fn word(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (word, rest) = bytes.split_first_chunk()?;
    Some((u32::from_le_bytes(*word), rest))
}
