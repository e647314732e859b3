//! What commands that run for long, and probes, say to programs.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::support::{ANY, World, http2_server, in_time};

/// The first line that the command prints.
async fn first_line(world: &World, arguments: &[&str]) -> Value {
    let mut command = world.notnets(arguments.iter().copied());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
    let mut out = BufReader::new(child.stdout.take().expect("piped")).lines();
    let line = in_time(out.next_line()).await.expect("UTF-8").expect("a line");
    child.kill().await.expect("it is ours");
    serde_json::from_str(&line).expect("JSON")
}

#[tokio::test]
async fn that_a_command_is_ready_is_an_object_on_request() {
    let world = World::new();
    let server = http2_server().await;
    let listen = format!("notnets:///through,{}", world.unix("proxy.sock"));
    let ready = first_line(&world, &["proxy", "--listen", &listen, "--to", &server, "--json"]).await;
    let addresses = json!(["notnets:///through", world.unix("proxy.sock")]);
    assert_eq!(ready, json!({"event": "ready", "addresses": addresses}));
    let ready = first_line(&world, &["exporter", "--listen", ANY, "--json"]).await;
    assert!(
        ready["addresses"][0].as_str().is_some_and(|address| address.starts_with("127.0.0.1:")),
        "{ready}"
    );
    let region = world.path("region");
    let region = region.to_str().expect("UTF-8");
    let division = world.run(["region", "format", "--hosts", "2", "--create", "8M", "--json", region]).await;
    assert_eq!(division.json()["pod"], "pod0");
    let ready = first_line(&world, &["agent", "--region", region, "--host-id", "0", "--json"]).await;
    assert_eq!(ready, json!({"event": "ready", "addresses": [world.names().join(".pod-pod0")]}));
}

#[tokio::test]
async fn health_is_an_object_on_request() {
    let world = World::new();
    for server in world.servers().await {
        let ended = world.run(["health", &server, "--json"]).await;
        assert_eq!(ended.json(), json!({"status": "SERVING"}));
        let ended = world.run(["health", &server, "no.Such", "--json"]).await;
        assert_eq!(ended.code(), Some(64 + 5));
        let error: Value = serde_json::from_str(ended.err()).expect("JSON");
        assert_eq!((&error["error"]["code"], &error["error"]["status"]), (&json!(5), &json!("NOT_FOUND")));
    }
}
