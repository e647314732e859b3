//! The device or file that holds the memory, before anything in it is read.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use notnets_cli_common::number::bytes;
use notnets_memory::region::file::{Kind, RegionFile};
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, major, minor, statfs, statx};

use super::finding::{Finding, Findings};
use super::sysfs::read;

const TMPFS_MAGIC: u64 = 0x0102_1994;
const HUGE: u64 = 2 << 20;

/// Examines the device or file at a path, and its entries in `sys` (`/sys`).
pub fn examine(path: &Path, file: &RegionFile, sys: &Path, findings: &mut Findings) {
    findings.push(device(path, file));
    findings.push(alignment(file));
    findings.push(access(path));
    let directory = match file.kind {
        Kind::DeviceDax => fs::metadata(path).ok().map(|data| of_device(sys, data.rdev())),
        Kind::PciBar => path.parent().map(Path::to_owned),
        Kind::File | Kind::HugePages => None,
    };
    findings.push(distance(directory.as_deref(), sys));
}

fn of_device(sys: &Path, device: u64) -> PathBuf {
    sys.join(format!("dev/char/{}:{}", major(device), minor(device)))
}

/// Reports what it is, and which hosts can share it.
fn device(path: &Path, file: &RegionFile) -> Finding {
    let size = bytes(file.bytes);
    match file.kind {
        Kind::DeviceDax => Finding::ok("device", format!("it is device DAX with {size}")),
        Kind::PciBar => Finding::ok("device", format!("it is a PCI bar with {size}")),
        Kind::HugePages => only_here(format!("it is a file of huge pages with {size}")),
        Kind::File if is_dax(path) => {
            Finding::ok("device", format!("it is a file with {size} on a DAX file system"))
        }
        Kind::File if statfs(path).is_ok_and(|system| system.f_type as u64 == TMPFS_MAGIC) => {
            only_here(format!("it is a file with {size} in this host's memory"))
        }
        Kind::File => Finding::warning(
            "device",
            format!("it is a file with {size} in this host's page cache, which no other host sees"),
        )
        .todo(
            "use device DAX, or a file on famfs or a file system mounted with dax=always; for tests, tmpfs",
        ),
    }
}

fn only_here(what: String) -> Finding {
    let text = format!("{what}: only processes and virtual machines of this host can share it");
    Finding::note("device", text).todo("for several hosts use device DAX, famfs or another DAX file system")
}

fn is_dax(path: &Path) -> bool {
    statx(CWD, path, AtFlags::empty(), StatxFlags::BASIC_STATS)
        .is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::DAX))
}

fn alignment(file: &RegionFile) -> Finding {
    let text = format!("it is mapped in units of {}", bytes(file.unit));
    match file.kind {
        Kind::DeviceDax | Kind::HugePages if file.unit < HUGE => {
            Finding::warning("alignment", format!("{text}, so that each page takes a TLB entry of its own"))
                .todo("make the device with `daxctl create-device --align 2M`")
        }
        _ => Finding::ok("alignment", text),
    }
}

/// Reports which users may open it: each of them can write all of it.
fn access(path: &Path) -> Finding {
    let Ok(data) = fs::metadata(path) else {
        return Finding::warning("access", "its permissions can't be read");
    };
    let mode = data.mode() & 0o777;
    let uid = data.uid();
    let gid = data.gid();
    let text = format!("mode {mode:03o}, uid {uid}, gid {gid}: whoever may open it can write all of the pod");
    if mode & 0o007 == 0 {
        return Finding::ok("access", text);
    }
    let todo = if data.file_type().is_char_device() {
        r#"a udev rule: SUBSYSTEM=="dax", GROUP="notnets", MODE="0660""#.to_owned()
    } else {
        format!("chmod 660 {}", path.display())
    };
    let who = if mode & 0o002 == 0 {
        "every user of this host can read it"
    } else {
        "that is every user of this host"
    };
    Finding::warning("access", format!("{text}; {who}")).todo(todo)
}

/// Reports its distance from the processors.
fn distance(directory: Option<&Path>, sys: &Path) -> Finding {
    let Some(directory) = directory else {
        return Finding::note("distance", "the kernel does not say on which NUMA node a file's memory is");
    };
    let number = |attribute| -> Option<usize> { read(directory, attribute)?.parse().ok() };
    let Some(target) = number("target_node").or_else(|| number("numa_node")) else {
        return Finding::note("distance", "its NUMA node is not known: the firmware does not say");
    };
    let mut distances = distances(sys, target);
    distances.sort_by_key(|(node, distance)| (*distance, *node));
    let Some((nearest, least)) = distances.first().copied() else {
        let text = format!("it is NUMA node {target}; its distance is not known while that node is offline");
        return Finding::note("distance", text);
    };
    let text = format!("it is NUMA node {target}, at distance {least} from the processors of node {nearest}");
    match distances.last() {
        Some((farthest, most)) if most > &least => {
            Finding::note("distance", format!("{text}, and {most} from those of node {farthest}"))
                .todo(format!("run the pod's processes with `numactl --cpunodebind={nearest}`"))
        }
        _ => Finding::ok("distance", text),
    }
}

/// Returns the nodes that have processors, and the distance of `target` from each.
fn distances(sys: &Path, target: usize) -> Vec<(usize, u32)> {
    let nodes = fs::read_dir(sys.join("devices/system/node")).into_iter().flatten().flatten();
    let distance = |entry: fs::DirEntry| {
        let node = entry.file_name().to_str()?.strip_prefix("node")?.parse().ok()?;
        let has_processors = !read(&entry.path(), "cpulist")?.is_empty();
        let distance = read(&entry.path(), "distance")?.split_whitespace().nth(target)?.parse().ok()?;
        has_processors.then_some((node, distance))
    };
    nodes.filter_map(distance).collect()
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn node(sys: &Path, node: usize, processors: &str, distances: &str) {
        let directory = sys.join(format!("devices/system/node/node{node}"));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("cpulist"), processors).unwrap();
        fs::write(directory.join("distance"), distances).unwrap();
    }

    #[test]
    fn far_processors_are_told_from_near_ones() {
        let sys = tempfile::tempdir().unwrap();
        let device = sys.path().join("dev/char/252:1");
        fs::create_dir_all(&device).unwrap();
        let found = || distance(Some(&device), sys.path());
        assert!(found().text.contains("firmware does not say"), "{:?}", found());
        fs::write(device.join("target_node"), "2\n").unwrap();
        assert!(found().text.contains("offline"), "{:?}", found());
        node(sys.path(), 0, "0-7\n", "10 21 40\n");
        node(sys.path(), 2, "\n", "40 20 10\n");
        assert_eq!((found().level, found().todo), (Level::Ok, None));
        node(sys.path(), 1, "8-15\n", "21 10 20\n");
        let found = found();
        assert!(
            found.text.contains("20 from the processors of node 1, and 40 from those of node 0"),
            "{found:?}"
        );
        assert!(found.todo.unwrap().contains("--cpunodebind=1"));
    }

    #[test]
    fn memory_that_everybody_may_write_is_warned_of() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("region");
        fs::write(&file, "x").unwrap();
        for (mode, level) in [(0o660, Level::Ok), (0o644, Level::Warning), (0o666, Level::Warning)] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(access(&file).level, level, "{mode:o}");
        }
    }
}
