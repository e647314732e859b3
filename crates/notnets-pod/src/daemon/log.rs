//! The log of an agent: what it has decided and by what, with the target [`TARGET`].

use notnets_core::clock;
use notnets_core::log_pace::LogPace;

use crate::agent::{AgentEvent, HostEnd, JUST_BEGUN, Lapse};

/// The target of all lines.
pub(super) const TARGET: &str = "notnets::agent";

pub(super) fn event(event: AgentEvent) {
    let millis = |nanos: u64| nanos / 1_000_000;
    match event {
        AgentEvent::Running { incarnation, resumed } => {
            let life = incarnation.to_string();
            let how = if resumed { "goes on with the life of before" } else { "begins a new life" };
            tracing::info!(target: TARGET, life, "this host {how}");
        }
        AgentEvent::HostUp { host, incarnation } => {
            let life = incarnation.to_string();
            tracing::info!(target: TARGET, host, life, "a host is there");
        }
        AgentEvent::HostDown { host, incarnation, why } => {
            let life = incarnation.to_string();
            match why {
                HostEnd::Silent(nanos) => {
                    let silent_ms = millis(nanos);
                    tracing::warn!(target: TARGET, host, life, silent_ms, "a host is marked dead: its heart has not beaten");
                }
                HostEnd::Starved(nanos) => {
                    let silent_ms = millis(nanos);
                    tracing::warn!(
                        target: TARGET, host, life, silent_ms,
                        "a host is marked dead: its agent has not run, though its processes have: give it a processor"
                    );
                }
                HostEnd::Left => tracing::info!(target: TARGET, host, life, "a host has left"),
                HostEnd::Replaced => {
                    tracing::warn!(target: TARGET, host, life, "a host is marked dead: it has begun another life");
                }
            }
        }
        AgentEvent::ProcessJoined { pid, uid, returned } => {
            tracing::debug!(target: TARGET, pid, uid, returned, "a process has joined");
        }
        AgentEvent::ProcessEnded { pid, uid, runs } => {
            tracing::debug!(target: TARGET, pid, uid, runs, "a process counts no more");
        }
    }
}

/// A life of this host is over.
pub(super) fn lapse(lapse: Lapse) {
    match lapse {
        Lapse::MarkedDead { by } => {
            tracing::warn!(target: TARGET, by, "this host's life is over: another host has marked it dead");
        }
        Lapse::Late(nanos) => {
            let late_ms = nanos / 1_000_000;
            tracing::warn!(target: TARGET, late_ms, "this host's life is over: its agent has not run for the lease");
        }
    }
}

/// This agent stops, and a successor is to go on, or the host has left the pod.
pub(super) fn stop(has_left: bool) {
    let how = if has_left { "this host has left the pod" } else { "the agent stops: a successor goes on" };
    tracing::info!(target: TARGET, "{how}");
}

/// A process that is refused, and why.
#[derive(Debug, Default)]
pub(super) struct Refusals(LogPace);

impl Refusals {
    /// Logs one of them each second, and how many there were since.
    pub(super) fn log(&self, pid: Option<u32>, uid: u32, reason: &str) {
        if reason == JUST_BEGUN {
            tracing::debug!(target: TARGET, pid, uid, reason, "a process is put off");
            return;
        }
        if let Some(more) = self.0.line(clock::now()) {
            tracing::warn!(target: TARGET, pid, uid, reason, more, "a process is refused");
        }
    }
}

/// A process that sends what is no packet.
pub(super) fn violation(pid: u32, uid: u32) {
    tracing::warn!(target: TARGET, pid, uid, "a process is cut off: it sent what is no packet");
}
