//! NotNets.

pub mod headroom;
