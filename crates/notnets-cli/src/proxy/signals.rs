//! What the proxy is asked by signals.

use std::io;

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
    /// read again.
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
