//! The messages, clients and servers that `notnets-build` generated from `proto/shop`.

tonic::include_proto!("shop");
