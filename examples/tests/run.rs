//! Every example runs, and prints what it shows.

use std::process::Command;

/// Runs an example and compares what it prints, line by line.
fn prints(program: &str, expected: &[&str]) {
    assert_eq!(printed(program), expected);
}

fn printed(program: &str) -> Vec<String> {
    printed_by(&mut Command::new(program))
}

fn printed_by(program: &mut Command) -> Vec<String> {
    let output = program.output().expect("runs");
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program:?} failed: {errors}");
    assert_eq!(errors, "", "{text}");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn quickstart() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_quickstart"));
    assert_eq!(printed_by(command.env("NOTNETS_DIR", directory.path())), ["Hello memory!"]);
}

#[test]
fn rpc() {
    let printed = ["HELLO", "a", "b", "c", "UNIMPLEMENTED: there is no method /shout.Shout/Softer"];
    prints(env!("CARGO_BIN_EXE_rpc"), &printed);
}

#[test]
fn greeter() {
    prints(env!("CARGO_BIN_EXE_greeter"), &["Hello memory!"]);
}

#[test]
fn authorisation() {
    prints(
        env!("CARGO_BIN_EXE_authorisation"),
        &[
            "Hello everyone!",
            "Hello our and group!",
            "PermissionDenied: you may not call /greeter.Greeter/Repeat",
            "PermissionDenied: you may not call /greeter.Greeter/Chat",
        ],
    );
}

#[test]
fn blocking() {
    prints(
        env!("CARGO_BIN_EXE_blocking"),
        &["Hello Ada!", "Hello Grace!", "UNIMPLEMENTED: there is no method /greeter.Greeter/SayNothing"],
    );
}

#[test]
fn streaming() {
    prints(
        env!("CARGO_BIN_EXE_streaming"),
        &[
            "server streaming: Hello Ada!",
            "server streaming: Hello Ada!",
            "server streaming: Hello Ada!",
            "client streaming: Hello Ada and Grace and Barbara!",
            "both ways: Hello Edsger!",
            "both ways: Hello Tony!",
            "both ways: and then None",
        ],
    );
}

#[test]
fn interceptor_deadline() {
    let printed = printed(env!("CARGO_BIN_EXE_interceptor_deadline"));
    // Either side's clock may be the first to say so, each in its own words (docs/operating.md).
    let late = ["the call's deadline has passed", "deadline exceeded"].map(|told| {
        [
            "Unauthenticated: the password, please".to_owned(),
            "bread by a baker who knows the deadline: true".to_owned(),
            format!("DeadlineExceeded: {told}"),
        ]
    });
    assert!(late.iter().any(|expected| printed == expected), "{printed:?}");
}

#[test]
fn health_reflection() {
    prints(
        env!("CARGO_BIN_EXE_health_reflection"),
        &[
            "greeter.Greeter is SERVING",
            "it serves greeter.Baker, greeter.Greeter, grpc.reflection.v1.ServerReflection",
        ],
    );
}

#[test]
fn graceful_restart() {
    prints(
        env!("CARGO_BIN_EXE_graceful_restart"),
        &[
            "a long call is on its way to the old server",
            "the new server has the name",
            "the same client, a new call: bread by the new baker",
            "the long call: bread by the old baker",
            "the old server has ended",
        ],
    );
}

#[test]
fn from_tonic() {
    prints(
        env!("CARGO_BIN_EXE_from_tonic"),
        &[
            "before: Hello there!",
            "after: Hello there!",
            "- use tonic::transport::server::TcpIncoming;",
            "- use tonic::transport::{Endpoint, Server};",
            "- let socket = TcpIncoming::bind(\"127.0.0.1:0\".parse()?)?;",
            "- let address = format!(\"http://{}\", socket.local_addr()?);",
            "- .serve_with_incoming(socket);",
            "+ use notnets::{Endpoint, Server};",
            "+ let address = \"notnets:///greeter\";",
            "+ .serve(address);",
        ],
    );
}

#[test]
fn typed_in_place() {
    let seen = "Rubin at 1764000000: pixel 524288 of 1048576 is 7; in place: true";
    let garbage = "a mebibyte of 0xff is refused: true";
    prints(env!("CARGO_BIN_EXE_typed_in_place"), &[seen, seen, garbage]);
}

#[test]
fn kv_cache() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kv_cache"));
    // Less room than all blocks take, so that some are evicted.
    command.args(["--block", "64", "--prompts", "5", "--documents", "4", "--capacity", "3"]);
    let printed = printed_by(&mut command);
    assert_eq!(printed.len(), 1 + 3 * 4, "{printed:#?}");
    // All that is got was checked by who got it.
    for (transport, in_place) in [("hardware", true), ("software", true), ("tcp", false)] {
        for work in ["put", "get"] {
            let row = printed.iter().map(|line| line.split_whitespace().collect::<Vec<_>>());
            let mut row = row.filter(|row| row.starts_with(&[transport, work]));
            let row = row.next().unwrap_or_else(|| panic!("{printed:#?}"));
            let [mib, copied] = [row[6], row[7]].map(|number| number.parse::<u64>().unwrap());
            assert!(mib > 0 && if in_place { copied < mib } else { copied == mib }, "{printed:#?}");
        }
    }
}

#[test]
fn any_tower_service() {
    prints(
        env!("CARGO_BIN_EXE_any_tower_service"),
        &[
            "PUT 200 OK, text/plain: 100000 bytes for /books/sicp",
            "POST 405 Method Not Allowed, text/plain: 3 bytes for /books/sicp",
        ],
    );
}
