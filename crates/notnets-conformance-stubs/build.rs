//! Generates the suite's own services, with our stubs.

fn main() -> std::io::Result<()> {
    notnets_build::configure().compile_protos(
        &["../notnets-conformance/proto/conformance.proto"],
        &["../notnets-conformance/proto"],
    )
}
