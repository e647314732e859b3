//! The suite over tonic's own channel to a server of ours, held against tonic on both sides.

use notnets_conformance::cases;
use notnets_conformance::harness::check;
use notnets_conformance::transport::{Flavour, Transport};

macro_rules! tests {
    ($($module:ident { $($case:ident),* $(,)? })*) => { $($(
        #[test]
        fn $case() {
            let program = env!("CARGO_BIN_EXE_conformance-server");
            check::<cases::$case>(program, (Transport::Uds, Flavour::Multi), (Transport::FromHttp2, Flavour::Multi));
        }
    )*)* };
}

notnets_conformance::for_each_case!(tests);
