//! A memory control group that is full: an error with the numbers before memory is taken, and never
//! a kill later.

use std::fs;
use std::path::{Path, PathBuf};

use notnets_memory::headroom::KEPT_FREE;
use tempfile::tempdir;

use crate::support::client::Client;
use crate::support::helper::Helper;
use crate::support::within;

const MIB: usize = 1 << 20;
const LIMIT: usize = 64 * MIB;

/// A group with a small limit, below our own so that all limits above go on to hold.
struct SmallGroup(PathBuf);

impl SmallGroup {
    /// `None`, with the reason printed, where none can be made.
    fn new(name: &str) -> Option<Self> {
        let skipped = |reason: String| println!("skipped: {reason}");
        let Some(own) = own_group() else {
            skipped("no memory control group is mounted here".into());
            return None;
        };
        let group = own.join(format!("notnets-lives-{name}-{}", std::process::id()));
        fs::create_dir(&group)
            .map_err(|error| skipped(format!("may not create {}: {error}", group.display())))
            .ok()?;
        let group = Self(group);
        let limit =
            ["memory.max", "memory.limit_in_bytes"].into_iter().find(|file| group.0.join(file).exists());
        let set = limit.is_some_and(|file| fs::write(group.0.join(file), LIMIT.to_string()).is_ok());
        if !set {
            skipped(format!("{} takes no memory limit", group.0.display()));
            return None;
        }
        Some(group)
    }

    fn admit(&self, helper: &Helper) {
        fs::write(self.0.join("cgroup.procs"), helper.pid().to_string()).expect("the group takes processes");
    }
}

impl Drop for SmallGroup {
    fn drop(&mut self) {
        // What was in it has been waited for.
        let removed = fs::remove_dir(&self.0);
        assert!(removed.is_ok() || std::thread::panicking(), "{} stays: {removed:?}", self.0.display());
    }
}

/// The usual places of both versions are enough for a test.
fn own_group() -> Option<PathBuf> {
    let memberships = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group =
        |prefix: &str| memberships.lines().find_map(|line| Some(line.split_once(prefix)?.1.to_owned()));
    let v1 = group(":memory:").map(|group| Path::new("/sys/fs/cgroup/memory").join(&group[1..]));
    let v2 = group("0::").map(|group| Path::new("/sys/fs/cgroup").join(&group[1..]));
    v1.into_iter().chain(v2).find(|directory| directory.join("cgroup.procs").exists())
}

/// Fills what the group has left, but for what the helper needs to go on itself.
fn fill(helper: &mut Helper) {
    helper.tell(&format!("fill {}", KEPT_FREE * 3 / 4));
    helper.expect("filled");
}

#[track_caller]
fn names_the_group(told: &str, group: &SmallGroup) {
    assert!(told.contains("no room for "), "{told}");
    assert!(told.contains(&format!("of the control group {}", group.0.display())), "{told}");
    assert!(told.contains(&format!("of {LIMIT} bytes (64.0 MiB)")), "{told}");
    assert!(told.contains("raise that limit, or share less memory"), "{told}");
}

#[test]
fn serving_in_a_full_group_fails_with_the_numbers() {
    let Some(group) = SmallGroup::new("serve") else { return };
    let directory = tempdir().unwrap();
    let mut server = Helper::start("server", directory.path(), "wait_to_serve");
    group.admit(&server);
    fill(&mut server);
    server.tell("serve");
    let told = server.answer();
    assert!(told.starts_with("refused: "), "{told}");
    names_the_group(&told, &group);
    assert!(server.finish().success(), "it was not killed");
}

#[test]
fn connecting_in_a_full_group_fails_with_the_numbers() {
    let Some(group) = SmallGroup::new("connect") else { return };
    let directory = tempdir().unwrap();
    let _server = Helper::server(directory.path(), "");
    let mut client = Helper::client(directory.path(), "");
    group.admit(&client);
    // The link that it has goes on with the memory it has.
    fill(&mut client);
    client.tell("size 1000");
    client.expect("1000");
    client.tell("new");
    client.tell("echo x");
    let told = client.answer();
    assert!(told.starts_with("Unavailable: "), "{told}");
    names_the_group(&told, &group);
    client.tell("free");
    client.expect("freed");
    client.tell("new");
    client.tell("echo x");
    client.expect("x");
    assert!(client.finish().success(), "it was not killed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_in_a_full_group_refuses_links_with_the_numbers() {
    let Some(group) = SmallGroup::new("accept") else { return };
    let directory = tempdir().unwrap();
    let mut server = Helper::server(directory.path(), "");
    group.admit(&server);
    let early = Client::connect(directory.path()).await;
    assert_eq!(within(early.text("echo", "x")).await.unwrap(), "x");
    fill(&mut server);
    let client = Client::new(crate::support::client::endpoint(directory.path()).connect_lazy());
    let status = within(client.text("echo", "x")).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}");
    assert!(status.message().contains("the server refused the link: no room for "), "{status:?}");
    names_the_group(status.message(), &group);
    assert_eq!(within(early.text("echo", "x")).await.unwrap(), "x", "other links are not concerned");
    server.tell("free");
    server.expect("freed");
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    assert_eq!(within(client.text("echo", "x")).await.unwrap(), "x");
    server.stop();
    server.expect("stopping");
    drop((early, client));
    server.expect("stopped");
    assert!(server.finish().success(), "it was not killed");
}

/// The kernel ends a process that makes a larger file, and shared memory counts as one.
#[tokio::test]
async fn a_limit_on_the_size_of_files_is_a_limit_on_memory() {
    let directory = tempdir().unwrap();
    let mut server = Helper::server(directory.path(), "fsize=100000");
    let client = Client::connect(directory.path()).await;
    let large = "x".repeat(1 << 20);
    assert_eq!(within(client.text("echo", large.clone())).await.unwrap(), large);
    server.stop();
    server.expect("stopping");
    server.expect("stopped");
    let mut server = Helper::start("server", directory.path(), "fsize=4095");
    let told = server.answer();
    assert!(told.starts_with("refused: no room for ") && told.contains("RLIMIT_FSIZE"), "{told}");
}
