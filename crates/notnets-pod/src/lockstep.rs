//! Two processes on two hosts of a pod that do something together, step by step: for measurements.
//!
//! They find each other by a name that both serve. The data of each step is in records at the beginning of
//! its first extent, which the agents' tables lead to: no link is made, and nothing is sent. The records are
//! written back and invalidated whatever the region's superblock states, for that may be in question.

use std::thread::sleep;
use std::time::{Duration, Instant};

use notnets_memory::region::{Region, RegionOffset, RegionRange};
use notnets_memory::seal::Seal;
use notnets_memory::{Coherence, LINE, LINE_WORDS, OwnMemory, PeerMemory, record};

use super::member::{Member, PodError};
use super::table::{Control, ExtentState, ProcessId};
use notnets_core::name::Name;
use notnets_core::random;

/// A line to greet, and one each for odd and even steps.
const CONTROL_BYTES: usize = 3 * LINE;
/// Looks without a pause, and the pause between later ones.
const EAGER_LOOKS: u32 = 2000;
const PAUSE: Duration = Duration::from_micros(50);
/// How often the agent is asked for the other processes.
const ASK: Duration = Duration::from_millis(5);

/// The data that a side sends with a step.
pub type StepData = [u64; 4];

/// One of two processes that work in lockstep.
#[derive(Debug)]
pub struct Lockstep {
    peer: ProcessId,
    is_first: bool,
    own: OwnMemory,
    theirs: PeerMemory,
    seals: (Seal, Seal),
    step: u64,
}

impl Lockstep {
    /// Waits for a process of another host at the same name. Each of the two has `bytes` that it writes and
    /// the other reads; they are what is returned beside.
    ///
    /// # Errors
    /// When nobody comes before `deadline`, or there is no memory.
    pub fn at(
        member: &Member,
        name: &Name,
        bytes: usize,
        deadline: Instant,
    ) -> Result<(Self, OwnMemory, PeerMemory), PodError> {
        let region = member.region();
        let own_id = member.id();
        let mut block = member.block(CONTROL_BYTES + bytes, deadline)?;
        block.zero(CONTROL_BYTES + bytes);
        let own = block.carve(CONTROL_BYTES).with_coherence(Coherence::Software);
        let nonce = random::word();
        record::publish(&own, 0, seal(&region, own_id), [nonce, 0, 0, 0, 0, 0, 0]);
        // Clients that call this name are not answered, and give up.
        member.serve(name, Box::new(drop), deadline)?;
        let (peer, start, peer_nonce) = loop {
            let mut others = member.resolve(name, deadline)?;
            others.retain(|other| other.host != own_id.host);
            if let Some(found) = others.into_iter().find_map(|other| greeting(&region, other)) {
                break found;
            }
            if Instant::now() >= deadline {
                return Err(PodError::TimedOut);
            }
            sleep(ASK);
        };
        let is_first = own_id < peer;
        let [first, second] = if is_first { [nonce, peer_nonce] } else { [peer_nonce, nonce] };
        let nonces = |seal: Seal| seal.at(first).at(second);
        let seals = (nonces(seal(&region, own_id)), nonces(seal(&region, peer)));
        let part = |from: usize, bytes: usize| {
            let range = start.checked_add(from).and_then(|start| RegionRange::new(start, bytes));
            range.and_then(|range| region.peer(range)).ok_or(PodError::Place(peer.host))
        };
        let theirs = part(0, CONTROL_BYTES)?.with_coherence(Coherence::Software);
        let memory = part(CONTROL_BYTES, bytes)?;
        let mut lockstep = Self { peer, is_first, own, theirs, seals, step: 0 };
        lockstep.exchange([0; 4], deadline)?;
        member.unserve(name);
        Ok((lockstep, block.carve(bytes), memory))
    }

    /// Returns the other process's id.
    pub fn peer(&self) -> ProcessId {
        self.peer
    }

    /// Returns `true` if this is the side that begins.
    pub fn is_first(&self) -> bool {
        self.is_first
    }

    /// Sends data, waits until the other has come as far, and returns its data.
    ///
    /// # Errors
    /// When that takes until `deadline`.
    pub fn exchange(&mut self, data: StepData, deadline: Instant) -> Result<StepData, PodError> {
        self.step += 1;
        // The other may be a step ahead, but not two: it waits for us as well.
        let word = (1 + self.step as usize % 2) * LINE_WORDS;
        let [a, b, c, d] = data;
        record::publish(&self.own, word, self.seals.0, [self.step, a, b, c, d, 0, 0]);
        let mut looks = 0;
        loop {
            if let Some([step, a, b, c, d, ..]) = record::observe::<7>(&self.theirs, word, self.seals.1)
                && step == self.step
            {
                return Ok([a, b, c, d]);
            }
            look_again(&mut looks, deadline)?;
        }
    }
}

/// Waits before another look at memory that the other side writes: at first without pause, later with one.
///
/// # Errors
/// When the deadline is over.
pub fn look_again(looks: &mut u32, deadline: Instant) -> Result<(), PodError> {
    *looks += 1;
    if *looks < EAGER_LOOKS {
        std::hint::spin_loop();
        return Ok(());
    }
    sleep(PAUSE);
    if Instant::now() < deadline { Ok(()) } else { Err(PodError::TimedOut) }
}

/// Where a process's first extent begins, and the number that it greets with.
fn greeting(region: &Region, other: ProcessId) -> Option<(ProcessId, RegionOffset, u64)> {
    let layout = *region.layout();
    let host = usize::from(other.host);
    let control = region.peer((host < layout.hosts()).then(|| layout.control(host))?)?;
    let control = Control::of_peer(control, layout, region.superblock().uuid, other.host);
    (0..layout.extents()).find_map(|index| {
        let extent = control.extent(index)?;
        let granted = extent.state == ExtentState::Granted;
        if !granted || (extent.process, extent.generation) != (other.process, other.generation) {
            return None;
        }
        let start = layout.extent(host, index).start();
        let memory = region.peer(RegionRange::new(start, LINE)?)?.with_coherence(Coherence::Software);
        let [nonce, ..] = record::observe::<7>(&memory, 0, seal(region, other))?;
        Some((other, start, nonce))
    })
}

fn seal(region: &Region, of: ProcessId) -> Seal {
    let [a, b] = region.superblock().uuid.words();
    Seal::new([a, b, of.host.into(), of.process.into(), of.generation.into()])
}
