//! `notnets agent`: the hosts of a pod as processes.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use notnets_memory::region::Region;
use notnets_pod::survey::survey;

use crate::support::probe::pb::EchoRequest;
use crate::support::probe::pb::probe_client::ProbeClient;
use crate::support::{http2_server, in_time};

const LIMIT: Duration = Duration::from_secs(20);

/// An agent, killed when it is dropped.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn notnets(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_notnets"));
    command.env("NOTNETS_DIR", directory);
    command
}

fn format(region: &Path) {
    let mut command = notnets(region);
    command.args(["region", "format", "--hosts", "3", "--create", "8M", "--heartbeat", "10ms"]);
    let output = command.args(["--lease", "400ms"]).arg(region).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn agent(directory: &Path, region: &Path, host: &str) -> Agent {
    let mut command = notnets(&directory.join(host));
    command.args(["agent", "--host-id", host, "--region"]).arg(region);
    Agent(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

/// Takes a host out of the pod.
fn leave(directory: &Path, region: &Path, host: &str) -> Output {
    let mut command = notnets(directory);
    command.args(["agent", "--leave", "--host-id", host, "--region"]).arg(region).output().unwrap()
}

fn terminate(agent: &Agent) {
    let pid = rustix::process::Pid::from_child(&agent.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
}

/// What `notnets region show` says of each host, once it says that.
fn until(region: &Path, expected: &[&str]) {
    let end = Instant::now() + LIMIT;
    loop {
        let output = notnets(region).args(["region", "show"]).arg(region).output().unwrap();
        let shown = String::from_utf8(output.stdout).unwrap();
        let (_, hosts) = shown.split_once("HOST").expect("a table");
        let rows = hosts.lines().skip(1).take_while(|line| !line.is_empty());
        let states: Vec<_> = rows.filter_map(|line| line.split_whitespace().nth(1)).collect();
        if states == expected {
            return;
        }
        assert!(Instant::now() < end, "{shown}");
    }
}

#[test]
fn hosts_come_and_go() {
    let directory = tempfile::tempdir().unwrap();
    let region = directory.path().join("region");
    format(&region);
    let first = agent(directory.path(), &region, "0");
    let mut second = agent(directory.path(), &region, "2");
    until(&region, &["running", "never", "running"]);
    // A second one for the same host is refused, and harms nobody.
    let output = notnets(&directory.path().join("other"))
        .args(["agent", "--host-id", "0", "--region"])
        .arg(&region)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("host 0 has an agent already"), "{said}");
    let output = notnets(&directory.path().join("other"))
        .args(["agent", "--host-id", "3", "--region"])
        .arg(&region)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("there is no host 3, the last is 2"), "{said}");
    // One is killed, the other leaves in order.
    drop(first);
    let output = leave(&directory.path().join("2"), &region, "0");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("is that of host 2, not of 0"), "{said}");
    let output = leave(&directory.path().join("2"), &region, "2");
    assert!(output.status.success(), "{output:?}");
    assert!(second.0.wait().unwrap().success());
    until(&region, &["silent", "never", "left"]);
    assert!(!directory.path().join("2/.pod-pod0").exists(), "it takes its socket along");
    // It may have been killed while it wrote a record: that is said, and no fault.
    let layout = *Region::open(&region).unwrap().layout();
    tear(&region, layout.extent_entry(0));
    let said = fsck(&region);
    assert!(said.starts_with("host 0: the entry of extent 0 is half written"), "{said}");
    // The killed one finds its place again, and mends it. Whose the extent was it can't know, so it keeps it
    // from the host that has left, if it has met that.
    let _first = agent(directory.path(), &region, "0");
    until(&region, &["running", "never", "left"]);
    let said = fsck(&region);
    assert!(said.ends_with("is in order\n") && !said.contains("half written"), "{said}");
}

/// A server on host 1, a client on host 0, and what has that make calls.
async fn calls_between(directory: &Path) -> ([Agent; 2], ProbeClient<tonic::transport::Channel>) {
    let mut command = notnets(&directory.join("1"));
    command.args(["proxy", "--listen", "notnets://pod0/probe", "--to", &http2_server().await]);
    let server = Agent(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    // The link is another process's: a test beside this one counts how often the watcher of this one sleeps.
    let mut command = notnets(&directory.join("0"));
    command.args(["proxy", "--listen", "127.0.0.1:0", "--to", "notnets://pod0/probe"]);
    let mut bridge = Agent(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let mut ready = String::new();
    BufReader::new(bridge.0.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let address = format!("http://{}", ready.trim().strip_prefix("READY ").unwrap());
    let endpoint = tonic::transport::Endpoint::new(address).unwrap();
    let mut client = ProbeClient::new(endpoint.connect_lazy());
    in_time(async {
        while client.echo(EchoRequest::default()).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    ([server, bridge], client)
}

/// Calls between processes show that it is the agent that does not run, and not its host.
#[tokio::test]
async fn a_starved_agent_is_told_from_a_dead_host() {
    let directory = tempfile::tempdir().unwrap();
    let region = directory.path().join("region");
    format(&region);
    let mut command = notnets(&directory.path().join("0"));
    command.args(["agent", "--host-id", "0", "--region"]).arg(&region);
    let mut watching = Agent(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let starved = agent(directory.path(), &region, "1");
    until(&region, &["running", "running", "never"]);
    let (processes, mut client) = calls_between(directory.path()).await;
    let calling = tokio::spawn(async move { while client.echo(EchoRequest::default()).await.is_ok() {} });
    let pid = rustix::process::Pid::from_child(&starved.0);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let log = BufReader::new(watching.0.stderr.take().unwrap());
    let line = tokio::task::spawn_blocking(move || {
        log.lines().map_while(Result::ok).find(|line| line.contains("a host is marked dead"))
    });
    let line = in_time(line).await.unwrap().expect("the other agent goes on");
    assert!(line.contains("its agent has not run, though its processes have"), "{line}");
    let shown = notnets(&region).args(["region", "show"]).arg(&region).output().unwrap().stdout;
    let shown = String::from_utf8(shown).unwrap();
    let finding =
        "! host 1: marked dead by host 0, as its agent does not run though its processes do: give the";
    assert!(shown.contains(finding), "{shown}");
    let server = processes[0].0.id().to_string();
    let said = notnets(&region).args(["inspect", &server]).output().unwrap().stdout;
    let said = String::from_utf8(said).unwrap();
    let finding = format!("! an agent of this host, process {}, is stopped: ", starved.0.id());
    assert!(said.contains(&finding), "{said}");
    // Its processes have been let go of all the same.
    in_time(calling).await.unwrap();
}

/// An agent that is asked to stop is back soon: its host's life goes on, and so do links.
#[tokio::test]
async fn an_agent_is_replaced_and_links_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let region = directory.path().join("region");
    let mut command = notnets(&region);
    command.args(["region", "format", "--hosts", "2", "--create", "8M", "--heartbeat", "10ms"]);
    let output = command.args(["--lease", "60s"]).arg(&region).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let manager = UnixDatagram::bind(directory.path().join("notify")).unwrap();
    manager.set_read_timeout(Some(LIMIT)).unwrap();
    let told = || {
        let mut text = [0; 200];
        let length = manager.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    let managed = |host: &str| {
        let mut command = notnets(&directory.path().join(host));
        command.args(["agent", "--host-id", host, "--region"]).arg(&region);
        command.env("NOTIFY_SOCKET", directory.path().join("notify")).env("WATCHDOG_USEC", "100000");
        let mut agent = Agent(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        let mut ready = String::new();
        BufReader::new(agent.0.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let path = directory.path().join(host).join(".pod-pod0");
        assert_eq!(ready, format!("READY {}\n", path.display()));
        while told() != "READY=1" {}
        assert_eq!(told(), "WATCHDOG=1");
        agent
    };
    let _other = agent(directory.path(), &region, "0");
    let mut first = managed("1");
    let life = || survey(&Region::open(&region).unwrap()).hosts[1].record.unwrap().incarnation;
    let before = life();
    let (_processes, mut client) = calls_between(directory.path()).await;
    terminate(&first);
    while told() != "STOPPING=1" {}
    assert!(first.0.wait().unwrap().success());
    let mut said = String::new();
    first.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("the agent stops: a successor goes on"), "{said}");
    in_time(client.echo(EchoRequest::default())).await.expect("no agent is on the path of a call");
    let _second = managed("1");
    assert_eq!(life(), before, "the life of before goes on");
    in_time(client.echo(EchoRequest::default())).await.expect("links go on");
}

/// Writes one word of host 0's control area, as one does that is killed before it has written the others.
fn tear(region: &Path, offset: usize) {
    let control = Region::open(region).unwrap().layout().control(0).start();
    let file = fs::OpenOptions::new().write(true).open(region).unwrap();
    file.write_all_at(&[1; 8], control.0 + offset as u64).unwrap();
}

/// What it says of a region without faults.
fn fsck(region: &Path) -> String {
    let output = notnets(region).args(["region", "fsck"]).arg(region).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// How often a thread of a process slept so far, and for how many nanoseconds it ran.
fn thread(pid: u32, name: &str) -> (u64, u64) {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|task| task.unwrap().path());
    let is_watcher = |task: &std::path::PathBuf| {
        fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name)
    };
    let task = tasks.into_iter().find(is_watcher).expect("it has this thread");
    let status = fs::read_to_string(task.join("status")).unwrap();
    let sleeps = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    let time = fs::read_to_string(task.join("schedstat")).unwrap();
    let time = time.split_whitespace().next().unwrap().parse().unwrap();
    (sleeps.unwrap().trim().parse().unwrap(), time)
}

/// An agent looks at the links of its host as often as it was told, and no more often. Processes leave it to
/// their agent.
#[tokio::test]
async fn idle_processes_are_looked_after_as_often_as_the_agent_says() {
    let directory = tempfile::tempdir().unwrap();
    let region = directory.path().join("region");
    format(&region);
    let first = agent(directory.path(), &region, "0");
    let start_second = || {
        let mut command = notnets(&directory.path().join("1"));
        command.args(["agent", "--host-id", "1", "--wake-latency", "20ms", "--region"]).arg(&region);
        Agent(command.spawn().unwrap())
    };
    let second = start_second();
    until(&region, &["running", "running", "never"]);
    let mut command = notnets(&directory.path().join("1"));
    command.args(["proxy", "--listen", "notnets://pod0/probe", "--to", &http2_server().await]);
    let server = Agent(command.stdout(Stdio::null()).spawn().unwrap());
    let endpoint =
        notnets::Endpoint::from_static("notnets://pod0/probe").directory(directory.path().join("0"));
    let mut client = ProbeClient::new(endpoint.connect_lazy());
    in_time(async {
        while client.echo(EchoRequest::default()).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // Some looks until it sleeps for as long as it may, and until the link is handed over.
    let look = || {
        let watchers = [&first, &second].map(|agent| thread(agent.0.id(), "notnets-watch"));
        (Instant::now(), watchers, thread(server.0.id(), "notnets-pod"))
    };
    let before = look();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = look();
    let time = after.0 - before.0;
    let [often, seldom] = [0, 1].map(|host: usize| after.1[host].0 - before.1[host].0);
    for (host, latency) in ["500 us", "20 ms"].into_iter().enumerate() {
        let busy = (after.1[host].1 - before.1[host].1) as f64 / time.as_nanos() as f64 * 100.0;
        println!("{latency}: {} sleeps, {busy:.2} % of a processor", after.1[host].0 - before.1[host].0);
    }
    let most = time.as_millis() as u64 / 20 + 60;
    assert!((1..=most).contains(&seldom), "{seldom} sleeps in {time:?}");
    // The one with the default looks more often.
    assert!(often > 2 * seldom, "{often} and {seldom} sleeps");
    // Every 50 ms it sees whether its agent runs.
    let own = after.2.0 - before.2.0;
    assert!(own < 70, "the server looked {own} times itself");
    // It does while its agent is gone, and leaves it to the next one.
    drop(second);
    in_time(client.echo(EchoRequest::default())).await.unwrap();
    let _second = start_second();
    in_time(async {
        loop {
            let before = thread(server.0.id(), "notnets-pod").0;
            tokio::time::sleep(Duration::from_millis(200)).await;
            if thread(server.0.id(), "notnets-pod").0 - before < 7 {
                break;
            }
        }
    })
    .await;
    in_time(client.echo(EchoRequest::default())).await.unwrap();
}
