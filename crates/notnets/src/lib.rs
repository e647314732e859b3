//! NotNets.
