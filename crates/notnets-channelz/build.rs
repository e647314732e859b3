//! Generates channelz's messages, client and server.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The client takes any channel: this crate needs no transport of tonic's.
    let settings = notnets_build::tonic_prost_build::configure().build_transport(false);
    notnets_build::compile_with(settings, &["proto/grpc/channelz/v1/channelz.proto"], &["proto"])
}
