//! What a hostile peer can have the other side hold at most: the bounds of docs/safety.md, measured as the
//! kernel counts. Each of them is reached, and given back when the link ends.

use std::io;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use notnets_core::call::{End, Received, StreamId};
use notnets_core::code::Code;
use notnets_core::link::rendezvous::Directory;
use notnets_hostile::attacks::{COLLECTED, ECHO, IDLE, TORRENT};
use notnets_hostile::ground::{Ground, Met, accept, dial, meet_client_with, meet_server, meet_server_with};
use notnets_hostile::held::Held;
use notnets_hostile::hoards::{self, greedy};
use notnets_hostile::peers::UNFINISHED;
use notnets_hostile::victims::Victim;
use notnets_memory::Sealed;
use tempfile::TempDir;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// A link's first segments: ours and the server's.
const FIRST_SEGMENT: u64 = 45_056;
/// Descriptors of a link: its socket, its client's process, and one that is on its way.
const OF_A_LINK: u64 = 3;
/// Private memory that an allocator keeps in its hand.
const SLACK: u64 = 6 * MIB;
/// Both servers: async and blocking.
const SERVERS: [&str; 2] = ["victim", "blocking-victim"];

/// A server in a process of its own, under a limit on descriptors.
struct Server {
    directory: TempDir,
    victim: Victim,
    before: Held,
}

impl Server {
    fn start(descriptors: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let victim = Victim::start_by(program(descriptors), &["serve"], directory.path()).unwrap();
        let mut server = Self { directory, before: Held::by(victim.pid()).unwrap(), victim };
        // What is made once is no part of it either.
        for name in SERVERS {
            let met = server.meet(name);
            hoards::open(&mut met.ground().unwrap(), IDLE, &[], 1).unwrap();
        }
        server.before = server.when(|held| held.segments == server.before.segments);
        server
    }

    fn names(&self) -> Directory {
        Directory::at(self.directory.path())
    }

    fn meet(&self, name: &str) -> Met {
        meet_server_with(&self.names(), &name.parse().unwrap(), greedy()).unwrap()
    }

    /// What it holds beyond what it held before.
    fn held(&self) -> Held {
        Held::by(self.victim.pid()).unwrap().beyond(self.before)
    }

    /// What it holds once that is so.
    fn when(&self, mut so: impl FnMut(Held) -> bool) -> Held {
        let begin = Instant::now();
        loop {
            let held = Held::by(self.victim.pid()).unwrap();
            if so(held) {
                return held;
            }
            assert!(begin.elapsed() < Duration::from_secs(30), "still {held}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Lets a link hoard, and another one when that has ended. Returns what the server holds meanwhile. The
    /// next has it hold hardly more than the one before: what was held can be used again. On a busy machine a
    /// look may come before all is held that can be, so that only what grows twice is a leak.
    fn hoard(&self, name: &str, mut hoard: impl FnMut(&mut Ground<'_>) -> io::Result<()>) -> Held {
        let mut next = || {
            let met = self.meet(name);
            let mut ground = met.ground().unwrap();
            hoard(&mut ground).unwrap();
            let held = self.held();
            drop(ground);
            drop(met);
            self.expect_all_back();
            held
        };
        let mut before = next();
        for growths in 0.. {
            let held = next();
            let again = Held { private: before.private / 8 * 9 + SLACK, ..before };
            if held.is_within(again) {
                break;
            }
            assert!(growths == 0, "first {before}, then {held}");
            before = held;
        }
        before
    }

    /// Private memory stays with the allocator.
    fn expect_all_back(&self) {
        let before = Held { private: u64::MAX, ..self.before };
        self.when(|held| held.is_within(before));
    }
}

/// The program under a limit on descriptors.
fn program(descriptors: u64) -> Command {
    let mut command = Command::new("sh");
    // One arena: what is free in another one would count as held.
    command.env("MALLOC_ARENA_MAX", "1");
    command.args(["-c", &format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"")]);
    command.arg(env!("CARGO_BIN_EXE_notnets-hostile"));
    command
}

/// A client in a process of its own, which has connected to us.
struct Client {
    _directory: TempDir,
    victim: Victim,
    met: Met,
    before: Held,
}

impl Client {
    /// One that makes this many calls once it is told so. It waits for a message of each, or `keeps` them.
    fn start(calls: usize, keeps: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = Directory::at(directory.path()).listen(&"bad".parse().unwrap()).unwrap();
        let part = ["wait", &calls.to_string(), &keeps.to_string()];
        let (victim, met) = thread::scope(|scope| {
            let met = scope.spawn(|| meet_client_with(accept(&listener).unwrap(), greedy()).unwrap());
            let victim = Victim::start_by(program(2048), &part, directory.path()).unwrap();
            (victim, met.join().unwrap())
        });
        let before = Held::by(victim.pid()).unwrap();
        Self { _directory: directory, victim, met, before }
    }

    /// Lets its calls be hoarded by. Returns what it holds then beyond what it held before.
    fn hoard(
        mut self,
        calls: usize,
        hoard: impl FnOnce(&mut Ground<'_>, &[StreamId]) -> io::Result<()>,
    ) -> Held {
        self.victim.tell().unwrap();
        let mut ground = self.met.ground().unwrap();
        let calls = hoards::take_calls(&mut ground, calls).unwrap();
        hoard(&mut ground, &calls).unwrap();
        let held = Held::by(self.victim.pid()).unwrap().beyond(self.before);
        self.victim.tell().unwrap();
        self.victim.end().unwrap();
        // Those that read its input are no part of it.
        Held { threads: held.threads.saturating_sub(2), ..held }
    }
}

/// What one link may hold where nothing but memory of the process's own is at stake.
fn link(private: u64) -> Held {
    let segments = greedy().geometry.segment_bytes() as u64 + FIRST_SEGMENT;
    Held { private, segments, payloads: 0, descriptors: OF_A_LINK, threads: 0 }
}

#[track_caller]
fn assert_within(what: &str, held: Held, bound: Held) {
    println!("{what}: {held}");
    assert!(held.is_within(bound), "{what}: {held}, more than {bound}");
}

/// `max_concurrent_streams` × (`max_metadata_size` + 1,280), and what a call takes besides.
#[test]
fn metadata_of_open_calls() {
    const STREAMS: u64 = 16 << 10;
    const BOUND: u64 = STREAMS * ((16 << 10) + 1280);
    const CALL: u64 = 2 * KIB;
    let large = [("k", &[b'v'; 16_000][..])];
    let small = vec![("k", &b""[..]); 2000];
    for name in SERVERS {
        for (entries, at_least) in [(&large[..], STREAMS), (&small[..], 1000)] {
            let mut calls = 0;
            let held = Server::start(1024).hoard(name, |ground| {
                calls = hoards::open(ground, ECHO, entries, STREAMS as usize)?.len() as u64;
                Ok(())
            });
            assert!(calls >= at_least && held.private > BOUND / 4, "{calls} calls, {held}");
            let what = format!("{name}, {calls} calls with {} entries", entries.len());
            assert_within(&what, held, link(BOUND + calls * CALL + SLACK));
        }
    }
}

/// `initial_connection_window_size`, in which a chunk counts as 64 bytes at least.
#[test]
fn data_that_handlers_do_not_take() {
    const WINDOW: u64 = 16 * MIB;
    for (chunk, times) in [(1, 2), (100, 2), (128 << 10, 1)] {
        let mut sent = 0;
        // The window of a call, in whole chunks.
        let data = vec![7; (256 << 10) / chunk.max(64) * chunk];
        let held = Server::start(1024).hoard("victim", |ground| {
            sent = 0;
            for stream in hoards::open(ground, IDLE, &[], 66)? {
                sent += hoards::send(ground, stream, &data, chunk)? as u64;
            }
            hoards::settle(ground).map(drop)
        });
        let charged = (sent / chunk as u64) * (chunk as u64).max(64);
        assert!(charged > WINDOW / 10 * 9 && charged <= WINDOW, "{sent} bytes, {charged} charged");
        let what = format!("{sent} bytes in chunks of {chunk}");
        assert_within(&what, held, link(times * WINDOW + SLACK));
    }
}

/// `max_unfinished_bytes` and one message more, however many calls there are.
#[test]
fn messages_of_which_the_rest_does_not_come() {
    const LARGEST: usize = 4 << 20;
    const MOST: u64 = UNFINISHED;
    let full = (MOST as usize / (LARGEST - 1)) + 1;
    for (name, path) in [(SERVERS[0], ECHO), (SERVERS[0], COLLECTED), (SERVERS[1], ECHO)] {
        let part = message(LARGEST, LARGEST - 1);
        let held = Server::start(1024).hoard(name, |ground| {
            let calls = hoards::open(ground, path, &[], full + 8)?;
            let (first, last) = calls.split_at(full);
            for stream in first {
                assert_eq!(hoards::send(ground, *stream, &part, 128 << 10)?, part.len());
            }
            for stream in last {
                let sent = hoards::send(ground, *stream, &part, 128 << 10)?;
                assert!(sent < 1 << 20, "{sent} bytes of one message too many");
                let end = ground.connection.take(*stream);
                let Received::End(End::Failed(failure)) = end else { panic!("{end:?}") };
                assert_eq!(failure.code, Code::RESOURCE_EXHAUSTED);
            }
            Ok(())
        });
        assert!(held.private > MOST / 10 * 9, "{held}");
        let what = format!("{name}, {full} messages of {path} but for a byte");
        // Pieces of 128 KiB, each in an allocation of its own.
        let pieces = MOST / 16;
        assert_within(&what, held, link(MOST + LARGEST as u64 + pieces + SLACK));
        let part = message(LARGEST, 1);
        let held = Server::start(1024).hoard(name, |ground| {
            for stream in hoards::open(ground, ECHO, &[], 1000)? {
                hoards::send(ground, stream, &part, part.len())?;
            }
            hoards::settle(ground).map(drop)
        });
        assert_within(&format!("{name}, 1000 messages announced"), held, link(1000 * 8 * KIB + SLACK));
    }
}

/// The same of a client.
#[test]
fn answers_of_which_the_rest_does_not_come() {
    const LARGEST: usize = 4 << 20;
    const MOST: u64 = UNFINISHED;
    let full = (MOST as usize / (LARGEST - 1)) + 1;
    let part = message(LARGEST, LARGEST - 1);
    let held = Client::start(full + 8, false).hoard(full + 8, |ground, calls| {
        let (first, last) = calls.split_at(full);
        for stream in first {
            assert_eq!(hoards::send(ground, *stream, &part, 128 << 10)?, part.len());
        }
        for stream in last {
            let sent = hoards::send(ground, *stream, &part, 128 << 10)?;
            assert!(sent < 1 << 20, "{sent} bytes of one answer too many");
        }
        hoards::settle(ground).map(drop)
    });
    assert!(held.private > MOST / 10 * 9, "{held}");
    let bound = Held { segments: 0, descriptors: 0, ..link(MOST + LARGEST as u64 + MIB + SLACK) };
    assert_within(&format!("{full} answers but for a byte"), held, bound);
}

/// `initial_connection_window_size` of a client.
#[test]
fn answers_that_are_not_taken() {
    const WINDOW: u64 = 16 * MIB;
    let mut sent = 0;
    let held = Client::start(70, true).hoard(70, |ground, calls| {
        for stream in calls {
            sent += hoards::send(ground, *stream, &[7; 256 << 10], 128 << 10)? as u64;
        }
        hoards::settle(ground).map(drop)
    });
    assert!(sent > WINDOW / 10 * 9 && sent <= WINDOW, "{sent} bytes");
    let bound = Held { segments: 0, descriptors: 0, ..link(WINDOW + SLACK) };
    assert_within(&format!("{sent} bytes that are not taken"), held, bound);
}

/// What a server offers and shares is bounded as what a client does.
#[test]
fn segments_and_payloads_of_a_server() {
    let mut accepted = [0; 2];
    let held = Client::start(0, true).hoard(0, |ground, _| {
        accepted[0] = hoards::offer_segments(ground.met, 8 << 20, 64)?;
        accepted[1] = hoards::share(ground, || Sealed::copy_of(&[7; 100]).unwrap())?;
        Ok(())
    });
    assert_eq!(accepted, [8, 256]);
    let bound =
        Held { private: SLACK, segments: 72 * MIB, payloads: 256 * 4 * KIB, descriptors: 256, threads: 0 };
    assert_within("a client, 8 segments and 256 payloads", held, bound);
}

/// The first bytes of a message, with its prefix.
fn message(announced: usize, bytes: usize) -> Vec<u8> {
    let mut message = vec![0];
    message.extend_from_slice(&(announced as u32).to_be_bytes());
    message.resize(5 + bytes, 7);
    message
}

/// 64 MiB of the first segment, 64 MiB of further ones, and the tables of releases for their blocks.
#[test]
fn segments_that_a_peer_offers() {
    const FURTHER: u64 = 64 * MIB;
    let server = Server::start(1024);
    for name in SERVERS {
        for (bytes, block, accepted) in [(8 * MIB, 64, 8), (4 * KIB, 4096, 256)] {
            let mut segments = 0;
            let held = server.hoard(name, |ground| {
                segments = hoards::offer_segments(ground.met, bytes as usize, block)?;
                Ok(())
            });
            assert_eq!(segments, accepted);
            let first = link(SLACK);
            assert!(first.segments <= 64 * MIB + FIRST_SEGMENT);
            let tables = u64::from(segments) * (bytes / u64::from(block) * 8).next_multiple_of(4 * KIB);
            assert!(tables <= FURTHER / 8);
            let bound = Held { segments: first.segments + FURTHER + tables, ..first };
            assert!(held.segments >= u64::from(segments) * bytes, "{held}");
            assert_within(&format!("{name}, {segments} segments with blocks of {block} bytes"), held, bound);
        }
    }
}

/// 256 payloads for a link, a quarter of the descriptors for the process, and `max_shared_bytes`.
#[test]
fn payloads_that_a_peer_shares() {
    let server = Server::start(2048);
    let small = || Sealed::copy_of(&[7; 100]).unwrap();
    for name in SERVERS {
        let mut taken = 0;
        let held = server.hoard(name, |ground| {
            taken = hoards::share(ground, small)?;
            Ok(())
        });
        assert_eq!(taken, 256);
        let bound = Held { payloads: 256 * 4 * KIB, descriptors: OF_A_LINK + 256, ..link(SLACK) };
        assert_within(&format!("{name}, {taken} payloads"), held, bound);
        // All links together.
        let links: Vec<_> = (0..3).map(|_| server.meet(name)).collect();
        let taken = links.iter().map(|met| hoards::share(&mut met.ground().unwrap(), small).unwrap());
        assert_eq!(taken.sum::<u32>(), 2048 / 4);
        let held = server.held();
        assert!(held.descriptors <= 2048 / 4 + 3 * OF_A_LINK, "{held}");
        drop(links);
        server.expect_all_back();
        // One file, counted as often as it is shared.
        let large = Sealed::filled_by(256 << 20, |bytes| bytes.fill(7)).unwrap();
        let held = server.hoard(name, |ground| {
            assert_eq!(hoards::share(ground, || large.clone())?, 4, "1 GiB");
            Ok(())
        });
        let bound = Held { payloads: 256 * MIB, ..link(SLACK) };
        assert_within(&format!("{name}, a payload of 256 MiB"), held, bound);
    }
}

/// 32 MiB of the server's own segments.
#[test]
fn blocks_that_a_peer_does_not_release() {
    const OWN: u64 = 32 * MIB;
    let server = Server::start(1024);
    let held = server.hoard("victim", |ground| {
        hoards::open(ground, TORRENT, &[], 200)?;
        hoards::take_and_keep(ground, Duration::from_millis(1500)).map(drop)
    });
    let first = link(200 * 128 * KIB + SLACK);
    let bound = Held { segments: first.segments + OWN + MIB, ..first };
    assert!(held.segments > first.segments + OWN / 2, "{held}");
    assert_within("200 calls whose replies are not released", held, bound);
}

/// 128 connections, for 5 s.
#[test]
fn connections_that_say_nothing() {
    const ROOM: u64 = 128;
    for name in SERVERS {
        let server = Server::start(1024);
        let name = name.parse().unwrap();
        let silent: Vec<_> = (0..400).filter_map(|_| dial(&server.names(), &name).ok()).collect();
        assert!(silent.len() > 300, "{} could connect", silent.len());
        // Once it has accepted them all, it has let most of them go.
        let bound = Held { private: SLACK, segments: 0, payloads: 0, descriptors: ROOM, threads: 0 };
        let mut most = 0;
        server.when(|held| {
            let held = held.beyond(server.before);
            most = most.max(held.descriptors);
            most >= ROOM && held.is_within(bound)
        });
        println!("{} silent connections of {name}: {most} descriptors at most", silent.len());
        // Those that leave do so as they get their turn.
        assert!(most <= 2 * ROOM, "{most} descriptors");
        server.expect_all_back();
        drop(silent);
    }
}

/// What links take that do nothing.
#[test]
fn links_that_do_nothing() {
    const LINKS: u64 = 300;
    let server = Server::start(1024);
    for name in SERVERS {
        let met = |_| meet_server(&server.names(), &name.parse().unwrap()).unwrap();
        let links: Vec<_> = (0..LINKS).map(met).collect();
        let held = server.held();
        let bound = Held {
            private: LINKS * 32 * KIB + SLACK,
            segments: LINKS * 2 * FIRST_SEGMENT,
            payloads: 0,
            descriptors: LINKS * OF_A_LINK,
            threads: 0,
        };
        assert_within(&format!("{LINKS} links of {name}"), held, bound);
        drop(links);
        server.expect_all_back();
    }
}
