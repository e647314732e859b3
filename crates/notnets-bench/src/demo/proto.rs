//! The messages, clients and servers that tonic generated from `proto/shop`.

tonic::include_proto!("shop");
