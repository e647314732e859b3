//! The parts of the simulated worlds.

pub mod call;
pub mod flow;
pub mod handler;
pub mod random;
pub mod side;
pub mod world;
