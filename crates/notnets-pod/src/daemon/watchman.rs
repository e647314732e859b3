//! The thread of the agent that watches the links of all processes of its host.
//!
//! So a host looks once for all of its processes, and idle processes use no processor. It is on the way of
//! wake-ups only: without it, each process looks for itself.
//!
//! While no side is parked there is nobody to wake, and the thread sleeps for longer: it would only take the
//! cores from those who call each other. The first side of a process that parks rings its bell.

use std::collections::HashMap;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use notnets_core::clock::timespec;
use notnets_memory::activity::AWAKE;
use notnets_memory::region::Region;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::process::{Resource, getrlimit};

use crate::backoff::{Backoff, TIMER_SLACK};
use crate::watch::{LinkPlace, Watch, WatchCounts};

/// Descriptors that are kept for processes which come.
const KEPT: u64 = 64;
/// Links of one process that are watched at most.
const MAX_LINKS: usize = 1 << 16;
/// How often it is looked whether memory of links is lost.
const LOST: Duration = Duration::from_millis(100);
/// How long the thread sleeps while no side is parked. Then it looks for sides that are stuck. Tests are to
/// see that it needs nothing else to be woken for those that park.
const UNPARKED: Duration = Duration::from_millis(if cfg!(test) { 3_600_000 } else { 5 });
/// How long it waits to be rung for a first link.
const IDLE: Duration = Duration::from_secs(3600);
/// Bounds of the wake latency, as a process has them for itself.
const LATENCIES: (Duration, Duration) = (Duration::from_micros(1), Duration::from_secs(1));

/// The thread, which begins with the first link and ends with this.
#[derive(Debug)]
pub(super) struct Watchman {
    region: Region,
    host: u16,
    all: Arc<Mutex<All>>,
    bell: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct All {
    processes: HashMap<u16, Process>,
    /// For processes that don't choose themselves.
    latency: Duration,
    /// Of processes that are gone.
    counts: WatchCounts,
    stop: bool,
}

/// The links of a process, and how long a message may wait for its parked sides.
#[derive(Debug)]
struct Process {
    watch: Watch,
    latency: Option<Duration>,
    /// It rings the bell when its first side parks.
    rings: bool,
}

impl Watchman {
    /// One with nothing to watch.
    ///
    /// # Errors
    /// When the kernel gives no event.
    pub(super) fn new(region: Region, host: u16, latency: Duration) -> io::Result<Self> {
        let (processes, counts) = (HashMap::new(), WatchCounts::default());
        let all = Arc::new(Mutex::new(All { processes, latency, counts, stop: false }));
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        Ok(Self { region, host, all, bell, thread: None })
    }

    /// The event that wakes the thread.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// A process is given the bell, and will ring.
    pub(super) fn expect_bell(&self, process: u16) {
        lock(&self.all).process(process, &self.region, self.host).rings = true;
    }

    /// For how long a message may wait for processes that don't choose themselves.
    pub(super) fn set_latency(&self, latency: Duration) {
        lock(&self.all).latency = latency;
    }

    /// For how long it may wait for this one.
    pub(super) fn set_latency_of(&self, process: u16, latency: Duration) {
        lock(&self.all).process(process, &self.region, self.host).latency = Some(latency);
    }

    /// Watches a link, whose user is rung at the other end of the socket. Returns `false` if it can't.
    pub(super) fn add(&mut self, process: u16, link: u32, place: LinkPlace, socket: Option<OwnedFd>) -> bool {
        // Without a descriptor left for it the socket did not arrive.
        let Some(socket) = socket.filter(leaves_some) else { return false };
        let mut all = lock(&self.all);
        let watch = &mut all.process(process, &self.region, self.host).watch;
        let added = watch.len() < MAX_LINKS && watch.add(link, place, Arc::new(socket));
        drop(all);
        added && self.runs()
    }

    /// Watches a link no more.
    pub(super) fn remove(&self, process: u16, link: u32) {
        if let Some(process) = lock(&self.all).processes.get_mut(&process) {
            process.watch.remove(link);
        }
    }

    /// Watches nothing of a process any more: it is gone, or begins anew.
    pub(super) fn forget(&self, process: u16) {
        let mut all = lock(&self.all);
        if let Some(gone) = all.processes.remove(&process) {
            all.counts += gone.watch.counts();
        }
    }

    /// Watches nothing any more.
    pub(super) fn forget_all(&self) {
        lock(&self.all).processes.clear();
    }

    /// How much it has looked.
    pub(super) fn counts(&self) -> WatchCounts {
        let all = lock(&self.all);
        all.processes.values().fold(all.counts, |counts, process| counts + process.watch.counts())
    }

    /// Wakes the thread, which may wait for a first link, or starts it.
    fn runs(&mut self) -> bool {
        if self.thread.is_none() {
            let (all, bell) = (Arc::clone(&self.all), Arc::clone(&self.bell));
            self.thread = start(all, bell).ok();
        }
        self.ring();
        self.thread.is_some()
    }

    fn ring(&self) {
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }
}

impl Drop for Watchman {
    fn drop(&mut self) {
        lock(&self.all).stop = true;
        if let Some(thread) = self.thread.take() {
            self.ring();
            let _ = thread.join();
        }
    }
}

impl All {
    fn process(&mut self, process: u16, region: &Region, host: u16) -> &mut Process {
        let new =
            || Process { watch: Watch::new(region.clone(), host, process), latency: None, rings: false };
        self.processes.entry(process).or_insert_with(new)
    }

    /// Rings parked sides for which something is there.
    fn look(&mut self, now: Instant) -> Looked {
        let mut looked = Looked { rung: false, latency: None, has_to_look: false };
        for process in self.processes.values_mut().filter(|process| !process.watch.is_empty()) {
            looked.rung |= process.watch.look(now) > 0;
            looked.has_to_look |= !process.rings || process.watch.has_to_look();
            let latency = process.latency.unwrap_or(self.latency).clamp(LATENCIES.0, LATENCIES.1);
            looked.latency = Some(looked.latency.map_or(latency, |least| least.min(latency)));
        }
        looked
    }

    fn end_lost(&self) {
        self.processes.values().for_each(|process| process.watch.end_lost());
    }
}

/// What a look at all processes has found.
struct Looked {
    /// Parked sides were rung.
    rung: bool,
    /// For how long a message may wait; `None` if nothing is watched.
    latency: Option<Duration>,
    /// A side is parked, or may park without ringing the bell.
    has_to_look: bool,
}

fn start(all: Arc<Mutex<All>>, bell: Arc<OwnedFd>) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("notnets-watch".into()).spawn(move || run(&all, &bell))
}

fn run(all: &Mutex<All>, bell: &OwnedFd) {
    // The kernel adds 50 µs to each sleep of a thread that does not ask for less.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(TIMER_SLACK));
    let mut backoff = Backoff::new(Instant::now());
    let mut lost_at = Instant::now();
    let mut awake_until = Instant::now();
    loop {
        let now = Instant::now();
        let mut watched = lock(all);
        if watched.stop {
            return;
        }
        let looked = watched.look(now);
        if now - lost_at >= LOST {
            lost_at = now;
            watched.end_lost();
        }
        drop(watched);
        if looked.rung {
            backoff.reset(now);
        }
        if looked.has_to_look {
            awake_until = now + AWAKE;
        }
        let pause = match looked.latency {
            None => IDLE,
            Some(_) if now > awake_until => UNPARKED,
            Some(_) if backoff.spins(now) => {
                std::hint::spin_loop();
                continue;
            }
            Some(latency) => backoff.next_nap(latency, now),
        };
        if wait(bell, pause) {
            // Somebody has parked, and mostly waits for something that is on its way.
            backoff.shorten();
            awake_until = Instant::now() + AWAKE;
        }
    }
}

/// Sleeps until the bell is rung, and no longer than `pause`. What was rung is taken before the next looks.
/// Returns `true` if it was.
fn wait(bell: &OwnedFd, pause: Duration) -> bool {
    let mut fds = [PollFd::new(bell, PollFlags::IN)];
    let rung = poll(&mut fds, Some(&timespec(pause))).is_ok_and(|ready| ready > 0);
    rung && rustix::io::read(bell, &mut [0; 8]).is_ok()
}

/// Returns `true` if enough descriptors are left beside this one, which is the lowest that was free.
fn leaves_some(socket: &OwnedFd) -> bool {
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    socket.as_raw_fd() as u64 + KEPT < most
}

fn lock(all: &Mutex<All>) -> MutexGuard<'_, All> {
    all.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use notnets_memory::activity::{ActivityLine, WatcherBell};
    use notnets_memory::lane::{Geometry, Notes};
    use notnets_memory::region::RegionOffset;
    use notnets_memory::region::file::RegionFile;
    use notnets_memory::region::format::{Plan, format};
    use notnets_memory::region::pool::Pool;
    use notnets_memory::remote_lanes::{LanePlace, PodSegment};
    use notnets_memory::seal::Seal;
    use notnets_memory::{Coherence, LINE, PAGE};
    use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, memfd_create};
    use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair};

    use super::*;
    use crate::table::ProcessId;

    /// A first segment of a host, and an activity line, with where that lies.
    fn segment(region: &Region, host: usize) -> (PodSegment, Arc<ActivityLine>, RegionOffset) {
        let pool = Pool::default();
        pool.add(region.own(region.layout().extent(host, 0)).unwrap());
        let geometry = Geometry::default();
        let segment = PodSegment::new(pool.allocate(geometry.segment_bytes()).unwrap(), geometry, None);
        let mut page = pool.allocate(PAGE).unwrap();
        page.zero(PAGE);
        let at = page.range().start();
        (segment, Arc::new(ActivityLine::new(page.carve(LINE))), at)
    }

    #[test]
    fn whoever_parks_first_wakes_the_watcher() {
        let fd = memfd_create("region", MemfdFlags::CLOEXEC).unwrap();
        fallocate(&fd, FallocateFlags::empty(), 0, 4 << 20).unwrap();
        let file = RegionFile::of(fd).unwrap();
        format(&file, &Plan { coherence: Coherence::Hardware, ..Plan::new("pod0", 2) }).unwrap();
        let region = Region::of(file).unwrap();

        let [(sender, pushed, activity), (receiver, waits, waits_at)] =
            [0, 1].map(|host| segment(&region, host));
        let [of_sender, of_receiver] = [&sender, &receiver].map(|segment| segment.range().start());
        let geometry = Geometry::default();
        let (one, other) = (Seal::new([1]), Seal::new([2]));
        let mut sender = sender.open(&region, of_receiver, geometry, (one, other)).unwrap();
        let receiver = receiver.open(&region, of_sender, geometry, (other, one)).unwrap();
        let (bell, nobody) = (Arc::new(WatcherBell::default()), Arc::default());
        let parks = (Arc::clone(&pushed), nobody);
        sender = sender.with_notes(Notes { pushed: (Arc::clone(&pushed), 7), waits: (pushed, 7), parks });
        let parks = (Arc::clone(&waits), Arc::clone(&bell));
        let mut receiver =
            receiver.with_notes(Notes { pushed: (Arc::clone(&waits), 7), waits: (waits, 7), parks });

        let flags = SocketFlags::CLOEXEC;
        let (watched, user) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let lanes = LanePlace { own: of_receiver, peer: of_sender, peer_slots: geometry.slots };
        let peer = ProcessId { host: 0, process: 0, generation: 1 };
        let place = LinkPlace { lanes, peer, activity: Some(activity), waits: Some(waits_at) };
        let mut watchman = Watchman::new(region, 1, Duration::from_micros(500)).unwrap();
        bell.set(watchman.bell().try_clone_to_owned().unwrap());
        watchman.expect_bell(0);
        assert!(watchman.add(0, 7, place, Some(watched)));
        for round in 0..50 {
            assert!(!receiver.arm_frames());
            receiver.park();
            assert!(sender.room().unwrap() > 0);
            sender.push([round; 7]);
            assert!(!sender.bell_is_due());
            let mut fds = [PollFd::new(&user, PollFlags::IN)];
            assert_eq!(poll(&mut fds, Some(&timespec(Duration::from_secs(20)))), Ok(1), "round {round}");
            recv(&user, &mut [0; 8][..], RecvFlags::DONTWAIT).unwrap();
            receiver.disarm_frames();
            assert_eq!(receiver.pop(), Some([round; 7]));
            if round % 10 == 0 {
                // Long enough for it to sleep; else it was rung lately.
                std::thread::sleep(AWAKE * 2);
            }
        }
    }
}
