//! The command where there are hardly any file descriptors left.

use std::process::Stdio;

use tokio::process::Command;

use crate::support::{World, in_time};

#[tokio::test]
async fn too_few_descriptors_are_an_error_and_no_panic() {
    let world = World::new();
    for few in 4..12 {
        for arguments in ["ls", "call x --list", "health x", "proxy --listen notnets:///a --to notnets:///b"]
        {
            let limited = format!("ulimit -n {few}; exec {} {arguments}", env!("CARGO_BIN_EXE_notnets"));
            let mut command = Command::new("sh");
            command.args(["-c", &limited]).env("NOTNETS_DIR", world.names()).env_remove("RUST_LOG");
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
            let child = command.spawn().expect("a shell");
            // A proxy that has just enough goes on.
            let patience = std::time::Duration::from_secs(2);
            let Ok(ended) = tokio::time::timeout(patience, child.wait_with_output()).await else { continue };
            let ended = in_time(async { ended }).await.expect("it ends");
            let said = String::from_utf8_lossy(&ended.stderr);
            assert!(!said.contains("panicked"), "{arguments} with {few}: {said}");
            assert!(ended.status.code().is_some(), "{arguments} with {few}: {said}");
        }
    }
}
