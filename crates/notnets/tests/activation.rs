//! Servers whose sockets were opened before they were started. The test is the one that opens them, as
//! systemd does, and runs itself as the server.

mod common;

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;

use common::within;
use notnets::rpc::{Handler, Method, Request, ServerCall, Status};
use notnets::{Channel, Endpoint, ErrorKind, Server, blocking};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use tokio::sync::Notify;

const PID: Method = Method::from_static("/test.Pid/Get");
const STOP: Method = Method::from_static("/test.Pid/Stop");

/// Says in which process it is, and stops it.
struct Pid(Arc<Notify>);

impl Handler for Pid {
    async fn call(&self, call: &mut ServerCall) -> Result<(), Status> {
        if call.method.name() == "Stop" {
            self.0.notify_one();
        }
        call.responses.send_last(std::process::id().to_string()).await
    }
}

/// Serves what was passed to this process, until it is told to stop.
async fn serve() {
    let stop = Arc::new(Notify::new());
    let server = || Server::builder().add_rpc_service("test.Pid", Pid(Arc::clone(&stop)));
    let error = server().bind_blocking("systemd:other").unwrap_err();
    assert!(error.to_string().contains("FileDescriptorName=other"), "{error}");
    assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
    let memory = server().bind_blocking("systemd:memory").unwrap();
    let others = server().bind_blocking("systemd:").unwrap();
    assert_eq!((memory.http2_addresses().len(), others.http2_addresses().len()), (0, 2));
    let (stopping, told) = tokio::sync::watch::channel(false);
    let signal = |mut told: tokio::sync::watch::Receiver<bool>| async move {
        told.wait_for(|told| *told).await.unwrap();
    };
    let stopped = async {
        stop.notified().await;
        stopping.send_replace(true);
    };
    let (memory, others, ()) = tokio::join!(
        memory.serve_with_shutdown(signal(told.clone())),
        others.serve_with_shutdown(signal(told.clone())),
        stopped
    );
    memory.unwrap();
    others.unwrap();
}

/// The sockets, which stay open whatever becomes of the servers.
struct Sockets {
    memory: OwnedFd,
    tcp: std::net::TcpListener,
    unix: std::os::unix::net::UnixListener,
}

impl Sockets {
    fn open(directory: &Path) -> Self {
        let flags = SocketFlags::CLOEXEC;
        let memory = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        bind(&memory, &SocketAddrUnix::new(directory.join("inventory")).unwrap()).unwrap();
        listen(&memory, 16).unwrap();
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let unix = std::os::unix::net::UnixListener::bind(directory.join("http2.sock")).unwrap();
        Self { memory, tcp, unix }
    }

    /// Starts the server. What is input and output to the shell becomes what was passed to the server.
    fn start(&self, test: &str) -> Started {
        const SHELL: &str = "exec 3<&0 4<&1 5<&2 </dev/null >/dev/null 2>/dev/null; \
             LISTEN_PID=$$ LISTEN_FDS=3 LISTEN_FDNAMES=memory:tcp:unix exec \"$0\" --exact \"$1\"";
        let copy = |socket: &dyn AsFd| socket.as_fd().try_clone_to_owned().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", SHELL]).arg(std::env::current_exe().unwrap()).arg(test);
        command.stdin(copy(&self.memory)).stdout(copy(&self.tcp)).stderr(copy(&self.unix));
        Started(command.spawn().unwrap())
    }
}

/// A server that ends with this.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn pid(channel: &Channel, method: Method) -> u32 {
    let reply = within("a call", channel.unary_call(Request::new(method), "")).await.unwrap();
    std::str::from_utf8(&reply.message.into_bytes()).unwrap().parse().unwrap()
}

const TEST: &str = "a_server_is_started_when_clients_wait_for_it_already";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_started_when_clients_wait_for_it_already() {
    if std::env::var_os("LISTEN_FDS").is_some() {
        return serve().await;
    }
    let directory = tempfile::tempdir().unwrap();
    let sockets = Sockets::open(directory.path());
    let addresses = [
        format!("http://{}", sockets.tcp.local_addr().unwrap()),
        format!("unix:{}", directory.path().join("http2.sock").display()),
    ];
    for _ in 0..2 {
        let endpoint = Endpoint::from_static("notnets:///inventory").directory(directory.path());
        let waiting = endpoint.connect_timeout(common::LIMIT).connect_lazy();
        let first = tokio::spawn(async move { pid(&waiting, PID).await });
        while !has_client(&sockets.memory) {
            tokio::task::yield_now().await;
        }
        let server = sockets.start(TEST);
        let id = within("the first call", first).await.unwrap();
        assert_eq!(id, server.0.id());
        let mut channels = vec![endpoint_at(directory.path())];
        channels
            .extend(addresses.iter().map(|at| Channel::named("inventory").or(at).connect_lazy().unwrap()));
        for channel in &channels {
            assert_eq!(pid(channel, PID).await, id);
        }
        // The names are not its own, so they stay.
        assert_eq!(pid(&channels[0], STOP).await, id);
        let mut server = server;
        let ended = tokio::task::spawn_blocking(move || server.0.wait().unwrap());
        assert!(within("stopping", ended).await.unwrap().success());
        assert!(directory.path().join("inventory").exists() && directory.path().join("http2.sock").exists());
    }
}

/// Serves what was passed to this process, until it is told to stop.
fn serve_blocking() {
    let bind = |at| blocking::Server::builder().bind(at);
    let error = bind("systemd:other").unwrap_err();
    assert!(error.to_string().contains("FileDescriptorName=other"), "{error}");
    assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
    let server = bind("systemd:memory").unwrap();
    let error = bind("systemd:").unwrap_err();
    let sentence = "2 sockets were passed to this process, and a blocking server takes one: say which as \
                    `systemd:NAME`";
    assert_eq!(error.to_string(), sentence);
    let stopper = server.stopper();
    let answer = |request: &blocking::Request<'_>, reply: &mut blocking::Reply| {
        if request.method.ends_with("Stop") {
            stopper.stop();
        }
        reply.message.extend_from_slice(std::process::id().to_string().as_bytes());
        Ok(())
    };
    server.serve(answer);
}

const BLOCKING_TEST: &str = "a_blocking_server_is_started_when_clients_wait_for_it_already";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocking_server_is_started_when_clients_wait_for_it_already() {
    if std::env::var_os("LISTEN_FDS").is_some() {
        return tokio::task::spawn_blocking(serve_blocking).await.unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let sockets = Sockets::open(directory.path());
    for _ in 0..2 {
        let endpoint = Endpoint::from_static("notnets:///inventory").directory(directory.path());
        let waiting = endpoint.connect_timeout(common::LIMIT).connect_lazy();
        let first = tokio::spawn(async move { (pid(&waiting, PID).await, waiting) });
        while !has_client(&sockets.memory) {
            tokio::task::yield_now().await;
        }
        let mut server = sockets.start(BLOCKING_TEST);
        let (id, channel) = within("the first call", first).await.unwrap();
        assert_eq!(id, server.0.id());
        assert_eq!(pid(&channel, STOP).await, id);
        let ended = tokio::task::spawn_blocking(move || server.0.wait().unwrap());
        assert!(within("stopping", ended).await.unwrap().success());
        assert!(directory.path().join("inventory").exists());
    }
}

fn endpoint_at(directory: &Path) -> Channel {
    Endpoint::from_static("notnets:///inventory").directory(directory).connect_lazy()
}

/// Returns `true` if somebody waits to be accepted.
fn has_client(socket: &OwnedFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut polled = [PollFd::new(socket, PollFlags::IN)];
    poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 1_000_000 })).unwrap() == 1
}

#[test]
fn a_process_without_such_sockets_says_so() {
    let server = || Server::builder().add_rpc_service("test.Pid", Pid(Arc::default()));
    let error = server().bind_blocking("systemd:").unwrap_err();
    assert!(error.to_string().starts_with("no socket was passed to this process"), "{error}");
    let error = server().bind_blocking(["notnets:///a", "systemd:a"]).unwrap_err();
    assert!(error.to_string().starts_with("no socket with the name `a` was passed"), "{error}");
    assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
}
