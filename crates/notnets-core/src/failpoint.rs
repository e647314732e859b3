//! Failpoints: the steps of the protocol at which a test can let a process die or stop, or cut its links.
//!
//! With the feature `failpoints`, and in debug builds only, `NOTNETS_FAILPOINT=POINT:COUNT` kills the process
//! when it reaches the point for the COUNTth time; `POINT:COUNT:stop` stops it there, and `POINT:COUNT:cut`
//! shuts down all sockets that it has to peers and agents. When that was, by the clock of [`crate::clock`] in
//! nanoseconds, is written to the file that `NOTNETS_FAILPOINT_NOTE` names, as eight bytes. In all other
//! builds a failpoint is nothing at all.

/// A step at which the process may be made to end: a name, or an expression of which the type is `&str`.
#[cfg(all(feature = "failpoints", debug_assertions))]
#[macro_export]
macro_rules! failpoint {
    ($name:expr) => {
        $crate::failpoint::reach($name)
    };
}

/// A step at which the process may be made to end: nothing, in this build.
#[cfg(not(all(feature = "failpoints", debug_assertions)))]
#[macro_export]
macro_rules! failpoint {
    ($name:expr) => {};
}

/// Whether this build has failpoints.
pub const IS_ON: bool = cfg!(all(feature = "failpoints", debug_assertions));

/// All failpoints, but for the `sending`, `sent` and `taken` of each kind of frame: see [`FRAMES`].
pub const STEPS: &[&str] = &[
    "name locked",
    "name bound",
    "name served",
    "name removed",
    "successor bound",
    "successor moved",
    "successor told",
    "hello written",
    "hello sent",
    "welcome read",
    "hello read",
    "own segment made",
    "peer segment joined",
    "welcome sent",
    "segment offered",
    "segment packet sent",
    "segment offer read",
    "segment accepted",
    "segment answer read",
    "segment retired",
    "segment retirement read",
    "segment unmapped",
    "block released",
    "handler begun",
    "handler ended",
    "pod asked to join",
    "pod joined",
    "pod extent granted",
    "pod hello posted",
    "pod welcome posted",
    "pod payload put",
    "pod payload claimed",
    "agent claimed",
    "agent admitted",
    "agent granted",
    "agent took back",
    "agent released",
    "agent claimed an extent",
    "agent freed payloads",
    "agent wrote mail",
    "agent read mail",
];

/// The kinds of frames, each with three failpoints: `sending request`, `sent request`, `taken request`.
pub const FRAMES: &[&str] = &[
    "request", "response", "data", "trailers", "reset", "window", "closed", "goaway", "ping", "pong",
    "share", "shared", "unshare",
];

/// The name of every failpoint.
pub fn all() -> impl Iterator<Item = String> {
    let of_frames = FRAMES
        .iter()
        .flat_map(|kind| ["sending", "sent", "taken"].iter().map(move |step| format!("{step} {kind}")));
    STEPS.iter().map(|name| (*name).to_owned()).chain(of_frames)
}

#[cfg(all(feature = "failpoints", debug_assertions))]
pub use active::{frame, reach};

#[cfg(all(feature = "failpoints", debug_assertions))]
mod active {
    use std::ffi::OsString;
    use std::fs::{self, File};
    use std::io::{self, Write};
    use std::sync::atomic::{AtomicU64, Ordering};

    use once_cell::race::OnceBox;
    use rustix::net::sockopt::{socket_acceptconn, socket_type};
    use rustix::net::{Shutdown, SocketType, shutdown};
    use rustix::process::{
        PidfdFlags, PidfdGetfdFlags, Signal, getpid, kill_process, pidfd_getfd, pidfd_open,
    };

    use crate::clock;
    use crate::frame::Kind;

    struct Point {
        name: String,
        left: AtomicU64,
        fault: Fault,
        note: Option<OsString>,
    }

    enum Fault {
        Signal(Signal),
        Cut,
    }

    /// Ends or stops the process or cuts its links, if that is what it was told for this point.
    pub fn reach(name: &str) {
        static POINT: OnceBox<Option<Point>> = OnceBox::new();
        let Some(point) = POINT.get_or_init(|| told().into()) else { return };
        if point.name == name && point.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            let _ = point.happen();
        }
    }

    fn told() -> Option<Point> {
        let text = std::env::var("NOTNETS_FAILPOINT").ok()?;
        let mut parts = text.split(':');
        let name = parts.next()?.to_owned();
        let left = parts.next()?.parse().ok().filter(|count| *count > 0)?;
        let fault = match parts.next() {
            Some("stop") => Fault::Signal(Signal::STOP),
            Some("cut") => Fault::Cut,
            _ => Fault::Signal(Signal::KILL),
        };
        let note = std::env::var_os("NOTNETS_FAILPOINT_NOTE");
        Some(Point { name, left: AtomicU64::new(left), fault, note })
    }

    impl Point {
        fn happen(&self) -> io::Result<()> {
            if let Some(path) = &self.note {
                // The file is made before the clock is read: that takes far longer than to write to it.
                let mut note = File::create(path)?;
                note.write_all(&clock::now().as_nanos().to_le_bytes())?;
            }
            match self.fault {
                Fault::Signal(signal) => Ok(kill_process(getpid(), signal)?),
                Fault::Cut => cut(),
            }
        }
    }

    /// Shuts down all connected `SOCK_SEQPACKET` sockets: those of links, and those to agents.
    fn cut() -> io::Result<()> {
        let own = pidfd_open(getpid(), PidfdFlags::empty())?;
        for entry in fs::read_dir("/proc/self/fd")? {
            let Ok(number) = entry?.file_name().to_string_lossy().parse() else { continue };
            // Another descriptor of the same socket, unless it was closed meanwhile.
            let Ok(socket) = pidfd_getfd(&own, number, PidfdGetfdFlags::empty()) else { continue };
            let is_connection =
                socket_type(&socket) == Ok(SocketType::SEQPACKET) && socket_acceptconn(&socket) == Ok(false);
            if is_connection {
                let _ = shutdown(&socket, Shutdown::Both);
            }
        }
        Ok(())
    }

    /// The failpoint of a frame of that kind.
    pub fn frame(step: Step, kind: Kind) -> &'static str {
        let names = match kind {
            Kind::Request => ["sending request", "sent request", "taken request"],
            Kind::Response => ["sending response", "sent response", "taken response"],
            Kind::Data => ["sending data", "sent data", "taken data"],
            Kind::Trailers => ["sending trailers", "sent trailers", "taken trailers"],
            Kind::Reset => ["sending reset", "sent reset", "taken reset"],
            Kind::Window => ["sending window", "sent window", "taken window"],
            Kind::Closed => ["sending closed", "sent closed", "taken closed"],
            Kind::GoAway => ["sending goaway", "sent goaway", "taken goaway"],
            Kind::Ping => ["sending ping", "sent ping", "taken ping"],
            Kind::Pong => ["sending pong", "sent pong", "taken pong"],
            Kind::Share => ["sending share", "sent share", "taken share"],
            Kind::Shared => ["sending shared", "sent shared", "taken shared"],
            Kind::Unshare => ["sending unshare", "sent unshare", "taken unshare"],
        };
        names[step as usize]
    }

    /// What is done with a frame.
    #[derive(Clone, Copy, Debug)]
    pub enum Step {
        /// It is about to go into the ring.
        Sending,
        /// It is there.
        Sent,
        /// It was taken, and nothing has come of it yet.
        Taken,
    }
}

#[cfg(all(feature = "failpoints", debug_assertions))]
pub use active::Step;
