//! What a process maps of its peers' sealed memory is limited. Alone in its process, whose limit it lowers.

use std::os::fd::OwnedFd;

use notnets_memory::sealed::quota;
use notnets_memory::{Sealed, SealedError};

const KIB: usize = 1 << 10;

/// As a peer's arrives: nothing else in this process refers to it.
fn of_a_peer(len: usize) -> OwnedFd {
    Sealed::filled_by(len, |bytes| bytes.fill(7)).unwrap().descriptor().unwrap().try_clone_to_owned().unwrap()
}

#[test]
fn what_is_more_than_the_limit_is_refused_until_something_is_let_go_of() {
    quota::set_limit(1024 * KIB as u64);
    let own = Sealed::copy_of(&[1; 2048 * KIB]).unwrap();
    assert_eq!(quota::held(), 0, "what this process makes does not count");
    let first = of_a_peer(600 * KIB);
    let again = first.try_clone().unwrap();
    let first = Sealed::from_peer(first).unwrap();
    let refused = Sealed::from_peer(of_a_peer(600 * KIB)).unwrap_err();
    assert!(matches!(refused, SealedError::OverQuota(bytes) if bytes == 600 * KIB as u64), "{refused}");
    assert!(refused.is_of_this_process(), "the peer has done nothing wrong");
    let again = Sealed::from_peer(again).unwrap();
    let sent_back = Sealed::from_peer(own.descriptor().unwrap().try_clone_to_owned().unwrap()).unwrap();
    assert_eq!(sent_back.serial(), own.serial());
    assert_eq!(quota::held(), 600 * KIB as u64, "it is mapped once, and counts once");
    drop((first, again));
    assert_eq!(quota::held(), 0);
    Sealed::from_peer(of_a_peer(1024 * KIB)).unwrap();
}
