//! The messages, client and server that `notnets-build` generated from `proto/bench.proto`.

tonic::include_proto!("notnets.bench");
