//! A connected pair that has nothing to do takes no CPU at all: no thread of either process runs.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use notnets_memory::lane::Geometry;
use tempfile::tempdir;

use crate::support::held::Held;
use crate::support::helper::Helper;
use crate::support::{LIMIT, eventually};

/// How long nothing may happen.
const WATCHED: Duration = Duration::from_secs(5);

/// What a process has used since its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// User and system time, in ticks.
    pub ticks: u64,
    /// Times that one of its threads began to wait: not those that others took its processor.
    pub switches: u64,
}

impl Used {
    pub fn by(pid: u32) -> Self {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
        let fields: Vec<&str> = stat.rsplit_once(") ").expect("has a name").1.split(' ').collect();
        let ticks = [11, 12].map(|field: usize| fields[field].parse::<u64>().expect("is a number"));
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it lives");
        let switches = tasks.map_while(Result::ok).map(|task| {
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            let counts = status.lines().filter_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            counts.map(|count| count.trim().parse::<u64>().expect("is a number")).sum::<u64>()
        });
        Self { ticks: ticks.iter().sum(), switches: switches.sum() }
    }
}

/// A server, and a client with so many links to it that have been used.
fn pair(directory: &Path, links: usize, options: &str) -> [Helper; 2] {
    let mut server = Helper::server(directory, options);
    let mut client = Helper::client(directory, &format!("{options} links={links}"));
    // Large enough for further segments, and with an open call that waits.
    for (tell, expect) in [("echo x", "x"), ("size 100000", "100000"), ("echo y", "y")] {
        client.tell(tell);
        (0..links).for_each(|_| client.expect(expect));
    }
    client.tell("&hang");
    (0..links).for_each(|_| server.expect("hang began"));
    [server, client]
}

#[test]
fn idle_pairs_use_no_cpu() {
    // All are watched at once, in as many directories.
    let kinds = [(1, ""), (1, "multi"), (1, "park"), (200, ""), (200, "multi")];
    let directories = kinds.map(|_| tempdir().unwrap());
    let mut pairs: Vec<_> = kinds
        .iter()
        .zip(&directories)
        .map(|((links, options), directory)| pair(directory.path(), *links, options))
        .collect();
    let used = || -> Vec<[Used; 2]> {
        pairs.iter().map(|pair| pair.each_ref().map(|helper| Used::by(helper.pid()))).collect()
    };
    // A timer looks whether further segments are used, for as long as there are any.
    for ((links, _), pair) in kinds.iter().zip(&pairs) {
        let first_segments = (2 * links * Geometry::default().segment_bytes()) as u64;
        eventually("further segments are retired", || {
            pair.iter().all(|process| Held::by(process).mapped <= first_segments)
        });
    }
    let begin = Instant::now();
    let quiet = loop {
        let before = used();
        std::thread::sleep(Duration::from_millis(200));
        if used() == before {
            break before;
        }
        assert!(begin.elapsed() < LIMIT, "they do not come to rest: {before:?}");
    };
    println!("at rest after {:?}", begin.elapsed());
    std::thread::sleep(WATCHED);
    for ((links, options), (after, before)) in kinds.iter().zip(used().iter().zip(&quiet)) {
        assert_eq!(after, before, "server and client with {links} links ({options}), within {WATCHED:?}");
    }
    // They are not dead.
    for ((links, _), [_, client]) in kinds.iter().zip(&mut pairs) {
        client.tell("echo awake");
        (0..*links).for_each(|_| client.expect("awake"));
    }
}
