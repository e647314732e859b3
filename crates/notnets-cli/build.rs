//! Generates the demo shop's clients and servers.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let services =
        ["storefront", "catalogue", "pricing", "inventory", "reviews", "orders", "payments", "fraud"];
    notnets_build::compile(&services.map(|service| format!("proto/shop/{service}.proto")), &["proto/shop"])
}
