//! `notnets ls`: who serves what in a rendezvous directory.

use serde_json::{Value, json};

use crate::support::probe::pb::EchoRequest;
use crate::support::{World, http2_server, in_time, keyed, started};

async fn listed(world: &World) -> Vec<Value> {
    match world.run(["ls", "--json"]).await.json()["names"].take() {
        Value::Array(rows) => rows,
        other => panic!("{other} is no array"),
    }
}

/// Waits until the only row has these links: a server hears of a client's end by and by.
async fn with_links(world: &World, links: u64) -> Value {
    in_time(async {
        loop {
            let row = listed(world).await.pop().expect("a row");
            if row["links"] == links {
                return row;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_name_is_listed_with_its_server_and_what_it_does() {
    let world = World::new();
    let before = seconds_now();
    let proxy = world.proxy("notnets:///inventory", &http2_server().await).await;
    let new = listed(&world).await;
    let uid = rustix::process::getuid().as_raw();
    let since = new[0]["since"].as_u64().expect("it says");
    let expected = json!([{
        "name": "inventory", "replica": null, "pid": proxy.pid(), "uid": uid, "since": since, "links": 0,
        "calls": 0, "refused": {}, "payloads": {}, "segments": { "offered": 0, "mapped": 0 },
    }]);
    assert_eq!(Value::Array(new), expected);
    assert!((before..=seconds_now()).contains(&since), "{since}");

    let mut clients = [world.client(&proxy.address).await, world.client(&proxy.address).await];
    for client in &mut clients {
        for _ in 0..5 {
            in_time(client.echo(EchoRequest::default())).await.expect("a reply");
        }
    }
    let row = with_links(&world, 2).await;
    assert_eq!((&row["calls"], &row["since"]), (&json!(10), &json!(since)));

    // A call counts from its beginning.
    let [mut first, mut second] = clients;
    let open = tokio::spawn(async move { first.wait(keyed("open", Default::default())).await });
    started(&mut second, "").await;
    assert_eq!(listed(&world).await[0]["calls"], 12);
    open.abort();
    drop((in_time(open).await, second));
    assert_eq!(with_links(&world, 0).await["calls"], 12);

    // Looking is no link.
    assert_eq!(listed(&world).await[0]["links"], 0);
}

/// Large payloads are counted by how they went and came, with the reason for those that were copied.
#[tokio::test]
async fn large_payloads_are_listed() {
    let world = World::new();
    let server = notnets::Server::builder().directory(world.names());
    let echo = notnets::rpc::unary(|_request, message: notnets::rpc::Payload| async {
        Ok(notnets::rpc::Reply::new(message))
    });
    let bound = server.add_rpc_service("pictures.Pictures", echo).bind("notnets:///pictures").await;
    tokio::spawn(bound.expect("binds").serve());
    let channel = notnets::Endpoint::from_static("notnets:///pictures").directory(world.names());
    let channel = channel.connect().await.expect("connects");
    let method = notnets::rpc::Method::from_static("/pictures.Pictures/Echo");
    let shared = notnets::SharedBytes::copy_from(&[7; 1 << 20]).expect("memory");
    for message in [bytes::Bytes::from(vec![7; 100]), vec![7; 1 << 20].into(), shared.into()] {
        let request = notnets::rpc::Request::new(method.clone());
        let reply = in_time(channel.unary_call(request, message.clone())).await.expect("a reply");
        assert!(reply.message.into_bytes() == message);
    }
    let row = with_links(&world, 1).await;
    let (payloads, segments) = (&row["payloads"], &row["segments"]);
    let seen: Vec<_> = payloads.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(seen, ["received_copied_untrusted", "received_shared", "sent_copied_private", "sent_shared"]);
    assert_eq!(payloads["received_shared"], json!({ "frames": 1, "bytes": 1 << 20 }));
    assert_eq!(payloads["sent_shared"], json!({ "frames": 1, "bytes": 1 << 20 }));
    let copied = |kind: &str| payloads[kind]["bytes"].as_u64().expect("a number");
    // What is left at the end of a message may be too little to be counted.
    let large = (1 << 19)..=(1 << 20) + 5;
    assert!(
        large.contains(&copied("received_copied_untrusted"))
            && large.contains(&copied("sent_copied_private"))
    );
    assert!(segments["mapped"].as_u64() > Some(0) && segments["offered"].as_u64() > Some(0), "{segments}");
    let table = world.run(["ls"]).await;
    assert!(table.out().contains("sent shared       1  1048576"), "{}", table.out());
    drop(channel);
    assert_eq!(with_links(&world, 0).await["payloads"], *payloads);
    in_time(async { while listed(&world).await[0]["segments"]["mapped"] != 0 {} }).await;
}

fn seconds_now() -> u64 {
    std::time::UNIX_EPOCH.elapsed().expect("a clock").as_secs()
}

#[tokio::test]
async fn names_are_a_table_in_alphabetical_order() {
    let world = World::new();
    let server = http2_server().await;
    let cart = world.proxy("notnets:///cart", &server).await;
    let fraud = world.proxy("notnets:///fraud-check", &server).await;
    let ended = world.run(["ls"]).await;
    let place = format!("names in {} (from NOTNETS_DIR)\n\n", world.names().display());
    let table = ended.out().strip_prefix(&place).expect("it says where they are");
    let rows: Vec<Vec<&str>> = table.lines().map(|row| row.split_whitespace().collect()).collect();
    let uid = rustix::process::getuid().as_raw().to_string();
    let [cart_pid, fraud_pid] = [&cart, &fraud].map(|proxy| proxy.pid().to_string());
    assert_eq!(rows[0], ["NAME", "PID", "UID", "SINCE", "LINKS", "CALLS"]);
    let mut without_age = rows.clone();
    for row in &mut without_age {
        assert!(row[0] == "NAME" || row.remove(3).ends_with('s'), "{}", ended.out());
    }
    assert_eq!(without_age[1], ["cart", &cart_pid, &uid, "0", "0"]);
    assert_eq!(without_age[2], ["fraud-check", &fraud_pid, &uid, "0", "0"]);
    assert_eq!((rows.len(), ended.code(), ended.err()), (3, Some(0), ""));
    let filtered = world.run(["ls", "--json", "--filter", "raud"]).await.json();
    assert_eq!((&filtered["names"][0]["name"], &filtered["names"][1]), (&json!("fraud-check"), &Value::Null));
    assert_eq!(filtered["directory_from"], "NOTNETS_DIR");
    // Each cell has a line of its own where a row does not fit.
    let narrow = in_time(world.notnets(["ls"]).env("COLUMNS", "30").output()).await.expect("it starts");
    let narrow = String::from_utf8(narrow.stdout).expect("UTF-8");
    assert!(narrow.contains("\nNAME   fraud-check\nPID    "), "{narrow}");
}

#[tokio::test]
async fn each_replica_of_a_name_is_listed() {
    let world = World::new();
    let server = notnets::Server::builder().directory(world.names()).replica(true);
    let (_reporter, health) = tonic_health::server::health_reporter();
    let server = server.add_service(health);
    for _ in 0..2 {
        let bound = server.clone().bind("notnets:///inventory").await.expect("binds");
        tokio::spawn(bound.serve());
    }
    let listed = listed(&world).await;
    let replicas: Vec<_> = listed.iter().map(|row| row["replica"].as_str().expect("it is one")).collect();
    assert!(listed.iter().all(|row| row["name"] == "inventory" && row["calls"] == 0), "{listed:?}");
    let table = world.run(["ls"]).await;
    let rows: Vec<_> = table.out().lines().skip(3).map(|row| row.split(' ').next().unwrap_or("")).collect();
    let [first, second] = replicas[..] else { panic!("{listed:?}") };
    assert_eq!(rows, [format!("inventory@{first}"), format!("inventory@{second}")]);
}

#[tokio::test]
async fn a_server_that_has_ended_is_not_listed() {
    let world = World::new();
    let server = http2_server().await;
    let killed = world.proxy("notnets:///killed", &server).await;
    killed.signal(rustix::process::Signal::KILL);
    killed.ended().await;
    assert!(world.names().join("killed").exists(), "its socket is still there");
    assert_eq!(listed(&world).await, Vec::<Value>::new());
    let table = world.run(["ls"]).await;
    assert_eq!((table.code(), table.out().lines().count()), (Some(0), 3), "{}", table.err());
}

/// Nothing of it need run for its counters to be read.
#[tokio::test]
async fn a_server_that_hangs_is_listed_with_its_counters() {
    let world = World::new();
    let proxy = world.proxy("notnets:///stopped", &http2_server().await).await;
    let mut client = world.client(&proxy.address).await;
    in_time(client.echo(EchoRequest::default())).await.expect("a reply");
    proxy.signal(rustix::process::Signal::STOP);
    let ended = world.run(["ls", "--json"]).await;
    let row = &ended.json()["names"][0];
    assert_eq!((&row["name"], &row["pid"]), (&json!("stopped"), &json!(proxy.pid())));
    assert_eq!((&row["calls"], &row["links"]), (&json!(1), &json!(1)));
    let why = "stopped: it did not answer within 1s; its counters were read in its process";
    assert!(ended.err().contains(why), "{}", ended.err());
}

#[tokio::test]
async fn refused_connections_are_counted() {
    let world = World::new();
    let server = notnets::Server::builder().directory(world.names()).max_connections(0);
    let echo = notnets::rpc::unary(|_request, message: notnets::rpc::Payload| async {
        Ok(notnets::rpc::Reply::new(message))
    });
    let bound = server.add_rpc_service("closed.Closed", echo).bind("notnets:///closed").await;
    tokio::spawn(bound.expect("binds").serve());
    let channel = notnets::Endpoint::from_static("notnets:///closed").directory(world.names());
    in_time(channel.connect()).await.expect_err("it is refused");
    let ended = world.run(["ls", "--json"]).await;
    let row = &ended.json()["names"][0];
    assert_eq!((&row["refused"], &row["links"]), (&json!({ "too_many_links": 1 }), &json!(0)));
    let table = world.run(["ls"]).await;
    assert!(table.out().contains("closed  too many links      1"), "{}", table.out());
}

#[tokio::test]
async fn where_nothing_is_served_there_is_nothing_to_list() {
    let world = World::new();
    // A default directory need not be there before the first server.
    for (variable, directory) in [("NOTNETS_DIR", world.names()), ("XDG_RUNTIME_DIR", world.path("no/such"))]
    {
        let mut command = world.notnets(["ls", "--json"]);
        command.env_remove("NOTNETS_DIR").env(variable, &directory);
        let output = in_time(command.output()).await.expect("it starts");
        assert!(output.status.success(), "{}", directory.display());
        let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!((&said["names"], &said["pods"]), (&json!([]), &json!([])));
        let looked_in = said["directory"].as_str().expect("it is named");
        assert!(looked_in.starts_with(directory.to_str().expect("UTF-8")), "{looked_in}");
        let told = String::from_utf8(output.stderr).expect("UTF-8");
        assert!(told.contains(looked_in), "{told}");
    }
    let mut command = world.notnets(["ls"]);
    std::fs::write(world.path("file"), "").expect("writable");
    let output = in_time(command.env("NOTNETS_DIR", world.path("file")).output()).await.expect("it starts");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(said.contains("is not a directory") && said.contains("set NOTNETS_DIR"), "{said}");
}

/// What `notnets ls --json` says of the only pod, once that is so.
async fn pod_once(world: &World, directory: &std::path::Path, is_so: impl Fn(&Value) -> bool) -> Value {
    in_time(async {
        loop {
            let output = world.notnets(["ls", "--json"]).env("NOTNETS_DIR", directory).output().await;
            let listed: Value = serde_json::from_slice(&output.expect("it starts").stdout).expect("JSON");
            let pod = &listed["pods"][0];
            if is_so(pod) {
                return pod.clone();
            }
        }
    })
    .await
}

#[tokio::test]
async fn the_hosts_of_a_pod_are_listed_with_their_processes_and_names() {
    let world = World::new();
    let region = world.path("region").display().to_string();
    let format = ["region", "format", "--hosts", "3", "--create", "8M", "--heartbeat", "20ms", &region];
    assert_eq!(world.run(format).await.code(), Some(0));
    let directory = |host: &str| world.path(host);
    let agent = |host: &'static str| {
        let mut command = world.notnets(["agent", "--region", &region, "--host-id", host]);
        command.env("NOTNETS_DIR", directory(host)).spawn().expect("it starts")
    };
    let [mut first, mut second] = ["0", "2"].map(agent);
    let is_running = |pod: &Value, host: usize| pod["hosts"][host]["state"] == "running";
    let both = |pod: &Value| is_running(pod, 0) && is_running(pod, 1);
    let pod = pod_once(&world, &directory("0"), both).await;
    assert_eq!((&pod["pod"], &pod["host"]), (&json!("pod0"), &json!(0)));
    assert_eq!((&pod["hosts"][1]["host"], &pod["hosts"][1]["processes"]), (&json!(2), &json!([])));
    let incarnation = pod["hosts"][1]["incarnation"].clone();
    assert_eq!(incarnation.as_str().expect("it says").len(), 32);

    // What is served on one host is seen from the other, with the process that does it.
    let http2 = http2_server().await;
    let mut command = world.notnets(["proxy", "--listen", "notnets://pod0/inventory", "--to", &http2]);
    let mut server = command.env("NOTNETS_DIR", directory("2")).spawn().expect("it starts");
    let served = |pod: &Value| {
        pod["hosts"][1]["names"]
            == json!([{ "name": "inventory", "process": 0, "links": null, "calls": null }])
    };
    let pod = pod_once(&world, &directory("0"), served).await;
    let process = &pod["hosts"][1]["processes"][0];
    assert_eq!((&process["pid"], &process["process"]), (&json!(server.id()), &json!(0)));
    // What the processes of the own host have counted is seen, too.
    let own = world.notnets(["ls", "--json"]).env("NOTNETS_DIR", directory("2")).output().await;
    let own: Value = serde_json::from_slice(&own.expect("it starts").stdout).expect("JSON");
    let name = &own["pods"][0]["hosts"][1]["names"][0];
    assert_eq!((&name["links"], &name["calls"]), (&json!(0), &json!(0)), "{own}");
    let output = world.notnets(["ls"]).env("NOTNETS_DIR", directory("0")).output().await.expect("it starts");
    let table = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(table.contains("POD pod0  (this is host 0)") && table.contains("inventory"), "{table}");

    // A process ends, a host leaves and comes back as another.
    server.kill().await.expect("it is ours");
    let gone =
        |pod: &Value| pod["hosts"][1]["processes"] == json!([]) && pod["hosts"][1]["names"] == json!([]);
    pod_once(&world, &directory("0"), gone).await;
    let leave = world
        .notnets(["agent", "--leave", "--region", &region, "--host-id", "2"])
        .env("NOTNETS_DIR", directory("2"))
        .output();
    assert!(in_time(leave).await.expect("it starts").status.success());
    assert!(in_time(second.wait()).await.expect("it ends").success());
    pod_once(&world, &directory("0"), |pod| pod["hosts"][1]["state"] == "left").await;
    second = agent("2");
    let pod = pod_once(&world, &directory("0"), both).await;
    assert_ne!(pod["hosts"][1]["incarnation"], incarnation, "another life");
    for agent in [&mut first, &mut second] {
        agent.kill().await.expect("it is ours");
    }
    // Its socket is there, and nobody behind it.
    let left = world.notnets(["ls"]).env("NOTNETS_DIR", directory("0")).output().await.expect("it starts");
    let said = String::from_utf8(left.stderr).expect("UTF-8");
    assert!(left.status.success() && said.contains("the pod pod0 can't be listed: no agent"), "{said}");
}

#[tokio::test]
async fn where_nothing_is_found_is_said() {
    let world = World::new();
    let empty = world.run(["ls"]).await;
    assert_eq!(empty.code(), Some(0));
    let place = format!("{} (from NOTNETS_DIR)", world.names().display());
    assert!(empty.err().contains(&format!("nothing is served in {place}")), "{}", empty.err());
    std::fs::remove_dir(world.names()).expect("it is empty");
    let missing = world.run(["ls"]).await;
    assert_eq!((missing.code(), missing.out()), (Some(1), ""));
    assert!(missing.err().contains(&format!("there is no directory {place}")), "{}", missing.err());
}

#[tokio::test]
async fn a_list_that_is_watched_changes() {
    use tokio::io::{AsyncBufReadExt, BufReader};

    let world = World::new();
    let mut command = world.notnets(["ls", "--watch", "--interval", "10ms", "--json"]);
    let mut child = command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("it starts");
    let mut out = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut look = async || {
        let line = in_time(out.next_line()).await.expect("UTF-8").expect("a line");
        serde_json::from_str::<Value>(&line).expect("JSON")["names"].clone()
    };
    assert_eq!(look().await, json!([]));
    let _server = world.server().await;
    while look().await == json!([]) {}
}
