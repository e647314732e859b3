//! What a trusted peer has lent, read in place.
//!
//! A peer writes its blocks at any time, so nothing may refer to them as `&[u8]`, unless its user vouches for
//! it by [`TrustPeerMemory`]. Then the bytes of a block can be handed out as they lie there: [`Bytes`] that
//! hold the block. When the last of them is dropped, on whatever thread and in whatever state the link is,
//! the block is put into the link's [`Returns`], and the one that drives the link is woken to release it.
//!
//! | atomic | pairs with |
//! | --- | --- |
//! | `any`: `store` under the lock, `swap` | a hint: what it is about is read under the lock |

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::Bytes;

use crate::Reference;
use crate::mapping::Lent;
use crate::process::ForkGuard;

/// A promise that the peers of a link never alter what they have lent.
///
/// A message that comes in blocks of its sender's memory is copied out of them, since its sender could change
/// it at any time while it is read. An endpoint or server that has this token hands large payloads out as
/// they lie there, without a copy.
///
/// ```
/// use notnets_memory::TrustPeerMemory;
///
/// // SAFETY: all peers are this program, run by the same user; nothing forks.
/// let trust = unsafe { TrustPeerMemory::new() };
/// # let _ = trust;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct TrustPeerMemory(());

impl TrustPeerMemory {
    /// Vouches for all peers of the endpoints and servers that are given it.
    ///
    /// # Safety
    /// For as long as anything here refers to bytes that a peer has lent:
    ///
    /// - no peer, and nothing that a peer lets write its memory, changes them. A process that runs this
    ///   library keeps that by itself, as long as no bug or attacker makes it write where it should not. That
    ///   it is a process of the same user says nothing about that;
    /// - in a pod, no process of any host changes what was shared in the region, and its memory is not lost:
    ///   a page that is poisoned reads as zeros from then on;
    /// - no child that was forked without `exec` uses them: the memory of peers is not mapped there.
    ///
    /// Otherwise safe code reads a `&[u8]` that changes or is gone, which is undefined behaviour.
    pub const unsafe fn new() -> Self {
        Self(())
    }
}

/// What was let go of and has to be told to a link's peer, and whom to wake for that.
#[derive(Debug)]
pub struct Returns {
    /// There may be something.
    any: AtomicBool,
    fork: ForkGuard,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    returned: Returned,
    waker: Option<Waker>,
}

/// What was let go of.
#[derive(Debug, Default)]
pub struct Returned {
    /// Blocks of the peer's whose payloads were read where they are.
    pub blocks: Vec<Reference>,
    /// Loans of this side's, by the addresses of their first bytes.
    pub loans: Vec<usize>,
}

impl Returns {
    /// Nothing yet.
    ///
    /// # Errors
    /// When the kernel cannot mark a page to detect forks by.
    pub fn new() -> std::io::Result<Arc<Self>> {
        let fork = ForkGuard::new()?;
        Ok(Arc::new(Self { any: AtomicBool::new(false), fork, inner: Mutex::default() }))
    }

    /// Has the driver of the link woken when something is let go of from now on. What was before has to be
    /// [looked for](Self::take) after this.
    pub fn wake_by(&self, waker: &Waker) {
        let mut inner = self.lock();
        if !inner.waker.as_ref().is_some_and(|present| present.will_wake(waker)) {
            let before = inner.waker.replace(waker.clone());
            drop(inner);
            drop(before);
        }
    }

    /// Takes what was let go of, if there may be something to tell.
    #[inline]
    pub fn take(&self) -> Option<Returned> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        Some(self.take_all())
    }

    #[cold]
    fn take_all(&self) -> Returned {
        let mut inner = self.lock();
        self.any.store(false, Ordering::Relaxed);
        mem::take(&mut inner.returned)
    }

    /// Something in sealed memory was let go of: the driver has to look.
    pub(crate) fn notify(&self) {
        self.put(|_| {});
    }

    /// Nothing refers to the bytes of a loan any more.
    pub(crate) fn end_loan(&self, start: usize) {
        self.put(|returned| returned.loans.push(start));
    }

    fn put(&self, put: impl FnOnce(&mut Returned)) {
        // Of a forked child nobody waits, and a thread of the parent may have held the lock.
        if self.fork.is_forked_child() {
            return;
        }
        let mut inner = self.lock();
        put(&mut inner.returned);
        self.any.store(true, Ordering::Relaxed);
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A block of a peer's that is held for as long as its bytes are in use.
pub(crate) struct Held {
    pub lent: Lent,
    pub reference: Reference,
    pub returns: Arc<Returns>,
}

impl Held {
    pub fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        self.lent.as_slice()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.returns.put(|returned| returned.blocks.push(self.reference));
    }
}

/// Several blocks that lie one behind the other.
pub(crate) struct Joined {
    pub lent: Lent,
    /// Views of all of it.
    pub parts: Vec<Bytes>,
}

impl AsRef<[u8]> for Joined {
    fn as_ref(&self) -> &[u8] {
        debug_assert!(!self.parts.is_empty());
        self.lent.as_slice()
    }
}
