//! `notnets doctor` finds out whether memory can carry a pod, and what to do if it cannot.
//!
//! On its own it examines the device and the region's records. With `--host-id` it also joins the pod, waits
//! for the doctor of another host, and tests with it what the pod relies on. It writes only memory that an
//! agent grants, so a working pod keeps working meanwhile.
//!
//! | file | what |
//! | --- | --- |
//! | `dax.rs` | the driver of a device-DAX device |
//! | `cxl.rs` | the CXL region that it is: interleaving, back-invalidate |
//! | `device.rs` | the memory itself: device, size, alignment, access, distance |
//! | `layout.rs` | the region's own records, and its hosts |
//! | `sysfs.rs` | what the kernel says of a device |
//! | `host.rs` | membership in the pod |
//! | `litmus_run.rs` | the tests that two doctors run together |
//! | `diagnosis.rs` | what follows from their results |
//! | `finding.rs` | a sentence with what to do |

mod cxl;
mod dax;
mod device;
mod diagnosis;
mod finding;
mod host;
mod layout;
mod litmus_run;
mod sysfs;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use notnets_cli_common::duration;
use notnets_memory::region::Region;
use notnets_memory::region::file::RegionFile;

use self::finding::{Finding, Findings, Level};
use crate::failure::Failure;
use crate::place::Place;

/// The arguments of the subcommand.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The device, file or PCI bar that holds the pod's region, for example /dev/dax0.0
    #[arg(long)]
    region: PathBuf,
    /// Which host of the pod this is: try the memory with the doctor of another host
    #[arg(long)]
    host_id: Option<u16>,
    /// How long to wait for the other doctor
    #[arg(long, default_value = "60s", value_parser = duration::parse, requires = "host_id")]
    wait: Duration,
    /// Print one JSON object instead of sentences
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// Examines the region.
///
/// # Errors
/// When there is a fault, after all findings were printed.
pub fn run(args: &Args) -> Result<(), Failure> {
    let findings = examine(args);
    let text = if args.json { findings.json() } else { findings.text() };
    // A reader that has seen enough (`| head`) is not a failure.
    let _ = io::stdout().write_all(text.as_bytes());
    match findings.faults() {
        0 => Ok(()),
        n => Err(Failure::new(format!(
            "{} has {n} faults that keep a pod from working",
            args.region.display()
        ))),
    }
}

fn examine(args: &Args) -> Findings {
    let mut findings = Findings::new(&args.region);
    let Some(region) = open(&args.region, &mut findings) else { return findings };
    layout::examine(&region, &mut findings);
    let Some(host) = args.host_id else {
        findings.push(Finding::note("litmus", "what happens between two hosts was not tried").todo(
            "run `notnets doctor --region … --host-id N` on two hosts at once, each with its own number",
        ));
        return findings;
    };
    findings.host = Some(host);
    let outcome =
        host::Host::join(region, &args.region, host, args.place.directory(), Instant::now() + args.wait)
            .and_then(|host| litmus_run::run(&host, Instant::now() + args.wait));
    match outcome {
        Ok(outcome) => diagnosis::diagnose(&outcome, &mut findings),
        Err(finding) => findings.push(finding),
    }
    findings
}

/// Looks at what holds the region, and opens it.
fn open(path: &Path, findings: &mut Findings) -> Option<Region> {
    let sys = Path::new("/sys");
    let dax = dax::directory(path, sys);
    if let Some(dax) = &dax {
        let driver = dax::driver(dax);
        let can_be_mapped = driver.level != Level::Fault;
        findings.push(driver);
        cxl::examine(dax, sys, findings);
        if !can_be_mapped {
            return None;
        }
    }
    let file = match RegionFile::open(path) {
        Ok(file) => file,
        Err(error) => {
            findings.push(Finding::fault("device", format!("it can't hold a region: {error}")));
            return None;
        }
    };
    device::examine(path, &file, sys, findings);
    match Region::of(file) {
        Ok(region) => Some(region),
        Err(error) => {
            findings.push(
                Finding::fault("superblock", format!("the region can't be used: {error}"))
                    .todo("if nobody uses this memory, make a region of it with `notnets region format`"),
            );
            None
        }
    }
}
