//! Processes of several "hosts" on one machine: each host has a partition of one file, an agent and a
//! directory of its own, and nothing else in common with the others.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use notnets_core::limits::Limits;
use notnets_core::link::handshake::{Config, Established, IdentitySource};
use notnets_core::link::packet::{Packet, Refusal};
use notnets_core::link::rendezvous::Directory;
use notnets_core::link::socket::Incoming;
use notnets_core::name::Name;
use notnets_memory::Coherence;
use notnets_memory::lane::Geometry;
use notnets_memory::region::Region;
use notnets_memory::region::file::RegionFile;
use notnets_memory::region::format::{Plan, format};
use notnets_pod::daemon::{Daemon, DaemonError};
use notnets_pod::member::{Arrival, Dial, Member, PodError};
use notnets_pod::survey::{Holder, Presence, survey};
use notnets_pod::table::{Control, ExtentEntry, ExtentState, PeerRecord};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FallocateFlags, fallocate};

struct Pod {
    directory: tempfile::TempDir,
}

const LEASE: Duration = Duration::from_millis(400);

struct Agent {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pod {
    fn new(coherence: Coherence, hosts: u32) -> Self {
        let pod = Self { directory: tempfile::tempdir().unwrap() };
        let file = std::fs::File::options().read(true).write(true).create_new(true).open(pod.path()).unwrap();
        fallocate(&file, FallocateFlags::empty(), 0, 8 << 20).unwrap();
        let file = RegionFile::open(&pod.path()).unwrap();
        let plan = Plan {
            coherence,
            processes: 8,
            services: 8,
            heartbeat_ms: 20,
            lease_ms: LEASE.as_millis() as u32,
            ..Plan::new("pod0", hosts)
        };
        format(&file, &plan).unwrap();
        pod
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("region")
    }

    fn directory(&self, host: u16) -> Directory {
        Directory::at(self.directory.path().join(format!("host-{host}")))
    }

    fn daemon(&self, host: u16) -> Result<Daemon, DaemonError> {
        Daemon::start(Region::open(&self.path()).unwrap(), host, &self.directory(host))
    }

    fn agent(&self, host: u16) -> Agent {
        let mut daemon = self.daemon(host).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            // Not `run`, which leaves in order: this agent can be cut off.
            while !stopped.load(Ordering::Relaxed) {
                daemon.turn().unwrap();
            }
        });
        Agent { stop, thread: Some(thread) }
    }

    fn member(&self, host: u16) -> Member {
        Member::of(&self.directory(host), &name("pod0"), soon()).unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn serve(member: &Member, service: &str) -> mpsc::Receiver<Arrival> {
    let until = soon();
    loop {
        let (sender, receiver) = mpsc::channel();
        let on_arrival = Box::new(move |arrival| {
            let _ = sender.send(arrival);
        });
        match member.serve(&name(service), on_arrival, until) {
            // It is back when it has found its agent again.
            Err(PodError::AgentGone) if Instant::now() < until => std::thread::yield_now(),
            served => {
                served.unwrap();
                return receiver;
            }
        }
    }
}

/// Dials the nearest process that serves the name, through the region.
fn try_dial(
    member: &Member,
    service: &str,
    user_agent: &str,
    until: Instant,
) -> Result<Established, PodError> {
    let service = name(service);
    match member.resolve(&service, until)?.first() {
        Some(process) => member.dial_at(*process, &service, Config::default(), user_agent, until),
        None => Err(member.no_service(&service)),
    }
}

/// Dials until the name has got around, and memory that others may have read is free again.
fn dial(member: &Member, service: &str) -> Established {
    let until = soon();
    loop {
        match try_dial(member, service, "agent/1", until) {
            Err(PodError::NoService { .. } | PodError::Full) if Instant::now() < until => {
                std::thread::yield_now();
            }
            dialled => return dialled.unwrap(),
        }
    }
}

fn link(client: &Member, server: &Member, service: &str) -> (Established, Established) {
    let arrivals = serve(server, service);
    std::thread::scope(|scope| {
        let answering = scope.spawn(move || {
            let arrival = arrivals.recv_timeout(Duration::from_secs(20)).unwrap();
            server.answer(arrival, Config::default(), soon()).unwrap()
        });
        let client = dial(client, service);
        (client, answering.join().unwrap())
    })
}

/// Waits for what comes next on a link's socket.
fn next(established: &Established) -> Incoming {
    loop {
        let mut fds = [PollFd::from_borrowed_fd(established.socket.as_fd(), PollFlags::IN)];
        let n = poll(&mut fds, Some(&Timespec { tv_sec: 20, tv_nsec: 0 })).unwrap();
        assert!(n > 0, "nothing came");
        match established.socket.receive() {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            came => return came.unwrap(),
        }
    }
}

fn assert_hung_up(established: &Established) {
    loop {
        match next(established) {
            Incoming::Closed => return,
            Incoming::Packet(Packet::Doorbell, _) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// A message each way, with a payload, between two who park.
fn exchange(a: &mut Established, b: &mut Established, n: u64) {
    pass(a, b, n);
    pass(b, a, n);
}

fn pass(from: &mut Established, to: &mut Established, n: u64) {
    {
        let bytes: Vec<u8> = (0..n % 1000).map(|i| (i + n) as u8).collect();
        let ready = to.lanes.arm_frames();
        assert!(!ready, "nothing is there yet");
        to.lanes.park();
        let mut loan = from.lanes.loan(bytes.len(), bytes.len()).unwrap();
        from.lanes.arena().write(&mut loan, &bytes);
        let words = from.lanes.arena().commit(loan, 0).to_words();
        assert!(from.lanes.room().unwrap() > 0);
        from.lanes.push([n, 0, 0, words[0], words[1], words[2], words[3]]);
        assert!(!from.lanes.bell_is_due(), "a note is taken");
        assert!(matches!(next(to), Incoming::Packet(Packet::Doorbell, None)), "the watcher rings");
        to.lanes.disarm_frames();
        let got = to.lanes.pop().unwrap();
        let reference = notnets_memory::Reference::from_words([got[3], got[4], got[5], got[6]]);
        let mut read = Vec::new();
        to.lanes.read(&reference, &mut read).unwrap();
        to.lanes.release(&reference);
        assert_eq!((got[0], read), (n, bytes));
    }
}

#[test]
fn processes_of_two_hosts_link_up_and_exchange_messages() {
    for coherence in [Coherence::Hardware, Coherence::Software] {
        let pod = Pod::new(coherence, 3);
        let _agents = [pod.agent(0), pod.agent(2)];
        let (a, b) = (pod.member(0), pod.member(2));
        assert_eq!((a.host(), b.host()), (0, 2));
        let (mut client, mut server) = link(&a, &b, "inventory");
        assert_eq!(server.peer.identity_source, IdentitySource::Agent { host: 0 });
        assert_eq!(server.peer.credentials.pid, Some(std::process::id()));
        assert_eq!(server.peer.user_agent, "agent/1");
        for n in 1..200 {
            exchange(&mut client, &mut server, n);
        }
        drop(client);
        assert_hung_up(&server);
    }
}

#[test]
fn links_come_and_go_and_memory_is_used_again() {
    let pod = Pod::new(Coherence::Software, 2);
    let _agents = [pod.agent(0), pod.agent(1)];
    let (a, b) = (pod.member(0), pod.member(1));
    let arrivals = serve(&b, "inventory");
    let places = 4 * a.region().layout().extent_bytes() / Config::default().geometry.segment_bytes();
    std::thread::scope(|scope| {
        let (b, arrivals) = (&b, arrivals);
        let answering = scope.spawn(move || {
            for n in 0..places as u64 {
                let arrival = arrivals.recv_timeout(Duration::from_secs(20)).unwrap();
                let server = b.answer(arrival, Config::default(), soon()).unwrap();
                let granted = (n % 2 == 0).then_some(server);
                if let Some(server) = &granted {
                    assert_hung_up(server);
                }
            }
        });
        for n in 0..places as u64 {
            let client = dial(&a, "inventory");
            if n % 2 == 1 {
                assert_hung_up(&client);
            }
        }
        answering.join().unwrap();
    });
    let survey = notnets_pod::survey::survey(&a.region());
    assert_eq!(survey.problems, Vec::<String>::new());
    assert!(survey.hosts.iter().all(|host| host.granted <= 2), "{survey:?}");
}

#[test]
fn a_process_that_leaves_gives_everything_back() {
    let pod = Pod::new(Coherence::Software, 2);
    let _agents = [pod.agent(0), pod.agent(1)];
    let b = pod.member(1);
    let region = b.region();
    // More often than there is room for processes and extents.
    for n in 0..20 {
        let a = pod.member(0);
        let (mut client, mut server) = link(&a, &b, "inventory");
        exchange(&mut client, &mut server, n);
        drop((a, client));
        assert_hung_up(&server);
    }
    eventually("nobody of host 0 is left", || {
        let survey = notnets_pod::survey::survey(&region);
        let host = &survey.hosts[0];
        host.processes.is_empty() && host.granted + host.kept == 0
    });
}

fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let until = soon();
    while !so() {
        assert!(Instant::now() < until, "{what}");
    }
}

/// Waits until messages both ways wake those who park without a look of these processes.
fn assert_left_to_agents(members: [&Member; 2], client: &mut Established, server: &mut Established) {
    eventually("agents watch the link", || {
        let looks = || members.map(|member| member.watch_counts().looks);
        let before = looks();
        exchange(client, server, 7);
        looks() == before
    });
}

#[test]
fn agents_watch_links_and_processes_do_so_while_there_is_none() {
    for coherence in [Coherence::Hardware, Coherence::Software] {
        let pod = Pod::new(coherence, 2);
        let (first, _second) = (pod.agent(0), pod.agent(1));
        let (a, b) = (pod.member(0), pod.member(1));
        let (mut client, mut server) = link(&a, &b, "inventory");
        assert_left_to_agents([&a, &b], &mut client, &mut server);
        let (of_a, of_b) = (a.watch_counts(), b.watch_counts());
        drop(first);
        exchange(&mut client, &mut server, 5);
        assert!(a.watch_counts().rings > of_a.rings, "its agent is gone");
        assert_eq!(b.watch_counts().rings, of_b.rings, "its agent is there");
        let _first = pod.agent(0);
        assert_left_to_agents([&a, &b], &mut client, &mut server);
        // One busy link beside others that are as they were.
        let (_other_client, _other_server) = link(&a, &b, "stock");
        assert_left_to_agents([&a, &b], &mut client, &mut server);
    }
}

#[test]
fn links_outlive_their_agents() {
    let pod = Pod::new(Coherence::Software, 2);
    let (first, _second) = (pod.agent(0), pod.agent(1));
    let (a, b) = (pod.member(0), pod.member(1));
    let (mut client, mut server) = link(&a, &b, "inventory");
    exchange(&mut client, &mut server, 5);
    drop(first);
    exchange(&mut client, &mut server, 6);
    let _first = pod.agent(0);
    // It knows them still: a new link can be made, and the old one is there.
    let arrivals = serve(&a, "orders");
    std::thread::scope(|scope| {
        let dialling = scope.spawn(|| dial(&b, "orders"));
        let arrival = arrivals.recv_timeout(Duration::from_secs(20)).unwrap();
        a.answer(arrival, Config::default(), soon()).unwrap();
        dialling.join().unwrap();
    });
    exchange(&mut client, &mut server, 7);
}

#[test]
fn a_host_that_is_cut_off_is_buried_and_comes_back() {
    let pod = Pod::new(Coherence::Software, 2);
    let (first, second) = (pod.agent(0), pod.agent(1));
    let (a, b) = (pod.member(0), pod.member(1));
    let (client, server) = link(&a, &b, "inventory");
    let cut_off = Instant::now();
    drop(second);
    assert_hung_up(&client);
    assert!(cut_off.elapsed() >= Duration::from_millis(200), "not before the lease");
    // On the same host its links end too: others consider it dead.
    assert_hung_up(&server);
    assert!(matches!(
        try_dial(&a, "inventory", "", Instant::now() + Duration::from_secs(5)),
        Err(PodError::NoService { .. })
    ));
    drop((client, server));
    // It comes back as another, and its process serves again.
    let _second = pod.agent(1);
    let (mut client, mut server) = link(&a, &b, "inventory");
    exchange(&mut client, &mut server, 8);
    drop(first);
}

#[test]
fn what_cannot_be_is_told() {
    let pod = Pod::new(Coherence::Software, 2);
    assert!(matches!(pod.daemon(2), Err(DaemonError::NoSuchHost { host: 2, hosts: 2 })));
    let _agent = pod.agent(0);
    let elsewhere = Directory::at(pod.directory.path().join("elsewhere"));
    let second = Daemon::start(Region::open(&pod.path()).unwrap(), 0, &elsewhere);
    assert!(matches!(second, Err(DaemonError::Running(0))));
    let second = Daemon::start(Region::open(&pod.path()).unwrap(), 1, &pod.directory(0));
    assert!(matches!(second, Err(DaemonError::InUse(_))));
    let nobody = Member::of(&elsewhere, &name("pod0"), Instant::now());
    assert!(matches!(nobody, Err(PodError::NoAgent { .. })));
    let member = pod.member(0);
    let nothing = try_dial(&member, "nothing", "", soon());
    assert!(matches!(nothing, Err(PodError::NoService { .. })));
    assert!(Path::new(&pod.path()).exists());
}

#[test]
fn of_agents_that_start_at_once_in_one_directory_one_gets_it() {
    let hosts = 6;
    let pod = Pod::new(Coherence::Software, hosts);
    // As a killed one leaves it.
    let dead = pod.directory(0).path().join(".pod-pod0");
    std::fs::create_dir(pod.directory(0).path()).unwrap();
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    let begin = std::sync::Barrier::new(hosts as usize);
    let start = |host: u16| {
        begin.wait();
        Daemon::start(Region::open(&pod.path()).unwrap(), host, &pod.directory(0))
    };
    let started: Vec<_> = std::thread::scope(|scope| {
        let starting: Vec<_> = (0..hosts as u16)
            .map(|host| {
                scope.spawn({
                    let start = &start;
                    move || start(host)
                })
            })
            .collect();
        starting.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let refused = started.iter().filter(|started| matches!(started, Err(DaemonError::InUse(_)))).count();
    assert_eq!(refused, hosts as usize - 1, "{started:?}");
    assert!(dead.exists(), "the one that has it can be reached");
}

#[test]
fn processes_that_say_nothing_keep_nobody_from_joining() {
    let pod = Pod::new(Coherence::Hardware, 1);
    let _agent = pod.agent(0);
    let socket = Name::private("pod", &name("pod0"));
    let silent: Vec<_> = (0..300).map(|_| pod.directory(0).connect(&socket).unwrap()).collect();
    let closed = |socket| {
        let mut fds = [PollFd::new(socket, PollFlags::IN)];
        let patience = Timespec { tv_sec: 5, tv_nsec: 0 };
        poll(&mut fds, Some(&patience)).unwrap() > 0
    };
    assert!(closed(&silent[0]), "the oldest had to leave");
    let _member = pod.member(0);
}

#[test]
fn an_agent_whose_socket_is_removed_is_found_again() {
    let pod = Pod::new(Coherence::Hardware, 1);
    let _agent = pod.agent(0);
    std::fs::remove_file(pod.directory(0).path().join(Name::private("pod", &name("pod0")).as_str())).unwrap();
    let begin = Instant::now();
    while let Err(error) = Member::of(&pod.directory(0), &name("pod0"), soon()) {
        assert!(begin.elapsed() < Duration::from_secs(10), "{error}");
        std::thread::yield_now();
    }
}

#[test]
fn a_name_is_found_on_other_hosts_as_soon_as_it_is_served() {
    let pod = Pod::new(Coherence::Hardware, 2);
    let _agents = [pod.agent(0), pod.agent(1)];
    let (server, client) = (pod.member(0), pod.member(1));
    let (sender, arrivals) = mpsc::channel::<Arrival>();
    let refusing = server.clone();
    std::thread::spawn(move || {
        for arrival in arrivals {
            refusing.refuse(&arrival, Refusal::Resources, "not now");
        }
    });
    // The agents know of each other.
    drop(link(&client, &server, "first"));
    for round in 0..20 {
        let service = name(&format!("service-{round}"));
        let sender = sender.clone();
        server.serve(&service, Box::new(move |arrival| sender.send(arrival).unwrap()), soon()).unwrap();
        let dial = Dial {
            expected: Default::default(),
            directory: pod.directory(1),
            pod: name("pod0"),
            name: service.clone(),
            shared_bytes: 0,
            places: None,
            limits: Limits::default(),
            geometry: Geometry::default(),
            geometry_between_hosts: Geometry::default(),
            user_agent: "test/1".to_owned(),
            wake_latency: None,
            deadline: soon(),
        };
        let error = dial.block().unwrap_err();
        assert!(matches!(error, PodError::LinkRefused { .. }), "round {round}: {error}");
        server.unserve(&service);
    }
}

#[test]
fn a_client_whose_entry_cannot_be_read_is_unknown_and_no_stranger() {
    let pod = Pod::new(Coherence::Hardware, 2);
    let _agents = [pod.agent(0), pod.agent(1)];
    let (server, client) = (pod.member(0), pod.member(1));
    let arrivals = serve(&server, "service");
    let dialling = std::thread::spawn(move || {
        // Nobody answers, once the name has got around.
        loop {
            let until = Instant::now() + Duration::from_millis(300);
            match try_dial(&client, "service", "", until).unwrap_err() {
                PodError::NoService { .. } => std::thread::yield_now(),
                error => return assert!(matches!(error, PodError::TimedOut), "{error}"),
            }
        }
    });
    let arrival = arrivals.recv_timeout(Duration::from_secs(5)).unwrap();
    let known = server.client(&arrival).unwrap();
    assert_eq!(known.pid, Some(std::process::id()));
    // It leaves the pod, and its entry says so.
    dialling.join().unwrap();
    let begin = Instant::now();
    let rejection = loop {
        match server.client(&arrival) {
            Err(rejection) => break rejection,
            Ok(same) => assert_eq!(same, known),
        }
        assert!(begin.elapsed() < Duration::from_secs(5), "it is still there");
    };
    assert_eq!(rejection.refusal(), Refusal::Resources, "which is UNAVAILABLE, and safe to try again");
}

/// Waits until of a host's memory nothing is granted or kept back.
fn assert_all_comes_back(pod: &Pod, host: usize) {
    let region = Region::open(&pod.path()).unwrap();
    let begin = Instant::now();
    loop {
        let found = survey(&region).hosts.swap_remove(host);
        if (found.granted, found.kept) == (0, 0) {
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(10), "host {host}: {found:?}");
    }
}

#[test]
fn memory_that_is_lost_to_a_silent_host_is_named() {
    let pod = Pod::new(Coherence::Software, 2);
    let (_first, second) = (pod.agent(0), pod.agent(1));
    let (a, b) = (pod.member(0), pod.member(1));
    let (client, server) = link(&a, &b, "inventory");
    drop(second);
    assert_hung_up(&client);
    let owner = a.id();
    drop((client, a));
    let region = Region::open(&pod.path()).unwrap();
    let begin = Instant::now();
    let held = loop {
        let found = survey(&region).hosts.swap_remove(0);
        if found.kept > 0 && found.granted == 0 {
            break found.held;
        }
        assert!(begin.elapsed() < Duration::from_secs(10), "{found:?}");
    };
    assert!(!held.is_empty());
    for extent in held {
        let holder = extent.held_for[..].first().copied();
        let Some(Holder::Reader { host: 1, presence: Presence::Silent, epoch, seen }) = holder else {
            panic!("{extent:?}");
        };
        assert!((extent.is_lost(), extent.owner) == (true, owner) && seen < Some(epoch), "{extent:?}");
    }
    drop(server);
    let _second = pod.agent(1);
    assert_all_comes_back(&pod, 0);
    assert!(survey(&region).hosts[0].held.is_empty());
    drop(b);
}

#[test]
fn memory_of_a_process_that_leaves_while_no_agent_runs_comes_back() {
    let pod = Pod::new(Coherence::Software, 2);
    let (first, _second) = (pod.agent(0), pod.agent(1));
    let (a, b) = (pod.member(0), pod.member(1));
    let (client, server) = link(&a, &b, "inventory");
    drop(first);
    drop((client, a));
    // It runs on, but does not come back.
    let _first = pod.agent(0);
    assert_hung_up(&server);
    assert_all_comes_back(&pod, 0);
    drop(server);
    assert_all_comes_back(&pod, 1);
    drop(b);
}

#[test]
fn numbers_of_a_process_that_leaves_while_no_agent_runs_are_free_again() {
    let pod = Pod::new(Coherence::Software, 2);
    let (first, _second) = (pod.agent(0), pod.agent(1));
    let (a, b) = (pod.member(0), pod.member(1));
    let (client, _server) = link(&a, &b, "inventory");
    drop(first);
    let region = Region::open(&pod.path()).unwrap();
    let layout = *region.layout();
    let control = region.own(layout.control(0)).unwrap().carve(layout.control(0).len());
    let control = Control::of_own(control, layout, region.superblock().uuid, 0);
    // As if a process of this host, whichever, read payloads of the other.
    control.set_peer(1, &PeerRecord { claims: 1, ..control.peer(1).unwrap() });
    drop(control);
    let control = region.peer(layout.control(0)).unwrap();
    let control = Control::of_peer(control, layout, region.superblock().uuid, 0);
    let entries = || (0..layout.processes()).filter_map(|process| control.process(process));
    assert!(entries().any(|entry| entry.alive));
    drop((client, a));
    std::thread::sleep(LEASE + LEASE / 4);
    // The host begins a new life, in which the process runs on and has no number.
    let _first = pod.agent(0);
    eventually("all numbers are free", || !entries().any(|entry| entry.alive || entry.lingers));
    assert_all_comes_back(&pod, 0);
}

#[test]
fn an_extent_that_a_process_was_not_told_of_comes_back() {
    let pod = Pod::new(Coherence::Software, 2);
    let first = pod.agent(0);
    let member = pod.member(0);
    drop(first);
    // As an agent leaves it that is killed before it answers.
    let region = Region::open(&pod.path()).unwrap();
    let (layout, id) = (*region.layout(), member.id());
    let control = region.own(layout.control(0)).unwrap().carve(layout.control(0).len());
    let control = Control::of_own(control, layout, region.superblock().uuid, 0);
    let (process, generation) = (id.process, id.generation);
    let granted = ExtentEntry { state: ExtentState::Granted, process, generation, ..ExtentEntry::default() };
    control.set_extent(0, &granted);
    drop(control);
    let _first = pod.agent(0);
    assert_all_comes_back(&pod, 0);
    assert_eq!(member.id(), id, "it is who it was");
}

#[test]
fn memory_of_a_process_that_lives_on_comes_back_when_its_host_or_the_other_begins_anew() {
    let pod = Pod::new(Coherence::Software, 2);
    let (first, second) = (pod.agent(0), pod.agent(1));
    let (a, b) = (pod.member(0), pod.member(1));
    let (client, server) = link(&a, &b, "inventory");
    drop(second);
    assert_hung_up(&client);
    assert_hung_up(&server);
    drop((client, server));
    let _second = pod.agent(1);
    // One has had its memory under another number; the other has kept it for the silent host.
    assert_all_comes_back(&pod, 1);
    assert_all_comes_back(&pod, 0);
    let (mut client, mut server) = link(&a, &b, "inventory");
    exchange(&mut client, &mut server, 8);
    drop(first);
}
