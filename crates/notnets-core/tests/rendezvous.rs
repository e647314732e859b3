//! Names are served, found and given back within one process, also by threads that race for them.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use notnets_core::link::packet::Packet;
use notnets_core::link::rendezvous::{Absence, Directory, Listener, RendezvousError};
use notnets_core::link::socket::{Incoming, Socket};
use notnets_core::name::Name;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::net::{
    AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, bind, listen, recv, socket_with,
};
use tempfile::TempDir;

fn name(text: &str) -> Name {
    text.parse().expect("is a name")
}

fn inventory() -> Name {
    name("inventory")
}

fn temporary() -> (TempDir, Directory) {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let directory = Directory::at(temporary.path());
    (temporary, directory)
}

/// A socket that is bound, and not ours to clear up.
fn bound(path: &Path, kind: SocketType) -> OwnedFd {
    let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).expect("a socket");
    bind(&socket, &SocketAddrUnix::new(path).expect("a short path")).expect("binds");
    socket
}

fn leave_dead_socket(path: &Path) {
    drop(bound(path, SocketType::SEQPACKET));
}

/// Does a connection to the listener's name arrive at this very listener?
fn is_reached(directory: &Directory, listener: &Listener) -> bool {
    let client = directory.connect(listener.name());
    client.is_ok() && matches!(listener.accept(), Ok(Some(_)))
}

#[test]
fn a_killed_process_s_links_end_before_its_watches() {
    let (temporary, directory) = temporary();
    // Numbers below those of the watches, which get free again.
    let files: Vec<_> = (0..10).map(|_| fs::File::open(temporary.path()).expect("a directory")).collect();
    let listener = directory.listen(&inventory()).expect("listens");
    let watch = listener.watch().expect("the directory is watched");
    drop(files);
    let client = directory.connect(listener.name()).expect("connects");
    let server = listener.accept().expect("nothing is wrong").expect("a client");
    for socket in [client, server] {
        assert!(socket.as_raw_fd() > watch.as_fd().as_raw_fd());
    }
}

#[test]
fn a_name_is_free_again_when_its_listener_is_gone() {
    let (temporary, directory) = temporary();
    for close in [false, true, false] {
        let listener = directory.listen(&inventory()).expect("listens");
        assert!(listener.accept().expect("nothing is wrong").is_none(), "nobody connected yet");
        assert!(is_reached(&directory, &listener));
        if close {
            listener.close().expect("gives back");
        } else {
            drop(listener);
        }
        assert_eq!(fs::read_dir(temporary.path()).expect("is readable").count(), 0, "something stays behind");
    }
}

#[test]
fn a_directory_is_created_for_its_owner_and_its_sockets_are_open() {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let directory = Directory::at(temporary.path().join("not/yet"));
    assert_eq!(directory.names().expect("is no error"), []);
    let listener = directory.listen(&inventory()).expect("listens");
    let mode = |path: &Path| fs::metadata(path).expect("exists").permissions().mode() & 0o777;
    assert_eq!(mode(directory.path()), 0o700);
    assert_eq!(mode(listener.path()), 0o666, "the umask must not decide who may connect");
}

#[test]
fn an_unknown_name_says_where_it_was_looked_for_and_what_is_there() {
    let (temporary, directory) = temporary();
    let _cart = directory.listen(&name("cart")).expect("listens");
    let _pay = directory.listen(&name("pay")).expect("listens");
    let error = directory.connect(&inventory()).expect_err("nobody serves it");
    assert!(matches!(&error, RendezvousError::NoSuchName { absence: Absence::NoSocket, .. }));
    let path = temporary.path().display();
    assert_eq!(
        error.to_string(),
        format!(
            "nobody serves the name `inventory` in {path} (chosen by the program): there is no such socket, and \
             `cart` and `pay` are served there; start its server, or let the program choose the directory of its \
             server (it overrules NOTNETS_DIR)"
        )
    );

    leave_dead_socket(&temporary.path().join("inventory"));
    let error = directory.connect(&inventory()).expect_err("its server has ended");
    assert!(matches!(error, RendezvousError::NoSuchName { absence: Absence::Ended, .. }), "{error}");

    let nowhere = Directory::at(temporary.path().join("nowhere"));
    let error = nowhere.connect(&inventory()).expect_err("there is no directory");
    assert!(matches!(error, RendezvousError::NoSuchName { absence: Absence::NoDirectory, .. }), "{error}");
    assert!(!nowhere.path().exists(), "looking creates nothing");
}

#[test]
fn names_lists_living_servers_without_disturbing_them() {
    let (temporary, directory) = temporary();
    let listeners = ["pay", "cart"].map(|text| directory.listen(&name(text)).expect("listens"));
    leave_dead_socket(&temporary.path().join("dead"));
    leave_dead_socket(&temporary.path().join(".hidden"));
    fs::write(temporary.path().join("file"), "").expect("writes");
    assert_eq!(directory.names().expect("is readable"), [name("cart"), name("pay")]);
    for listener in &listeners {
        assert!(listener.accept().expect("nothing is wrong").is_none(), "{} was disturbed", listener.name());
    }
}

#[test]
fn a_name_in_use_says_by_whom_and_its_server_only_sees_a_look() {
    let (_temporary, directory) = temporary();
    let listener = directory.listen(&inventory()).expect("listens");
    let error = directory.listen(&inventory()).expect_err("is in use");
    assert!(
        error.to_string().contains(&format!("in use by this process (pid {})", std::process::id())),
        "{error}"
    );
    let look = listener.accept().expect("nothing is wrong").expect("the second listener looked");
    let received = recv(&look, &mut [0; 8], RecvFlags::empty()).expect("no error");
    assert_eq!(received.1, 0, "end of file before any message");
    assert!(is_reached(&directory, &listener), "the first listener goes on");
}

#[test]
fn a_full_backlog_is_an_error_to_try_again_after() {
    let (temporary, directory) = temporary();
    let socket = bound(&temporary.path().join("inventory"), SocketType::SEQPACKET);
    listen(&socket, 0).expect("listens");
    let waiting = directory.connect(&inventory()).expect("one has room");
    let error = directory.connect(&inventory()).expect_err("the backlog is full");
    assert!(matches!(error, RendezvousError::Busy { .. }) && error.is_retryable(), "{error}");
    let error = directory.listen(&inventory()).expect_err("a busy server is alive");
    assert!(matches!(error, RendezvousError::NameInUse { pid: None, .. }), "{error}");
    drop(waiting);
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let (temporary, directory) = temporary();
    let file = temporary.path().join("file");
    fs::write(&file, "precious").expect("writes");
    symlink("elsewhere", temporary.path().join("link")).expect("links");
    leave_dead_socket(&temporary.path().join("elsewhere"));
    let _stream = UnixListener::bind(temporary.path().join("stream")).expect("listens");
    for taken in ["file", "link", "stream"] {
        let error = directory.listen(&name(taken)).expect_err("is taken");
        assert!(matches!(error, RendezvousError::NotOurs { .. }), "{taken}: {error}");
    }
    let error = directory.connect(&name("stream")).expect_err("has no message boundaries");
    assert!(matches!(error, RendezvousError::NotOurs { .. }), "{error}");
    assert_eq!(fs::read_to_string(&file).expect("is still there"), "precious");
    assert!(temporary.path().join("elsewhere").exists());
}

#[test]
fn paths_that_cannot_be_served_in_say_why() {
    let (temporary, _) = temporary();
    let long = Directory::at(temporary.path().join("x".repeat(100)));
    for error in [
        long.listen(&inventory()).expect_err("is too long"),
        long.connect(&inventory()).expect_err("is too long"),
    ] {
        let length = long.path().as_os_str().len() + "/inventory".len();
        assert!(error.to_string().contains(&format!("has {length} bytes")), "{error}");
        assert!(error.to_string().contains("at most 107; let the program choose a shorter"), "{error}");
    }
    assert!(!long.path().exists(), "nothing is created for it");

    let file = temporary.path().join("file");
    fs::write(&file, "").expect("writes");
    for below in [file.clone(), file.join("deeper")] {
        let directory = Directory::at(&below);
        for error in [
            directory.listen(&inventory()).expect_err("is a file"),
            directory.connect(&inventory()).expect_err("is a file"),
            directory.names().expect_err("is a file"),
        ] {
            assert!(matches!(error, RendezvousError::NotADirectory { .. }), "{error}");
        }
    }
}

#[test]
fn the_longest_path_works() {
    let (temporary, _) = temporary();
    let rest = 107 - temporary.path().as_os_str().len() - "/".len() - "/inventory".len();
    let directory = Directory::at(temporary.path().join("x".repeat(rest)));
    let listener = directory.listen(&inventory()).expect("fits");
    assert_eq!(listener.path().as_os_str().len(), 107);
    assert!(is_reached(&directory, &listener));
}

#[test]
fn an_old_listener_does_not_remove_a_newer_ones_socket() {
    let (_temporary, directory) = temporary();
    let old = directory.listen(&inventory()).expect("listens");
    fs::remove_file(old.path()).expect("somebody clears up by hand");
    let new = directory.listen(&inventory()).expect("the name is free");
    old.close().expect("has nothing to remove");
    assert!(is_reached(&directory, &new));
}

#[test]
fn a_replaced_directory_is_served_in_anew() {
    let (temporary, _) = temporary();
    let directory = Directory::at(temporary.path().join("names"));
    let old = directory.listen(&inventory()).expect("listens");
    fs::rename(directory.path(), temporary.path().join("away")).expect("renames");
    let new = directory.listen(&inventory()).expect("the new directory is empty");
    drop(old);
    assert!(!temporary.path().join("away/inventory").exists(), "the old one is given back where it went");
    assert!(is_reached(&directory, &new));
}

#[test]
fn a_directory_replaced_while_its_lock_is_waited_for_is_locked_anew() {
    let (temporary, _) = temporary();
    let directory = Directory::at(temporary.path().join("names"));
    for round in 0..100 {
        fs::create_dir(directory.path()).expect("creates");
        let locked = fs::File::open(directory.path()).expect("opens");
        flock(&locked, FlockOperation::LockExclusive).expect("is free");
        thread::scope(|scope| {
            let waiting = scope.spawn(|| directory.listen(&inventory()));
            thread::yield_now();
            fs::rename(directory.path(), temporary.path().join(format!("away{round}"))).expect("renames");
            flock(&locked, FlockOperation::Unlock).expect("unlocks");
            let listener = waiting.join().expect("does not panic").expect("listens in the new directory");
            assert!(is_reached(&directory, &listener), "round {round}");
        });
        fs::remove_dir(directory.path()).expect("nothing stays behind in the new directory");
    }
}

#[test]
fn of_two_threads_that_want_a_dead_servers_name_one_gets_it() {
    let (temporary, directory) = temporary();
    for round in 0..300 {
        leave_dead_socket(&temporary.path().join("inventory"));
        let start = Barrier::new(2);
        let contend = || {
            start.wait();
            directory.listen(&inventory())
        };
        let results = thread::scope(|scope| {
            let threads = [scope.spawn(contend), scope.spawn(contend)];
            threads.map(|thread| thread.join().expect("does not panic"))
        });
        match results {
            [Ok(winner), Err(loser)] | [Err(loser), Ok(winner)] => {
                assert!(matches!(loser, RendezvousError::NameInUse { .. }), "round {round}: {loser}");
                // First the loser's look, if it came that far, then our connection.
                while winner.accept().expect("nothing is wrong").is_some() {}
                assert!(is_reached(&directory, &winner), "round {round}");
            }
            results => panic!("round {round}: {results:?}"),
        }
    }
}

#[test]
fn names_that_come_and_go_are_never_taken_from_who_has_them() {
    let (temporary, directory) = temporary();
    let churn = || {
        let mut served = 0;
        while served < 200 {
            match directory.listen(&inventory()) {
                Ok(listener) => {
                    served += 1;
                    assert!(
                        directory.connect(&inventory()).is_ok(),
                        "the socket of a living listener is gone"
                    );
                    drop(listener);
                }
                Err(RendezvousError::NameInUse { .. }) => thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
    };
    thread::scope(|scope| {
        scope.spawn(churn);
        scope.spawn(churn);
    });
    assert_eq!(fs::read_dir(temporary.path()).expect("is readable").count(), 0, "something stays behind");
}

#[test]
fn replicas_share_a_name_and_clients_get_to_each() {
    let (temporary, directory) = temporary();
    let first = directory.listen_as_replica(&inventory()).expect("listens");
    let second = directory.listen_as_replica(&inventory()).expect("listens beside it");
    let _cart = directory.listen(&name("cart")).expect("listens");
    assert_eq!((first.name(), second.name()), (&inventory(), &inventory()));
    let mut addresses = vec![first.address().clone(), second.address().clone()];
    addresses.sort();
    assert_eq!(directory.addresses(&inventory()).expect("is readable"), addresses);
    assert_eq!(directory.addresses(&name("cart")).expect("is readable"), [name("cart")]);
    assert_eq!(directory.names().expect("is readable"), [name("cart"), inventory()]);

    let mut reached = [false; 2];
    for _ in 0..1000 {
        let _client = directory.connect(&inventory()).expect("there are two");
        for (listener, reached) in [&first, &second].into_iter().zip(&mut reached) {
            *reached |= listener.accept().expect("nothing is wrong").is_some();
        }
    }
    assert_eq!(reached, [true; 2], "all of 1,000 clients got to one of them");

    for listener in [&first, &second] {
        let client = directory.connect(listener.address());
        assert!(client.is_ok() && matches!(listener.accept(), Ok(Some(_))), "by its address");
    }
    drop(first);
    assert!(is_reached(&directory, &second), "the other one is left");
    drop(second);
    assert!(directory.connect(&inventory()).is_err());
    assert_eq!(fs::read_dir(temporary.path()).expect("is readable").count(), 1, "something stays behind");
}

#[test]
fn who_has_a_name_for_itself_has_no_replicas() {
    let (_temporary, directory) = temporary();
    let alone = directory.listen(&inventory()).expect("listens");
    let error = directory.listen_as_replica(&inventory()).expect_err("is in use");
    assert!(matches!(&error, RendezvousError::NameInUse { path, .. } if path == alone.path()), "{error}");
    assert!(error.to_string().ends_with("or make each server of this name a replica"), "{error}");
    drop(alone);
    let replica = directory.listen_as_replica(&inventory()).expect("listens");
    let error = directory.listen(&inventory()).expect_err("is in use");
    assert!(matches!(&error, RendezvousError::NameInUse { path, .. } if path == replica.path()), "{error}");
}

#[test]
fn what_dead_replicas_leave_hinders_nobody_and_does_not_pile_up() {
    let (temporary, directory) = temporary();
    let count = || fs::read_dir(temporary.path()).expect("is readable").count();
    for number in 0..5 {
        leave_dead_socket(&temporary.path().join(inventory().replica(number).as_str()));
    }
    leave_dead_socket(&temporary.path().join("cart@00000000"));
    let error = directory.connect(&inventory()).expect_err("all are dead");
    assert!(matches!(error, RendezvousError::NoSuchName { absence: Absence::NoSocket, .. }), "{error}");
    let replica = directory.listen_as_replica(&inventory()).expect("listens");
    assert_eq!(count(), 2, "those of other names are left");
    assert!(is_reached(&directory, &replica));
    drop(replica);
    leave_dead_socket(&temporary.path().join("inventory@00000001"));
    let alone = directory.listen(&inventory()).expect("the dead are not in the way");
    assert_eq!(count(), 2);
    assert!(is_reached(&directory, &alone));
}

#[test]
fn a_watch_tells_when_servers_have_come_and_gone() {
    let (_temporary, directory) = temporary();
    let watch = directory.watch().expect("there is a directory");
    let is_told = || {
        let mut readable = [PollFd::new(&watch, PollFlags::IN)];
        poll(&mut readable, Some(&Timespec { tv_sec: 10, tv_nsec: 0 })) == Ok(1)
    };
    // The last event of a server that comes is there once it listens.
    let alone = directory.listen(&name("cart")).expect("listens");
    let replica = directory.listen_as_replica(&inventory()).expect("listens");
    assert!(is_told());
    watch.clear();
    for listener in [alone, replica] {
        drop(listener);
        assert!(is_told());
        watch.clear();
    }
}

#[test]
fn a_successor_takes_the_place_of_a_server_and_tells_it() {
    let (temporary, directory) = temporary();
    let count = || fs::read_dir(temporary.path()).expect("is readable").count();
    let old = directory.listen(&inventory()).expect("listens");
    assert!(!old.is_taken_over());
    let names = [inventory(), name("cart")];
    let new = directory.take_over(&names).expect("takes over");
    assert_eq!(count(), 2);
    assert!(old.is_taken_over() && old.has_successor() && !old.is_in_place());
    let told = Socket::from(old.accept().expect("nothing is wrong").expect("it is told"));
    assert!(matches!(told.receive(), Ok(Incoming::Packet(Packet::TakenOver, None))));
    for listener in &new {
        assert!(is_reached(&directory, listener) && listener.is_in_place() && !listener.is_taken_over());
    }
    let mode = fs::metadata(new[0].path()).expect("exists").permissions().mode() & 0o7777;
    assert_eq!(mode, 0o1666);
    drop(old);
    assert_eq!(count(), 2, "the old listener has nothing to remove");
    drop(new);
    assert_eq!(count(), 0);
}

#[test]
fn a_server_that_finds_the_name_free_is_no_successor() {
    let (_temporary, directory) = temporary();
    let lost = directory.listen(&inventory()).expect("listens");
    fs::remove_file(lost.path()).expect("is there");
    let other = directory.listen(&inventory()).expect("is free");
    assert!(lost.is_taken_over(), "if it is said so");
    assert!(!lost.has_successor() && other.is_in_place());
}

#[test]
fn a_take_over_that_is_not_possible_leaves_all_as_it_was() {
    let (temporary, directory) = temporary();
    let old = directory.listen(&inventory()).expect("listens");
    fs::write(temporary.path().join("file"), "precious").expect("writes");
    let replica = directory.listen_as_replica(&name("cart")).expect("listens");
    for other in ["file", "cart"] {
        let error = directory.take_over(&[inventory(), name(other)]).expect_err("is in the way");
        let is_meant = match other {
            "file" => matches!(error, RendezvousError::NotOurs { .. }),
            _ => matches!(error, RendezvousError::NameInUse { .. }),
        };
        assert!(is_meant, "{error}");
        assert!(old.is_in_place() && !old.is_taken_over());
        while old.accept().expect("nothing is wrong").is_some() {}
        assert!(is_reached(&directory, &old) && is_reached(&directory, &replica));
    }
    assert_eq!(fs::read_dir(temporary.path()).expect("is readable").count(), 3);
}

#[test]
fn what_a_dead_successor_leaves_is_cleared_away_by_the_next_server() {
    let (temporary, directory) = temporary();
    leave_dead_socket(&temporary.path().join(".new-00000001"));
    let _listener = directory.listen(&inventory()).expect("listens");
    assert_eq!(fs::read_dir(temporary.path()).expect("is readable").count(), 1);
}

#[test]
fn a_name_is_reached_at_any_time_while_it_is_taken_over() {
    let (_temporary, directory) = temporary();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let mut holders = vec![directory.take_over(&[inventory()]).expect("is free")];
        let reach = scope.spawn(|| {
            let mut reached = 0_u64;
            while !over.load(Ordering::Relaxed) {
                match directory.connect(&inventory()) {
                    Ok(_) => reached += 1,
                    Err(RendezvousError::Busy { .. }) => thread::yield_now(),
                    Err(error) => panic!("{error}"),
                }
            }
            reached
        });
        for _ in 0..500 {
            holders.push(directory.take_over(&[inventory()]).expect("is taken over"));
            while let Ok(Some(_)) = holders[1][0].accept() {}
            drop(holders.remove(0));
        }
        over.store(true, Ordering::Relaxed);
        assert!(reach.join().expect("no connection failed") > 0);
    });
}

/// Whoever can read the directory can lock it, and a process that was stopped may hold the lock.
#[test]
fn who_holds_the_lock_keeps_nobody_from_serving_and_stopping() {
    for operation in [FlockOperation::LockShared, FlockOperation::LockExclusive] {
        let (_temporary, directory) = temporary();
        let held = fs::File::open(directory.path()).expect("opens");
        flock(&held, operation).expect("is free");
        let begin = Instant::now();
        let listener = directory.listen(&inventory()).expect("listens");
        assert!(is_reached(&directory, &listener));
        let path = listener.path().to_owned();
        drop(listener);
        assert!(!path.exists(), "the name was not given back");
        assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    }
}
