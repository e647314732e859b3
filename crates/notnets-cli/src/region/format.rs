//! `notnets region format`.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use notnets_cli_common::coherence::Coherence;
use notnets_core::name::Name;
use notnets_memory::region::Region;
use notnets_memory::region::file::RegionFile;
use notnets_memory::region::format::{Plan, Present, format, look};
use notnets_pod::survey::{Presence, survey};
use rustix::fs::{FallocateFlags, fallocate};

use super::report::Division;
use super::{json, print, sentence};
use crate::failure::Failure;

/// The arguments of the subcommand.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The device, file or PCI bar, for example /dev/dax0.0
    path: PathBuf,
    /// How many hosts there can be
    #[arg(long)]
    hosts: u32,
    /// The pod's name, as in notnets://POD/service
    #[arg(long, default_value = "pod0")]
    pod: Name,
    /// How the hosts' copies of a line are kept in step
    #[arg(long, value_enum, default_value_t = Coherence::Software)]
    coherence: Coherence,
    /// Make a file of this size first, for example 64M, for its owner alone. It must not be there yet
    #[arg(long, value_parser = bytes)]
    create: Option<u64>,
    /// Bytes that an agent grants at once, for example 2M
    #[arg(long, value_parser = bytes)]
    extent: Option<u64>,
    /// How many processes of each host can be in the pod
    #[arg(long, default_value_t = 64)]
    processes: u32,
    /// How many names each host can serve
    #[arg(long, default_value_t = 128)]
    services: u32,
    /// Slots of each mailbox between two hosts
    #[arg(long, default_value_t = 64)]
    mailbox_slots: u32,
    /// The time between two heartbeats
    #[arg(long, default_value = "100ms", value_parser = milliseconds)]
    heartbeat: u32,
    /// A host without heartbeat is considered dead after this time
    #[arg(long, default_value = "2s", value_parser = milliseconds)]
    lease: u32,
    /// Format what looks used
    #[arg(long)]
    force: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Makes a region.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let fail = |error: &dyn std::fmt::Display| Failure::new(sentence(&args.path, &error));
    if let Some(bytes) = args.create {
        create(&args.path, bytes)?;
    }
    let file = RegionFile::open(&args.path).map_err(|error| fail(&error))?;
    let plan = Plan {
        coherence: args.coherence.into(),
        extent_bytes: args.extent,
        processes: args.processes,
        services: args.services,
        mailbox_slots: args.mailbox_slots,
        heartbeat_ms: args.heartbeat,
        lease_ms: args.lease,
        ..Plan::new(args.pod.as_str(), args.hosts)
    };
    let present = look(&file, &plan).map_err(|error| fail(&error))?;
    refuse_used(args, &present)?;
    format(&file, &plan).map_err(|error| fail(&error))?;
    let region = Region::of(file).map_err(|error| fail(&error))?;
    let division = Division::new(&args.path, &region);
    print(&if args.json { json(&division) } else { division.text() });
    Ok(())
}

fn create(path: &Path, bytes: u64) -> Result<(), Failure> {
    let fail = |error: &dyn std::fmt::Display| {
        Failure::new(format!("could not make {} with {bytes} bytes: {error}", path.display()))
    };
    // Whoever may open a region may write all of it.
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
    let file = file.map_err(|error| fail(&error))?;
    fallocate(&file, FallocateFlags::empty(), 0, bytes).map_err(|errno| {
        let _ = std::fs::remove_file(path);
        fail(&errno)
    })
}

fn refuse_used(args: &Args, present: &Present) -> Result<(), Failure> {
    let path = args.path.display();
    let force = "to lose what is there, say --force";
    match present {
        Present::Nothing => Ok(()),
        Present::Region(superblock) => {
            // Also with --force: a host that runs there would continue to write.
            if let Ok(region) = Region::open(&args.path) {
                let hosts = survey(&region).hosts;
                let running = hosts.iter().position(|host| host.presence == Presence::Running);
                if let Some(host) = running {
                    return Err(Failure::new(format!(
                        "{path} is in use: host {host} of the pod {} is running; stop its agent and processes first",
                        superblock.pod
                    )));
                }
            }
            if args.force {
                return Ok(());
            }
            Err(Failure::new(format!(
                "{path} is already a region, of the pod {} (uuid {}); {force}",
                superblock.pod, superblock.uuid
            )))
        }
        _ if args.force => Ok(()),
        Present::Strange(reason) => {
            Err(Failure::new(format!("{path} begins as a region, but {reason}; {force}")))
        }
        Present::Data(byte) => {
            Err(Failure::new(format!("{path} looks used: byte {byte} is not zero; {force}")))
        }
    }
}

/// A number of bytes, as `4096`, `64K`, `2M` or `1G`.
fn bytes(text: &str) -> Result<u64, String> {
    let unit = |suffix: &str| text.strip_suffix(suffix);
    let (number, shift) = [("K", 10), ("M", 20), ("G", 30), ("T", 40)]
        .into_iter()
        .find_map(|(suffix, shift)| Some((unit(suffix)?, shift)))
        .unwrap_or((text, 0));
    let number: Option<u64> = number.parse().ok();
    number
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| "not a size: write for example 4096, 64K, 2M or 1G".to_owned())
}

fn milliseconds(text: &str) -> Result<u32, String> {
    let duration = notnets_cli_common::duration::parse(text)?;
    u32::try_from(duration.as_millis()).map_err(|_| "longer than 49 days".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, expected) in [("4096", 4096), ("64K", 65536), ("2M", 2 << 20), ("1G", 1 << 30)] {
            assert_eq!(bytes(text), Ok(expected));
        }
        for text in ["", "K", "-1", "2MB", "1.5M", "99999999999999T"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
