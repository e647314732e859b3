//! Headroom in a real control group with a small limit, where this process may make one.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio, id};
use std::thread;

use notnets_memory::headroom::{Source, check, headroom};

const ROLE: &str = "NOTNETS_TEST_ROLE";
const MIB: u64 = 1 << 20;
const LIMIT: u64 = 64 * MIB;
/// What the helper touches in the group.
const TAKEN: u64 = 24 * MIB;

/// Below our own group, so that all limits above go on to hold.
struct SmallGroup {
    directory: PathBuf,
    limit_file: &'static str,
}

impl SmallGroup {
    fn new() -> Result<SmallGroup, String> {
        let Some(own) = own_group() else { return Err("no memory control group is mounted here".into()) };
        let directory = own.join(format!("notnets-test-{}", id()));
        fs::create_dir(&directory)
            .map_err(|error| format!("may not create {}: {error}", directory.display()))?;
        let limit_file =
            ["memory.max", "memory.limit_in_bytes"].into_iter().find(|file| directory.join(file).exists());
        let group = SmallGroup { directory, limit_file: limit_file.unwrap_or("memory.max") };
        fs::write(group.directory.join(group.limit_file), LIMIT.to_string())
            .map_err(|error| format!("{} takes no memory limit: {error}", group.directory.display()))?;
        Ok(group)
    }

    fn admit(&self, child: &Child) -> Result<(), String> {
        fs::write(self.directory.join("cgroup.procs"), child.id().to_string())
            .map_err(|error| format!("may not move a process to {}: {error}", self.directory.display()))
    }
}

impl Drop for SmallGroup {
    fn drop(&mut self) {
        // It is empty: what was in it has been waited for.
        let removed = fs::remove_dir(&self.directory);
        assert!(
            removed.is_ok() || thread::panicking(),
            "{} stays behind: {removed:?}",
            self.directory.display()
        );
    }
}

/// The usual places of both versions are enough for a test.
fn own_group() -> Option<PathBuf> {
    let memberships = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group =
        |prefix: &str| memberships.lines().find_map(|line| line.split_once(prefix).map(|(_, group)| group));
    let v1 = group(":memory:").map(|group| Path::new("/sys/fs/cgroup/memory").join(&group[1..]));
    let v2 = group("0::").map(|group| Path::new("/sys/fs/cgroup").join(&group[1..]));
    v1.into_iter().chain(v2).find(|directory| directory.join("cgroup.procs").exists())
}

/// The child in the group. Ended and waited for when dropped.
struct Helper(Child);

impl Helper {
    fn start() -> Helper {
        let mut command = Command::new("/proc/self/exe");
        command.args(["--exact", "helper_process", "--nocapture"]).env(ROLE, "small group");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        Helper(command.spawn().expect("the test binary runs"))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_group_with_a_small_limit_is_respected() {
    let group = match SmallGroup::new() {
        Ok(group) => group,
        Err(reason) => return println!("skipped: {reason}"),
    };
    let mut helper = Helper::start();
    if let Err(reason) = group.admit(&helper.0) {
        return println!("skipped: {reason}");
    }
    let mut stdin = helper.0.stdin.take().expect("is piped");
    writeln!(stdin, "{}", group.directory.display()).expect("the helper reads");
    let answers = BufReader::new(helper.0.stderr.take().expect("is piped"));
    let answers: Vec<String> = answers.lines().map_while(Result::ok).collect();
    assert!(answers.contains(&"@good".into()), "{}", answers.join("\n"));
}

/// Not a test by itself: the process in the group, told which one it is.
#[test]
fn helper_process() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    let mut directory = String::new();
    std::io::stdin().read_line(&mut directory).expect("reads");
    let directory = PathBuf::from(directory.trim_end());

    check(TAKEN).expect("there is room at first");
    let error = check(LIMIT + 1).expect_err("more than the limit never fits");
    assert_eq!(error.limit.limit, LIMIT);
    assert!(
        matches!(&error.limit.source, Source::ControlGroup { path, .. } if *path == directory),
        "{error}"
    );

    let taken = std::hint::black_box(vec![1_u8; TAKEN as usize]);
    let error = check(LIMIT - TAKEN + MIB).expect_err("some of it is taken now");
    assert!(error.limit.usage >= TAKEN, "{error}");
    let left = headroom().bytes().expect("there is a limit");
    assert!((LIMIT - TAKEN - 8 * MIB..=LIMIT - TAKEN).contains(&left), "{left} bytes are left");
    check(left / 2).expect("there is room for that");
    drop(taken);
    eprintln!("@good");
}
