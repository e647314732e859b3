//! Peers that shake hands as they should, and then do anything: beside a peer that means well, whose calls
//! never fail.
//!
//! | module | what |
//! | --- | --- |
//! | [`ground`] | one end of a link whose every word can be overwritten |
//! | [`attacks`] | what is done on a link: descriptors, memory |
//! | [`greetings`] | what is said on its socket: packets, descriptors of files |
//! | [`hoards`] | what a server is made to hold |
//! | [`held`] | what a process holds |
//! | [`victims`] | the processes that are attacked |
//! | [`peers`] | those who mean well |
//! | [`runs`] | attacks in great numbers, by seed |
#![forbid(unsafe_code)]

pub mod attacks;
pub mod greetings;
pub mod ground;
pub mod held;
pub mod hoards;
pub mod latencies;
pub mod peers;
pub mod random;
pub mod runs;
pub mod victims;
