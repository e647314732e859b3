//! What the counters of this host's processes say, for `notnets inspect`, `notnets top` and `notnets
//! exporter`.
//!
//! It is read in the processes' own segments: none of them does anything for it, and one that hangs is seen,
//! too. Without rights to look into a process, it is not there.

pub mod agents;
pub mod findings;
pub mod processes;
pub mod report;
