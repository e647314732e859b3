//! Generates the clients and servers of the demo shop and of the benchmark.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let services =
        ["storefront", "catalogue", "pricing", "inventory", "reviews", "orders", "payments", "fraud"];
    let mut protos: Vec<String> =
        services.iter().map(|service| format!("proto/shop/{service}.proto")).collect();
    protos.push("proto/bench.proto".to_owned());
    // Otherwise the benchmark would also measure the clone of each call's payload, and the demo that of each
    // picture.
    let settings = notnets_build::configure().bytes(".");
    settings.compile_protos(&protos, &["proto/shop".to_owned(), "proto".to_owned()])?;
    Ok(())
}
