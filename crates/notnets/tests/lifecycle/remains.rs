//! Nothing is left behind, however processes end.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::tempdir;

use crate::support::client::Client;
use crate::support::helper::Helper;
use crate::support::within;

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(directory).map(|entries| entries.map_while(Result::ok).map(|entry| entry.path()));
    let mut files: Vec<_> = entries.into_iter().flatten().collect();
    files.sort();
    files
}

/// Files in shared memory that could be ours.
fn shared_memory() -> Vec<PathBuf> {
    let ours = |path: &PathBuf| path.to_string_lossy().contains("notnets");
    [Path::new("/dev/shm"), Path::new("/dev/hugepages")].into_iter().flat_map(files).filter(ours).collect()
}

/// What a process shares with others, by the kernel's names.
fn shared(process: &Helper) -> Vec<String> {
    let maps = fs::read_to_string(format!("/proc/{}/maps", process.pid())).unwrap();
    let shared = maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|flags| flags.ends_with('s')));
    shared.map(|line| line.split_ascii_whitespace().skip(5).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn killed_processes_leave_only_a_dead_socket_which_blocks_nobody() {
    let directory = tempdir().unwrap();
    for _ in 0..3 {
        let mut server = Helper::server(directory.path(), "");
        let mut clients = [(); 2].map(|()| Helper::client(directory.path(), "links=3"));
        for client in &mut clients {
            client.tell("size 1000000");
            (0..3).for_each(|_| client.expect("1000000"));
            client.tell("&produce 100000");
            (0..3).for_each(|_| client.expect("produced"));
        }
        for process in clients.iter().chain([&server]) {
            let shared = shared(process);
            assert!(!shared.is_empty());
            let is_ours = |name: &String| name.starts_with("/memfd:notnets") && name.ends_with(" (deleted)");
            assert!(shared.iter().all(is_ours), "{shared:?}");
        }
        server.kill();
        clients.iter_mut().for_each(Helper::kill);
        assert_eq!(files(directory.path()), [directory.path().join("lives")]);
        assert!(shared_memory().is_empty());
    }
    let server = Helper::server(directory.path(), "");
    drop(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_stop_removes_the_sockets() {
    let directory = tempdir().unwrap();
    let mut server = Helper::server(directory.path(), "names=lives,second,third");
    let client = Client::connect(directory.path()).await;
    assert_eq!(within(client.text("echo", "x")).await.unwrap(), "x");
    let name = |name| directory.path().join(name);
    assert_eq!(files(directory.path()), [name("lives"), name("second"), name("third")]);
    server.stop();
    server.expect("stopping");
    server.expect("stopped");
    assert!(server.finish().success());
    assert!(files(directory.path()).is_empty());
    assert!(shared_memory().is_empty());
}

#[test]
fn descriptors_and_memory_of_ended_links_are_given_back() {
    let directory = tempdir().unwrap();
    let mut server = Helper::server(directory.path(), "");
    let open = |server: &Helper| -> Vec<PathBuf> {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().flatten();
        descriptors.filter_map(|one| fs::read_link(one.path()).ok()).collect()
    };
    // Its name is served a moment before the directory is watched.
    crate::support::eventually("the directory is watched", || {
        open(&server).iter().any(|of| of.ends_with("anon_inode:inotify"))
    });
    let (before, mapped_before) = (open(&server), shared(&server).len());
    for ended_by in ["kill", "finish"] {
        for _ in 0..10 {
            let mut client = Helper::client(directory.path(), "links=3");
            client.tell("size 1000000");
            (0..3).for_each(|_| client.expect("1000000"));
            client.tell("&hang");
            (0..3).for_each(|_| server.expect("hang began"));
            match ended_by {
                "kill" => client.kill(),
                _ => assert!(client.finish().success()),
            }
            (0..3).for_each(|_| server.expect("hang is gone"));
        }
    }
    // Fewer are open where a file of the kernel's was being read at that moment.
    let mut after = (open(&server), shared(&server).len());
    let is_given_back = crate::support::comes(|| {
        after = (open(&server), shared(&server).len());
        after.0.len() <= before.len() && after.1 <= mapped_before
    });
    assert!(is_given_back, "mapped: {mapped_before}, then {}; open: {before:?}, then {:?}", after.1, after.0);
}
