//! Code that the subcommands of the `notnets` command share.
//!
//! The operator's subcommands are in `notnets-cli`, demo and benchmarks in `notnets-bench`. The latter
//! can be left out of the command, so what both need is here and in neither of them.
//!
//! | module | what |
//! | --- | --- |
//! | [`agent_thread`] | a pod's agent in a thread of the command itself |
//! | [`coherence`] | the coherence of a region as an argument and in JSON |
//! | [`duration`] | durations as users write them |
//! | [`number`] | medians, and figures as people read them |
//! | [`random`] | numbers that are the same for the same seed |
//! | [`shards`] | records that threads write, almost one for each |
#![forbid(unsafe_code)]

pub mod agent_thread;
pub mod coherence;
pub mod duration;
pub mod number;
pub mod random;
pub mod shards;
