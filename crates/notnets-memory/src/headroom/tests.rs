//! Made-up systems in temporary directories.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::*;

const MIB: u64 = 1 << 20;
/// The content of version 1's file when there is no limit.
const NO_LIMIT_V1: &str = "9223372036854771712";

/// A root directory with the files of a system.
struct System(TempDir);

impl System {
    fn new(files: &[(&str, &str)]) -> System {
        let system = System(tempfile::tempdir().expect("a temporary directory"));
        files.iter().for_each(|(path, text)| system.write(path, text));
        system
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("is in a directory")).expect("creates");
        fs::write(path, text).expect("writes");
    }

    fn group(&self, directory: &str, [limit, usage, stat]: [(&str, &str); 3]) {
        for (file, text) in [limit, usage, stat] {
            self.write(&format!("{directory}/{file}"), &format!("{text}\n"));
        }
    }

    fn v1(&self, directory: &str, limit: &str, usage: u64, inactive: u64) {
        // The group's own count comes first and must not be taken for the total.
        let stat = format!("inactive_file 1\nrss 7\ntotal_inactive_file {inactive}\ntotal_active_file 9");
        let (limit, usage) = (("memory.limit_in_bytes", limit), usage.to_string());
        self.group(directory, [limit, ("memory.usage_in_bytes", &usage), ("memory.stat", &stat)]);
    }

    fn v2(&self, directory: &str, limit: &str, usage: u64, inactive: u64) {
        let stat = format!("anon 5\nfile 6\nfile_mapped 7\ninactive_file {inactive}\nactive_file 8");
        let (limit, usage) = (("memory.max", limit), usage.to_string());
        self.group(directory, [limit, ("memory.current", &usage), ("memory.stat", &stat)]);
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn view(&self) -> View {
        View::from(self.0.path())
    }

    /// Where the tightest limit is, below the root, and what it leaves.
    fn tightest(&self) -> Option<(String, u64)> {
        let limit = self.view().tightest(u64::MAX)?;
        let place = match &limit.source {
            Source::ControlGroup { path, .. } => path.strip_prefix(self.0.path()).expect("is below the root"),
            Source::Host => Path::new("host"),
            Source::FileSize => Path::new("file size"),
        };
        Some((place.display().to_string().trim_end_matches('/').into(), limit.available()))
    }
}

const V2_MOUNT: (&str, &str) = (
    "proc/self/mountinfo",
    "22 28 0:20 / /sys rw,nosuid - sysfs sysfs rw\n30 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
);

fn v2_system() -> System {
    let system = System::new(&[V2_MOUNT, ("proc/self/cgroup", "0::/shop.slice/cart.service\n")]);
    system.write("sys/fs/cgroup/cgroup.controllers", "cpu memory"); // The root has no memory.max.
    system
}

fn at(place: &str, available: u64) -> Option<(String, u64)> {
    Some((place.into(), available))
}

#[test]
fn the_tightest_of_all_groups_above_counts() {
    let system = v2_system();
    system.v2("sys/fs/cgroup/shop.slice", "1000", 900, 0);
    system.v2("sys/fs/cgroup/shop.slice/cart.service", "500", 100, 0);
    assert_eq!(system.tightest(), at("sys/fs/cgroup/shop.slice", 100));
    system.v2("sys/fs/cgroup/shop.slice/cart.service", "150", 100, 0);
    assert_eq!(system.tightest(), at("sys/fs/cgroup/shop.slice/cart.service", 50));
    system.v2("sys/fs/cgroup/shop.slice/cart.service", "max", 100, 0);
    system.v2("sys/fs/cgroup/shop.slice", "max", 900, 0);
    assert_eq!(system.tightest(), None);
}

#[test]
fn idle_page_cache_is_as_good_as_free() {
    let system = v2_system();
    system.v2("sys/fs/cgroup/shop.slice/cart.service", "1000", 950, 700);
    assert_eq!(system.tightest(), at("sys/fs/cgroup/shop.slice/cart.service", 750));
    assert_eq!(system.view().check(750, 0), Ok(()));
    assert!(system.view().check(751, 0).is_err());
}

#[test]
fn version_1_is_read_wherever_it_is_mounted() {
    let system = System::new(&[
        (
            "proc/self/mountinfo",
            "32 31 0:28 / /cg/cpu rw - cgroup cgroup rw,cpu\n\
             33 31 0:29 / /cg/with\\040space rw,relatime - cgroup cgroup rw,hugetlb,memory\n\
             41 31 0:38 / /cg/unified rw,relatime - cgroup2 cgroup2 rw\n",
        ),
        ("proc/self/cgroup", "9:name=systemd:/\n4:hugetlb,memory:/jobs/7\n1:cpu:/elsewhere\n0::/\n"),
    ]);
    system.v1("cg/with space", NO_LIMIT_V1, 10, 0);
    system.v1("cg/with space/jobs", "4096", 3000, 1000);
    system.v1("cg/with space/jobs/7", NO_LIMIT_V1, 5000, 0);
    assert_eq!(system.tightest(), at("cg/with space/jobs", 2096));
}

#[test]
fn a_container_sees_its_own_group_at_the_mount() {
    let mount = "30 22 0:26 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
    let system =
        System::new(&[("proc/self/mountinfo", mount), ("proc/self/cgroup", "4:memory:/docker/abc/inner\n")]);
    system.v1("sys/fs/cgroup/memory", "1000", 100, 0);
    assert_eq!(system.tightest(), at("sys/fs/cgroup/memory", 900), "its parent limits it");
    system.v1("sys/fs/cgroup/memory/inner", "1000", 200, 0);
    assert_eq!(system.tightest(), at("sys/fs/cgroup/memory/inner", 800));
    // With a namespace the path may have nothing to do with the mount, or lead out of it.
    for hidden in ["/", "/other", "/../../other"] {
        system.write("proc/self/cgroup", &format!("4:memory:{hidden}\n"));
        assert_eq!(system.tightest(), at("sys/fs/cgroup/memory", 900), "{hidden}");
    }
}

#[test]
fn a_process_that_is_moved_is_followed() {
    let system = v2_system();
    system.v2("sys/fs/cgroup/shop.slice", "1000", 0, 0);
    system.v2("sys/fs/cgroup/small", "10", 0, 0);
    let view = system.view();
    assert_eq!(view.check(100, 0), Ok(()));
    system.write("proc/self/cgroup", "0::/small\n");
    assert!(view.check(100, 0).is_err());
}

#[test]
fn the_host_is_a_limit_too() {
    let system = v2_system();
    system.v2("sys/fs/cgroup/shop.slice", "2097152", 0, 0);
    system.write(
        "proc/meminfo",
        "MemTotal:       4096 kB\nMemFree:   1 kB\nMemAvailable:   1024 kB\nSwapFree: 9 kB\n",
    );
    assert_eq!(system.tightest(), at("host", MIB));
    let error = system.view().check(MIB + 1, 0).expect_err("is more than there is").to_string();
    assert!(
        error.contains("the memory of this host leaves 1048576 bytes (1.0 MiB) of 4194304 bytes (4.0 MiB)"),
        "{error}"
    );
    system.write("proc/meminfo", "MemTotal: 4096 kB\nMemAvailable: 3072 kB\n");
    assert_eq!(system.tightest(), at("sys/fs/cgroup/shop.slice", 2 * MIB));
}

#[test]
fn the_error_gives_the_numbers_and_the_group() {
    let system = v2_system();
    system.v2("sys/fs/cgroup/shop.slice", &(8 * MIB).to_string(), 9 * MIB, 500);
    let error = system.view().check(4 * MIB, 0).expect_err("the group is over its limit");
    assert_eq!(error.limit.available(), 0);
    let group = system.path("sys/fs/cgroup/shop.slice");
    assert_eq!(
        error.to_string(),
        format!(
            "no room for 4194304 bytes (4.0 MiB) of shared memory: memory.max of the control group {} leaves 0 bytes \
             of 8388608 bytes (8.0 MiB), with 9437184 bytes (9.0 MiB) in use and 500 bytes of that reclaimable; raise \
             that limit, or share less memory",
            group.display()
        )
    );
}

#[test]
fn some_of_it_stays_free() {
    let system = v2_system();
    system.v2("sys/fs/cgroup/shop.slice", &(8 * MIB).to_string(), 5 * MIB, 0);
    assert_eq!(system.view().check(2 * MIB, MIB), Ok(()));
    let error = system.view().check(2 * MIB + 1, MIB).expect_err("too little would stay free").to_string();
    assert!(
        error.contains("leaves 3145728 bytes (3.0 MiB) of 8388608 bytes (8.0 MiB)")
            && error.contains(", while 1048576 bytes (1.0 MiB) stay free for what else is done there; raise"),
        "{error}"
    );
}

#[test]
fn what_cannot_be_read_limits_nothing() {
    for files in [
        &[][..],
        &[V2_MOUNT],
        &[V2_MOUNT, ("proc/self/cgroup", "0::/gone (deleted)\n")],
        &[
            ("proc/self/mountinfo", "nonsense\n1 2 3 - cgroup2\n\n - cgroup x\n"),
            ("proc/self/cgroup", "0::\n4:memory\n\n::::\n"),
        ],
        &[V2_MOUNT, ("proc/self/cgroup", "0::/x\n"), ("sys/fs/cgroup/x/memory.max", "plenty")],
        &[("proc/meminfo", "MemTotal: many kB\n")],
    ] {
        let system = System::new(files);
        assert_eq!(system.tightest(), None);
        assert_eq!(system.view().check(u64::MAX, 0), Ok(()));
    }
}

#[test]
fn this_system_has_room_for_a_page_but_not_for_everything() {
    assert_eq!(check(4096), Ok(()));
    let limit = headroom().tightest.expect("at least the host has a limit");
    assert!(limit.usage > 0, "this process at least is in use: {limit:?}");
    assert!(check(limit.limit + 1).is_err(), "{limit:?}");
}

#[test]
fn a_file_may_be_as_large_as_the_process_may_make_one() {
    assert!(check_file_size(4096, None).is_ok() && check_file_size(4096, Some(4096)).is_ok());
    let error = check_file_size(4097, Some(4096)).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("RLIMIT_FSIZE of this process leaves 4096 bytes") && text.contains("ulimit -f"),
        "{text}"
    );
}
