//! The command as its users run it: real processes, real sockets.

mod agent;
mod call;
mod call_described;
#[cfg(feature = "bench")]
mod demo_pod;
mod descriptors;
mod doctor;
mod exporter;
mod frames;
mod generate;
mod health;
mod inspect;
mod json;
mod load;
mod log;
mod ls;
mod proxy;
mod proxy_clients;
mod proxy_config;
mod proxy_lives;
mod proxy_strangers;
mod proxy_tls;
mod proxy_upstreams;
mod region;
mod support;
mod top;
