//! The suite against itself: tonic over TCP and tonic over a Unix socket are
//! the same transport to an application, so no case may tell them apart.

use notnets_conformance::cases;
use notnets_conformance::harness::check;
use notnets_conformance::transport::{Flavour::*, Transport::*};

macro_rules! tests {
    ($($module:ident { $($case:ident),* $(,)? })*) => { $($(
        #[test]
        fn $case() {
            let program = env!("CARGO_BIN_EXE_conformance-server");
            check::<cases::$case>(program, (Tcp, Current), (Uds, Multi));
        }
    )*)* };
}

notnets_conformance::for_each_case!(tests);
