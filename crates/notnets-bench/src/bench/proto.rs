//! The messages, client and server that tonic generated from `proto/bench.proto`.

tonic::include_proto!("notnets.bench");
