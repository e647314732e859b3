//! The program as CI runs it, only shorter: no victim ends, and no call of a well-behaved peer fails.

use std::process::Command;

#[test]
fn hostile_peers_harm_nobody() {
    let run = Command::new(env!("CARGO_BIN_EXE_notnets-hostile"))
        .args(["--descriptors", "300000"])
        .output()
        .expect("it starts");
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    println!("{out}");
    assert!(run.status.success() && !err.contains("panicked"), "{out}\n{err}");
}
