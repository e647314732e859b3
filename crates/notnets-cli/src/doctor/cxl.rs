//! The CXL region that a device-DAX device is: over which devices it goes, and whether they can ask hosts to
//! give up their copies of lines (back-invalidate), without which no hardware keeps hosts coherent.
//!
//! What sysfs does not say stands in the registers of each device's HDM decoders, which root may read.

use std::fs;
use std::path::{Path, PathBuf};

use notnets_cli_common::number::bytes;
use notnets_memory::registers::Registers;

use super::finding::{Finding, Findings};
use super::sysfs::read;

const CHECK: &str = "cxl";

/// Examines the region above the device with this directory, if it is CXL's.
pub fn examine(dax: &Path, sys: &Path, findings: &mut Findings) {
    let Some(region) = dax.ancestors().find(|above| above.join("interleave_ways").exists()) else { return };
    let ways = number(region, "interleave_ways").unwrap_or(1);
    findings.push(interleaving(region, ways));
    findings.push(back_invalidation(region, ways, sys));
}

/// Numbers in sysfs are decimal or hexadecimal.
fn number(directory: &Path, attribute: &str) -> Option<u64> {
    let text = read(directory, attribute)?;
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn interleaving(region: &Path, ways: u64) -> Finding {
    let name = region.file_name().unwrap_or_default().display();
    let granularity = number(region, "interleave_granularity").map_or("unknown".to_owned(), bytes);
    if ways == 1 {
        return Finding::ok(CHECK, format!("{name} is all on one device"));
    }
    let text = format!("{name} goes over {ways} devices in turns of {granularity}");
    Finding::note(CHECK, text).todo("make it of the same devices in the same order on all hosts")
}

/// What a device's decoders can, and do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Decoders {
    /// Two bits: 1 if the device can be coherent by itself, 2 if only hosts can keep it so. Neither if it
    /// does not say.
    models: u32,
    /// A decoder that is in use lets the device ask hosts to give lines up.
    invalidates: bool,
}

fn back_invalidation(region: &Path, ways: u64, sys: &Path) -> Finding {
    let mut all = Vec::new();
    for target in 0..ways {
        match device(region, target, sys).and_then(|device| decoders(&device)) {
            Ok(decoders) => all.push(decoders),
            Err(why) => {
                let text = format!("whether its devices can invalidate hosts' copies can't be known: {why}");
                return Finding::note(CHECK, text).todo("run the doctor as root, or ask the device's vendor");
            }
        }
    }
    verdict(&all)
}

fn verdict(all: &[Decoders]) -> Finding {
    if all.iter().all(|decoders| decoders.invalidates) {
        return Finding::ok(CHECK, "its devices invalidate hosts' copies of lines (back-invalidate is on)");
    }
    if all.iter().all(|decoders| decoders.models & 1 == 1) {
        return Finding::note(CHECK, "its devices can invalidate hosts' copies (HDM-DB), and are not set up to").todo(
            "format with `--coherence software`, unless the firmware or the driver of all hosts can turn it on",
        );
    }
    if all.iter().any(|decoders| decoders.models == 2) {
        return Finding::note(CHECK, "its devices can't invalidate hosts' copies of lines (HDM-H)")
            .todo("format with `--coherence software`: no hardware keeps several hosts coherent here");
    }
    Finding::note(CHECK, "its devices don't say whether they can invalidate hosts' copies of lines")
        .todo("format with `--coherence software`, unless the vendor promises coherence between hosts")
}

/// The PCI device on which a part of a region lies.
fn device(region: &Path, target: u64, sys: &Path) -> Result<PathBuf, String> {
    let missing = |what| format!("sysfs does not say {what}");
    let name = read(region, &format!("target{target}"));
    let name = name.filter(|name| !name.is_empty()).ok_or_else(|| missing("on which devices it lies"))?;
    let decoder = fs::canonicalize(sys.join("bus/cxl/devices").join(name));
    let decoder = decoder.map_err(|_| missing("where its decoders are"))?;
    let memory = decoder.parent().and_then(|endpoint| fs::canonicalize(endpoint.join("uport")).ok());
    let pci = memory.as_deref().and_then(Path::parent).ok_or_else(|| missing("of which device they are"))?;
    Ok(pci.to_owned())
}

/// Reads what the decoders of a PCI device can.
fn decoders(pci: &Path) -> Result<Decoders, String> {
    let config = fs::read(pci.join("config")).map_err(|error| format!("its configuration: {error}"))?;
    let (bar, offset) =
        component_block(&config).ok_or("its configuration names no CXL registers, or only to root")?;
    let registers = Registers::open(&pci.join(format!("resource{bar}")), offset, COMPONENT_BYTES);
    let registers = registers.map_err(|error| format!("its registers: {error}"))?;
    hdm_decoders(&|byte| registers.read(byte)).ok_or_else(|| "its registers have no HDM decoders".to_owned())
}

const COMPONENT_BYTES: usize = 64 << 10;
/// Where the registers of CXL.cache and CXL.mem begin.
const CACHE_MEM: usize = 0x1000;
/// Numbers of capabilities: of PCI's designated vendor, of CXL's vendor, of the one that locates registers,
/// of the component's registers, of a list of capabilities, and of HDM decoders.
const DVSEC: u32 = 0x23;
const CXL_VENDOR: u32 = 0x1e98;
const LOCATOR: u32 = 8;
const COMPONENT: u32 = 1;
const CAPABILITIES: u32 = 1;
const HDM_DECODERS: u32 = 5;

/// In which BAR, and where, the component registers lie.
fn component_block(config: &[u8]) -> Option<(u32, u64)> {
    let word = |at: usize| Some(u32::from_le_bytes(*config.get(at..)?.first_chunk()?));
    let mut at = 0x100;
    // There is room for no more of them.
    for _ in 0..config.len() / 8 {
        let (capability, vendor, id) = (word(at)?, word(at + 4)?, word(at + 8)? & 0xffff);
        if capability & 0xffff == DVSEC && vendor & 0xffff == CXL_VENDOR && id == LOCATOR {
            let mut blocks = (at + 12..at + (vendor >> 20) as usize).step_by(8);
            return blocks.find_map(|block| {
                let (low, high) = (word(block)?, word(block + 4)?);
                let offset = u64::from(high) << 32 | u64::from(low & 0xffff_0000);
                (low >> 8 & 0xff == COMPONENT).then_some((low & 7, offset))
            });
        }
        at = (capability >> 20) as usize;
        if at == 0 {
            return None;
        }
    }
    None
}

/// Reads the capabilities of HDM decoders, and the decoders that are in use.
fn hdm_decoders(register: &dyn Fn(usize) -> Option<u32>) -> Option<Decoders> {
    let header = register(CACHE_MEM)?;
    if header & 0xffff != CAPABILITIES {
        return None;
    }
    let mut entries = (1..=(header >> 24) as usize).filter_map(|nth| register(CACHE_MEM + 4 * nth));
    let entry = entries.find(|entry| entry & 0xffff == HDM_DECODERS)?;
    let base = CACHE_MEM + (entry >> 20) as usize;
    let capability = register(base)?;
    let count = match capability & 0xf {
        0 => 1,
        n @ 1..=8 => 2 * n as usize,
        n => 4 * n as usize - 16,
    };
    let control = |nth: usize| register(base + 0x20 * (nth + 1));
    let (committed, back_invalidate) = (1 << 10, 1 << 13);
    let used: Vec<u32> = (0..count).filter_map(control).filter(|control| control & committed != 0).collect();
    let invalidates = !used.is_empty() && used.iter().all(|control| control & back_invalidate != 0);
    Some(Decoders { models: capability >> 21 & 3, invalidates })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::finding::Level;
    use super::*;

    /// A region that goes over two devices, and its device-DAX device.
    struct Tree {
        sys: tempfile::TempDir,
        region: PathBuf,
    }

    impl Tree {
        fn new() -> Self {
            let sys = tempfile::tempdir().unwrap();
            let region = sys.path().join("devices/platform/ACPI0017:00/root0/decoder0.0/region0");
            fs::create_dir_all(region.join("dax_region0/dax0.0")).unwrap();
            fs::create_dir_all(sys.path().join("bus/cxl/devices")).unwrap();
            let tree = Self { sys, region };
            tree.set("interleave_ways", "2\n");
            tree.set("interleave_granularity", "4096\n");
            tree
        }

        fn set(&self, attribute: &str, value: &str) {
            fs::write(self.region.join(attribute), value).unwrap();
        }

        /// The device of a part, with these bits in its HDM decoders' capability and first two controls.
        fn device(&self, target: usize, capability: u32, controls: [u32; 2]) {
            let pci = self.sys.path().join(format!("devices/pci0000:0c/0000:0d:0{target}.0"));
            let endpoint = self.sys.path().join(format!("devices/platform/ACPI0017:00/endpoint{target}"));
            let decoder = format!("decoder{}.0", target + 2);
            fs::create_dir_all(pci.join("mem0")).unwrap();
            fs::create_dir_all(endpoint.join(&decoder)).unwrap();
            let _ = symlink(pci.join("mem0"), endpoint.join("uport"));
            let _ = symlink(endpoint.join(&decoder), self.sys.path().join("bus/cxl/devices").join(&decoder));
            self.set(&format!("target{target}"), &decoder);
            let mut config = vec![0; 4096];
            let mut put = |at: usize, word: u32| config[at..at + 4].copy_from_slice(&word.to_le_bytes());
            // Another capability, then the locator with its second block in BAR 2, at 64 KiB.
            put(0x100, 0x200 << 20 | 1);
            put(0x200, DVSEC);
            put(0x204, 0x1c << 20 | CXL_VENDOR);
            put(0x208, LOCATOR);
            put(0x20c, 3 << 8);
            put(0x214, 0x1_0000 | COMPONENT << 8 | 2);
            fs::write(pci.join("config"), config).unwrap();
            let mut bar = vec![0; 2 * COMPONENT_BYTES];
            let mut put = |at: usize, word: u32| {
                let at = COMPONENT_BYTES + at;
                bar[at..at + 4].copy_from_slice(&word.to_le_bytes());
            };
            put(CACHE_MEM, 2 << 24 | CAPABILITIES);
            put(CACHE_MEM + 4, 0x80 << 20 | 2);
            put(CACHE_MEM + 8, 0x100 << 20 | HDM_DECODERS);
            put(CACHE_MEM + 0x100, capability | 1);
            put(CACHE_MEM + 0x120, controls[0]);
            put(CACHE_MEM + 0x140, controls[1]);
            fs::write(pci.join("resource2"), bar).unwrap();
        }

        fn findings(&self) -> Findings {
            let mut findings = Findings::new("/dev/dax0.0".as_ref());
            examine(&self.region.join("dax_region0/dax0.0"), self.sys.path(), &mut findings);
            findings
        }

        fn coherence(&self) -> Finding {
            back_invalidation(&self.region, 2, self.sys.path())
        }
    }

    const CAN: u32 = 3 << 21;
    const COMMITTED: u32 = 1 << 10;
    const INVALIDATES: u32 = COMMITTED | 1 << 13;

    #[test]
    fn interleaving_is_told() {
        let tree = Tree::new();
        assert!(
            tree.findings().text().contains("goes over 2 devices in turns of 4"),
            "{:?}",
            tree.findings()
        );
        tree.set("interleave_ways", "1\n");
        assert!(tree.findings().text().contains("region0 is all on one device"));
        let elsewhere = tempfile::tempdir().unwrap();
        let mut findings = Findings::new("/dev/dax0.0".as_ref());
        examine(elsewhere.path(), tree.sys.path(), &mut findings);
        assert_eq!(findings.text(), "", "it is no region of CXL's");
    }

    #[test]
    fn decoders_say_whether_copies_are_invalidated() {
        let tree = Tree::new();
        assert!(tree.coherence().text.contains("can't be known: sysfs does not say on which devices"));
        tree.device(0, CAN, [INVALIDATES, 0]);
        assert!(tree.coherence().text.contains("can't be known"), "nothing is known of the second");
        for (capability, controls, level, part) in [
            (CAN, [INVALIDATES, 0], Level::Ok, "back-invalidate is on"),
            (CAN, [INVALIDATES, COMMITTED], Level::Note, "are not set up to"),
            (CAN, [0, 0], Level::Note, "are not set up to"),
            (2 << 21, [COMMITTED, 0], Level::Note, "can't invalidate"),
            (0, [COMMITTED, 0], Level::Note, "don't say"),
        ] {
            tree.device(1, capability, controls);
            let found = tree.coherence();
            assert!(found.level == level && found.text.contains(part), "{found:?}");
        }
        let pci = tree.sys.path().join("devices/pci0000:0c/0000:0d:01.0");
        fs::write(pci.join("config"), [0; 64]).unwrap();
        assert!(tree.coherence().text.contains("or only to root"), "what others may read ends before them");
        fs::remove_file(pci.join("config")).unwrap();
        assert!(tree.coherence().todo.unwrap().contains("as root"));
    }

    #[test]
    fn wild_configurations_do_no_harm() {
        for fill in [0u8, 1, 0x23, 0xff] {
            assert_eq!(component_block(&[fill; 4096]), None);
        }
        assert_eq!(hdm_decoders(&|_| Some(u32::MAX)), None);
        let all = |byte| Some(if byte == CACHE_MEM { 0xff00_0001 } else { 0xfff0_0005 });
        assert!(hdm_decoders(&all).is_some());
    }
}
