//! The suite with stubs of `notnets-build` over a channel of ours to tonic's own server, held against tonic.

use notnets_conformance_stubs::cases;
use notnets_conformance_stubs::harness::check;
use notnets_conformance_stubs::transport::{Flavour, Transport};

macro_rules! tests {
    ($($module:ident { $($case:ident),* $(,)? })*) => { $($(
        #[test]
        fn $case() {
            let program = env!("CARGO_BIN_EXE_conformance-stubs-server");
            check::<cases::$case>(program, (Transport::Uds, Flavour::Multi), (Transport::ToHttp2, Flavour::Multi));
        }
    )*)* };
}

notnets_conformance_stubs::for_each_case!(tests);
