//! The coherence of a region as an argument and in JSON.

use clap::ValueEnum;
use serde::Serialize;

/// How a region is kept coherent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Coherence {
    /// The hardware.
    Hardware,
    /// Write-back and invalidation.
    Software,
}

impl Coherence {
    /// Both ways.
    pub const ALL: [Self; 2] = [Self::Hardware, Self::Software];
}

impl From<Coherence> for notnets_memory::Coherence {
    fn from(coherence: Coherence) -> Self {
        match coherence {
            Coherence::Hardware => Self::Hardware,
            Coherence::Software => Self::Software,
        }
    }
}

impl From<notnets_memory::Coherence> for Coherence {
    fn from(coherence: notnets_memory::Coherence) -> Self {
        match coherence {
            notnets_memory::Coherence::Hardware => Self::Hardware,
            notnets_memory::Coherence::Software => Self::Software,
        }
    }
}
