//! A connected pair that has nothing to do takes no CPU at all: no thread of either process runs.

use std::fs;
use std::time::{Duration, Instant};

use tempfile::tempdir;

use crate::support::LIMIT;
use crate::support::helper::Helper;

/// How long nothing may happen.
const WATCHED: Duration = Duration::from_secs(5);

/// What a process has used since its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// User and system time, in ticks.
    pub ticks: u64,
    /// Times that one of its threads began to wait, or was made to.
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
            let counts = status.lines().filter_map(|line| line.split_once("ctxt_switches:"));
            counts.map(|(_, count)| count.trim().parse::<u64>().expect("is a number")).sum::<u64>()
        });
        Self { ticks: ticks.iter().sum(), switches: switches.sum() }
    }
}

/// Makes calls over so many links, and then watches both processes.
fn idles(links: usize, options: &str) {
    let directory = tempdir().unwrap();
    let mut server = Helper::server(directory.path(), options);
    let mut client = Helper::client(directory.path(), &format!("{options} links={links}"));
    for round in 0..5 {
        client.tell(&format!("echo {round}"));
        for _ in 0..links {
            client.expect(&round.to_string());
        }
    }
    // Large enough for further segments both ways, and an open call that waits.
    client.tell("size 1000000");
    for _ in 0..links {
        client.expect("1000000");
    }
    client.tell("&hang");
    for _ in 0..links {
        server.expect("hang began");
    }

    let pids = [server.pid(), client.pid()];
    let begin = Instant::now();
    let quiet = loop {
        let before = pids.map(Used::by);
        std::thread::sleep(Duration::from_millis(200));
        if pids.map(Used::by) == before {
            break before;
        }
        assert!(begin.elapsed() < LIMIT, "it does not come to rest: {before:?}");
    };
    println!("{links} links at rest after {:?}", begin.elapsed());
    std::thread::sleep(WATCHED);
    assert_eq!(pids.map(Used::by), quiet, "server and client, within {WATCHED:?}");
    // They are not dead.
    client.tell("echo awake");
    for _ in 0..links {
        client.expect("awake");
    }
}

#[test]
fn one_link_of_current_thread_runtimes() {
    idles(1, "");
}

#[test]
fn one_link_of_multi_thread_runtimes() {
    idles(1, "multi");
}

#[test]
fn many_links_of_current_thread_runtimes() {
    idles(200, "");
}

#[test]
fn many_links_of_multi_thread_runtimes() {
    idles(200, "multi");
}
