//! Generates channelz's messages, client and server.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    notnets_build::compile(&["proto/grpc/channelz/v1/channelz.proto"], &["proto"])
}
