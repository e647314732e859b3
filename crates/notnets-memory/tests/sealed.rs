//! Sealed memory of peers leaves a process most of its descriptors. Alone in its process, whose limit it
//! lowers.

use notnets_memory::{Sealed, sealed};
use rustix::process::{Resource, getrlimit, setrlimit};

#[test]
fn a_quarter_of_the_descriptors_is_for_sealed_memory() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = Some(200);
    setrlimit(Resource::Nofile, limit).unwrap();
    let mut kept = Vec::new();
    while sealed::has_room() {
        kept.push(Sealed::copy_of(b"some bytes").unwrap());
    }
    assert_eq!(kept.len(), 50);
    kept.pop();
    assert!(sealed::has_room(), "there is again");
}
