//! What the proxy is asked by signals, and what it tells the service manager that has started it.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use notnets_core::clock;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that a proxy waits for.
pub struct Signals {
    hangup: Option<Signal>,
    interrupt: Signal,
    terminate: Signal,
}

/// What a signal asks for.
pub enum Asked {
    Reload,
    Stop,
}

impl Signals {
    /// Waits for signals from now on; for SIGHUP, which ends other processes, if there is something to
    /// reload.
    ///
    /// # Errors
    /// When the system does not let it.
    pub fn new(reloads: bool) -> io::Result<Self> {
        Ok(Self {
            hangup: reloads.then(|| signal(SignalKind::hangup())).transpose()?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    pub async fn next(&mut self) -> Asked {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = hangup => Asked::Reload,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.terminate.recv() => Asked::Stop,
        }
    }

    /// From now on, the next signal that asks to stop ends the process.
    pub fn end_at_next(mut self) {
        tokio::spawn(async move {
            while let Asked::Reload = self.next().await {}
            std::process::exit(1);
        });
    }
}

/// What a service manager is told.
#[derive(Clone, Copy, Debug)]
pub enum Standing {
    Ready,
    Reloading,
    Stopping,
}

/// Tells the service manager, if it wants to know: as `sd_notify(3)` does, for `Type=notify` and
/// `Type=notify-reload`.
pub fn notify(standing: Standing) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let text = match standing {
        Standing::Ready => "READY=1".to_owned(),
        Standing::Reloading => format!("RELOADING=1\nMONOTONIC_USEC={}", clock::now().as_nanos() / 1000),
        Standing::Stopping => "STOPPING=1".to_owned(),
    };
    let send = || {
        let bytes = socket.as_encoded_bytes();
        let address = match bytes.strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&socket)?,
        };
        UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address)
    };
    if let Err(error) = send() {
        tracing::warn!("cannot tell the service manager ({}): {error}", socket.display());
    }
}
