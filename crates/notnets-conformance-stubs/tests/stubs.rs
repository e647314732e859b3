//! The suite with the stubs of `notnets-build` on both sides, held against the same over HTTP/2. The client's
//! calls go without HTTP. They are served without it where the server has no layer, and by it where it has.

use notnets_conformance_stubs::cases;
use notnets_conformance_stubs::harness::check;
use notnets_conformance_stubs::transport::{Flavour, Transport};

/// Cases of what the server's layer does.
const OF_THE_LAYER: [&str; 6] = [
    "custom_metadata",
    "repeated_keys",
    "binary_metadata",
    "metadata_near_limit",
    "client_layer",
    "server_layer",
];

macro_rules! tests {
    ($($module:ident { $($case:ident),* $(,)? })*) => {
        mod without_layers {
            use super::*;
            $($( #[test] fn $case() { compare_unlayered::<cases::$case>(Flavour::Multi); } )*)*
        }

        mod without_layers_on_one_thread {
            use super::*;
            $($( #[test] fn $case() { compare_unlayered::<cases::$case>(Flavour::Current); } )*)*
        }

        mod within_a_layer {
            use super::*;
            $($( #[test] fn $case() { compare::<cases::$case>(); } )*)*
        }
    };
}

notnets_conformance_stubs::for_each_case!(tests);

fn compare_unlayered<K: cases::Case>(flavour: Flavour) {
    if !OF_THE_LAYER.contains(&K::NAME) {
        let program = env!("CARGO_BIN_EXE_conformance-stubs-server");
        check::<K>(program, (Transport::UdsUnlayered, flavour), (Transport::NotNetsUnlayered, flavour));
    }
}

fn compare<K: cases::Case>() {
    let program = env!("CARGO_BIN_EXE_conformance-stubs-server");
    check::<K>(program, (Transport::Uds, Flavour::Multi), (Transport::NotNets, Flavour::Multi));
}
