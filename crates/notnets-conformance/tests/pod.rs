//! The suite between two hosts of a pod, held against HTTP/2 over a Unix socket: with coherence kept by the
//! hardware on current-thread runtimes, and kept by software on multi-thread runtimes.

use notnets_conformance::cases;
use notnets_conformance::harness::check;
use notnets_conformance::transport::{Flavour, Transport};

macro_rules! tests {
    ($($module:ident { $($case:ident),* $(,)? })*) => {
        mod hardware {
            use super::*;
            $($( #[test] fn $case() { compare::<cases::$case>(Transport::PodHardware, Flavour::Current); } )*)*
        }

        mod software {
            use super::*;
            $($( #[test] fn $case() { compare::<cases::$case>(Transport::PodSoftware, Flavour::Multi); } )*)*
        }
    };
}

notnets_conformance::for_each_case!(tests);

fn compare<K: cases::Case>(transport: Transport, flavour: Flavour) {
    let program = env!("CARGO_BIN_EXE_conformance-server");
    check::<K>(program, (Transport::Uds, flavour), (transport, flavour));
}
