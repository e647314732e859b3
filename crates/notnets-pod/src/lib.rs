//! Pods: links between processes of several hosts that share a memory region (`docs/pod.md`).
//!
//! An agent on each host keeps its part of the region; a process joins the pod through it and gets links
//! ([`notnets_core::link::Established`]) that are used as any other. Mail
//! between agents takes the place of a socket, and parts of the region that of memfds.
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`agent`] | the agent of a host as a state machine |
//! | [`daemon`] | the agent with its socket, the region and the clock |
//! | [`member`] | a process in a pod: serving, dialling |
//! | [`watch`], `backoff` | looking at links for their parked sides, and how long to sleep in between |
//! | `lockstep` | two processes that work in turns, by memory alone: with the feature `testing` |
//! | [`packet`] | packets between a process and its agent |
//! | [`table`] | the records of a host's control area |
//! | [`mailbox`] | packets from one host's agent to another's |
//! | [`survey`] | a look at a whole region from outside |
#![forbid(unsafe_code)]

pub mod agent;
mod backoff;
pub mod daemon;
#[cfg(any(test, feature = "testing"))]
pub mod lockstep;
pub mod mailbox;
pub mod member;
pub mod packet;
pub mod survey;
pub mod table;
pub mod watch;
mod wire;

use std::time::Duration;

/// The longest that a message waits for a parked side, unless the host's agent or the process itself sets
/// another: a parked side is looked at this often.
pub const WAKE_LATENCY: Duration = Duration::from_micros(500);
