//! What a service manager that has started this process is told, as `sd_notify(3)` does.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use notnets_core::clock;

/// What a service manager is told.
#[derive(Clone, Copy, Debug)]
pub enum Standing {
    Ready,
    Reloading,
    Stopping,
}

/// Tells the service manager, if it wants to know: for `Type=notify` and `Type=notify-reload`.
pub fn notify(standing: Standing) {
    match standing {
        Standing::Ready => tell("READY=1"),
        Standing::Reloading => {
            tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", clock::now().as_nanos() / 1000));
        }
        Standing::Stopping => tell("STOPPING=1"),
    }
}

fn tell(text: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&socket, text) {
        tracing::warn!("cannot tell the service manager ({}): {error}", socket.display());
    }
}

fn send(socket: &OsString, text: &str) -> io::Result<usize> {
    let address = match socket.as_encoded_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address)
}

/// Tells the service manager that this process is not stuck, as often as it wants to hear that
/// (`WatchdogSec=`).
#[derive(Debug)]
pub struct Watchdog {
    interval: Duration,
    next: Instant,
}

impl Watchdog {
    /// Returns `None` when the service manager does not wait for it.
    pub fn from_env() -> Option<Self> {
        let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let micros = number("WATCHDOG_USEC").filter(|micros| *micros > 0 && is_ours)?;
        // At least twice in the time that it allows, as sd_watchdog_enabled(3) suggests.
        Some(Self { interval: Duration::from_micros(micros) / 4, next: Instant::now() })
    }

    /// How often it has to be fed.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// To be called at least that often, by what must not be stuck.
    pub fn feed(&mut self) {
        let now = Instant::now();
        if now >= self.next {
            self.next = now + self.interval;
            tell("WATCHDOG=1");
        }
    }
}
