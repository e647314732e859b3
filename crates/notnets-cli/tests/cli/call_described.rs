//! `notnets call` of servers that files describe; bodies from files; errors and times for programs.

use prost::Message;
use serde_json::{Value, json};

use crate::support::{Ended, Reflection, World, http2_server, server_of};

const PROTO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/proto/probe.proto");
const ECHO: &str = "notnets.probe.Probe/Echo";

fn lines(ended: &Ended) -> Vec<Value> {
    ended.err().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test]
async fn files_take_the_place_of_reflection() {
    let world = World::new();
    let set = world.path("probe.binpb");
    let descriptors = crate::support::probe::DESCRIPTORS;
    std::fs::write(&set, descriptors).expect("writable");
    // As `protoc` makes it without --include_imports.
    let alone = world.path("alone.binpb");
    let mut file = prost_types::FileDescriptorSet::decode(descriptors).expect("valid");
    file.file.retain(|file| !file.name().starts_with("google/"));
    std::fs::write(&alone, file.encode_to_vec()).expect("writable");
    let server = server_of(Reflection::Neither).await;
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/proto");
    let [set, alone] = [&set, &alone].map(|path| path.to_str().expect("UTF-8"));
    for described in [
        &["--proto", PROTO][..],
        &["--proto", "probe.proto", "-I", directory],
        &["--descriptor-set", set],
        &["--descriptor-set", alone],
    ] {
        let call = ["call", &server, ECHO, r#"{"text":"x"}"#];
        let reply = world.run(call.iter().chain(described).copied()).await.json();
        assert_eq!(reply["request"]["text"], "x", "{described:?}");
        let list = world.run(["call", &server, "--list"].iter().chain(described).copied()).await;
        assert!(list.out().contains("rpc Echo("), "{}", list.out());
        let none = world.run(["call", &server, "a.B/C"].iter().chain(described).copied()).await;
        assert_eq!(none.code(), Some(1));
        assert!(
            none.err().contains("there is no service `a.B`; there are notnets.probe.Probe"),
            "{}",
            none.err()
        );
    }
}

#[tokio::test]
async fn files_that_can_not_be_used_are_named() {
    let world = World::new();
    let wrong = world.path("wrong.proto");
    std::fs::write(&wrong, "syntax = \"proto3\";\nmessage {}\n").expect("writable");
    let wrong = wrong.to_str().expect("UTF-8");
    for (arguments, words) in [
        (["--proto", wrong], "wrong.proto:2"),
        (["--proto", "no-such.proto"], "no-such.proto"),
        (["--descriptor-set", "no-such.binpb"], "cannot read no-such.binpb"),
        (["--descriptor-set", wrong], "is not a file of descriptors"),
    ] {
        let ended = world.run(["call", "nobody", ECHO].into_iter().chain(arguments)).await;
        assert_eq!(ended.code(), Some(1), "{}", ended.err());
        assert!(ended.err().contains(words), "{}", ended.err());
    }
}

#[tokio::test]
async fn a_body_can_be_in_a_file() {
    let world = World::new();
    let server = http2_server().await;
    let file = world.path("body.json");
    let at = format!("@{}", file.display());
    std::fs::write(&file, r#"{"text":"from a file"}"#).expect("writable");
    let reply = world.run(["call", &server, ECHO, &at]).await.json();
    assert_eq!(reply["request"]["text"], "from a file");
    std::fs::write(&file, r#"{"data":"AAAA"} {"data":"AA=="}"#).expect("writable");
    let total = world.run(["call", &server, "notnets.probe.Probe/Collect", &at]).await.json();
    assert_eq!(total, json!({"chunks": "2", "bytes": "4"}));
    let gone = world.run(["call", &server, ECHO, "@/no/such"]).await;
    assert_eq!(gone.code(), Some(1));
    assert!(gone.err().contains("cannot read /no/such"), "{}", gone.err());
}

#[tokio::test]
async fn errors_are_objects_on_request() {
    let world = World::new();
    for server in world.servers().await {
        let body = r#"{"code": 7, "message": "no ü"}"#;
        let ended = world.run(["call", &server, "notnets.probe.Probe/Fail", body, "--json"]).await;
        assert_eq!(ended.code(), Some(64 + 7));
        let error = &lines(&ended)[0]["error"];
        assert_eq!((&error["code"], &error["status"]), (&7.into(), &"PERMISSION_DENIED".into()));
        assert_eq!(
            (&error["message"], &error["method"]),
            (&"no ü".into(), &"notnets.probe.Probe/Fail".into())
        );
        assert_eq!(error["details"], json!([]));
        assert!(error["metadata"].is_object());
    }
    let ended = world.run(["call", "nobody", ECHO, "--json"]).await;
    assert_eq!(ended.code(), Some(64 + 14));
    assert_eq!(lines(&ended)[0]["error"]["status"], "UNAVAILABLE");
    let server = http2_server().await;
    let ended = world.run(["call", &server, ECHO, "{", "--json"]).await;
    assert_eq!(ended.code(), Some(1));
    assert!(
        lines(&ended)[0]["error"]["message"].as_str().is_some_and(|message| message.contains("not JSON"))
    );
}

#[tokio::test]
async fn times_are_told_on_request() {
    let world = World::new();
    for server in world.servers().await {
        let split = ["call", &server, "notnets.probe.Probe/Split", r#"{"count":3,"size":2}"#, "--timing"];
        let ended = world.run(split).await;
        assert!(ended.err().starts_with("timing: connected in "), "{}", ended.err());
        assert!(ended.err().ends_with(" with 3 replies\n"), "{}", ended.err());
        let ended = world.run(split.into_iter().chain(["--json", "-v"])).await;
        let lines = lines(&ended);
        assert!(lines[0]["metadata"].is_object(), "{lines:?}");
        let timing = &lines.last().expect("the times")["timing"];
        assert_eq!(timing["replies"], 3);
        let [first, all] = ["first_reply_us", "call_us"].map(|field| timing[field].as_f64().expect("a time"));
        assert!(0.0 < first && first <= all, "{timing}");
    }
}
