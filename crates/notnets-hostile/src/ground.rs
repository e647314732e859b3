//! One end of a link whose every word can be overwritten: a real handshake, a connection that keeps to the
//! rules as long as it is let, and the memory beneath it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use notnets_core::ValidLimits;
use notnets_core::call::{Connection, Role};
use notnets_core::link::handshake::{Config, hello, terms};
use notnets_core::link::packet::{Hello, Packet, Terms, VERSIONS};
use notnets_core::link::rendezvous::{Directory, Listener};
use notnets_core::link::socket::{Incoming, Socket};
use notnets_core::name::Name;
use notnets_memory::lane::{Geometry, Lanes, Parts, stamp};
use notnets_memory::ring::Descriptor;
use notnets_memory::{OwnMemory, OwnSegment, Part, PeerMemory, PeerSegment, WORD, WriteMemory};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long anything that the victim owes is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a link may go without a descriptor being taken.
const STUCK: Duration = Duration::from_millis(50);

/// The lanes of our end: its own memory is borrowed, so that it can be written beside them.
type OurConnection<'a> = Connection<(), Part<'a, OwnMemory>, PeerMemory>;

/// What was agreed on with a victim.
pub struct Met {
    /// The link's socket.
    pub socket: Socket,
    /// All of our first segment.
    pub memory: OwnMemory,
    own: Config,
    victim: PeerSegment,
    victim_terms: Terms,
    role: Role,
    // What the victim has mapped stays what it is.
    _segment: OwnSegment,
}

/// How we introduce ourselves.
fn config() -> Config {
    Config::default()
}

fn own_segment(geometry: Geometry) -> io::Result<(OwnSegment, OwnMemory)> {
    let mut segment = OwnSegment::create(geometry.segment_bytes()).map_err(io::Error::other)?;
    let memory = segment.carve(geometry.segment_bytes());
    stamp(&memory);
    Ok((segment, memory))
}

/// The hello of a client that means well.
pub fn honest_hello(name: &str) -> Hello {
    hello(config(), name, "hostile/1")
}

/// Connects to a server in the directory, and says nothing.
///
/// # Errors
/// When nobody serves the name, or the server has no room.
pub fn dial(directory: &Directory, name: &Name) -> io::Result<Socket> {
    directory.connect(name).map(Socket::from).map_err(io::Error::other)
}

/// Shakes hands as a client.
///
/// # Errors
/// When the server gives no link.
pub fn meet_server(directory: &Directory, name: &Name) -> io::Result<Met> {
    meet_server_with(directory, name, config())
}

/// Shakes hands as a client with a first segment and limits of its choice.
///
/// # Errors
/// When the server gives no link.
pub fn meet_server_with(directory: &Directory, name: &Name, own: Config) -> io::Result<Met> {
    let socket = dial(directory, name)?;
    let (segment, memory) = own_segment(own.geometry)?;
    let hello = hello(own, name.as_str(), "hostile/1");
    socket.send(&Packet::Hello(hello), Some(segment.descriptor()))?;
    match next(&socket, PATIENCE)? {
        Incoming::Packet(Packet::Welcome(victim_terms), Some(descriptor)) => {
            let bytes = victim_terms.geometry.segment_bytes() as u64;
            let victim = PeerSegment::map(descriptor.as_fd(), bytes).map_err(io::Error::other)?;
            Ok(Met { socket, memory, own, victim, victim_terms, role: Role::Client, _segment: segment })
        }
        other => Err(io::Error::other(format!("no welcome, but {other:?}"))),
    }
}

/// Waits for a client.
///
/// # Errors
/// When none comes.
pub fn accept(listener: &Listener) -> io::Result<Socket> {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(socket) = listener.accept()? {
            return Ok(socket.into());
        }
        if Instant::now() > until {
            return Err(io::ErrorKind::TimedOut.into());
        }
        wait_readable(listener, Duration::from_millis(20));
    }
}

/// Takes a client's hello, and does not answer it.
///
/// # Errors
/// When it says something else.
pub fn take_hello(socket: &Socket) -> io::Result<(Hello, OwnedFd)> {
    match next(socket, PATIENCE)? {
        Incoming::Packet(Packet::Hello(hello), Some(descriptor)) => Ok((hello, descriptor)),
        other => Err(io::Error::other(format!("no hello, but {other:?}"))),
    }
}

/// The terms of a server that means well.
pub fn honest_terms() -> Terms {
    terms(VERSIONS.1, config())
}

/// Shakes hands as a server.
///
/// # Errors
/// When the client is gone.
pub fn meet_client(socket: Socket) -> io::Result<Met> {
    meet_client_with(socket, config())
}

/// Shakes hands as a server with a first segment and limits of its choice.
///
/// # Errors
/// When the client is gone.
pub fn meet_client_with(socket: Socket, own: Config) -> io::Result<Met> {
    let (hello, descriptor) = take_hello(&socket)?;
    let victim_terms = hello.terms;
    let bytes = victim_terms.geometry.segment_bytes() as u64;
    let victim = PeerSegment::map(descriptor.as_fd(), bytes).map_err(io::Error::other)?;
    let (segment, memory) = own_segment(own.geometry)?;
    socket.send(&Packet::Welcome(terms(VERSIONS.1, own)), Some(segment.descriptor()))?;
    Ok(Met { socket, memory, own, victim, victim_terms, role: Role::Server, _segment: segment })
}

/// The next packet.
///
/// # Errors
/// When none comes for this time.
pub fn next(socket: &Socket, patience: Duration) -> io::Result<Incoming> {
    let until = Instant::now() + patience;
    loop {
        match socket.receive() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            received => return received,
        }
        if Instant::now() > until {
            return Err(io::ErrorKind::TimedOut.into());
        }
        wait_readable(socket, patience.min(Duration::from_millis(100)));
    }
}

/// Waits until there is something to read, at most for this time.
pub fn wait_readable(what: impl AsFd, most: Duration) {
    let most = Timespec::try_from(most).expect("short");
    // That it was interrupted is no matter: whoever waits looks again.
    let _ = poll(&mut [PollFd::new(&what, PollFlags::IN)], Some(&most));
}

impl Met {
    /// This end of the link.
    ///
    /// # Errors
    /// When the victim's segment is none.
    pub fn ground(&self) -> io::Result<Ground<'_>> {
        let victim = self.victim_terms.geometry;
        let own_part = |at: usize, bytes: usize| {
            Ok::<_, std::convert::Infallible>(Part::new(&self.memory, at / WORD, bytes / WORD))
        };
        let own = self.own.geometry;
        let Ok(own_parts) = Parts::cut(own, victim, own_part);
        let peer_part = |at, bytes| self.victim.part(at, bytes).ok_or(io::ErrorKind::InvalidData);
        let peer_parts = Parts::cut(victim, own, peer_part)?;
        let lanes = Lanes::join(own_parts, own, peer_parts, victim).map_err(io::Error::other)?;
        let limits: ValidLimits = self.victim_terms.limits.check().map_err(io::Error::other)?;
        let own_limits = self.own.limits.check().map_err(io::Error::other)?;
        let connection = Connection::new(self.role, lanes, own_limits, limits);
        Ok(Ground { met: self, connection, is_over: false })
    }
}

/// A link's end that can do anything.
pub struct Ground<'a> {
    /// What is beneath it.
    pub met: &'a Met,
    /// What keeps to the rules.
    pub connection: OurConnection<'a>,
    is_over: bool,
}

impl Ground<'_> {
    /// Which side this is.
    pub fn role(&self) -> Role {
        self.met.role
    }

    /// Returns `true` once the victim has ended the link.
    pub fn is_over(&mut self) -> bool {
        while !self.is_over {
            match self.met.socket.receive() {
                Ok(Incoming::Closed) => self.is_over = true,
                Ok(_) => {}
                Err(error) => {
                    self.is_over = error.kind() != io::ErrorKind::WouldBlock;
                    break;
                }
            }
        }
        self.is_over
    }

    /// Puts a descriptor into the ring, and waits until there is room. Returns `false` if the link is
    /// over, or nothing is taken any more.
    pub fn push(&mut self, descriptor: Descriptor) -> bool {
        if !self.wait_until(|ground| ground.connection.lanes().room().unwrap_or(0) > 0) {
            return false;
        }
        self.connection.lanes().push(descriptor);
        true
    }

    /// How many descriptors the victim has taken.
    pub fn taken(&mut self) -> u64 {
        self.connection.lanes().taken().unwrap_or(0)
    }

    /// Waits until the victim has taken all that there is, has ended the link, or takes nothing any more.
    pub fn settle(&mut self) {
        self.wait_until(|ground| ground.taken() == ground.connection.lanes().pushed());
    }

    /// Returns `false` if it was in vain: what we have overwritten may be what the victim would look at.
    fn wait_until(&mut self, mut is_so: impl FnMut(&mut Self) -> bool) -> bool {
        let mut progress = (self.taken(), Instant::now());
        while !is_so(self) {
            self.met.socket.ring();
            let taken = self.taken();
            if taken > progress.0 {
                progress = (taken, Instant::now());
            }
            if self.is_over() || progress.1.elapsed() > STUCK {
                return false;
            }
            wait_readable(&self.met.socket, Duration::from_micros(200));
        }
        true
    }

    /// Overwrites a word of our memory: of the first page, which steers, or of any.
    pub fn overwrite(&self, word: u64, value: u64) {
        let words = self.met.own.geometry.segment_bytes() / WORD;
        self.met.memory.store_release(word as usize % words, value);
    }
}
