//! Payloads that lie in the region: those of this process, and the claims on those of others.
//!
//! Bytes that are shared are put once into an extent that was granted for payloads, one behind the other, and
//! nothing in such an extent is written twice. When this process refers to none of them any more it returns
//! the extent; the agent keeps it for as long as a host claims it.
//!
//! Whoever is told of a payload has its agent claim the extent before it says that it has taken it. Until
//! then the teller holds it: by what it has put there itself, or by its own claim. Both belong to what a link
//! keeps until its peer has closed it, so that no death in between leaves the memory to somebody else.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use notnets_memory::region::{OwnPart, RegionOffset, RegionRange};
use notnets_memory::seal::checksum;
use notnets_memory::{
    Coherence, LINE, OwnMemory, PeerMemory, ReadMemory, Sealed, TrustPeerMemory, WORD, WriteMemory,
};

use super::segments::Inbox;
use super::state::State;
use super::{Member, Membership, Shared, lock};
use crate::packet::FromProcess;
use crate::table::{Control, ExtentId, ExtentState};
use notnets_core::call::{Place, Places};

/// After the agent had no extent for payloads it is not asked again for so long.
const EXHAUSTED: Duration = Duration::from_secs(1);
/// How often a payload is looked at whose checksum is wrong.
const LOOKS: usize = 8;

/// This process's payloads, and its claims.
#[derive(Debug, Default)]
pub(super) struct Payloads {
    extents: Vec<PayloadExtent>,
    /// By the serial numbers of the bytes that they are copies of.
    placed: HashMap<u64, Weak<Placed>>,
    /// An extent was asked for; none was left.
    asked: bool,
    exhausted_at: Option<Instant>,
    claims: HashMap<ExtentId, Claiming>,
}

/// An extent of this process's payloads.
#[derive(Debug)]
struct PayloadExtent {
    part: OwnPart,
    /// Held by each of them.
    used: Arc<()>,
    /// When it was granted, or something was put there last.
    since: Instant,
    /// Nothing is put there any more: it was granted under a former number of this process.
    is_former: bool,
}

/// A payload that this process has put into the region.
#[derive(Debug)]
pub(super) struct Placed {
    place: Place,
    _extent: Arc<()>,
}

/// A claim of this process on an extent. All payloads there share it.
#[derive(Debug)]
pub(super) struct Claim {
    extent: ExtentId,
    shared: Weak<Shared>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        // The state's lock may be held here.
        if let Some(shared) = self.shared.upgrade()
            && !shared.fork.is_forked_child()
        {
            lock(&shared.dropped).push(self.extent);
            shared.wake();
        }
    }
}

/// How far a claim is.
#[derive(Debug)]
enum Claiming {
    /// The agent was asked, for these payloads of links.
    Asked(Vec<(u32, u32)>),
    /// The agent has published it.
    Held(Weak<Claim>),
}

/// A payload of another process that is read here.
#[derive(Debug)]
struct Claimed {
    place: Place,
    claim: Arc<Claim>,
    /// The process stays in the pod for as long as it reads there.
    membership: Arc<Membership>,
}

/// The answers to what was claimed over a link.
pub(super) type ClaimInbox = Inbox<(u32, Arc<Claim>)>;

impl Payloads {
    /// An extent was granted.
    pub(super) fn add(&mut self, part: OwnPart) {
        self.asked = false;
        self.exhausted_at = None;
        let (used, since) = (Arc::default(), Instant::now());
        self.extents.push(PayloadExtent { part, used, since, is_former: false });
    }

    /// None is left.
    pub(super) fn exhausted(&mut self) {
        self.asked = false;
        self.exhausted_at = Some(Instant::now());
    }

    /// Returns `true` if an extent that begins there is in use.
    pub(super) fn has_part_at(&self, start: RegionOffset) -> bool {
        self.extents.iter().any(|extent| extent.part.range().start() == start)
    }

    /// Takes out the extents of which nothing has been in use for `time`.
    pub(super) fn take_unused(&mut self, time: Duration) -> impl Iterator<Item = OwnPart> + '_ {
        let is_unused = move |extent: &mut PayloadExtent| {
            Arc::strong_count(&extent.used) == 1 && (extent.is_former || extent.since.elapsed() >= time)
        };
        self.extents.extract_if(.., is_unused).map(|extent| extent.part)
    }

    /// Returns `true` if no payload of this process is in use.
    pub(super) fn is_unused(&self) -> bool {
        self.extents.iter().all(|extent| Arc::strong_count(&extent.used) == 1)
    }

    /// The process has another number: nothing more is put where it was, and what was asked for is void.
    pub(super) fn retire(&mut self) {
        self.extents.iter_mut().for_each(|extent| extent.is_former = true);
        self.placed.clear();
        self.claims.retain(|_, claiming| matches!(claiming, Claiming::Held(_)));
    }

    /// What the agent has to be told after its restart: all claims.
    pub(super) fn repeat(&mut self) -> Vec<FromProcess> {
        self.asked = false;
        self.claims.keys().copied().map(FromProcess::Claim).collect()
    }

    fn find(&self, serial: u64) -> Option<Arc<Placed>> {
        self.placed.get(&serial)?.upgrade()
    }

    fn remember(&mut self, serial: u64, placed: &Arc<Placed>) {
        self.placed.retain(|_, placed| placed.strong_count() > 0);
        self.placed.insert(serial, Arc::downgrade(placed));
    }

    /// Memory for so many bytes, where it lies, and what keeps its extent. Whole lines: no two payloads share
    /// one.
    fn carve(&mut self, bytes: usize) -> Option<(OwnMemory, RegionOffset, Arc<()>)> {
        let bytes = bytes.checked_next_multiple_of(LINE)?;
        let fits = |extent: &&mut PayloadExtent| !extent.is_former && extent.part.left() >= bytes;
        let extent = self.extents.iter_mut().find(fits)?;
        extent.since = Instant::now();
        let offset = extent.part.next_offset();
        Some((extent.part.carve(bytes), offset, Arc::clone(&extent.used)))
    }

    /// Returns `true` if the agent is to be asked for an extent now.
    fn ask(&mut self) -> bool {
        let is_exhausted = self.exhausted_at.is_some_and(|at| at.elapsed() < EXHAUSTED);
        !is_exhausted && !std::mem::replace(&mut self.asked, true)
    }
}

impl State {
    /// The agent has published a claim: tells the links that wait for it.
    pub(super) fn claimed(&mut self, extent: ExtentId, shared: &Arc<Shared>) {
        let Some(claiming) = self.payloads.claims.get_mut(&extent) else { return };
        let Claiming::Asked(waiting) = claiming else { return };
        let waiting = std::mem::take(waiting);
        notnets_core::failpoint!("pod payload claimed");
        let claim = Arc::new(Claim { extent, shared: Arc::downgrade(shared) });
        *claiming = Claiming::Held(Arc::downgrade(&claim));
        for (link, payload) in waiting {
            // Over a link that has ended nobody holds the payload for this process.
            if let Some(link) = self.links.get(&link).filter(|link| link.is_open()) {
                link.tell_claim(payload, &claim);
            }
        }
    }

    /// Tells the agent of claims that this process does not need any more.
    pub(super) fn drop_claims(&mut self, dropped: Vec<ExtentId>) {
        for extent in dropped {
            let is_over =
                |claiming: &Claiming| matches!(claiming, Claiming::Held(claim) if claim.strong_count() == 0);
            if self.payloads.claims.get(&extent).is_some_and(is_over) {
                self.payloads.claims.remove(&extent);
                self.to_agent.push_back(FromProcess::Unclaim(extent));
            }
        }
    }
}

impl Member {
    /// Returns `true` if the agent of this host publishes claims, and respects those of others.
    pub(super) fn agent_knows_claims(&self) -> bool {
        self.state().host_control().host().is_some_and(|record| record.claims)
    }

    /// A payload's place in the region: its bytes are put there unless they are there already. `None` while
    /// there is no memory for them; the agent is asked.
    fn put(&self, sealed: &Sealed) -> Option<Arc<Placed>> {
        let bytes = sealed.as_slice();
        let mut state = self.state();
        if let Some(placed) = state.payloads.find(sealed.serial()) {
            return Some(placed);
        }
        if bytes.len() > state.region.layout().extent_bytes() {
            return None;
        }
        let Some((memory, offset, extent)) = state.payloads.carve(bytes.len()) else {
            if state.payloads.ask() {
                state.to_agent.push_back(FromProcess::GrantPayloads);
                drop(state);
                self.0.shared.wake();
            }
            return None;
        };
        drop(state);
        memory.copy_in(0, bytes);
        memory.publish(0, memory.words());
        notnets_core::failpoint!("pod payload put");
        let is_coherent = memory.coherence() == Coherence::Hardware;
        let checksum = if is_coherent { 0 } else { checksum(&memory, bytes.len()) };
        let place = Place { offset, bytes: bytes.len() as u64, checksum };
        let placed = Arc::new(Placed { place, _extent: extent });
        self.state().payloads.remember(sealed.serial(), &placed);
        Some(placed)
    }

    /// The memory of a payload, if it can be one: it lies in one extent, in which payloads lie.
    fn memory_of(&self, place: Place) -> Option<(ExtentId, PeerMemory)> {
        let region = self.region();
        let layout = *region.layout();
        let bytes = usize::try_from(place.bytes).ok().filter(|bytes| *bytes > 0)?;
        let range = RegionRange::new(place.offset, bytes.checked_next_multiple_of(WORD)?)?;
        let host = layout.host_of(place.offset)?;
        let first = layout.extent(host, 0).start().0;
        let number = place.offset.0.checked_sub(first)? as usize / layout.extent_bytes();
        let extent = ExtentId { host: host as u16, extent: u16::try_from(number).ok()? };
        let is_whole = extent.is_in(&layout) && layout.extent(host, number).contains(range);
        if !is_whole || !place.offset.is_aligned(LINE) {
            return None;
        }
        let control = region.peer(layout.control(host))?;
        let control = Control::of_peer(control, layout, region.superblock().uuid, extent.host);
        let entry = control.extent(number)?;
        (entry.payloads && entry.state != ExtentState::Free).then_some(())?;
        Some((extent, region.peer(range)?))
    }

    /// Claims an extent for a payload of a link. Returns the claim, if this process has it, or whether the
    /// link will be told.
    fn claim(&self, extent: ExtentId, link: u32, payload: u32) -> Result<Arc<Claim>, bool> {
        let mut state = self.state();
        if !state.links.get(&link).is_some_and(|link| link.is_open()) {
            return Err(false);
        }
        let shared = Arc::downgrade(&self.0.shared);
        match state.payloads.claims.get_mut(&extent) {
            Some(Claiming::Asked(waiting)) => waiting.push((link, payload)),
            Some(Claiming::Held(claim)) => {
                // The agent is told of the end of one only when there is no other.
                return Ok(claim.upgrade().unwrap_or_else(|| {
                    let again = Arc::new(Claim { extent, shared });
                    *claim = Arc::downgrade(&again);
                    again
                }));
            }
            None => {
                state.payloads.claims.insert(extent, Claiming::Asked(vec![(link, payload)]));
                state.to_agent.push_back(FromProcess::Claim(extent));
                drop(state);
                self.0.shared.wake();
            }
        }
        Err(true)
    }

    /// What the peer of a link may be about to claim is kept until it has closed the link.
    fn keep_for(&self, link: u32, hold: Hold) {
        if let Some(link) = self.state().links.get_mut(&link) {
            link.keep(hold);
        }
    }
}

/// Something that is kept for a peer.
pub(super) type Hold = Arc<dyn Any + Send + Sync>;

/// The payloads of one link.
#[derive(Debug)]
pub(super) struct PodPayloads {
    member: Member,
    link: u32,
    /// On whose word the peer's are read.
    trust: Option<TrustPeerMemory>,
    /// What was shared, by its numbers there.
    shared: HashMap<u32, Hold>,
    /// What the peer has shared and is being claimed.
    claiming: HashMap<u32, Place>,
    inbox: Arc<ClaimInbox>,
    /// What is known already.
    ready: VecDeque<(u32, Option<Arc<Claim>>)>,
}

impl PodPayloads {
    pub(super) fn new(
        member: Member,
        link: u32,
        trust: Option<TrustPeerMemory>,
        inbox: Arc<ClaimInbox>,
    ) -> Self {
        let (shared, claiming, ready) = (HashMap::new(), HashMap::new(), VecDeque::new());
        Self { member, link, trust, shared, claiming, inbox, ready }
    }

    /// A payload that this process has claimed, to be read where it lies. `None` if it is not what was
    /// shared.
    fn read(&self, place: Place, claim: Arc<Claim>) -> Option<Sealed> {
        let (_, memory) = self.member.memory_of(place)?;
        let bytes = usize::try_from(place.bytes).ok()?;
        let mut looks = 0..LOOKS;
        // What its writer has written back may take a moment to be there.
        looks.find(|_| {
            memory.observe(0, memory.words());
            memory.coherence() == Coherence::Hardware || checksum(&memory, bytes) == place.checksum
        })?;
        let claimed = Claimed { place, claim, membership: Arc::clone(&self.member.0) };
        Sealed::vouched(self.trust?, &memory, bytes, Arc::new(claimed))
    }
}

impl Places for PodPayloads {
    fn place(&mut self, payload: u32, sealed: &Sealed) -> Option<Place> {
        let (place, hold): (Place, Hold) = match sealed.held() {
            Some(held) => {
                let claimed = held.downcast_ref::<Claimed>()?;
                if !Arc::ptr_eq(&claimed.membership, &self.member.0) {
                    return None;
                }
                (claimed.place, Arc::<Claim>::clone(&claimed.claim))
            }
            None => {
                let placed = self.member.put(sealed)?;
                (placed.place, placed)
            }
        };
        self.member.keep_for(self.link, Arc::clone(&hold));
        self.shared.insert(payload, hold);
        Some(place)
    }

    fn on_answer(&mut self, payload: u32, taken: bool) {
        let Some(hold) = self.shared.get(&payload) else { return };
        if let Some(link) = self.member.state().links.get_mut(&self.link) {
            link.release(hold);
        }
        if !taken {
            self.shared.remove(&payload);
        }
    }

    fn forget(&mut self, payload: u32) {
        self.shared.remove(&payload);
    }

    fn claim(&mut self, payload: u32, place: Place) {
        let extent = self.trust.and_then(|_| self.member.memory_of(place)).map(|(extent, _)| extent);
        let claimed = extent.map_or(Err(false), |extent| self.member.claim(extent, self.link, payload));
        self.claiming.insert(payload, place);
        match claimed {
            Ok(claim) => self.ready.push_back((payload, Some(claim))),
            Err(true) => {}
            Err(false) => self.ready.push_back((payload, None)),
        }
    }

    fn poll(&mut self) -> Option<(u32, Option<Sealed>)> {
        if self.ready.is_empty() {
            self.ready =
                self.inbox.take().into_iter().map(|(payload, claim)| (payload, Some(claim))).collect();
        }
        let (payload, claim) = self.ready.pop_front()?;
        let place = self.claiming.remove(&payload);
        Some((payload, place.zip(claim).and_then(|(place, claim)| self.read(place, claim))))
    }
}
