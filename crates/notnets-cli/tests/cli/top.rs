//! `notnets top`, where nobody looks at it.

use serde_json::{Value, json};

use crate::support::probe::pb::EchoRequest;
use crate::support::{World, http2_server, in_time};

#[tokio::test]
async fn an_interval_is_told() {
    let world = World::new();
    let proxy = world.proxy("notnets:///watched", &http2_server().await).await;
    let mut client = world.client(&proxy.address).await;
    let calls = tokio::spawn(async move {
        loop {
            in_time(client.echo(EchoRequest::default())).await.expect("a reply");
        }
    });

    let pid = proxy.pid().to_string();
    let arguments = ["top", "--once", "--json", "--interval", "100ms", "--filter", &pid];
    let process = in_time(async {
        loop {
            let said = world.run(arguments).await.json();
            let processes = said["processes"].as_array().expect("a list");
            let ours = processes.iter().find(|process| process["pid"] == proxy.pid());
            // Numbers follow what happens by and by.
            if let Some(process) = ours.filter(|process| process["served"]["calls_per_second"] != 0.0) {
                return process.clone();
            }
        }
    })
    .await;
    assert_eq!(process["names"], json!(["notnets:///watched"]));
    let positive = |value: &Value| assert!(value.as_f64() > Some(0.0), "{process}");
    positive(&process["served"]["p99_us"]);
    positive(&process["links"][0]["received_bytes_per_second"]);
    positive(&process["links"][0]["received_messages_per_second"]);
    let methods = process["methods"].as_array().expect("a list");
    let echo = methods.iter().find(|method| method["role"] == "server").expect("one is served");
    assert_eq!(echo["method"], "/notnets.probe.Probe/Echo");
    positive(&echo["calls_per_second"]);

    let words = world.run(["top", "--once", "--interval", "50ms", "--filter", "Probe/Echo"]).await;
    assert!(words.out().contains("METHOD  ") && words.out().contains(" served "), "{}", words.out());
    calls.abort();
}

#[tokio::test]
async fn without_a_terminal_it_says_what_to_do() {
    let ended = World::new().run(["top"]).await;
    assert_eq!(ended.code(), Some(1));
    assert!(ended.err().contains("no terminal to draw in: give --once or --json"), "{}", ended.err());
}
