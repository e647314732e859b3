//! Generates the demo shop's clients and servers, and the service that the command's own tests use.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let services =
        ["storefront", "catalogue", "pricing", "inventory", "reviews", "orders", "payments", "fraud"];
    let mut protos: Vec<String> =
        services.iter().map(|service| format!("proto/shop/{service}.proto")).collect();
    protos.push("proto/probe.proto".to_owned());
    notnets_build::compile(&protos, &["proto/shop", "proto"])
}
