//! Further memory for a link between hosts: what its user asks for, and what the peer has to say of it.
//!
//! The user of a link must not wait, so nothing here does. Memory that the process has is given at once; else
//! the agent is asked, and the link is rung when there is an answer. What the peer writes about segments lies
//! in the link's [`Inbox`] until its user reads it, on the next doorbell.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use notnets_memory::lane::Blocks;
use notnets_memory::region::pool::{OwnBlock, Pool};
use notnets_memory::region::{RegionOffset, RegionRange};
use notnets_memory::{PAGE, PeerMemory};

use super::letter::Letter;
use super::{Member, lock};
use crate::pod::packet::FromProcess;
use crate::pod::table::Address;

/// A peer that says more than this, while none of it is read, floods us.
const MAX_NEWS: usize = 64;

/// What a link's user is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// The peer offers blocks.
    Offer {
        /// The segment's id.
        segment: u32,
        /// Where it begins in the region; not checked.
        place: u64,
        /// What is in it; not checked.
        blocks: Blocks,
    },
    /// It has taken ours.
    Accept {
        /// The segment's id.
        segment: u32,
        /// Where its table of releases begins in the region; not checked.
        place: u64,
    },
    /// It has not.
    Decline {
        /// The segment's id.
        segment: u32,
    },
    /// There may be memory now: try again.
    Granted,
    /// There is none.
    Full,
}

/// News that wait for a link's user.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    news: Mutex<VecDeque<News>>,
    any: AtomicBool,
}

impl Inbox {
    /// Puts one there. Returns false when there are too many.
    pub(super) fn push(&self, news: News) -> bool {
        let mut all = lock(&self.news);
        all.push_back(news);
        self.any.store(true, Ordering::Release);
        all.len() <= MAX_NEWS
    }

    fn take(&self) -> VecDeque<News> {
        // Whatever rings us has put its news there before.
        match self.any.swap(false, Ordering::Acquire) {
            true => std::mem::take(&mut *lock(&self.news)),
            false => VecDeque::new(),
        }
    }
}

/// The memory of one link between hosts.
#[derive(Debug)]
pub struct LinkMemory {
    member: Member,
    link: u32,
    peer: (Address, u32),
    inbox: Arc<Inbox>,
}

impl LinkMemory {
    pub(super) fn new(member: Member, link: u32, peer: (Address, u32), inbox: Arc<Inbox>) -> Self {
        Self { member, link, peer, inbox }
    }

    /// What has come since the last time.
    pub(crate) fn news(&self) -> VecDeque<News> {
        self.inbox.take()
    }

    /// As many of these blocks as an extent has room for.
    pub(crate) fn cut(&self, blocks: Blocks) -> Blocks {
        let most = self.member.region().layout().extent_bytes() / blocks.bytes as usize;
        Blocks { count: blocks.count.min(u32::try_from(most).unwrap_or(u32::MAX)), ..blocks }
    }

    /// Memory of this process, if it has any: the peer may read it until the link ends.
    pub(crate) fn allocate(&self, bytes: usize) -> Option<OwnBlock> {
        let mut state = self.member.state();
        let block = Pool::allocate(&state.pool, bytes)?;
        state.links.get_mut(&self.link)?.keep(block.lease());
        Some(block)
    }

    /// The peer has not taken it, and reads nothing of it.
    pub(crate) fn take_back(&self, block: OwnBlock) {
        if let Some(link) = self.member.state().links.get_mut(&self.link) {
            link.keep_no_more(&block.lease());
        }
    }

    /// Asks the agent for more. The answer is [`News::Granted`] or [`News::Full`].
    pub(crate) fn ask(&self) {
        let mut state = self.member.state();
        let Some(link) = state.links.get_mut(&self.link) else { return };
        link.wants_memory = true;
        drop(state);
        self.member.say(FromProcess::Grant { more: true });
    }

    /// A part of the peer's host's extents, if it is one.
    pub(crate) fn of_peer(&self, place: u64, bytes: usize) -> Option<PeerMemory> {
        let start = Some(RegionOffset(place)).filter(|start| start.is_aligned(PAGE))?;
        let range = RegionRange::new(start, bytes)?;
        let region = self.member.region();
        let inside = region.layout().is_in_extents(self.peer.0.host.into(), range);
        inside.then(|| region.peer(range)).flatten()
    }

    /// Offers blocks to the peer.
    pub(crate) fn offer(&self, segment: u32, place: u64, blocks: Blocks) {
        self.write(Letter::Offer { to: self.peer.1, segment, place, blocks });
    }

    /// Takes the peer's.
    pub(crate) fn accept(&self, segment: u32, place: u64) {
        self.write(Letter::Accept { to: self.peer.1, segment, place });
    }

    /// Does not.
    pub(crate) fn decline(&self, segment: u32) {
        self.write(Letter::Decline { to: self.peer.1, segment });
    }

    fn write(&self, letter: Letter) {
        self.member.say(FromProcess::Send { to: self.peer.0, body: letter.encode() });
    }
}
