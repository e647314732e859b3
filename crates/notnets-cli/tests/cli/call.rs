//! `notnets call`, of servers over HTTP/2 and through shared memory.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tonic::Code;

use crate::support::{
    Reflection, World, dropped, in_time, key, server_described, server_of, started, unbound, unix_server,
};

const PROBE: &str = "notnets.probe.Probe";

/// How `Echo` is described.
const ECHO: &str = "\
notnets.probe.Probe/Echo
  rpc Echo(notnets.probe.EchoRequest) returns (notnets.probe.EchoReply)

message notnets.probe.EchoRequest {
  bytes payload = 1;  // base64 in JSON
  string text = 2;
  int64 number = 3;
  repeated notnets.probe.Colour colours = 4;
  map<string, int32> counts = 5;
}
";

fn method(name: &str) -> String {
    format!("{PROBE}/{name}")
}

#[tokio::test]
async fn lists_services_and_methods() {
    let world = World::new();
    for server in world.servers().await {
        let listed = world.run(["call", &server, "--list"]).await;
        assert_eq!(listed.code(), Some(0), "{}", listed.err());
        for line in [
            PROBE,
            "  rpc Chat(stream notnets.probe.Chunk) returns (stream notnets.probe.Chunk)",
            "grpc.health.v1.Health",
            "  rpc Check(grpc.health.v1.HealthCheckRequest) returns (grpc.health.v1.HealthCheckResponse)",
        ] {
            assert!(listed.out().lines().any(|listed| listed == line), "{line} is not in\n{}", listed.out());
        }
    }
}

#[tokio::test]
async fn describes_a_method_and_its_messages() {
    let world = World::new();
    for server in world.servers().await {
        let described = world.run(["call", &server, &method("Echo"), "--describe"]).await;
        assert_eq!(described.code(), Some(0), "{}", described.err());
        assert!(described.out().starts_with(ECHO), "{}", described.out());
        assert!(described.out().contains("enum notnets.probe.Colour {\n  COLOUR_UNSPECIFIED = 0;\n"));
    }
}

#[tokio::test]
async fn a_unary_call_takes_and_gives_json_and_metadata() {
    let world = World::new();
    for server in world.servers().await {
        let body = r#"{"payload":"AP8=","text":"hé","number":"-9007199254740993","colours":["COLOUR_RED",2],"counts":{"a":1}}"#;
        let arguments = [
            "call",
            &server,
            &method("Echo"),
            body,
            "-H",
            "Tenant: a",
            "-H",
            "tenant:b",
            "-H",
            "id-bin:AAEC",
        ];
        let reply = world.run(arguments).await.json();
        let expected = r#"{"payload":"AP8=","text":"hé","number":"-9007199254740993","colours":["COLOUR_RED","COLOUR_GREEN"],"counts":{"a":1}}"#;
        assert_eq!(reply["request"], serde_json::from_str::<serde_json::Value>(expected).expect("JSON"));
        assert_eq!(reply["metadata"]["tenant"], "a, b");
        assert_eq!(reply["metadata"]["id-bin"], "AAEC");
    }
}

#[tokio::test]
async fn metadata_and_trailers_are_shown_on_request() {
    let world = World::new();
    for server in world.servers().await {
        let initial = "x-grpc-test-echo-initial: first";
        let trailing = "x-grpc-test-echo-trailing-bin: q6ur";
        let ended = world.run(["call", &server, &method("Echo"), "-v", "-H", initial, "-H", trailing]).await;
        assert_eq!(ended.code(), Some(0), "{}", ended.err());
        assert!(ended.err().contains("metadata x-grpc-test-echo-initial: first\n"), "{}", ended.err());
        assert!(ended.err().contains("trailer x-grpc-test-echo-trailing-bin: q6ur\n"), "{}", ended.err());
    }
}

#[tokio::test]
async fn a_stream_of_replies_is_one_line_each() {
    let world = World::new();
    for server in world.servers().await {
        let ended = world.run(["call", &server, &method("Split"), r#"{"count":3,"size":2}"#]).await;
        assert_eq!((ended.code(), ended.out()), (Some(0), "{\"data\":\"Bwc=\"}\n".repeat(3).as_str()));
    }
}

#[tokio::test]
async fn a_stream_of_requests_is_a_sequence_of_values() {
    let world = World::new();
    for server in world.servers().await {
        let total =
            world.run(["call", &server, &method("Collect"), r#"{"data":"AAAA"} {"data":"AA=="}{}"#]).await;
        assert_eq!(total.json(), serde_json::json!({"chunks": "3", "bytes": "4"}));
        let none = world.run(["call", &server, &method("Collect")]).await;
        assert_eq!(none.json(), serde_json::json!({}));
    }
}

#[tokio::test]
async fn standard_input_is_read_while_replies_come() {
    let world = World::new();
    for server in world.servers().await {
        let mut command = world.notnets(["call", &server, &method("Chat"), "-"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut input = child.stdin.take().expect("piped");
        let mut output = BufReader::new(child.stdout.take().expect("piped")).lines();
        for data in ["AAAA", "AQID", "/w=="] {
            let line = format!("{{\"data\":\"{data}\"}}");
            input.write_all(format!("{line}\n").as_bytes()).await.expect("it reads");
            // The next request is not written before the reply to this one is here.
            assert_eq!(in_time(output.next_line()).await.expect("UTF-8"), Some(line));
        }
        drop(input);
        assert_eq!(in_time(output.next_line()).await.expect("UTF-8"), None);
        assert!(in_time(child.wait()).await.expect("it can be waited for").success());
    }
}

#[tokio::test]
async fn a_wrong_message_cancels_the_stream() {
    let world = World::new();
    for server in world.servers().await {
        let mut client = world.client(&server).await;
        let key = key("wrong");
        let header = format!("key:{key}");
        let mut command = world.notnets(["call", &server, &method("Chat"), "-", "-H", &header]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut input = child.stdin.take().expect("piped");
        input.write_all(b"{}\n").await.expect("it reads");
        started(&mut client, &key).await;
        input.write_all(b"{\"dat\":1}\n").await.expect("it reads");
        let output = in_time(child.wait_with_output()).await.expect("it can be waited for");
        assert_eq!(output.status.code(), Some(1));
        let err = String::from_utf8(output.stderr).expect("UTF-8");
        assert!(err.contains("message 2 of the body is not a notnets.probe.Chunk"), "{err}");
        assert!(err.contains("its fields are: data"), "{err}");
        dropped(&mut client, &key).await;
        drop(input);
    }
}

#[tokio::test]
async fn a_status_is_a_sentence_with_its_details() {
    let world = World::new();
    for server in world.servers().await {
        // google.rpc.Status { code: 7, message: "no", details: [Any of Total { chunks: 3 }] }
        let url = "type.googleapis.com/notnets.probe.Total";
        let any = [&[0x0a, url.len() as u8], url.as_bytes(), &[0x12, 2, 0x08, 3]].concat();
        let rich = [&[0x08, 7, 0x12, 2][..], b"no", &[0x1a, any.len() as u8], &any].concat();
        let body = serde_json::json!({"code": 7, "message": "no ü", "details": base64(&rich)}).to_string();
        let ended = world.run(["call", &server, &method("Fail"), &body]).await;
        assert_eq!(ended.code(), Some(64 + 7));
        let expected = format!(
            "notnets: notnets.probe.Probe/Fail at {server} ended with PERMISSION_DENIED (7): no ü\n  \
             detail notnets.probe.Total: {{\"chunks\":\"3\"}}\n"
        );
        assert_eq!(ended.err(), expected);
    }
}

#[tokio::test]
async fn replies_before_a_status_are_printed() {
    let world = World::new();
    for server in world.servers().await {
        let body = r#"{"count":2,"size":1,"fail":{"code":5,"message":"the rest is missing"}}"#;
        let ended = world.run(["call", &server, &method("Split"), body]).await;
        assert_eq!((ended.code(), ended.out()), (Some(64 + 5), "{\"data\":\"Bw==\"}\n".repeat(2).as_str()));
        assert!(ended.err().contains("NOT_FOUND (5): the rest is missing"), "{}", ended.err());
    }
}

#[tokio::test]
async fn a_deadline_ends_the_call_on_both_sides() {
    let world = World::new();
    for server in world.servers().await {
        let mut client = world.client(&server).await;
        for name in ["Wait", "WaitStream"] {
            let key = key(name);
            let body = format!("{{\"key\":\"{key}\"}}");
            let ended = world.run(["call", &server, &method(name), &body, "--timeout", "700ms"]).await;
            assert_eq!(ended.code(), Some(64 + 4), "{}", ended.err());
            assert!(ended.err().contains("DEADLINE_EXCEEDED"), "{}", ended.err());
            dropped(&mut client, &key).await;
        }
    }
}

#[tokio::test]
async fn a_reply_over_the_limit_says_which_option_raises_it() {
    let world = World::new();
    for server in world.servers().await {
        let body = r#"{"count":1,"size":5000000}"#;
        let ended = world.run(["call", &server, &method("Split"), body]).await;
        assert_eq!(ended.code(), Some(64 + 11));
        assert!(ended.err().contains("--max-message-size raises the limit"), "{}", ended.err());
        let raised =
            world.run(["call", &server, &method("Split"), body, "--max-message-size", "6000000"]).await;
        assert_eq!(raised.code(), Some(0), "{}", raised.err());
    }
}

#[tokio::test]
async fn works_over_a_unix_socket() {
    let world = World::new();
    let server = unix_server(&world.path("probe.sock")).await;
    let reply = world.run(["call", &server, &method("Echo"), r#"{"text":"x"}"#]).await.json();
    assert_eq!(reply["request"]["text"], "x");
}

#[tokio::test]
async fn an_old_server_is_asked_in_its_version() {
    let world = World::new();
    let server = server_of(Reflection::V1Alpha).await;
    let reply = world.run(["call", &server, &method("Echo"), r#"{"text":"x"}"#]).await.json();
    assert_eq!(reply["request"]["text"], "x");
}

#[tokio::test]
async fn what_went_wrong_is_said_with_what_to_do() {
    let world = World::new();
    let silent = server_of(Reflection::Neither).await;
    let unbound = unbound().await;
    let (echo, none) = (method("Echo"), method("None"));
    for (arguments, words) in [
        (vec!["call", &silent, &echo], "tonic-reflection"),
        (vec!["call", &unbound, &echo], "is its server running?"),
        (vec!["call", "ftp://shop", &echo], "write notnets:///NAME"),
    ] {
        let ended = world.run(arguments.clone()).await;
        assert_eq!((ended.code() == Some(0), ended.out()), (false, ""), "{arguments:?}");
        assert!(ended.err().contains(words), "{arguments:?}: {}", ended.err());
    }
    for server in world.servers().await {
        for (arguments, words) in [
            (vec!["call", &server, &none], "it has Echo, Fail, Split"),
            (
                vec!["call", &server, "shop.Cart/Add"],
                "there is no service `shop.Cart`; there are grpc.health",
            ),
            (vec!["call", &server, "Echo"], "write package.Service/Method"),
            (vec!["call", &server, &echo, "{"], "message 1 of the body is not JSON"),
            (vec!["call", &server, &echo, "{} {}"], "takes one notnets.probe.EchoRequest"),
            (vec!["call", &server, &echo, r#"{"number":"many"}"#], "is not a notnets.probe.EchoRequest"),
            (vec!["call", &server], "METHOD"),
            (vec!["call", &server, &echo, "-H", "grpc-timeout:1S"], "--timeout"),
            (vec!["call", &server, &echo, "--timeout", "soon"], "250ms"),
        ] {
            let ended = world.run(arguments.clone()).await;
            assert_eq!((ended.code() == Some(0), ended.out()), (false, ""), "{arguments:?}");
            assert!(ended.err().contains(words), "{arguments:?}: {}", ended.err());
        }
    }
}

#[tokio::test]
async fn a_name_needs_no_scheme() {
    let world = World::new();
    let server = world.server().await;
    let name = server.strip_prefix("notnets:///").expect("a URI");
    let reply = world.run(["call", name, &method("Echo"), r#"{"text":"x"}"#]).await.json();
    assert_eq!(reply["request"]["text"], "x");
}

#[tokio::test]
async fn a_name_that_nobody_serves_is_looked_for_in_a_place_that_is_told() {
    let world = World::new();
    let directory = world.names().display().to_string();
    let no_call = async |server, code| {
        let ended = world.run(["call", server, "--list"]).await;
        assert_eq!((ended.code(), ended.out()), (Some(code), ""), "{}", ended.err());
        ended.err().to_owned()
    };
    let unavailable = 64 + Code::Unavailable as i32;
    let alone = no_call("inventory", unavailable).await;
    let expected = format!(
        "nobody serves the name `inventory` in {directory} (from NOTNETS_DIR): there is no such socket, \
         and no other name is served there; start its server, or set NOTNETS_DIR"
    );
    assert!(alone.contains(&expected), "{alone}");

    let server = world.server().await;
    let other = server.strip_prefix("notnets:///").expect("a URI");
    let beside_another = no_call("inventory", unavailable).await;
    assert!(
        beside_another.contains(&format!("`{other}` is the only name that is served there")),
        "{beside_another}"
    );

    let elsewhere = no_call("notnets://pod0/inventory", unavailable).await;
    assert!(elsewhere.contains("start one with `notnets agent"), "{elsewhere}");
    let wrong = no_call("notnets:///no/such", 1).await;
    assert!(wrong.contains("no/such"), "{wrong}");
}

#[tokio::test]
async fn the_health_service_needs_no_reflection() {
    let world = World::new();
    let server = server_of(Reflection::Neither).await;
    let reply = world.run(["call", &server, "grpc.health.v1.Health/Check"]).await.json();
    assert_eq!(reply, serde_json::json!({"status": "SERVING"}));
}

#[tokio::test]
async fn messages_within_messages_are_described_and_shown() {
    let world = World::new();
    for server in world.servers().await {
        // A type of another file, within one that is known by its name only.
        let body = r#"{"any":{"@type":"type.googleapis.com/grpc.health.v1.HealthCheckRequest","service":"shop"},"at":"2026-01-02T03:04:05Z"}"#;
        let reply = world.run(["call", &server, &method("EchoAnything"), body]).await.json();
        assert_eq!(reply, serde_json::from_str::<serde_json::Value>(body).expect("JSON"));
        let unknown = r#"{"any":{"@type":"type.googleapis.com/shop.Unknown"}}"#;
        let ended = world.run(["call", &server, &method("EchoAnything"), unknown]).await;
        assert_eq!(ended.code(), Some(1));
        assert!(ended.err().contains("shop.Unknown"), "{}", ended.err());
    }
}

/// The descriptions of the probe's file, with one more service that uses a file which is not sent.
fn with_a_missing_file() -> prost_types::FileDescriptorSet {
    use prost::Message;
    use prost_types::{MethodDescriptorProto, ServiceDescriptorProto};

    let mut set = prost_types::FileDescriptorSet::decode(crate::support::probe::DESCRIPTORS).expect("valid");
    set.file.retain(|file| !file.name().starts_with("google/"));
    let file = set.file.iter_mut().find(|file| file.name().ends_with("probe.proto")).expect("it is there");
    file.dependency.push("gone.proto".to_owned());
    let of = |name: &str, output: &str| MethodDescriptorProto {
        name: Some(name.to_owned()),
        input_type: Some(".notnets.probe.Chunk".to_owned()),
        output_type: Some(output.to_owned()),
        ..MethodDescriptorProto::default()
    };
    file.service.push(ServiceDescriptorProto {
        name: Some("Half".to_owned()),
        method: vec![of("Known", ".notnets.probe.Chunk"), of("Unknown", ".gone.Type")],
        ..ServiceDescriptorProto::default()
    });
    set
}

#[tokio::test]
async fn what_a_server_does_not_describe_hides_nothing_else() {
    let world = World::new();
    let listed = [PROBE, "notnets.probe.Half", "shop.Secret"];
    let server = server_described(&listed, with_a_missing_file()).await;
    let list = world.run(["call", &server, "--list"]).await;
    assert_eq!(list.code(), Some(0), "{}", list.err());
    for line in [
        "notnets.probe.Half",
        "  rpc Known(notnets.probe.Chunk) returns (notnets.probe.Chunk)",
        "  // Unknown: `gone.proto` is missing",
        "  rpc EchoAnything(notnets.probe.Anything) returns (notnets.probe.Anything)",
        "shop.Secret",
        "  // it is not described",
    ] {
        assert!(list.out().lines().any(|listed| listed == line), "{line} is not in\n{}", list.out());
    }
    let reply = world.run(["call", &server, &method("Echo"), r#"{"text":"x"}"#]).await.json();
    assert_eq!(reply["request"]["text"], "x");
    for (name, words) in [
        ("notnets.probe.Half/Unknown", "are not described: `gone.proto` is missing"),
        ("shop.Secret/Tell", "`shop.Secret` is listed, but not described"),
    ] {
        let ended = world.run(["call", &server, name]).await;
        assert_eq!(ended.code(), Some(1));
        assert!(ended.err().contains(words), "{}", ended.err());
    }
}

#[tokio::test]
async fn services_messages_and_enums_are_described_by_their_names() {
    let world = World::new();
    for server in world.servers().await {
        for (name, words) in [
            (PROBE, "  rpc Echo(notnets.probe.EchoRequest) returns (notnets.probe.EchoReply)\n"),
            ("notnets.probe.EchoRequest", "message notnets.probe.EchoRequest {\n  bytes payload = 1;"),
            ("notnets.probe.Colour", "enum notnets.probe.Colour {\n"),
            ("notnets.probe.Probe.Echo", "notnets.probe.Probe/Echo\n"),
        ] {
            let described = world.run(["call", &server, name, "--describe"]).await;
            assert_eq!(described.code(), Some(0), "{name}: {}", described.err());
            assert!(described.out().contains(words), "{name}: {}", described.out());
        }
        let none = world.run(["call", &server, "notnets.probe.Nothing", "--describe"]).await;
        assert_eq!((none.code(), none.out()), (Some(1), ""));
    }
}

#[tokio::test]
async fn fields_with_their_defaults_are_shown_on_request() {
    let world = World::new();
    let server = world.server().await;
    let reply = world.run(["call", &server, &method("Collect"), "--emit-defaults"]).await.json();
    assert_eq!(reply, serde_json::json!({"chunks": "0", "bytes": "0"}));
}

#[tokio::test]
async fn a_request_over_the_servers_limit_is_not_the_options() {
    let world = World::new();
    for server in world.servers().await {
        let mut command = world.notnets(["call", &server, &method("Echo"), "-"]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut stdin = child.stdin.take().expect("piped");
        let body = format!(r#"{{"text":"{}"}}"#, "x".repeat(5_000_000));
        stdin.write_all(body.as_bytes()).await.expect("it reads");
        drop(stdin);
        let ended = in_time(child.wait_with_output()).await.expect("it ends");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(64 + 11), "{said}");
        assert!(said.contains("the limit is the server's") && !said.contains("--max-message-size"), "{said}");
    }
}

#[tokio::test]
async fn much_metadata_passes() {
    let world = World::new();
    let server = world.roomy_server().await;
    let long = "m".repeat(20_000);
    let header = format!("x-grpc-test-echo-initial: {long}");
    let proxy = world.proxy(crate::support::ANY, &server).await;
    let through_both = world.proxy("notnets:///both", &proxy.address).await;
    for address in [&server, &proxy.address, &through_both.address] {
        let ended = world.run(["call", address, &method("Echo"), "-v", "-H", &header]).await;
        let reply = ended.json();
        assert_eq!(reply["metadata"]["x-grpc-test-echo-initial"], long.as_str(), "{address}");
        assert!(ended.err().contains(&format!("metadata x-grpc-test-echo-initial: {long}")), "{address}");
    }
}

#[tokio::test]
async fn a_port_that_speaks_something_else_is_named() {
    use tokio::io::AsyncReadExt;

    let world = World::new();
    for (answer, words) in [
        (&b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"[..], "it speaks HTTP/1 and not HTTP/2"),
        (&[0x15, 3, 1, 0, 2, 2, 70][..], "it speaks TLS"),
        (b"220 mail.example ESMTP\r\n", "what it speaks is not HTTP/2"),
        (b"", "said nothing: does it want TLS"),
    ] {
        let server = crate::frames::Server::new().await;
        let address = server.address.clone();
        let serving = tokio::spawn(async move {
            loop {
                let mut stream = server.silent().await;
                let mut asked = [0; 24];
                let _ = stream.read_exact(&mut asked).await;
                let _ = stream.write_all(answer).await;
            }
        });
        let ended = world.run(["call", &address, "--list"]).await;
        assert_eq!(ended.code(), Some(64 + 14));
        assert!(ended.err().contains(words), "{}", ended.err());
        serving.abort();
    }
}

fn base64(bytes: &[u8]) -> String {
    let value = tonic::metadata::BinaryMetadataValue::from_bytes(bytes);
    String::from_utf8(value.as_encoded_bytes().to_vec()).expect("ASCII")
}
