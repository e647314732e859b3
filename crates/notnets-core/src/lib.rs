//! NotNets.
#![forbid(unsafe_code)]

pub mod name;
