//! Doorbells: how a side that parks asks to be woken, and how the other side sees that it must.
//!
//! A waiter that is about to sleep stores a new epoch in a word of its own memory, fences, looks
//! again and sleeps; zero means that it is awake. The other side stores its data, fences and loads
//! that word. One of the two must see the other: fences on both sides make it so. Each epoch is rung
//! for once, so a batch rings once and a waiter that is awake is never rung.
//!
//! | fence | pairs with |
//! | --- | --- |
//! | waiter: between storing the epoch and looking again | ringer: between storing data and loading it |
//! | waiter: between storing zero and looking again | the same |

use crate::{ReadMemory, WriteMemory};

/// The waiter's side of one condition.
#[derive(Debug)]
pub struct ArmedFlag {
    word: usize,
    epoch: u64,
    armed: bool,
}

impl ArmedFlag {
    /// A flag whose armed word is `word` of the waiter's own memory.
    pub fn new(word: usize) -> Self {
        Self { word, epoch: 0, armed: false }
    }

    /// Asks for the doorbell. The caller **must look again** before it sleeps.
    #[inline]
    pub fn arm(&mut self, own: &impl WriteMemory) {
        if !self.armed {
            self.armed = true;
            self.epoch += 1;
            own.store(self.word, self.epoch);
            own.publish(self.word, 1);
        }
        // Pairs with the fence in `Lanes::bell_is_due`: the ringer sees that we are armed, or we see
        // what it stored.
        own.fence();
    }

    /// Says that no doorbell is needed any more. What a look after this does not find was stored by a ringer
    /// that finds the waiter awake.
    #[inline]
    pub fn disarm(&mut self, own: &impl WriteMemory) {
        if self.armed {
            self.armed = false;
            own.store(self.word, 0);
            own.publish(self.word, 1);
            // Pairs with the fence in `Lanes::bell_is_due`.
            own.fence();
        }
    }

    /// Says to the thread that polls for this side that it parks. The peer does not look there. The caller
    /// **must look again** before it sleeps.
    #[inline]
    pub fn arm_local(&mut self, own: &impl WriteMemory) {
        if !self.armed {
            self.armed = true;
            self.epoch += 1;
            // Pairs with the load in `LaneMonitor::look`.
            own.store_release(self.word, self.epoch);
        }
        // Pairs with the fence in `ActivityWatch::look`: the thread sees that we are armed, or we see what
        // was pushed before it looked.
        own.fence();
    }

    /// Says to the thread that polls for this process that this side is awake again.
    #[inline]
    pub fn disarm_local(&mut self, own: &impl WriteMemory) {
        if self.armed {
            self.armed = false;
            // Pairs with the load in `LaneMonitor::look`.
            own.store_release(self.word, 0);
        }
    }

    /// Returns `true` if the waiter has asked for the doorbell.
    pub fn is_armed(&self) -> bool {
        self.armed
    }
}

/// The ringer's side of one condition.
#[derive(Debug)]
pub struct Doorbell {
    word: usize,
    rung: u64,
    awake: bool,
}

impl Doorbell {
    /// A doorbell whose armed word is `word` of the waiter's memory.
    pub fn new(word: usize) -> Self {
        Self { word, rung: 0, awake: true }
    }

    /// Returns `true` if the doorbell has to be rung, once for each time that the waiter armed. Call it after
    /// a fence that comes after the data.
    #[inline]
    pub fn is_due(&mut self, peer: &impl ReadMemory) -> bool {
        peer.observe(self.word, 1);
        let epoch = peer.load(self.word);
        self.awake = epoch == 0;
        let due = epoch != 0 && epoch != self.rung;
        if due {
            self.rung = epoch;
        }
        due
    }

    /// Returns `true` if the waiter was awake at the last look: it had not asked for the doorbell.
    pub fn found_awake(&self) -> bool {
        self.awake
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::heap::Heap;

    #[test]
    fn a_look_tells_whether_the_waiter_was_awake() {
        let memory = Heap::new(8);
        let (mut arm, mut bell) = (ArmedFlag::new(0), Doorbell::new(0));
        assert!(!arm.is_armed() && bell.found_awake(), "as it begins");
        arm.arm(&memory);
        assert!(arm.is_armed() && bell.found_awake(), "as the last look found it");
        assert!(bell.is_due(&memory) && !bell.found_awake());
        assert!(!bell.is_due(&memory) && !bell.found_awake(), "it is rung for and asleep");
        arm.disarm(&memory);
        assert!(!arm.is_armed() && !bell.is_due(&memory) && bell.found_awake());
    }

    #[test]
    fn rings_once_for_each_arming() {
        let memory = Heap::new(8);
        let mut arm = ArmedFlag::new(0);
        let mut bell = Doorbell::new(0);
        assert!(!bell.is_due(&memory), "nobody is parked");
        arm.arm(&memory);
        assert!(bell.is_due(&memory));
        assert!(!bell.is_due(&memory), "rung already");
        arm.arm(&memory);
        assert!(!bell.is_due(&memory), "it was armed all along");
        arm.disarm(&memory);
        assert!(!bell.is_due(&memory));
        arm.arm(&memory);
        assert!(bell.is_due(&memory));
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::atomic::{AtomicBool, Ordering};
    use std::sync::Arc;

    use super::*;
    use crate::arena::{Arena, PeerArena, Releases};
    use crate::heap::Heap;
    use crate::ring::{RingReader, RingWriter};

    /// A waiter that parks after looking again is always rung for what it did not see.
    #[test]
    fn no_wakeup_is_lost() {
        loom::model(|| {
            let (slots, own) = (Heap::new(2 * crate::LINE_WORDS), Heap::new(16));
            let doorbell = Arc::new(AtomicBool::new(false));
            let mut writer = RingWriter::new(slots.clone(), own.part(8, 8));
            let (peer, bell_of) = (own.clone(), Arc::clone(&doorbell));
            let ringer = loom::thread::spawn(move || {
                let mut bell = Doorbell::new(0);
                writer.push([1; 7]);
                peer.fence();
                if bell.is_due(&peer) {
                    bell_of.store(true, Ordering::Release);
                }
            });
            let mut reader = RingReader::new(slots, own.part(8, 8));
            let mut arm = ArmedFlag::new(0);
            arm.arm(&own);
            let seen = reader.pop().is_some();
            ringer.join().unwrap();
            assert!(seen || doorbell.load(Ordering::Acquire), "it sleeps and nobody rang");
        });
    }

    /// A writer without room in the ring is always rung for room that it did not see.
    #[test]
    fn no_wakeup_is_lost_when_room_is_made_in_the_ring() {
        loom::model(|| {
            let (slots, taken) = (Heap::new(2 * crate::LINE_WORDS), Heap::new(8));
            let mut writer = RingWriter::new(slots.clone(), taken.clone());
            writer.push([1; 7]);
            writer.push([2; 7]);
            let mut reader = RingReader::new(slots, taken);
            parks(move || reader.pop().is_some(), move || writer.room().unwrap() > 0);
        });
    }

    /// A writer without a free block is always rung for one that it did not see.
    #[test]
    fn no_wakeup_is_lost_when_a_block_is_released() {
        loom::model(|| {
            let (memory, table) = (Heap::new(8), Heap::new(1));
            let mut arena = Arena::new();
            arena.add(0, 64, memory.clone(), table.clone());
            let loan = arena.loan(1, 1).unwrap();
            let reference = arena.commit(loan, 0);
            let mut peer = PeerArena::new();
            peer.add(0, 64, memory, Releases::new(table));
            parks(
                move || {
                    peer.release(&reference);
                    true
                },
                move || arena.loan(1, 1).is_some(),
            );
        });
    }

    /// Lets a thread change something and ring for it, while this one arms, looks for it, and parks if it
    /// does not find it.
    fn parks(change: impl FnOnce() -> bool + 'static, look: impl FnOnce() -> bool) {
        let own = Heap::new(8);
        let doorbell = Arc::new(AtomicBool::new(false));
        let (peer, bell_of) = (own.clone(), Arc::clone(&doorbell));
        let ringer = loom::thread::spawn(move || {
            let mut bell = Doorbell::new(0);
            assert!(change());
            peer.fence();
            if bell.is_due(&peer) {
                bell_of.store(true, Ordering::Release);
            }
        });
        let mut arm = ArmedFlag::new(0);
        arm.arm(&own);
        let seen = look();
        ringer.join().unwrap();
        assert!(seen || doorbell.load(Ordering::Acquire), "it sleeps and nobody rang");
    }
}
