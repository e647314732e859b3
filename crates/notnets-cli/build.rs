//! Generates the clients and servers of the demo shop, of the benchmark, and of the service that the
//! command's own tests use.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let services =
        ["storefront", "catalogue", "pricing", "inventory", "reviews", "orders", "payments", "fraud"];
    let mut protos: Vec<String> =
        services.iter().map(|service| format!("proto/shop/{service}.proto")).collect();
    protos.push("proto/probe.proto".to_owned());
    protos.push("proto/bench.proto".to_owned());
    // A payload that is cloned for each call would be measured too.
    let settings = notnets_build::tonic_prost_build::configure().bytes(".notnets.bench");
    notnets_build::compile_with(settings, &protos, &["proto/shop", "proto"])
}
