//! A forked child inherits no segment, only the values that once stood for one. To drop those must
//! not unmap what has come to lie at the same place since. What is sealed it inherits.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::Arc;

use bytes::BufMut;
use notnets_memory::{
    Arena, LoanedBytes, OwnMemory, OwnSegment, PAGE, PeerMemory, PeerSegment, ReadMemory, Returns, Sealed,
    WriteMemory,
};

const ROLE: &str = "NOTNETS_TEST_ROLE";

/// A loan of a page, and where it begins.
fn loan(returns: &Arc<Returns>) -> (usize, LoanedBytes) {
    let (mut blocks, mut table) = (OwnSegment::create(2 * PAGE).unwrap(), OwnSegment::create(PAGE).unwrap());
    let releases = PeerSegment::map(table.descriptor(), PAGE as u64).unwrap().part(0, PAGE).unwrap();
    let mut arena = Arena::<OwnMemory, PeerMemory>::new();
    arena.add(0, PAGE, blocks.carve(2 * PAGE), releases);
    drop(table.carve(PAGE));
    let (run, loan) = arena.loan_run(PAGE, PAGE, returns).unwrap();
    (run.start(), loan)
}

#[test]
fn a_child_that_drops_its_parents_segments_unmaps_nothing() {
    let mut forker = Command::new("/proc/self/exe");
    forker.args(["--exact", "helper_process", "--nocapture", "--test-threads=1"]).env(ROLE, "forker");
    let output = forker.output().expect("the test binary runs");
    assert!(output.status.success(), "{output:?}");
}

/// Not a test by itself: the process that forks.
#[test]
fn helper_process() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    let mut parents: Vec<_> = (0..8).map(|_| OwnSegment::create(16 * PAGE).unwrap()).collect();
    let seen = PeerSegment::map(parents[0].descriptor(), 16 * PAGE as u64).unwrap();
    let sealed = Sealed::copy_of(&[5; 3 * PAGE]).unwrap();
    let (written, read) = (parents[0].carve(PAGE), seen.part(0, PAGE).unwrap());
    let returns = Returns::new().unwrap();
    let (run, mut loan) = loan(&returns);
    loan.put_slice(b"the parent's");
    let (frozen_run, mut frozen) = self::loan(&returns);
    frozen.put_slice(b"frozen");
    let frozen = frozen.freeze();
    match fork::fork().unwrap() {
        fork::Fork::Child => {
            // The kernel puts these where the parent's were: there is just the room.
            let mut own: Vec<_> = (0..8).map(|_| OwnSegment::create(16 * PAGE).unwrap()).collect();
            let words: Vec<_> = own.iter_mut().map(|own| own.carve(PAGE)).collect();
            assert_eq!(sealed.as_slice(), [5; 3 * PAGE]);
            assert!(Sealed::find(sealed.as_slice()).is_none(), "a lock of the parent's is not waited for");
            let again = Sealed::copy_of(sealed.as_slice()).unwrap();
            let read = catch_unwind(AssertUnwindSafe(|| loan[0]));
            assert!(read.is_err(), "it is not mapped here");
            // Frozen, it must not be read here, and can be let go of.
            drop((parents, seen, written, read, sealed, loan, frozen));
            assert!(returns.take().is_none(), "the loan is not the child's to give back");
            assert_eq!(again.as_slice(), [5; 3 * PAGE]);
            for words in &words {
                words.store(0, 7);
                assert_eq!(words.load(0), 7);
            }
            std::process::exit(0);
        }
        fork::Fork::Parent(child) => {
            assert_eq!(fork::waitpid(child).unwrap(), 0, "the child's wait status");
            assert_eq!(sealed.as_slice(), [5; 3 * PAGE], "the child's is its own");
            written.store(0, 8);
            assert_eq!(read.load(0), 8);
            assert_eq!(&*loan, b"the parent's");
            drop(loan);
            assert_eq!(returns.take().unwrap().loans, [run]);
            assert_eq!(frozen, "frozen");
            drop(frozen);
            assert_eq!(returns.take().unwrap().loans, [frozen_run]);
        }
    }
}
