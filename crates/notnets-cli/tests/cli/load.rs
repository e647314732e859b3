//! `notnets load`, of servers over HTTP/2 and through shared memory.

use serde_json::Value;

use crate::support::{Reflection, World, server_of};

const ECHO: &str = "notnets.probe.Probe/Echo";

#[tokio::test]
async fn calls_of_all_kinds_are_made_and_counted() {
    let world = World::new();
    for server in world.servers().await {
        for (method, body, replies) in [
            (ECHO, r#"{"text":"a"} {"text":"b"}"#, 40),
            ("notnets.probe.Probe/Split", r#"{"count":3,"size":2}"#, 120),
            ("notnets.probe.Probe/Collect", r#"{"data":"AAAA"} {"data":"AA=="}"#, 40),
            ("notnets.probe.Probe/Chat", r#"{"data":"AAAA"} {"data":"AA=="}"#, 80),
        ] {
            let report =
                world.run(["load", &server, method, body, "-n", "40", "-c", "4", "--json"]).await.json();
            assert_eq!((&report["calls"], &report["ok"]), (&40.into(), &40.into()), "{method}: {report}");
            assert_eq!(report["received_messages"], replies, "{method}");
            assert_eq!(report["statuses"], serde_json::json!({"OK": 40}));
            let p50 = report["latency_us"]["p50"].as_f64().expect("a time");
            assert!(p50 > 0.0, "{report}");
        }
    }
}

#[tokio::test]
async fn calls_begin_at_a_rate() {
    let world = World::new();
    for server in world.servers().await {
        let plan = ["-n", "100", "--rate", "2000", "--connections", "2", "--warm-up", "10ms"];
        let call = ["load", &server, ECHO, "--json", "-H", "key:value"];
        let report = world.run(call.into_iter().chain(plan)).await.json();
        assert_eq!(report["ok"], 100, "{report}");
        // 100 calls take 99 intervals of half a millisecond.
        let seconds = report["seconds"].as_f64().expect("a time");
        assert!(seconds > 0.049, "{report}");
        let at = |times: &str| report[times]["p50"].as_f64().expect("a time");
        assert!(at("latency_us") >= at("service_time_us"), "{report}");
    }
}

#[tokio::test]
async fn what_fails_is_counted_by_status_and_decides_the_exit_code() {
    let world = World::new();
    let server = world.server().await;
    let body = r#"{"code": 7, "message": "no"}"#;
    let ended = world.run(["load", &server, "notnets.probe.Probe/Fail", body, "-n", "5"]).await;
    assert_eq!(ended.code(), Some(64 + 7), "{}", ended.err());
    assert!(ended.out().contains("\nPERMISSION_DENIED      5  100.00 %\n"), "{}", ended.out());
    assert!(ended.out().contains("\n5 × PERMISSION_DENIED: no\n"), "{}", ended.out());
    assert!(ended.err().contains("5 of 5 calls failed"), "{}", ended.err());
    let late = ["load", &server, "notnets.probe.Probe/Wait", "-n", "2", "--timeout", "20ms", "--json"];
    let ended = world.run(late).await;
    assert_eq!(ended.code(), Some(64 + 4), "{}", ended.err());
    let report: Value = serde_json::from_str(ended.out()).expect("JSON");
    assert_eq!(report["failures"][0]["status"], "DEADLINE_EXCEEDED");
}

#[tokio::test]
async fn where_no_call_can_be_made_none_is() {
    let world = World::new();
    let ended = world.run(["load", "nobody", ECHO]).await;
    assert_eq!((ended.code(), ended.out()), (Some(64 + 14), ""));
    let server = server_of(Reflection::Neither).await;
    let ended = world.run(["load", &server, ECHO, "-n", "1"]).await;
    assert_eq!(ended.code(), Some(64 + 12), "{}", ended.err());
    assert!(ended.err().contains("--proto"), "{}", ended.err());
    let proto = concat!(env!("CARGO_MANIFEST_DIR"), "/proto/probe.proto");
    let report = world.run(["load", &server, ECHO, "-n", "3", "--proto", proto, "--json"]).await.json();
    assert_eq!(report["ok"], 3);
    let ended = world.run(["load", &server, ECHO, r#"{"no":1}"#, "--proto", proto]).await;
    assert_eq!((ended.code(), ended.out()), (Some(1), ""));
}
