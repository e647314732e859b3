//! Generates the echo service.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    notnets_build::compile(&["proto/echo.proto"], &["proto"])
}
