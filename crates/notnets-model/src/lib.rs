//! The protocol of pods (`docs/pod.md`) as a formal model: what it promises, and that it keeps it in every
//! order of steps.
//!
//! | module | what is modelled |
//! | --- | --- |
//! | [`mod@line`] | a line of memory that nothing keeps coherent |
//! | [`mailbox`] | packets from one agent to another, through restarts and new lives |
//! | [`lease`] | heartbeats, when a host is marked dead, and that it finds out |
//! | [`pod`] | lives of hosts and processes, who may read which extent: steps and their conditions |
//! | [`lives`] | what a small pod can come to by these steps |
//! | [`claims`] | extents of payloads, and the bits of those that read there |
//! | [`wake`] | activity lines, a host's watcher, and sides that park |
//!
//! The checker (stateright) visits all states that a small pod can come to. Each model can be had with a
//! fault in it, which the checker must find: `tests/models.rs`.
#![forbid(unsafe_code)]

pub mod check;
pub mod claims;
pub mod lease;
pub mod line;
pub mod lives;
pub mod mailbox;
pub mod pod;
pub mod wake;
