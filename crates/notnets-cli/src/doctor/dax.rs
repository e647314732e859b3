//! Which driver a device-DAX device is bound to. Only one of them lets programs map its memory.

use std::fs;
use std::path::{Path, PathBuf};

use super::finding::Finding;

/// The directory in `sys` (`/sys`) of a device-DAX device, which is there without its device file, too.
pub fn directory(path: &Path, sys: &Path) -> Option<PathBuf> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let devices = sys.join("bus/dax/devices");
    fs::canonicalize(devices.join(path.file_name()?)).ok()
}

/// Reports the driver of the device with this directory.
pub fn driver(directory: &Path) -> Finding {
    let name = directory.file_name().unwrap_or_default().display();
    let driver = fs::read_link(directory.join("driver")).ok();
    let driver = driver.as_deref().and_then(Path::file_name).and_then(|driver| driver.to_str());
    let to_devdax = format!("daxctl reconfigure-device --mode=devdax --force {name}");
    match driver {
        Some("device_dax") => {
            Finding::ok("driver", format!("{name} is bound to device_dax, by which programs map its memory"))
        }
        Some("kmem") => Finding::fault(
            "driver",
            format!("{name} is bound to kmem: it is memory of this host as any other, and can't be mapped"),
        )
        .todo(format!("`{to_devdax}`: it takes the memory from this host, and what lies in it is lost")),
        Some("fsdev_dax") => Finding::fault(
            "driver",
            format!("{name} is bound to fsdev_dax, which serves a file system and can't be mapped itself"),
        )
        .todo(format!("use a file on the famfs that is on it, or `{to_devdax}`, after which that is gone")),
        Some(other) => {
            let text = format!("{name} is bound to {other}, of which nothing is known here");
            Finding::warning("driver", text).todo(format!("`{to_devdax}`"))
        }
        None => Finding::fault("driver", format!("no driver is bound to {name}")).todo(format!(
            "`daxctl enable-device {name}`, or: modprobe device_dax; echo {name} \
             >/sys/bus/dax/drivers/device_dax/bind (to new_id where that is refused)"
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::finding::Level;
    use super::*;

    #[test]
    fn only_what_can_be_mapped_can_hold_a_region() {
        let sys = tempfile::tempdir().unwrap();
        let device = sys.path().join("devices/platform/hmem.0/dax0.0");
        fs::create_dir_all(&device).unwrap();
        let bus = sys.path().join("bus/dax");
        fs::create_dir_all(bus.join("devices")).unwrap();
        symlink(&device, bus.join("devices/dax0.0")).unwrap();
        let path = sys.path().join("dev/dax0.0");
        assert_eq!(directory(&path, sys.path()), Some(device.clone()), "its device file is not there");
        assert_eq!(directory(&sys.path().join("dev/null"), sys.path()), None);

        let found = || driver(&device);
        assert_eq!(found().level, Level::Fault);
        assert!(found().todo.unwrap().contains("daxctl enable-device dax0.0"));
        for (name, level, part) in [
            ("device_dax", Level::Ok, "map"),
            ("kmem", Level::Fault, "memory of this host"),
            ("fsdev_dax", Level::Fault, "can't be mapped itself"),
            ("other_dax", Level::Warning, "nothing is known"),
        ] {
            let _ = fs::remove_file(device.join("driver"));
            symlink(format!("../../../../bus/dax/drivers/{name}"), device.join("driver")).unwrap();
            let found = found();
            assert!(found.level == level && found.text.contains(part), "{found:?}");
            let command = "daxctl reconfigure-device --mode=devdax --force dax0.0";
            assert!(found.todo.is_none_or(|todo| todo.contains(command)));
        }
    }
}
