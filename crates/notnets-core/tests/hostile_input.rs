//! The fuzz targets on seeded random bytes. A failure names the seed, which is all there is to it.

mod hostile;

use notnets_core::call::Role;

use hostile::input::random;
use hostile::{connection, parsers};

/// Runs a target on so many inputs of up to so many bytes.
fn on_random_bytes(inputs: u64, most: u64, target: impl Fn(&[u8]) + std::panic::RefUnwindSafe) {
    for seed in 0..inputs {
        let bytes = random(seed, (seed.wrapping_mul(7919) % most) as usize);
        if let Err(panic) = std::panic::catch_unwind(|| target(&bytes)) {
            eprintln!("the input was of seed {seed} and {} bytes", bytes.len());
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn a_server_survives_any_client() {
    on_random_bytes(3000, 3000, |bytes| connection::any_peer(Role::Server, bytes));
}

#[test]
fn a_client_survives_any_server() {
    on_random_bytes(3000, 3000, |bytes| connection::any_peer(Role::Client, bytes));
}

#[test]
fn peers_that_keep_to_the_rules_find_no_fault() {
    on_random_bytes(1500, 6000, connection::honest_peers);
}

#[test]
fn packets_are_taken_in_one_way() {
    on_random_bytes(50_000, 200, parsers::packet);
}

#[test]
fn heads_hold_no_more_than_they_bring() {
    on_random_bytes(20_000, 3000, parsers::heads);
}

#[test]
fn a_server_answers_any_hello() {
    on_random_bytes(1000, 200, parsers::terms);
}

#[test]
fn a_client_survives_any_answer() {
    on_random_bytes(1000, 200, parsers::answers);
}
