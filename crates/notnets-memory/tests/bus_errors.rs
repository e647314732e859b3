//! Bus errors outside of regions do what they did before.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

use notnets_memory::region::Region;
use notnets_memory::region::file::RegionFile;
use notnets_memory::region::format::{Plan, format};
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap};
use rustix::process::{Resource, Rlimit, setrlimit};

const ROLE: &str = "NOTNETS_TEST_ROLE";

fn region() -> Region {
    let fd = memfd_create("region", MemfdFlags::CLOEXEC).unwrap();
    fallocate(&fd, FallocateFlags::empty(), 0, 1 << 20).unwrap();
    let file = RegionFile::of(fd).unwrap();
    format(&file, &Plan::new("pod0", 1)).unwrap();
    Region::of(file).unwrap()
}

/// Reads a page of a file that has been cut off.
fn fault(file: &File) {
    ftruncate(file, 4096).unwrap();
    // SAFETY: a new mapping touches no other memory.
    let page =
        unsafe { mmap(std::ptr::null_mut(), 4096, ProtFlags::READ, MapFlags::SHARED, file.as_fd(), 0) };
    ftruncate(file, 0).unwrap();
    // SAFETY: the page is mapped; that reading it raises a bus error is the point.
    unsafe { std::ptr::read_volatile(page.unwrap().cast::<u8>()) };
}

extern "C" fn before(_signal: i32) {
    std::process::exit(42);
}

/// How a process ends that faults outside of the region it has mapped.
fn ends(role: &str) -> ExitStatus {
    let mut child = Command::new("/proc/self/exe");
    child.args(["--exact", "helper_process", "--nocapture", "--test-threads=1"]).env(ROLE, role);
    child.output().expect("the test binary runs").status
}

#[test]
fn elsewhere_they_end_the_process() {
    assert_eq!(ends("plain").signal(), Some(libc::SIGBUS));
}

#[test]
fn elsewhere_a_handler_that_was_there_before_is_called() {
    assert_eq!(ends("handler").code(), Some(42));
}

/// Not a test by itself: the process that faults.
#[test]
fn helper_process() {
    let Some(role) = std::env::var_os(ROLE) else { return };
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).unwrap();
    if role == "handler" {
        // SAFETY: the handler only exits.
        unsafe { libc::signal(libc::SIGBUS, before as *const () as usize) };
    }
    let _region = region();
    fault(&tempfile::tempfile().unwrap());
    unreachable!("the fault ends the process");
}
