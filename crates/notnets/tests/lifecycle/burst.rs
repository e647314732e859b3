//! What a burst took is given back: mappings, descriptors and memory of both processes return to what they
//! were before it.

use tempfile::tempdir;

use crate::support::eventually;
use crate::support::held::Held;
use crate::support::helper::Helper;

const MIB: u64 = 1 << 20;
/// Bytes of the large messages.
const LARGE: u64 = 64 * MIB;
/// Calls that are open at once.
const OPEN: usize = 1000;
/// What a process may hold more than before the burst: free memory of its allocator between what is in use.
const SLACK: u64 = 24 * MIB;
/// So glibc's allocator gives back what is free, and so do others by themselves.
const TRIMMED: [&str; 3] = ["env", "MALLOC_ARENA_MAX=1", "MALLOC_TRIM_THRESHOLD_=65536"];

/// Both processes have come back to what they held.
fn is_over(processes: [&Helper; 2], before: [Held; 2]) -> bool {
    processes.into_iter().zip(before).all(|(process, before)| {
        let now = Held::by(process);
        now.mapped <= before.mapped
            && now.descriptors <= before.descriptors
            && now.resident <= before.resident + SLACK
    })
}

#[test]
fn what_a_burst_took_is_given_back() {
    let directory = tempdir().unwrap();
    let limit = format!("multi max_message={}", 2 * LARGE);
    let start = |role| Helper::start_by(&TRIMMED, role, directory.path(), &limit).expect("it starts");
    let mut server = start("server");
    server.expect("serving");
    let mut client = start("client");
    client.expect("connected");
    let mut call = |command: &str, times: usize, answer: &str| {
        (0..times).for_each(|_| client.tell(command));
        (0..times).for_each(|_| client.expect(answer));
        Held::by(&client)
    };
    call("echo x", 10, "x");
    let before = [Held::by(&server), call("echo x", 1, "x")];
    let uploaded = call(&format!("&upload {LARGE}"), 2, &LARGE.to_string());
    let grown = [Held::by(&server), uploaded];
    call(&format!("&size {LARGE}"), 2, &LARGE.to_string());
    call("&size 20000", OPEN, "20000");
    let most = [Held::by(&server), call("&upload 20000", OPEN, "20000")];
    for (before, grown) in before.iter().zip(grown) {
        assert!(grown.mapped > before.mapped, "there was no burst: {grown:?}");
    }
    println!("before {before:?}, then {grown:?}, after all calls {most:?}");
    eventually("what a burst took is given back", || is_over([&server, &client], before));
    let after = [&server, &client].map(Held::by);
    println!("after {after:?}");
    // It can be used again.
    client.tell(&format!("upload {LARGE}"));
    client.expect(&LARGE.to_string());
}
