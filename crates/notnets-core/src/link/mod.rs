//! Links: how two processes meet.

pub mod rendezvous;
