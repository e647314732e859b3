//! The suite over NotNets, held against HTTP/2 over a Unix socket: on
//! current-thread and on multi-thread runtimes, in both processes.

use notnets_conformance::cases;
use notnets_conformance::harness::check;
use notnets_conformance::transport::{Flavour, Transport};

macro_rules! tests {
    ($($module:ident { $($case:ident),* $(,)? })*) => {
        mod current_thread {
            use super::*;
            $($( #[test] fn $case() { compare::<cases::$case>(Flavour::Current); } )*)*
        }

        mod multi_thread {
            use super::*;
            $($( #[test] fn $case() { compare::<cases::$case>(Flavour::Multi); } )*)*
        }
    };
}

notnets_conformance::for_each_case!(tests);

fn compare<K: cases::Case>(flavour: Flavour) {
    let program = env!("CARGO_BIN_EXE_conformance-server");
    check::<K>(program, (Transport::Uds, flavour), (Transport::NotNets, flavour));
}
