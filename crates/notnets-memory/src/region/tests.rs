use rustix::fs::{MemfdFlags, fallocate, ftruncate, memfd_create};

use super::format::{Plan, Present, format, look};
use super::*;
use crate::{PAGE, WriteMemory};

const BYTES: u64 = 4 << 20;

fn memory(bytes: u64) -> RegionFile {
    let fd = memfd_create("region", MemfdFlags::CLOEXEC).unwrap();
    fallocate(&fd, rustix::fs::FallocateFlags::empty(), 0, bytes).unwrap();
    RegionFile::of(fd).unwrap()
}

fn range(start: u64, bytes: usize) -> RegionRange {
    RegionRange::new(RegionOffset(start), bytes).unwrap()
}

fn again(region: &RegionFile) -> RegionFile {
    RegionFile::of(region.fd.try_clone().unwrap()).unwrap()
}

#[test]
fn a_region_is_what_it_was_formatted_as() {
    for coherence in [Coherence::Hardware, Coherence::Software] {
        let file = memory(BYTES);
        assert!(matches!(Region::of(again(&file)), Err(RegionError::Superblock(BadSuperblock::Unformatted))));
        let plan = Plan { coherence, ..Plan::new("pod0", 3) };
        let superblock = format(&file, &plan).unwrap();
        let region = Region::of(file).unwrap();
        assert_eq!(*region.superblock(), superblock);
        assert_eq!((region.superblock().coherence, region.layout().hosts()), (coherence, 3));
        let unused = BYTES - superblock.region_bytes();
        assert!(unused < 3 * PAGE as u64 + 1, "{unused} bytes are not used");
    }
}

#[test]
fn what_looks_used_is_told() {
    let plan = Plan::new("pod0", 2);
    let file = memory(BYTES);
    assert_eq!(look(&file, &plan).unwrap(), Present::Nothing);
    let superblock = format(&file, &plan).unwrap();
    assert_eq!(look(&file, &plan).unwrap(), Present::Region(superblock.clone()));
    let other = memory(BYTES);
    let control = superblock.layout().unwrap().control(1);
    rustix::io::pwrite(&other.fd, b"x", control.end().0 - 1).unwrap();
    assert_eq!(look(&other, &plan).unwrap(), Present::Data(RegionOffset(control.end().0 - 1)));
    rustix::io::pwrite(&file.fd, b"x", 100).unwrap();
    assert!(matches!(look(&file, &plan).unwrap(), Present::Strange(BadSuperblock::Damaged { .. })));
}

#[test]
fn own_parts_do_not_overlap_and_are_seen_by_others() {
    let file = memory(BYTES);
    format(&file, &Plan::new("pod0", 2)).unwrap();
    let (region, other) = (Region::of(again(&file)).unwrap(), Region::of(file).unwrap());
    let extent = region.layout().extent(1, 2);
    let mut own = region.own(extent).unwrap();
    assert!(matches!(region.own(extent), Err(OwnError::Taken(_))));
    assert!(matches!(region.own(range(extent.start().0 - PAGE as u64, 2 * PAGE)), Err(OwnError::Taken(_))));
    let memory = own.carve(PAGE);
    assert_eq!(
        (own.next_offset(), own.left()),
        (extent.start().checked_add(PAGE).unwrap(), extent.len() - PAGE)
    );
    memory.store(3, 7);
    memory.publish(3, 1);
    let seen = other.peer(extent).unwrap();
    seen.observe(3, 1);
    assert_eq!(seen.load_acquire(3), 7);
    drop(own);
    assert!(matches!(region.own(extent), Err(OwnError::Taken(_))), "a part is still in use");
    drop(memory);
    assert!(region.own(extent).is_ok());
}

#[test]
fn own_parts_are_units_of_one_partition() {
    let file = memory(BYTES);
    format(&file, &Plan::new("pod0", 2)).unwrap();
    let region = Region::of(file).unwrap();
    let (first, second) = (region.layout().partition(0), region.layout().partition(1));
    for wrong in [
        range(0, PAGE),
        range(first.start().0 + 1, PAGE - 1),
        range(first.start().0, 1),
        range(first.start().0, 0),
        range(first.end().0 - PAGE as u64, 2 * PAGE),
        range(second.end().0, PAGE),
    ] {
        assert!(matches!(region.own(wrong), Err(OwnError::NotUnits(_))), "{wrong:?}");
    }
    let all = second.end().0 as usize;
    assert!(region.peer(range(0, all)).is_some());
    assert!(region.peer(range(0, all + 8)).is_none());
    assert!(region.peer(range(4, all - 4)).is_none());
}

#[test]
fn a_partition_is_claimed_once() {
    let file = memory(BYTES);
    format(&file, &Plan::new("pod0", 2)).unwrap();
    let (region, other) = (Region::of(again(&file)).unwrap(), Region::of(file).unwrap());
    let claim = region.claim(0).unwrap();
    assert!(claim.is_some());
    assert!(other.claim(0).unwrap().is_none() && region.claim(0).unwrap().is_none());
    assert!(other.claim(1).unwrap().is_some());
    drop(claim);
    assert!(other.claim(0).unwrap().is_some());
}

#[test]
fn blocks_of_a_pool_come_back_when_nobody_holds_them() {
    let file = memory(BYTES);
    format(&file, &Plan::new("pod0", 2)).unwrap();
    let region = Region::of(file).unwrap();
    let extent = region.layout().extent(0, 1);
    let pool = pool::Pool::default();
    assert!(pool.allocate(PAGE).is_none(), "nothing was granted");
    pool.add(region.own(extent).unwrap());
    assert!(pool.allocate(extent.len() + 1).is_none());
    let mut first = pool.allocate(extent.len() - PAGE).unwrap();
    assert_eq!(Some(first.range()), extent.part(0, extent.len() - PAGE));
    let second = pool.allocate(1).unwrap();
    assert_eq!(Some(second.range()), extent.part(extent.len() - PAGE, PAGE));
    assert!(pool.allocate(1).is_none());
    let (memory, lease) = (first.carve(8), first.lease());
    memory.store(0, 9);
    assert_eq!(region.peer(extent).unwrap().load(0), 9);
    drop(first);
    drop(memory);
    assert!(pool.allocate(PAGE).is_none(), "it is leased");
    drop(lease);
    assert!(pool.allocate(extent.len() - 2 * PAGE).is_some());
    drop(second);
    let whole = pool.allocate(extent.len());
    assert!(whole.is_some(), "what is free grows together");
}

#[test]
fn a_region_in_less_memory_is_refused() {
    let file = memory(BYTES);
    format(&file, &Plan::new("pod0", 2)).unwrap();
    ftruncate(&file.fd, BYTES / 2).unwrap();
    assert!(matches!(Region::of(again(&file)), Err(RegionError::Changed { .. })));
}

#[test]
fn too_little_memory_is_told() {
    for (bytes, hosts) in [(PAGE as u64, 1), (2 * PAGE as u64, 1), (BYTES, 256), (BYTES, 0)] {
        let error = format(&memory(bytes), &Plan::new("pod0", hosts)).unwrap_err();
        assert!(matches!(error, format::FormatError::Plan { .. }), "{error}");
    }
}

#[test]
fn memory_that_has_grown_is_divided_as_it_was() {
    let file = memory(BYTES);
    format(&file, &Plan::new("pod0", 2)).unwrap();
    let before = *Region::of(again(&file)).unwrap().layout();
    fallocate(&file.fd, rustix::fs::FallocateFlags::empty(), 0, 2 * BYTES).unwrap();
    assert_eq!(*Region::of(again(&file)).unwrap().layout(), before);
    ftruncate(&file.fd, BYTES / 2).unwrap();
    assert!(matches!(Region::of(again(&file)), Err(RegionError::Changed { .. })));
}

#[test]
fn a_page_that_is_lost_reads_as_zeros_and_is_told() {
    let file = memory(BYTES);
    format(&file, &Plan::new("pod0", 2)).unwrap();
    let region = Region::of(again(&file)).unwrap();
    let (first, second) = (region.layout().extent(0, 0), region.layout().extent(1, 0));
    let (mut own, peer) = (region.own(second).unwrap(), region.peer(second).unwrap());
    let memory = own.carve(2 * PAGE);
    memory.store(0, 5);
    memory.publish(0, 1);
    // As when a device vanishes.
    ftruncate(&file.fd, second.start().0).unwrap();
    assert!(!region.is_lost(0) && !region.is_lost(1));
    peer.observe(0, 1);
    assert_eq!(peer.load(0), 0);
    assert!(region.is_lost(1) && !region.is_lost(0), "the flag is that host's");
    assert!(region.is_extent_lost(1, 0) && !region.is_extent_lost(1, 1), "and that extent's");
    assert!(!region.is_control_lost(1));
    memory.store(PAGE / WORD, 6);
    assert_eq!(memory.load(PAGE / WORD), 6, "stores go on, to nobody");
    let fine = region.peer(first).unwrap();
    assert_eq!(fine.load(0), 0);
    assert!(!region.is_lost(0));
}
