//! Pods: links between processes of several hosts that share a memory region (`docs/pod.md`).
//!
//! An agent on each host keeps its part of the region; a process joins the pod through it and gets links
//! ([`notnets_core::link::Established`]) that are used as any other. What is between two processes of one host a
//! socket and memfds are here mail between agents and parts of the region.
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`agent`] | what the agent of a host does, without I/O |
//! | [`daemon`] | the agent with its socket, the region and the clock |
//! | [`member`] | a process in a pod: serving, dialling, watching its lanes |
//! | `lockstep` | two processes that work in turns, by memory alone: with the feature `testing` |
//! | [`packet`] | what a process and its agent say to each other |
//! | [`table`] | what stands in a host's control area |
//! | [`mailbox`] | packets from one host's agent to another's |
//! | [`survey`] | a look at a whole region from outside |
#![forbid(unsafe_code)]

pub mod agent;
pub mod daemon;
#[cfg(any(test, feature = "testing"))]
pub mod lockstep;
pub mod mailbox;
pub mod member;
pub mod packet;
pub mod survey;
pub mod table;
mod wire;

use std::time::Duration;

/// The longest that a message waits for a parked side, unless the host's agent or the process itself says otherwise:
/// a parked side is looked at this often.
pub const WAKE_LATENCY: Duration = Duration::from_micros(500);
