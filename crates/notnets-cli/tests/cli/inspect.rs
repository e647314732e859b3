//! `notnets inspect`: what a process has counted, and what is remarkable about it.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::probe::pb::EchoRequest;
use crate::support::{World, hanging, http2_server, in_time, keyed, unbound};

/// What is said of a process, again and again until it is as is wanted: numbers follow what happens by and
/// by.
async fn inspected(world: &World, target: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let arguments = ["inspect", target, "--json", "--stuck-after", "0.05"];
    in_time(async {
        loop {
            let said = world.run(arguments).await.json();
            if wanted(&said) {
                return said;
            }
        }
    })
    .await
}

fn says(said: &Value, finding: &str) -> bool {
    let findings = said["findings"].as_array().expect("a list");
    findings.iter().any(|said| said.as_str().expect("sentences").contains(finding))
}

#[tokio::test]
async fn calls_and_what_they_wait_for_are_told() {
    let world = World::new();
    let upstream = http2_server().await;
    let proxy = world.proxy("notnets:///inventory", &upstream).await;
    let mut client = world.client(&proxy.address).await;
    for _ in 0..3 {
        in_time(client.echo(EchoRequest::default())).await.expect("a reply");
    }
    let call = hanging(&mut client).await;

    let finding = "the handler of /notnets.probe.Probe/Wait has 1 call open, the oldest for ";
    let said = inspected(&world, "inventory", |said| says(said, finding)).await;
    assert_eq!((&said["pid"], &said["stopped"]), (&json!(proxy.pid()), &json!(false)));
    let server = &said["servers"][0];
    assert_eq!((&server["names"], &server["links_open"]), (&json!("notnets:///inventory"), &json!(1)));
    let methods = server["methods"].as_array().expect("a list");
    let echo =
        methods.iter().find(|method| method["method"] == "/notnets.probe.Probe/Echo").expect("it was called");
    assert_eq!(
        (&echo["started"], &echo["open"], &echo["ended"]),
        (&json!(3), &json!(0), &json!({ "OK": 3 }))
    );
    assert!(
        echo["p50_us"].as_f64() <= echo["max_us"].as_f64() && echo["p50_us"].as_f64() > Some(0.0),
        "{echo}"
    );
    for kind in ["own_segments", "peer_segments", "counters"] {
        assert!(said["memory"][kind].as_u64() > Some(0), "{}", said["memory"]);
    }
    let link = &server["links"][0];
    assert_eq!((&link["transport"], &link["peer_pid"]), (&json!("memory"), &json!(std::process::id())));
    let open = &link["open"][0];
    assert_eq!(
        (&open["method"], &open["waits_for"]),
        (&json!("/notnets.probe.Probe/Wait"), &json!("application"))
    );
    assert!(open["age_seconds"].as_f64() >= Some(0.05) && open["left_seconds"].is_null(), "{open}");
    // At the other end there is this process.
    let client = world.run(["inspect", &std::process::id().to_string(), "--json"]).await.json();
    let links = client["clients"]["links"].as_array().expect("it has links");
    let link = links.iter().find(|link| link["peer_pid"] == proxy.pid()).expect("it is among them");
    assert_eq!((&link["target"], &link["transport"]), (&json!("notnets:///inventory"), &json!("memory")));
    let open = link["open"].as_array().expect("a list");
    assert!(
        open.iter().any(|open| open["waits_for"] == "peer" && open["method"] == "/notnets.probe.Probe/Wait")
    );

    // What the proxy calls is counted as well, though no link leads there.
    let calls = world.run(["inspect", &proxy.pid().to_string(), "--json"]).await.json();
    let link = &calls["clients"]["links"][0];
    assert_eq!(link["transport"], "http2");
    assert!(upstream.ends_with(link["target"].as_str().expect("an address")), "{link}");
    assert_eq!(link["open"][0]["method"], "/notnets.probe.Probe/Wait");
    let methods = calls["clients"]["methods"].as_array().expect("a list");
    let echo = methods.iter().find(|method| method["method"] == "/notnets.probe.Probe/Echo");
    let echo = echo.expect("it was called");
    assert_eq!((&echo["started"], &echo["ended"]), (&json!(3), &json!({ "OK": 3 })));
    assert!(echo["p50_us"].as_f64() > Some(0.0), "{echo}");

    let words = world.run(["inspect", &proxy.pid().to_string(), "--stuck-after", "0.05"]).await;
    for part in [
        finding,
        "serves notnets:///inventory",
        "METHOD ",
        "/notnets.probe.Probe/Echo",
        "OPEN CALL",
        " by memory",
        "shared memory: ",
    ] {
        assert!(words.out().contains(part), "no {part:?} in {}", words.out());
    }
    let all = world.run(["inspect"]).await;
    for pid in [proxy.pid(), std::process::id()] {
        assert!(all.out().contains(&format!("process {pid} (")), "{}", all.out());
    }
    // Nothing of a process need run to be looked at.
    proxy.signal(Signal::STOP);
    let said = inspected(&world, &proxy.pid().to_string(), |said| said["stopped"] == true).await;
    assert!(says(&said, "the process is stopped"), "{said}");
    assert!(says(&said, finding), "{said}");
    call.abort();
}

#[tokio::test]
async fn polling_that_finds_nothing_is_counted() {
    let world = World::new();
    let proxy = world.proxy("notnets:///seldom", &http2_server().await).await;
    let mut client = world.client(&proxy.address).await;
    in_time(async {
        loop {
            client.echo(EchoRequest::default()).await.expect("a reply");
            // Meanwhile nothing comes. Where others want the processor, the link may sleep at once.
            let said = world.run(["inspect", "seldom", "--json"]).await.json();
            let counts = &said["servers"][0]["counts"];
            if counts["polls_in_vain"].as_u64() > Some(0) {
                return assert!(counts["parks"].as_u64() > Some(0), "{counts}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn what_fails_is_told() {
    let world = World::new();
    let proxy = world.proxy("notnets:///failing", &unbound().await).await;
    let mut client = world.client(&proxy.address).await;
    for _ in 0..100 {
        in_time(client.echo(keyed("x", EchoRequest::default()))).await.expect_err("there is no server");
    }
    let finding = "of /notnets.probe.Probe/Echo, 100 of 100 calls failed, most with UNAVAILABLE";
    let said = inspected(&world, "failing", |said| says(said, finding)).await;
    assert_eq!(said["servers"][0]["methods"][0]["ended"], json!({ "UNAVAILABLE": 100 }));
}

#[tokio::test]
async fn what_cannot_be_inspected_is_told() {
    let world = World::new();
    for (target, expected) in [
        ("nothing", "nothing is served as nothing in "),
        ("no/name", "\"no/name\" is no name: "),
        ("4000000000", "process 4000000000 is not there"),
    ] {
        let ended = world.run(["inspect", target]).await;
        assert_eq!(ended.code(), Some(1), "{target}");
        assert!(ended.err().contains(expected), "{}", ended.err());
    }
    let ended = world.run(["inspect", "nothing", "--stuck-after=-1"]).await;
    assert!(ended.code() == Some(1) && ended.err().contains("--stuck-after -1: "), "{}", ended.err());
}
