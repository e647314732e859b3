//! Links between the hosts of a pod, whose frames have the right checksums and anything else in them: they
//! end no other link, and no process.

#[path = "../../notnets/tests/two_hosts/mod.rs"]
mod two_hosts;

use std::io;
use std::time::{Duration, Instant};

use notnets_core::Wait;
use notnets_core::limits::Limits;
use notnets_core::link::handshake::{Established, SHARED_BYTES};
use notnets_core::link::rendezvous::Directory;
use notnets_core::link::socket::Incoming;
use notnets_core::random;
use notnets_hostile::attacks::{ATTACKS, descriptor};
use notnets_hostile::random::Random;
use notnets_memory::Coherence;
use notnets_memory::lane::Geometry;
use notnets_pod::member::{Dial, PodError, between_hosts};
use two_hosts::{LIMIT, Pod};

const NAME: &str = "victim";
const LINKS: usize = 60;
const ON_A_LINK: u64 = 2000;
/// How long a link may go without a descriptor being taken.
const STUCK: Duration = Duration::from_millis(50);

#[test]
fn frames_that_are_anything_end_their_link_alone() {
    let seed = random::word();
    println!("seed {seed}");
    let mut random = Random::new(seed);
    for coherence in [Coherence::Software, Coherence::Hardware] {
        let pod = Pod::new(coherence);
        pod.serving(
            NAME,
            |builder| builder,
            || {
                let mut client = pod.client(NAME, Wait::Adaptive);
                let mut taken = 0;
                for number in 0..LINKS {
                    taken += attack(&mut link(&pod), &mut random);
                    let message = number.to_le_bytes();
                    assert_eq!(client.call("/test.Test/Echo", &message).unwrap(), message, "seed {seed}");
                }
                println!("{taken} descriptors were taken");
                assert!(taken > LINKS as u64, "{taken} descriptors were taken");
            },
        );
    }
}

/// A link as it should be.
fn link(pod: &Pod) -> Established {
    let deadline = Instant::now() + LIMIT;
    loop {
        let dial = Dial {
            expected: Default::default(),
            directory: Directory::at(pod.host(0)),
            pod: "pod0".parse().unwrap(),
            name: NAME.parse().unwrap(),
            limits: Limits::default(),
            geometry: Geometry::default(),
            geometry_between_hosts: between_hosts(Geometry::default()),
            shared_bytes: SHARED_BYTES,
            places: None,
            user_agent: "hostile/1".to_owned(),
            wake_latency: None,
            deadline,
        };
        match dial.block() {
            // Memory of links that are over comes back after a while.
            Err(PodError::Full) if Instant::now() < deadline => std::thread::yield_now(),
            dialled => return dialled.unwrap(),
        }
    }
}

/// Sends what one attack sends until the link is over. Returns how many descriptors were taken.
fn attack(link: &mut Established, random: &mut Random) -> u64 {
    let attack = random.one_of(&ATTACKS);
    for _ in 0..ON_A_LINK {
        let Some(descriptor) = descriptor(attack, random) else { break };
        if !wait_for(link, |link| link.lanes.room().unwrap_or(0) > 0) {
            break;
        }
        link.lanes.push(descriptor);
    }
    wait_for(link, |link| link.lanes.taken().unwrap_or(0) == link.lanes.pushed());
    link.lanes.taken().unwrap_or(0)
}

/// Returns `false` if the link is over, or nothing is taken any more.
fn wait_for(link: &mut Established, mut is_so: impl FnMut(&mut Established) -> bool) -> bool {
    let mut progress = (link.lanes.taken().unwrap_or(0), Instant::now());
    while !is_so(link) {
        let taken = link.lanes.taken().unwrap_or(0);
        if taken > progress.0 {
            progress = (taken, Instant::now());
        }
        if is_over(link) || progress.1.elapsed() > STUCK {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

fn is_over(link: &Established) -> bool {
    match link.socket.receive() {
        Ok(Incoming::Closed) => true,
        Ok(_) => false,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}
