//! Bus errors: a page of a region that is poisoned, or whose device has vanished.
//!
//! An access to such a page raises SIGBUS, which ends the process. One handler contains that for the
//! ranges that are guarded: it puts a private page of zeros there, notes to which part of the region
//! that happened, and lets the access go on. Anywhere else it does what would have been done without
//! it: it chains to the handler that was there before.
//!
//! A handler may run at any instruction, so all it uses is atomics and one system call. The list of
//! ranges only grows: an entry is a few words, and a process maps few ranges.

use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

/// A range for which bus errors are contained, until this is dropped.
#[derive(Debug)]
pub(crate) struct SigbusGuard(&'static Range);

/// Which parts of a region were lost: a flag for its beginning, and then [`Parts::flags_of_partition`] for
/// each partition.
pub(crate) type Lost = &'static [AtomicBool];

/// How a region is divided, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts {
    /// Where the first partition begins.
    pub first: usize,
    /// Of a partition.
    pub partition: usize,
    /// Of its control area.
    pub control: usize,
    /// Of an extent.
    pub extent: usize,
}

/// Flags of a partition: for any of its bytes, for its control area, and then for each extent.
pub(crate) const ANY: usize = 0;
pub(crate) const CONTROL: usize = 1;
pub(crate) const FIRST_EXTENT: usize = 2;

impl Parts {
    /// A file that is not divided.
    pub const NONE: Self = Self { first: usize::MAX, partition: 1, control: 1, extent: 1 };

    pub fn flags_of_partition(&self) -> usize {
        // What is left behind the last extent has one, too.
        FIRST_EXTENT + (self.partition - self.control).div_ceil(self.extent)
    }

    /// The flags of a byte.
    fn flags(&self, byte: usize) -> [usize; 2] {
        let Some(byte) = byte.checked_sub(self.first) else { return [0; 2] };
        let partition = 1 + byte / self.partition * self.flags_of_partition();
        let part =
            (byte % self.partition).checked_sub(self.control).map(|at| FIRST_EXTENT + at / self.extent);
        [partition + ANY, partition + part.unwrap_or(CONTROL)]
    }
}

#[derive(Debug)]
struct Range {
    /// 0 once its guard is dropped. Everything else never changes once this is set.
    start: AtomicUsize,
    len: usize,
    /// The bytes that are replaced at once: the kernel splits no larger pages.
    unit: usize,
    writable: bool,
    /// Where the range begins in the region.
    offset: usize,
    parts: Parts,
    lost: Lost,
    next: Option<&'static Range>,
}

/// A range that is to be guarded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guarded {
    pub len: usize,
    pub unit: usize,
    pub writable: bool,
    pub offset: usize,
    pub parts: Parts,
    pub lost: Lost,
}

static RANGES: AtomicPtr<Range> = AtomicPtr::new(ptr::null_mut());
/// The disposition before ours: a handler's address, and its flags.
static BEFORE: (AtomicUsize, AtomicU64) = (AtomicUsize::new(libc::SIG_DFL), AtomicU64::new(0));

/// Contains bus errors in a mapped range from now on.
pub(crate) fn guard(start: usize, guarded: Guarded) -> SigbusGuard {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(install);
    let Guarded { len, unit, writable, offset, parts, lost } = guarded;
    let range = Range { start: start.into(), len, unit, writable, offset, parts, lost, next: None };
    let range: *mut Range = Box::leak(Box::new(range));
    // Pairs with the exchange below, by which another thread has put its range there.
    let mut head = RANGES.load(Ordering::Acquire);
    loop {
        // SAFETY: it is ours alone until it is in the list; what is in the list was leaked, so it lives
        // for ever and is only shared.
        unsafe { (*range).next = head.cast_const().as_ref() };
        // Pairs with the load in `contain`: the range is complete.
        match RANGES.compare_exchange(head, range, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => break,
            Err(other) => head = other,
        }
    }
    // SAFETY: from here on it is only shared.
    SigbusGuard(unsafe { &*range })
}

impl Drop for SigbusGuard {
    fn drop(&mut self) {
        // Pairs with the load of `start` in `contain`.
        self.0.start.store(0, Ordering::Release);
    }
}

fn install() {
    // SAFETY: zeros are a valid `sigaction`; the kernel reads and writes the two structures only.
    unsafe {
        let mut before: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(libc::SIGBUS, ptr::null(), &raw mut before) == 0 {
            // Pairs with the loads in `chain`: both are stored before our handler is there.
            BEFORE.0.store(before.sa_sigaction, Ordering::Release);
            // Pairs with the loads in `chain`.
            BEFORE.1.store(before.sa_flags as u64, Ordering::Release);
        }
        let mut ours: libc::sigaction = std::mem::zeroed();
        ours.sa_sigaction = on_bus_error as *const () as usize;
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigemptyset(&raw mut ours.sa_mask);
        libc::sigaction(libc::SIGBUS, &raw const ours, ptr::null_mut());
    }
}

/// The handler. The kernel calls it on the thread that made the access.
extern "C" fn on_bus_error(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel hands a valid `siginfo_t` to a handler with SA_SIGINFO; for a SIGBUS of its
    // own (a positive code) it holds the address.
    let address = unsafe { ((*info).si_code > 0).then(|| (*info).si_addr() as usize) };
    if address.is_some_and(contain) {
        return;
    }
    chain(signal, info, context);
}

/// Replaces the page if the address is within a guarded range.
fn contain(address: usize) -> bool {
    // Pairs with the exchange in `guard`.
    // SAFETY: what is in the list was leaked, so it lives for ever and is only shared.
    let mut next = unsafe { RANGES.load(Ordering::Acquire).cast_const().as_ref() };
    while let Some(range) = next {
        // Pairs with the store in `SigbusGuard::drop`.
        let start = range.start.load(Ordering::Acquire);
        if start != 0 && (start..start + range.len).contains(&address) {
            return replace(range, start, address);
        }
        next = range.next;
    }
    false
}

fn replace(range: &Range, start: usize, address: usize) -> bool {
    let at = (address - start) / range.unit * range.unit;
    let protection = libc::PROT_READ | if range.writable { libc::PROT_WRITE } else { 0 };
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
    // SAFETY: `errno` belongs to this thread. The pages are within a range that is mapped for as long as
    // it is guarded, whose bytes are only reached through atomics and copies that take whatever is there.
    let mapped = unsafe {
        let errno = *libc::__errno_location();
        let mapped = libc::mmap((start + at) as *mut _, range.unit, protection, flags, -1, 0);
        *libc::__errno_location() = errno;
        mapped
    };
    // The one for anything comes last: whoever sees it looks at the others.
    for flag in range.parts.flags(range.offset + at).into_iter().rev() {
        if let Some(lost) = range.lost.get(flag) {
            // Pairs with the loads in `Region`.
            lost.store(true, Ordering::Release);
        }
    }
    mapped != libc::MAP_FAILED
}

/// Acts as the disposition before ours would have.
fn chain(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // Pairs with the stores in `install`.
    let handler = BEFORE.0.load(Ordering::Acquire);
    // Pairs with the stores in `install`.
    let flags = BEFORE.1.load(Ordering::Acquire) as i32;
    if handler == libc::SIG_DFL || handler == libc::SIG_IGN {
        // The access is made again after the return, and then ends the process as it should.
        // SAFETY: zeros are a valid `sigaction`: the default action.
        unsafe {
            let default: libc::sigaction = std::mem::zeroed();
            libc::sigaction(signal, &raw const default, ptr::null_mut());
        }
    } else if flags & libc::SA_SIGINFO != 0 {
        // SAFETY: with this flag whoever installed it gave a function of this type.
        let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) =
            unsafe { std::mem::transmute(handler) };
        handler(signal, info, context);
    } else {
        // SAFETY: without it, one of this type.
        let handler: extern "C" fn(i32) = unsafe { std::mem::transmute(handler) };
        handler(signal);
    }
}
