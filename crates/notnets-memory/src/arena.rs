//! The arena: blocks for what does not fit in a descriptor.
//!
//! A segment's blocks have one size. The owner's free lists are private. A loan that was committed is a
//! [`Reference`], which travels in a descriptor. The reader releases it by storing its generation in
//! a table of its own: **only a release with the right generation frees a block.**
//!
//! Where coherence is kept by software, a reference also carries a checksum of its payload, and the reader
//! looks again until it agrees: no order between two lines is relied on.
//!
//! | atomic | pairs with |
//! | --- | --- |
//! | reader: `store_release(table[block], generation)` | owner: `load_acquire`: the reader's loads are over |

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use crate::lent::{Held, Joined};
use crate::loaned::LoanedBytes;
use crate::{Coherence, Lent, ReadMemory, Returns, TrustPeerMemory, WORD, WriteMemory};

/// Blocks from this size on are used in turns, for as long as there are free ones. One that was just released
/// has its lines in the reader's own cache, and to take them back from there costs four times what it costs
/// to take them from the cache that the cores share (measured: 150 against 40 µs for 1 MiB), where they are
/// once a mebibyte of others has been used. Smaller blocks are used again at once: there are too many of
/// them.
const IN_TURNS: usize = 16 << 10;

/// The part of a segment's blocks that may be held, or loaned to the application, is one of this number.
const SHARE: usize = 2;

/// Bytes of a payload that are copied before their checksum is calculated.
const CHECKED_AT_ONCE: usize = 8 << 10;

/// How often a payload that does not agree with its checksum is looked at.
const LOOKS: usize = 1000;

/// Where a payload lies in its writer's arena: 32 bytes in a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The segment's id.
    pub segment: u32,
    /// The block's index in the segment.
    pub block: u32,
    /// Which loan of the block it is.
    pub generation: u64,
    /// First byte within the block.
    pub offset: u32,
    /// Length in bytes.
    pub length: u32,
    /// How many of the bytes are the head, for the layer above.
    pub head: u32,
    /// A checksum of the bytes where coherence is kept by software, else 0.
    pub check: u32,
}

impl Reference {
    /// Encodes the reference for a descriptor.
    #[inline]
    pub fn to_words(self) -> [u64; 4] {
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        [
            pair(self.segment, self.block),
            self.generation,
            pair(self.offset, self.length),
            pair(self.head, self.check),
        ]
    }

    /// Decodes a reference from a descriptor. Nothing in it has been checked.
    #[inline]
    pub fn from_words(words: [u64; 4]) -> Self {
        let low = |word: u64| word as u32;
        let high = |word: u64| (word >> 32) as u32;
        Self {
            segment: low(words[0]),
            block: high(words[0]),
            generation: words[1],
            offset: low(words[2]),
            length: high(words[2]),
            head: low(words[3]),
            check: high(words[3]),
        }
    }
}

/// A block that is being filled. Commit it, or cancel it.
#[derive(Debug)]
#[must_use = "a loan that is neither committed nor cancelled is a block lost"]
pub struct Loan {
    segment: u32,
    /// Where its pool was. Others may have come or gone since.
    pool: usize,
    block: u32,
    capacity: usize,
    filled: usize,
    check: u32,
}

impl Loan {
    #[inline]
    fn new(segment: u32, pool: usize, block: u32, capacity: usize) -> Self {
        Self { segment, pool, block, capacity, filled: 0, check: 0 }
    }

    /// Bytes that still fit.
    pub fn room(&self) -> usize {
        self.capacity - self.filled
    }
}

/// The owner's side.
///
/// ```
/// use notnets_memory::{arena::{Arena, Releases, PeerArena}, heap::Heap};
/// let (blocks, table) = (Heap::new(2 * 64 / 8), Heap::new(2));
/// let mut arena = Arena::new();
/// arena.add(0, 64, blocks.clone(), table.clone());
/// let mut peer = PeerArena::new();
/// peer.add(0, 64, blocks, Releases::new(table));
///
/// let mut loan = arena.loan(5, 5).unwrap();
/// arena.write(&mut loan, b"hello");
/// let reference = arena.commit(loan, 0);
/// let mut read = Vec::new();
/// peer.read(&reference, &mut read)?;
/// assert_eq!(read, b"hello");
/// peer.release(&reference);
/// # Ok::<(), notnets_memory::arena::BadReference>(())
/// ```
#[derive(Debug)]
pub struct Arena<W, R> {
    /// By block size, smallest first.
    pools: Vec<Pool<W, R>>,
}

#[derive(Debug)]
struct Pool<W, R> {
    segment: u32,
    block_bytes: usize,
    memory: W,
    releases: R,
    generations: Vec<u64>,
    /// Those that were used last are at the back.
    free: VecDeque<u32>,
    lent: VecDeque<u32>,
    /// Blocks of runs, which are in neither list.
    loaned: usize,
}

impl<W: WriteMemory, R: ReadMemory> Default for Arena<W, R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<W: WriteMemory, R: ReadMemory> Arena<W, R> {
    /// An arena without a segment.
    pub fn new() -> Self {
        Self { pools: Vec::new() }
    }

    /// Adds a segment of `memory.words() * 8 / block_bytes` blocks. `releases` is the reader's table.
    ///
    /// # Panics
    /// When the reader's table has fewer words than there are blocks.
    pub fn add(&mut self, segment: u32, block_bytes: usize, memory: W, releases: R) {
        let blocks = memory.words() * WORD / block_bytes;
        assert!(releases.words() >= blocks);
        let pool = Pool {
            segment,
            block_bytes,
            memory,
            releases,
            generations: vec![0; blocks],
            free: if block_bytes >= IN_TURNS {
                (0..blocks as u32).collect()
            } else {
                (0..blocks as u32).rev().collect()
            },
            lent: VecDeque::new(),
            loaned: 0,
        };
        let at = self.pools.partition_point(|other| other.block_bytes <= block_bytes);
        self.pools.insert(at, pool);
    }

    /// Loans a block for `want` bytes, or, when none so large is free, the largest free one that has at
    /// least `least` bytes. `None` when there is no such block either.
    pub fn loan(&mut self, want: usize, least: usize) -> Option<Loan> {
        // There are a few of them.
        let best = self.pools.iter().take_while(|pool| pool.block_bytes < want).count();
        self.loan_quickly(best).or_else(|| self.loan_thoroughly(best, least))
    }

    /// A block of the size that pool `best` has, from it or another pool of that size. To look through all
    /// that is lent out of one costs more than to ask the next, so that is not done here.
    #[inline]
    fn loan_quickly(&mut self, best: usize) -> Option<Loan> {
        let block_bytes = self.pools.get(best)?.block_bytes;
        for (index, pool) in (best..).zip(&mut self.pools[best..]) {
            if pool.block_bytes != block_bytes {
                break;
            }
            if let Some(block) = pool.take_quickly() {
                return Some(Loan::new(pool.segment, index, block, block_bytes));
            }
        }
        None
    }

    /// A block of pool `best` or larger, the smallest first, else the largest of the smaller ones.
    fn loan_thoroughly(&mut self, best: usize, least: usize) -> Option<Loan> {
        for index in (best..self.pools.len()).chain((0..best).rev()) {
            let pool = &mut self.pools[index];
            if pool.block_bytes >= least
                && let Some(block) = pool.take()
            {
                return Some(Loan::new(pool.segment, index, block, pool.block_bytes));
            }
        }
        None
    }

    /// Bytes of the largest block there is, free or not.
    pub fn largest_block(&self) -> usize {
        self.pools.last().map_or(0, |pool| pool.block_bytes)
    }

    /// Returns `true` if no block of at least `block_bytes` is free, so that one more segment would help.
    pub fn wants_more(&mut self, block_bytes: usize) -> bool {
        !self.pools.iter_mut().any(|pool| pool.block_bytes >= block_bytes && pool.has_free())
    }

    /// Returns `true` if any block is free.
    pub fn has_free(&mut self) -> bool {
        self.pools.iter_mut().any(Pool::has_free)
    }

    /// Returns `true` if a block is free, or the one lent first in its segment is released: less than
    /// [`has_free`](Self::has_free) looks at, where one asks again and again.
    pub fn has_free_soon(&mut self) -> bool {
        self.pools.iter_mut().any(|pool| {
            if pool.free.is_empty() {
                pool.reclaim_oldest();
            }
            !pool.free.is_empty()
        })
    }

    /// Appends bytes to a loan: as many as there is room for. Returns how many.
    #[inline]
    pub fn write(&self, loan: &mut Loan, bytes: &[u8]) -> usize {
        let n = bytes.len().min(loan.room());
        let pool = &self.pools[self.pool_of(loan)];
        pool.memory.copy_in(loan.block as usize * pool.block_bytes + loan.filled, &bytes[..n]);
        if pool.memory.coherence() == Coherence::Software {
            loan.check = crc32c::crc32c_append(loan.check, &bytes[..n]);
        }
        loan.filled += n;
        n
    }

    /// Ends a loan: it belongs to the reader as soon as its reference is published.
    #[inline]
    pub fn commit(&mut self, loan: Loan, head: u32) -> Reference {
        let index = self.pool_of(&loan);
        let pool = &mut self.pools[index];
        let start = loan.block as usize * pool.block_bytes / WORD;
        pool.memory.publish(start, loan.filled.div_ceil(WORD));
        pool.generations[loan.block as usize] += 1;
        pool.lent.push_back(loan.block);
        Reference {
            segment: pool.segment,
            block: loan.block,
            generation: pool.generations[loan.block as usize],
            offset: 0,
            length: loan.filled as u32,
            head,
            check: loan.check,
        }
    }

    /// Gives back a loan that was not committed.
    pub fn cancel(&mut self, loan: Loan) {
        let index = self.pool_of(&loan);
        self.pools[index].free.push_back(loan.block);
    }

    /// The place of a loan's pool, which is there for as long as the loan.
    #[inline]
    fn pool_of(&self, loan: &Loan) -> usize {
        match self.pools.get(loan.pool) {
            Some(pool) if pool.segment == loan.segment => loan.pool,
            _ => self.position(loan.segment).expect("no segment is taken out of which a block is loaned"),
        }
    }

    #[cold]
    fn position(&self, segment: u32) -> Option<usize> {
        self.pools.iter().position(|pool| pool.segment == segment)
    }

    /// Loans the application so many bytes that lie one behind the other, in blocks of at least `least`
    /// bytes. When nothing refers to them any more `returns` has the address of the first, and then
    /// [`end_run`](Self::end_run) is due. `None` where there is no such room, where half of a segment's
    /// blocks would be loaned in this way, and in memory of a kind that can't be filled in place.
    pub fn loan_run(
        &mut self,
        bytes: usize,
        least: usize,
        returns: &Arc<Returns>,
    ) -> Option<(Run, LoanedBytes)> {
        self.pools.iter_mut().rev().filter(|pool| pool.block_bytes >= least).find_map(|pool| {
            let blocks = u32::try_from(bytes.div_ceil(pool.block_bytes)).ok()?;
            let first = pool.take_run(blocks)?;
            let start = first as usize * pool.block_bytes;
            // SAFETY: these blocks are neither free nor lent until the end of the run, which is not before
            // what is returned here is dropped.
            let Some(loaned) = (unsafe { pool.memory.loan(start, blocks as usize * pool.block_bytes) })
            else {
                pool.end_run(first, blocks, 0);
                return None;
            };
            let frozen = Arc::new(AtomicBool::new(false));
            let run = Run {
                segment: pool.segment,
                first,
                blocks,
                block_bytes: pool.block_bytes,
                start: loaned.start().as_ptr() as usize,
                sent: 0,
                frozen: Arc::clone(&frozen),
            };
            Some((run, LoanedBytes::in_blocks(loaned, bytes, frozen, Arc::clone(returns))))
        })
    }

    /// Lends a block of a run to the reader, with these bytes in it. It was not sent before.
    pub fn commit_in_place(&mut self, run: &mut Run, piece: InPlace) -> Option<Reference> {
        let InPlace { block, offset, length } = piece;
        if block >= run.blocks || run.is_sent(block) || offset as usize + length as usize > run.block_bytes {
            return None;
        }
        let index = self.position(run.segment)?;
        run.sent |= 1 << block;
        let pool = &mut self.pools[index];
        let block = run.first + block;
        pool.generations[block as usize] += 1;
        let generation = pool.generations[block as usize];
        Some(Reference { segment: run.segment, block, generation, offset, length, head: 0, check: 0 })
    }

    /// Nothing here refers to a run any more. Its blocks are free again, those that were sent once the reader
    /// has released them.
    pub fn end_run(&mut self, run: Run) {
        if let Some(index) = self.position(run.segment) {
            self.pools[index].end_run(run.first, run.blocks, run.sent);
        }
    }

    /// How often blocks of a segment were lent so far.
    pub fn uses(&self, segment: u32) -> u64 {
        let pools = self.pools.iter().filter(|pool| pool.segment == segment);
        pools.flat_map(|pool| &pool.generations).sum()
    }

    /// Takes a segment out, with the reader's table, unless one of its blocks is loaned or lent: the reader
    /// has released all of them, so nothing that it was sent and has not taken refers to one.
    pub fn remove(&mut self, segment: u32) -> Option<(W, R)> {
        let at = self.pools.iter().position(|pool| pool.segment == segment)?;
        let pool = &mut self.pools[at];
        pool.reclaim_all();
        if pool.free.len() < pool.generations.len() {
            return None;
        }
        let Pool { memory, releases, .. } = self.pools.remove(at);
        Some((memory, releases))
    }

    /// How many blocks are lent to the reader, and of how many bytes together, but for those that this side
    /// has seen to be released.
    pub fn lent_as_seen(&self) -> (usize, usize) {
        let lent = self.pools.iter().map(|pool| (pool.lent.len(), pool.lent.len() * pool.block_bytes));
        lent.fold((0, 0), |(blocks, bytes), (more, of)| (blocks + more, bytes + of))
    }

    /// How many blocks are lent to the reader and not yet released.
    pub fn lent(&mut self) -> usize {
        self.pools
            .iter_mut()
            .map(|pool| {
                pool.reclaim_all();
                pool.lent.len()
            })
            .sum()
    }
}

/// Blocks one behind the other that are loaned to the application.
#[derive(Debug)]
pub struct Run {
    segment: u32,
    first: u32,
    blocks: u32,
    block_bytes: usize,
    /// The address of the first byte.
    start: usize,
    /// Those that were sent, one bit each.
    sent: u64,
    frozen: Arc<AtomicBool>,
}

/// Bytes within a block of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InPlace {
    /// The block, counted from the run's first.
    pub block: u32,
    /// First byte within the block.
    pub offset: u32,
    /// How many.
    pub length: u32,
}

impl Run {
    /// The address of its first byte.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Bytes of all its blocks.
    pub fn bytes(&self) -> usize {
        self.blocks as usize * self.block_bytes
    }

    /// The bytes at the beginning of these that lie in one block, if they are of this run and can't be
    /// changed any more.
    pub fn find(&self, bytes: &[u8]) -> Option<InPlace> {
        let offset = (bytes.as_ptr() as usize).checked_sub(self.start)?;
        // Pairs with the store in `LoanedBytes::freeze`.
        if offset >= self.bytes() || !self.frozen.load(Ordering::Acquire) {
            return None;
        }
        let within = offset % self.block_bytes;
        let length = bytes.len().min(self.block_bytes - within);
        Some(InPlace {
            block: (offset / self.block_bytes) as u32,
            offset: within as u32,
            length: length as u32,
        })
    }

    /// Returns `true` if this block was sent: it can be once.
    pub fn is_sent(&self, block: u32) -> bool {
        self.sent & 1 << block != 0
    }
}

impl<W: WriteMemory, R: ReadMemory> Pool<W, R> {
    /// Takes free blocks that lie one behind the other.
    fn take_run(&mut self, blocks: u32) -> Option<u32> {
        let share = (self.generations.len() / SHARE).min(u64::BITS as usize);
        if blocks == 0 || self.loaned + blocks as usize > share {
            return None;
        }
        self.reclaim_all();
        let mut free: Vec<u32> = self.free.iter().copied().collect();
        free.sort_unstable();
        let count = blocks as usize;
        let first = free.windows(count).find(|run| run[count - 1] - run[0] == blocks - 1)?[0];
        self.free.retain(|block| !(first..first + blocks).contains(block));
        self.loaned += count;
        Some(first)
    }

    fn end_run(&mut self, first: u32, blocks: u32, sent: u64) {
        self.loaned -= blocks as usize;
        for block in 0..blocks {
            let list = if sent & 1 << block == 0 { &mut self.free } else { &mut self.lent };
            list.push_back(first + block);
        }
    }

    #[inline]
    fn take(&mut self) -> Option<u32> {
        self.take_quickly().or_else(|| {
            self.reclaim_all();
            self.take_free()
        })
    }

    /// A block that is free, or that can be seen to be by a look at the one lent first.
    #[inline]
    fn take_quickly(&mut self) -> Option<u32> {
        if self.free.is_empty() {
            self.reclaim_oldest();
        }
        self.take_free()
    }

    #[inline]
    fn take_free(&mut self) -> Option<u32> {
        if self.block_bytes >= IN_TURNS { self.free.pop_front() } else { self.free.pop_back() }
    }

    fn has_free(&mut self) -> bool {
        if self.free.is_empty() {
            self.reclaim_all();
        }
        !self.free.is_empty()
    }

    /// Readers mostly release in order: one look at the oldest shows most.
    fn reclaim_oldest(&mut self) {
        while let Some(&block) = self.lent.front()
            && self.is_released(block)
        {
            self.lent.pop_front();
            self.free.push_back(block);
        }
    }

    fn reclaim_all(&mut self) {
        for _ in 0..self.lent.len() {
            let Some(block) = self.lent.pop_front() else { break };
            if self.is_released(block) {
                self.free.push_back(block);
            } else {
                self.lent.push_back(block);
            }
        }
    }

    #[inline]
    fn is_released(&self, block: u32) -> bool {
        self.releases.observe(block as usize, 1);
        // Pairs with the store of the generation in `PeerArena::release`: the reader has copied the
        // block out.
        self.releases.load_acquire(block as usize) == self.generations[block as usize]
    }
}

/// A reference that can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadReference {
    /// It points outside of what the peer has offered.
    #[error("the peer's payload is outside of its segments: {0:?}")]
    Outside(Reference),
    /// Its payload does not agree with its checksum, however often it is read.
    #[error("the peer's payload did not arrive whole: {0:?}")]
    Damaged(Reference),
}

/// The reader's table of releases for one segment.
#[derive(Debug)]
pub struct Releases<W>(W);

impl<W: WriteMemory> Releases<W> {
    /// A zeroed table with a word for each block.
    pub fn new(table: W) -> Self {
        Self(table)
    }
}

/// The reader's side: the segments that its peer has offered.
#[derive(Debug)]
pub struct PeerArena<W, R> {
    /// By their number.
    segments: Vec<(u32, PeerPool<W, R>)>,
}

#[derive(Debug)]
struct PeerPool<W, R> {
    block_bytes: usize,
    blocks: usize,
    /// Blocks whose payloads are read where they are.
    held: usize,
    memory: R,
    releases: Releases<W>,
}

impl<W: WriteMemory, R: ReadMemory> Default for PeerArena<W, R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<W: WriteMemory, R: ReadMemory> PeerArena<W, R> {
    /// An arena without a segment.
    pub fn new() -> Self {
        Self { segments: Vec::new() }
    }

    /// Accepts a segment of blocks.
    ///
    /// # Panics
    /// When the table has fewer words than there are blocks.
    pub fn add(&mut self, segment: u32, block_bytes: usize, memory: R, releases: Releases<W>) {
        let blocks = memory.words() * WORD / block_bytes;
        assert!(releases.0.words() >= blocks);
        let pool = PeerPool { block_bytes, blocks, held: 0, memory, releases };
        match self.segments.binary_search_by_key(&segment, |(number, _)| *number) {
            Ok(at) => self.segments[at] = (segment, pool),
            Err(at) => self.segments.insert(at, (segment, pool)),
        }
    }

    /// Forgets a segment, which its owner uses no more. Returns `false`, and keeps it, if blocks of it are
    /// read where they are.
    pub fn remove(&mut self, segment: u32) -> bool {
        let is_held = |(number, pool): &(u32, PeerPool<W, R>)| *number == segment && pool.held > 0;
        if self.segments.iter().any(is_held) {
            return false;
        }
        self.segments.retain(|(number, _)| *number != segment);
        true
    }

    /// Appends a copy of what a reference refers to.
    ///
    /// # Errors
    /// When it is not within a block of a segment that was offered, or did not arrive whole.
    #[inline]
    pub fn read(&self, reference: &Reference, bytes: &mut Vec<u8>) -> Result<(), BadReference> {
        let pool = self.pool(reference)?;
        let start = reference.block as usize * pool.block_bytes + reference.offset as usize;
        if pool.memory.is_plain() {
            pool.memory.append_to(start, reference.length as usize, bytes);
            return Ok(());
        }
        pool.read_far(reference, start, bytes)
    }

    /// Checks a reference before anything is allocated for it.
    ///
    /// # Errors
    /// When it is not within a block of a segment that was offered.
    #[inline]
    pub fn check(&self, reference: &Reference) -> Result<(), BadReference> {
        self.pool(reference).map(|_| ())
    }

    /// Gives the block back to its owner.
    #[inline]
    pub fn release(&self, reference: &Reference) {
        if let Ok(pool) = self.pool(reference) {
            // Pairs with the load of the generation by the block's owner, in `Pool::is_released`.
            pool.releases.0.store_release(reference.block as usize, reference.generation);
            pool.releases.0.publish(reference.block as usize, 1);
        }
    }

    /// The bytes behind the head of a payload, where they are: its block is held until the last of them is
    /// dropped, and goes to `returns` then. `None` where they have to be copied: in memory that can't be read
    /// in place, and when enough blocks of the kind are held.
    pub fn lend(
        &mut self,
        trust: TrustPeerMemory,
        reference: &Reference,
        returns: &Arc<Returns>,
    ) -> Option<Bytes> {
        let pool = self.pool_mut(reference)?;
        if pool.held >= pool.may_hold() {
            return None;
        }
        let start =
            reference.block as usize * pool.block_bytes + (reference.offset + reference.head) as usize;
        let lent = pool.memory.lend(trust, start, (reference.length - reference.head) as usize)?;
        pool.held += 1;
        Some(Held { lent, reference: *reference, returns: Arc::clone(returns) }.into_bytes())
    }

    /// Gives a block back whose payload was read where it was.
    pub fn take_back(&mut self, reference: &Reference) {
        if let Some(pool) = self.pool_mut(reference) {
            pool.held = pool.held.saturating_sub(1);
        }
        self.release(reference);
    }

    /// Bytes of payloads that can be held besides those that are, in blocks of this size and more.
    pub fn may_hold(&self, block_bytes: usize) -> usize {
        let large = self.segments.iter().filter(|(_, pool)| pool.block_bytes >= block_bytes);
        large.map(|(_, pool)| pool.may_hold().saturating_sub(pool.held) * pool.block_bytes).sum()
    }

    /// Puts those of these views together that lie one behind the other. Views of anything but what was lent
    /// stay as they are.
    pub fn join(&self, trust: TrustPeerMemory, pieces: &mut Vec<Bytes>) {
        let mut joined: Vec<Vec<Bytes>> = Vec::new();
        for piece in pieces.drain(..) {
            match joined.last_mut() {
                Some(run) if run.last().is_some_and(|last| last.as_ptr_range().end == piece.as_ptr()) => {
                    run.push(piece);
                }
                _ => joined.push(vec![piece]),
            }
        }
        for run in joined {
            match self.lend_run(trust, &run) {
                Some(lent) => pieces.push(Bytes::from_owner(Joined { lent, parts: run })),
                None => pieces.extend(run),
            }
        }
    }

    /// All of these views, if they are views of one pool: bytes that lie there are never anything else.
    fn lend_run(&self, trust: TrustPeerMemory, run: &[Bytes]) -> Option<Lent> {
        let [first, .., last] = run else { return None };
        let (start, end) = (first.as_ptr() as usize, last.as_ptr_range().end as usize);
        self.segments.iter().find_map(|(_, pool)| {
            let base = pool.memory.lend(trust, 0, 0)?.as_slice().as_ptr() as usize;
            let bytes = base..=base + pool.memory.words() * WORD;
            let within = bytes.contains(&start) && bytes.contains(&end);
            if within { pool.memory.lend(trust, start - base, end - start) } else { None }
        })
    }

    fn pool_mut(&mut self, reference: &Reference) -> Option<&mut PeerPool<W, R>> {
        self.pool(reference).ok()?;
        let at = self.segments.binary_search_by_key(&reference.segment, |(number, _)| *number).ok()?;
        Some(&mut self.segments[at].1)
    }

    #[inline]
    fn pool(&self, reference: &Reference) -> Result<&PeerPool<W, R>, BadReference> {
        let bad = || BadReference::Outside(*reference);
        let pool = self.segment(reference.segment).ok_or_else(bad)?;
        let end = reference.offset as usize + reference.length as usize;
        let within = (reference.block as usize) < pool.blocks && end <= pool.block_bytes;
        if within && reference.head <= reference.length { Ok(pool) } else { Err(bad()) }
    }

    #[inline]
    fn segment(&self, number: u32) -> Option<&PeerPool<W, R>> {
        // Until one is retired, the segments' numbers are their places.
        if let Some((present, pool)) = self.segments.get(number as usize)
            && *present == number
        {
            return Some(pool);
        }
        let at = self.segments.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        Some(&self.segments[at].1)
    }
}

impl<W: WriteMemory, R: ReadMemory> PeerPool<W, R> {
    /// Appends a copy of what has to be observed first, and may not be whole yet.
    fn read_far(&self, reference: &Reference, start: usize, bytes: &mut Vec<u8>) -> Result<(), BadReference> {
        let length = reference.length as usize;
        let words = start / WORD..(start + length).div_ceil(WORD);
        let before = bytes.len();
        bytes.reserve(length);
        for _ in 0..LOOKS {
            self.memory.observe_written(words.start, words.len());
            let check = self.copy_out(start, length, bytes);
            self.memory.arrive();
            if check.is_none_or(|check| check == reference.check) {
                return Ok(());
            }
            bytes.truncate(before);
        }
        Err(BadReference::Damaged(*reference))
    }

    /// Appends a copy. Returns its checksum where coherence is kept by software, calculated piece by piece
    /// while these are in the nearest cache.
    fn copy_out(&self, start: usize, length: usize, bytes: &mut Vec<u8>) -> Option<u32> {
        if self.memory.coherence() == Coherence::Hardware {
            self.memory.append_to(start, length, bytes);
            return None;
        }
        let mut check = 0;
        for at in (0..length).step_by(CHECKED_AT_ONCE) {
            let before = bytes.len();
            self.memory.append_to(start + at, CHECKED_AT_ONCE.min(length - at), bytes);
            check = crc32c::crc32c_append(check, &bytes[before..]);
        }
        Some(check)
    }
}

impl<W, R> PeerPool<W, R> {
    /// Blocks that may be held: the others suffice for a writer that goes on.
    fn may_hold(&self) -> usize {
        self.blocks / SHARE
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::heap::Heap;

    fn pair(pools: &[(usize, usize)]) -> (Arena<Heap, Heap>, PeerArena<Heap, Heap>) {
        let (mut arena, mut peer) = (Arena::new(), PeerArena::new());
        for (id, (bytes, blocks)) in pools.iter().enumerate() {
            let (memory, table) = (Heap::new(bytes * blocks / WORD), Heap::new(*blocks));
            arena.add(id as u32, *bytes, memory.clone(), table.clone());
            peer.add(id as u32, *bytes, memory, Releases::new(table));
        }
        (arena, peer)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 256 }, failure_persistence: None, ..Default::default() })]
        /// Blocks that are lent keep their content until they are released, in whatever order.
        #[test]
        fn lent_blocks_are_left_alone(operations in prop::collection::vec((0usize..200, any::<prop::sample::Index>(), any::<bool>()), 0..100)) {
            let (mut arena, peer) = pair(&[(64, 3), (128, 2)]);
            let mut held: Vec<(Reference, Vec<u8>)> = Vec::new();
            for (i, (len, which, release)) in operations.into_iter().enumerate() {
                if release && !held.is_empty() {
                    let (reference, _) = held.swap_remove(which.index(held.len()));
                    peer.release(&reference);
                } else if let Some(mut loan) = arena.loan(len, 1) {
                    let bytes = vec![i as u8; len];
                    let n = arena.write(&mut loan, &bytes);
                    prop_assert!(n == len || n >= 64);
                    held.push((arena.commit(loan, 0), bytes[..n].to_vec()));
                } else {
                    prop_assert_eq!(held.len(), 5, "a free block was not found");
                }
                for (reference, bytes) in &held {
                    let mut read = Vec::new();
                    peer.read(reference, &mut read).unwrap();
                    prop_assert_eq!(&read, bytes);
                }
                prop_assert_eq!(arena.lent(), held.len());
            }
        }

        /// No reference, however wild, is read outside of its segment.
        #[test]
        fn wild_references_are_refused(words in any::<[u64; 4]>()) {
            let (_, peer) = pair(&[(64, 3)]);
            let reference = Reference::from_words(words);
            let valid = reference.segment == 0 && reference.block < 3
                && u64::from(reference.offset) + u64::from(reference.length) <= 64 && reference.head <= reference.length;
            prop_assert_eq!(peer.check(&reference).is_ok(), valid);
        }
    }

    #[test]
    fn references_survive_the_descriptor() {
        let reference = Reference {
            segment: 1,
            block: 2,
            generation: u64::MAX,
            offset: 3,
            length: u32::MAX,
            head: 5,
            check: 6,
        };
        assert_eq!(Reference::from_words(reference.to_words()), reference);
    }

    #[test]
    fn a_release_of_an_old_generation_frees_nothing() {
        let (mut arena, peer) = pair(&[(64, 1)]);
        let loan = arena.loan(1, 1).unwrap();
        let first = arena.commit(loan, 0);
        peer.release(&first);
        let loan = arena.loan(1, 1).unwrap();
        let second = arena.commit(loan, 0);
        peer.release(&first);
        assert!(arena.loan(1, 1).is_none());
        peer.release(&second);
        assert!(arena.loan(1, 1).is_some());
    }

    #[test]
    fn a_segment_is_taken_out_once_nobody_has_a_block_of_it() {
        let (mut arena, mut peer) = pair(&[(64, 2), (1024, 2)]);
        let loan = arena.loan(1000, 1000).unwrap();
        assert!(arena.remove(1).is_none(), "a block is loaned");
        let reference = arena.commit(loan, 0);
        assert!(arena.remove(1).is_none(), "a block is lent");
        assert_eq!((arena.uses(0), arena.uses(1)), (0, 1));
        peer.release(&reference);
        assert!(arena.remove(1).is_some() && arena.remove(1).is_none());
        peer.remove(1);
        assert_eq!(peer.check(&reference), Err(BadReference::Outside(reference)));
        assert!(arena.loan(1000, 1000).is_none());
        let loan = arena.loan(1000, 1).unwrap();
        assert_eq!(loan.room(), 64, "the others are used on");
        arena.cancel(loan);
        assert!(arena.remove(0).is_some() && !arena.has_free());
    }

    #[test]
    fn a_loan_goes_on_while_other_segments_are_taken_out() {
        let (mut arena, peer) = pair(&[(64, 1), (1024, 2)]);
        let (first, mut loan) = (arena.loan(1000, 1000).unwrap(), arena.loan(1000, 1000).unwrap());
        arena.write(&mut loan, &[1; 10]);
        assert!(arena.remove(0).is_some());
        arena.write(&mut loan, &[2; 10]);
        let reference = arena.commit(loan, 0);
        let mut read = Vec::new();
        peer.read(&reference, &mut read).unwrap();
        assert_eq!((reference.segment, read), (1, [[1; 10], [2; 10]].concat()));
        arena.cancel(first);
    }

    #[test]
    fn each_block_of_a_run_is_lent_once_and_as_far_as_it_goes() {
        let (mut arena, _) = pair(&[(128, 4), (64, 1)]);
        let mut run = Run {
            segment: 0,
            first: 1,
            blocks: 2,
            block_bytes: 128,
            start: 0,
            sent: 0,
            frozen: Arc::default(),
        };
        let piece = |block, offset, length| InPlace { block, offset, length };
        for beyond in [piece(2, 0, 1), piece(0, 120, 9), piece(0, 129, 0)] {
            assert_eq!(arena.commit_in_place(&mut run, beyond), None);
        }
        for block in [1, 0] {
            let lent = arena.commit_in_place(&mut run, piece(block, 120, 8)).unwrap();
            assert_eq!((lent.block, lent.generation, lent.offset, lent.length), (1 + block, 1, 120, 8));
            assert_eq!(arena.commit_in_place(&mut run, piece(block, 120, 8)), None, "it was sent");
        }
    }

    #[test]
    fn small_payloads_get_small_blocks() {
        let (mut arena, _) = pair(&[(64, 1), (1024, 1)]);
        let small = arena.loan(10, 10).unwrap();
        assert_eq!(small.room(), 64);
        let large = arena.loan(10, 10).unwrap();
        assert_eq!(large.room(), 1024);
        arena.cancel(small);
        assert!(arena.loan(100, 100).is_none(), "does not fit");
        assert_eq!(arena.loan(100, 1).unwrap().room(), 64, "in part");
        arena.cancel(large);
    }

    #[test]
    fn the_oldest_release_shows_that_something_is_free() {
        let (mut arena, peer) = pair(&[(64, 2)]);
        let lent = [1, 2].map(|_| {
            let loan = arena.loan(1, 1).unwrap();
            arena.commit(loan, 0)
        });
        assert!(!arena.has_free_soon());
        peer.release(&lent[1]);
        assert!(!arena.has_free_soon() && arena.has_free(), "the one behind it is seen by a longer look");
        peer.release(&lent[0]);
        assert!(arena.has_free_soon());
    }

    #[test]
    fn what_is_free_is_known_by_its_size() {
        let (mut arena, _) = pair(&[(64, 1), (64, 1), (1024, 1)]);
        assert_eq!(arena.largest_block(), 1024);
        // A block may be filled, and another segment's of its size comes before a larger one.
        for _ in 0..2 {
            assert_eq!(arena.loan(64, 64).unwrap().room(), 64);
        }
        assert!(arena.wants_more(2048) && !arena.wants_more(1024) && !arena.wants_more(64));
        let mut large = arena.loan(64, 64).unwrap();
        arena.write(&mut large, &[1; 24]);
        assert_eq!(large.room(), 1000);
        assert!(
            arena.wants_more(1024) && arena.wants_more(64) && !arena.has_free() && !arena.has_free_soon()
        );
        arena.cancel(large);
        assert!(arena.has_free() && !arena.wants_more(64));
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::LINE_WORDS;
    use crate::heap::Heap;
    use crate::ring::{RingReader, RingWriter};

    /// The only block is written for the second payload while the first may still be read: its owner must not
    /// find it released before it was copied out, and the reader finds what belongs to the reference.
    #[test]
    fn a_block_is_written_again_only_once_it_was_copied_out() {
        loom::model(|| {
            let (slots, taken) = (Heap::new(2 * LINE_WORDS), Heap::new(LINE_WORDS));
            let (memory, table) = (Heap::new(8), Heap::new(1));
            let mut ring = RingWriter::new(slots.clone(), taken.clone());
            let mut arena = Arena::new();
            arena.add(0, 64, memory.clone(), table.clone());
            let owner = loom::thread::spawn(move || {
                for payload in 1..=2 {
                    let mut loan = loop {
                        match arena.loan(1, 1) {
                            Some(loan) => break loan,
                            None => loom::thread::yield_now(),
                        }
                    };
                    arena.write(&mut loan, &[payload]);
                    let [a, b, c, d] = arena.commit(loan, 0).to_words();
                    ring.push([a, b, c, d, 0, 0, 0]);
                }
            });
            let mut reader = RingReader::new(slots, taken);
            let mut peer = PeerArena::new();
            peer.add(0, 64, memory, Releases::new(table));
            for payload in 1..=2 {
                let [a, b, c, d, ..] = loop {
                    match reader.pop() {
                        Some(descriptor) => break descriptor,
                        None => loom::thread::yield_now(),
                    }
                };
                let reference = Reference::from_words([a, b, c, d]);
                let mut read = Vec::new();
                peer.read(&reference, &mut read).unwrap();
                assert_eq!(read, [payload]);
                peer.release(&reference);
            }
            owner.join().unwrap();
        });
    }
}
