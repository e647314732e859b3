//! Names are served and found by processes that live and die, and that lack permission or descriptors.

mod helper;

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use helper::{Helper, THIS_BINARY, commands, role, say};
use notnets_core::link::rendezvous::{Absence, Directory, Listener, RendezvousError, peer_credentials};
use notnets_core::name::Name;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Resource, Rlimit, WaitId, WaitIdOptions, getrlimit, setrlimit, waitid};
use tempfile::TempDir;

const NOBODY: u32 = 65534;

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

/// Of any type, for it is dead.
fn leave_dead_socket(path: &Path) {
    drop(UnixDatagram::bind(path).expect("binds"));
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("is ours");
}

/// Does a connection to the listener's name arrive at this very listener?
fn is_reached(directory: &Directory, listener: &Listener) -> bool {
    let client = directory.connect(listener.name());
    client.is_ok() && matches!(listener.accept(), Ok(Some(_)))
}

#[test]
fn of_two_processes_that_want_a_dead_servers_name_one_gets_it() {
    let (temporary, directory) = temporary();
    let mut helpers = [(); 2].map(|()| Helper::start("contend", temporary.path()));
    for round in 0..50 {
        leave_dead_socket(&temporary.path().join("inventory"));
        helpers.iter_mut().for_each(|helper| helper.tell("listen"));
        let mut answers = helpers.each_mut().map(Helper::answer);
        answers.sort();
        assert_eq!(answers, ["lost", "won"], "round {round}");
        assert!(directory.connect(&inventory()).is_ok(), "round {round}");
        helpers.iter_mut().for_each(|helper| helper.tell("drop"));
        helpers.iter_mut().for_each(|helper| assert_eq!(helper.answer(), "dropped"));
        assert_eq!(directory.names().expect("is readable"), [], "round {round}");
    }
}

#[test]
fn a_killed_servers_name_can_be_served_again() {
    let (temporary, directory) = temporary();
    let mut helper = Helper::start("hold", temporary.path());
    assert_eq!(helper.answer(), "holding");
    let pid = helper.child.id();
    let error = directory.listen(&inventory()).expect_err("is in use");
    assert!(matches!(error, RendezvousError::NameInUse { pid: Some(by), .. } if by == pid), "{error}");
    let client = directory.connect(&inventory()).expect("the server lives");
    assert_eq!(peer_credentials(&client).expect("is connected").pid, Some(pid));

    helper.child.kill().expect("is killed");
    helper.child.wait().expect("is reaped");
    assert!(temporary.path().join("inventory").exists(), "it had no chance to clear up");
    assert_eq!(directory.names().expect("is readable"), []);
    let listener = directory.listen(&inventory()).expect("the dead server's socket is replaced");
    assert!(is_reached(&directory, &listener));
}

#[test]
fn a_killed_servers_name_can_be_served_again_while_its_child_lives() {
    let (temporary, directory) = temporary();
    let mut helper = Helper::start("hold with child", temporary.path());
    assert_eq!(helper.answer(), "holding");
    assert_eq!(helper.answer(), "inherited");
    assert!(directory.connect(&inventory()).is_ok(), "the server lives");

    helper.child.kill().expect("is killed");
    // Dead, and not reaped yet: a zombie must not count as alive.
    let pid = Pid::from_child(&helper.child);
    waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).expect("ends");
    let error = directory.connect(&inventory()).expect_err("nobody accepts");
    assert!(matches!(error, RendezvousError::NoSuchName { absence: Absence::Ended, .. }), "{error}");
    helper.child.wait().expect("is reaped");
    let error = directory.connect(&inventory()).expect_err("nobody accepts");
    assert!(matches!(error, RendezvousError::NoSuchName { absence: Absence::Ended, .. }), "{error}");
    let listener = directory.listen(&inventory()).expect("the name is free");
    assert!(is_reached(&directory, &listener));
}

#[test]
fn a_directory_without_permission_says_whose_it_is() {
    let (temporary, _) = temporary();
    let closed = temporary.path().join("closed");
    fs::create_dir(&closed).expect("creates");
    set_mode(temporary.path(), 0o755);
    // Nothing is denied to root, so there somebody else has to try.
    let other = rustix::process::geteuid().is_root().then_some(NOBODY);
    let mut helper = match Helper::start_as(other, "try", &closed) {
        Ok(helper) => helper,
        Err(error) => return println!("skipped: can't run as uid {NOBODY}: {error}"),
    };

    // Readable but not writable, then not even searchable.
    for (mode, refused) in [(0o555, &["listen"][..]), (0o000, &["listen", "connect", "names"])] {
        set_mode(&closed, mode);
        for attempt in refused {
            helper.tell(attempt);
            let answer = helper.answer();
            assert!(
                answer.starts_with("cannot ") && answer.contains(": permission denied: "),
                "{attempt} in mode {mode:o}: {answer}"
            );
            assert!(answer.contains(&format!("{} belongs to uid ", closed.display())), "{answer}");
            assert!(
                answer.contains(&format!("with mode {mode:04o}, while this process has uid ")),
                "{answer}"
            );
        }
    }
    set_mode(&closed, 0o755);
}

/// Where several users may serve, the sticky bit keeps a dead server's socket for its own user.
#[test]
fn a_dead_servers_name_is_another_uids_once_its_socket_is_removed() {
    let (temporary, _) = temporary();
    let shared = temporary.path().join("shared");
    fs::create_dir(&shared).expect("creates");
    set_mode(temporary.path(), 0o755);
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: only root can run a process of another uid");
    }
    let mut other = match Helper::start_as(Some(NOBODY), "try", &shared) {
        Ok(helper) => helper,
        Err(error) => return println!("skipped: can't run as uid {NOBODY}: {error}"),
    };
    let mut listens = || {
        other.tell("listen");
        other.answer()
    };
    let socket = shared.join("inventory");
    let die = || {
        leave_dead_socket(&socket);
        set_mode(&socket, 0o666);
    };
    set_mode(&shared, 0o1777);
    die();
    let refused = listens();
    let text = format!("permission denied: {} belongs to uid 0 and gid 0 ", socket.display());
    assert!(refused.starts_with("cannot ") && refused.contains(&text), "{refused}");
    assert!(refused.contains(&format!("while this process has uid {NOBODY}")), "{refused}");
    // Its server comes back and stops in order, or whoever may remove the socket does.
    drop(Directory::at(&shared).listen(&inventory()).expect("the socket is ours"));
    assert_eq!(listens(), "it worked");
    die();
    fs::remove_file(&socket).expect("the socket is ours");
    assert_eq!(listens(), "it worked");
    // Without the bit those may who may write the directory.
    set_mode(&shared, 0o777);
    die();
    assert_eq!(listens(), "it worked");
}

#[test]
fn a_process_without_descriptors_names_its_limit() {
    let (temporary, directory) = temporary();
    let mut helper = Helper::start("starve", temporary.path());
    for action in ["listen on", "connect to", "accept on", "look into"] {
        let answer = helper.answer();
        assert!(answer.contains("no file descriptor is left to "), "{action}: {answer}");
        assert!(answer.contains("RLIMIT_NOFILE of this process is 3 (hard limit "), "{action}: {answer}");
    }
    assert_eq!(helper.answer(), "dropped");
    assert!(!temporary.path().join("inventory").exists(), "giving a name back needs no descriptor");
    assert_eq!(directory.names().expect("is readable"), []);
}

/// The kernel takes descriptors apart from the highest number down, and some milliseconds for a watch.
#[test]
fn a_killed_process_s_links_end_before_watches_that_were_made_later() {
    let (temporary, _) = temporary();
    let mut helper = Helper::start("watch", temporary.path());
    assert_eq!(helper.answer(), "watched");
}

#[test]
fn a_peer_in_another_pid_namespace_has_no_pid() {
    let (temporary, directory) = temporary();
    let listener = directory.listen(&inventory()).expect("listens");
    let this_binary = std::env::current_exe().expect("runs");
    let this_binary = this_binary.to_str().expect("is UTF-8");
    let arguments = ["--pid", "--fork", "--kill-child", "--", this_binary];
    let mut helper = match Helper::start_by("unshare", &arguments, "inspect", temporary.path()) {
        Ok(helper) => helper,
        Err(error) => return println!("skipped: `unshare` doesn't run: {error}"),
    };
    match helper.try_answer() {
        Ok(answer) => {
            let ours = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
            assert_eq!(answer, format!("peer None {} {}", ours.0, ours.1));
            helper.tell("listen");
            assert!(helper.answer().contains("in use by a process whose pid can't be told from here"));
            // Seen from outside, those within have pids.
            let client = listener.accept().expect("nothing is wrong").expect("it connected");
            assert!(peer_credentials(&client).expect("is connected").pid.is_some());
        }
        Err(output) => println!("skipped: no new pid namespace: {output}"),
    }
}

/// Not a test by itself: the other process of the tests above.
#[test]
fn helper_process() {
    let Some((role, path)) = role() else { return };
    let directory = Directory::at(path);
    match role.as_str() {
        "hold" => hold(&directory),
        "hold with child" => hold_with_child(&directory),
        "wait" => {
            say("inherited");
            commands().for_each(drop);
        }
        "contend" => contend(&directory),
        "try" => commands().for_each(|attempt| say(error_of(&directory, &attempt))),
        "starve" => starve(&directory),
        "watch" => watch(&directory),
        "inspect" => inspect(&directory),
        role => panic!("no such role: {role}"),
    }
}

fn hold(directory: &Directory) {
    let _listener = directory.listen(&inventory()).expect("listens");
    say("holding");
    commands().for_each(drop);
}

/// Its child inherits the socket, as a forked one does.
fn hold_with_child(directory: &Directory) {
    let listener = directory.listen(&inventory()).expect("listens");
    fcntl_setfd(&listener, FdFlags::empty()).expect("can be inherited");
    let mut child = std::process::Command::new(THIS_BINARY);
    child.args(["--exact", "helper_process", "--nocapture"]).env("NOTNETS_TEST_ROLE", "wait");
    say("holding");
    child.status().expect("runs until the test ends");
}

fn contend(directory: &Directory) {
    let mut held = None;
    for command in commands() {
        match command.as_str() {
            "listen" => match directory.listen(&inventory()) {
                Ok(listener) => {
                    held = Some(listener);
                    say("won");
                }
                Err(RendezvousError::NameInUse { .. }) => say("lost"),
                Err(error) => say(error),
            },
            "drop" => {
                drop(held.take());
                say("dropped");
            }
            command => panic!("no such command: {command}"),
        }
    }
}

fn error_of(directory: &Directory, attempt: &str) -> String {
    let error = match attempt {
        "listen" => directory.listen(&inventory()).err(),
        "connect" => directory.connect(&inventory()).err(),
        "names" => directory.names().err(),
        attempt => panic!("no such attempt: {attempt}"),
    };
    error.map_or("it worked".into(), |error| error.to_string())
}

fn starve(directory: &Directory) {
    let listener = directory.listen(&inventory()).expect("listens");
    let _client = directory.connect(&inventory()).expect("connects");
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(3), ..limit }).expect("a limit may be lowered");
    say(directory.listen(&name("other")).expect_err("needs a descriptor"));
    say(directory.connect(&inventory()).expect_err("needs a descriptor"));
    say(listener.accept().expect_err("needs a descriptor"));
    say(directory.names().expect_err("needs a descriptor"));
    drop(listener);
    say("dropped");
}

/// As channels do that follow names, and begin to while there are links.
fn watch(directory: &Directory) {
    let listener = directory.listen(&inventory()).expect("listens");
    let client = directory.connect(&inventory()).expect("connects");
    let server = listener.accept().expect("nothing is wrong").expect("a client");
    let lowest = client.as_raw_fd().min(server.as_raw_fd());
    let file = || fs::File::open("/proc/self/exe").expect("can be read");
    let _no_gaps: Vec<_> =
        std::iter::repeat_with(file).take_while(|file| file.as_raw_fd() < lowest).collect();
    let are_below = || {
        // The kernel has few for one user.
        let watches = [(); 4].map(|()| directory.watch());
        watches.iter().all(|watch| watch.as_ref().is_ok_and(|watch| watch.as_fd().as_raw_fd() < lowest))
    };
    assert!(are_below());
    // Once they are closed, which takes a while, others take their numbers.
    let end = Instant::now() + Duration::from_secs(20);
    while !are_below() {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(5));
    }
    say("watched");
}

fn inspect(directory: &Directory) {
    let server = directory.connect(&inventory()).expect("connects");
    let peer = peer_credentials(&server).expect("is connected");
    say(format!("peer {:?} {} {}", peer.pid, peer.uid, peer.gid));
    commands().for_each(|attempt| say(error_of(directory, &attempt)));
}
