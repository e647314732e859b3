//! The first bytes of a region: what it is, and how it is divided (`docs/pod.md`, "Superblock").

use std::fmt;

use super::layout::{Layout, LayoutError, LayoutParams};
use crate::{Coherence, PAGE};

/// The first eight bytes of every region.
pub const MAGIC: [u8; 8] = *b"NNREGION";
/// The version of the layout that this code knows.
pub const LAYOUT_VERSION: u32 = 1;
/// The length of a superblock.
pub const SUPERBLOCK_BYTES: usize = 160;
/// Hosts of a region, at most: sets of hosts are 256 bits.
pub const MAX_HOSTS: u32 = 256;
/// Bytes of a pod's name, at most.
pub const MAX_POD_NAME: usize = 64;

const CHECKED: usize = SUPERBLOCK_BYTES - 4;

/// A random number for each formatting of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Uuid(pub [u8; 16]);

/// The description of a region. It is written once, when the region is formatted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// How hosts' copies of a line are kept in step.
    pub coherence: Coherence,
    /// Which formatting it is.
    pub uuid: Uuid,
    /// Bytes of a mapping unit.
    pub unit: u64,
    /// Bytes of a partition.
    pub partition_bytes: u64,
    /// Bytes of an extent.
    pub extent_bytes: u64,
    /// Partitions.
    pub hosts: u32,
    /// Process entries of each.
    pub processes: u32,
    /// Service entries of each.
    pub services: u32,
    /// Slots of a mailbox.
    pub mailbox_slots: u32,
    /// Milliseconds between two heartbeats.
    pub heartbeat_ms: u32,
    /// Milliseconds without a heartbeat after which a host is considered dead.
    pub lease_ms: u32,
    /// The pod's name, as in `notnets://POD/service`.
    pub pod: String,
}

/// Why bytes are not a superblock that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadSuperblock {
    /// Nobody has formatted it.
    #[error("it is not formatted as a region")]
    Unformatted,
    /// It was formatted by another version of this program.
    #[error(
        "it has layout version {0}, and this program knows version {LAYOUT_VERSION}: use the program that formatted it, or format it anew"
    )]
    Version(u32),
    /// It begins as a superblock, but its checksum is wrong.
    #[error("its superblock is damaged (checksum {said:#010x}, computed {computed:#010x})")]
    Damaged {
        /// In the superblock.
        said: u32,
        /// Over its bytes.
        computed: u32,
    },
    /// Its checksum is right, but a field has a value that can't be.
    #[error("its superblock has an impossible {0}")]
    Impossible(&'static str),
    /// Its sizes don't go together.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

impl Superblock {
    /// Encodes it as it lies in the region.
    pub fn encode(&self) -> [u8; SUPERBLOCK_BYTES] {
        let mut out = Vec::with_capacity(SUPERBLOCK_BYTES);
        out.extend(MAGIC);
        out.extend(LAYOUT_VERSION.to_le_bytes());
        out.extend(coherence_number(self.coherence).to_le_bytes());
        out.extend(self.uuid.0);
        for field in [self.unit, self.partition_bytes, self.extent_bytes] {
            out.extend(field.to_le_bytes());
        }
        for field in [
            self.hosts,
            self.processes,
            self.services,
            self.mailbox_slots,
            self.heartbeat_ms,
            self.lease_ms,
            self.pod.len() as u32,
            0,
        ] {
            out.extend(field.to_le_bytes());
        }
        out.extend(&self.pod.as_bytes()[..self.pod.len().min(MAX_POD_NAME)]);
        out.resize(CHECKED, 0);
        out.extend(crc32c::crc32c(&out).to_le_bytes());
        out.try_into().expect("as long as it is")
    }

    /// Decodes what lies in a region.
    ///
    /// # Errors
    /// When it is not a superblock that this code knows, or one that can't be.
    pub fn decode(bytes: &[u8; SUPERBLOCK_BYTES]) -> Result<Self, BadSuperblock> {
        if bytes[..8] != MAGIC {
            return Err(BadSuperblock::Unformatted);
        }
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        if u32_at(8) != LAYOUT_VERSION {
            return Err(BadSuperblock::Version(u32_at(8)));
        }
        let said = u32_at(CHECKED);
        let computed = crc32c::crc32c(&bytes[..CHECKED]);
        if said != computed {
            return Err(BadSuperblock::Damaged { said, computed });
        }
        let name_len = u32_at(80) as usize;
        let name = bytes[88..88 + MAX_POD_NAME].get(..name_len);
        let name = name.and_then(|name| str::from_utf8(name).ok());
        let superblock = Self {
            coherence: match u32_at(12) {
                1 => Coherence::Hardware,
                2 => Coherence::Software,
                _ => return Err(BadSuperblock::Impossible("coherence")),
            },
            uuid: Uuid(bytes[16..32].try_into().expect("16 bytes")),
            unit: u64_at(32),
            partition_bytes: u64_at(40),
            extent_bytes: u64_at(48),
            hosts: u32_at(56),
            processes: u32_at(60),
            services: u32_at(64),
            mailbox_slots: u32_at(68),
            heartbeat_ms: u32_at(72),
            lease_ms: u32_at(76),
            pod: name.ok_or(BadSuperblock::Impossible("name"))?.to_owned(),
        };
        superblock.check()
    }

    /// Checks the fields against each other.
    ///
    /// # Errors
    /// When there can't be such a region.
    pub fn check(self) -> Result<Self, BadSuperblock> {
        let unit = self.unit.is_power_of_two() && self.unit >= PAGE as u64;
        let times = self.heartbeat_ms > 0 && self.lease_ms / 3 >= self.heartbeat_ms;
        let slots = self.mailbox_slots.is_power_of_two() && (64..=1 << 16).contains(&self.mailbox_slots);
        let entries = |n: u32| (1..=1 << 16).contains(&n);
        for (fine, what) in [
            (unit, "mapping unit"),
            (self.partition_bytes > 0 && self.partition_bytes.is_multiple_of(self.unit), "partition"),
            (self.extent_bytes > 0 && self.extent_bytes.is_multiple_of(self.unit), "extent"),
            ((1..=MAX_HOSTS).contains(&self.hosts), "number of hosts"),
            (entries(self.processes), "number of processes"),
            (entries(self.services), "number of services"),
            (slots, "mailbox"),
            (times, "heartbeat and lease"),
            (!self.pod.is_empty() && self.pod.len() <= MAX_POD_NAME, "name"),
        ] {
            if !fine {
                return Err(BadSuperblock::Impossible(what));
            }
        }
        self.layout()?;
        Ok(self)
    }

    /// Where what lies in the region.
    ///
    /// # Errors
    /// When a partition does not hold what it must.
    pub fn layout(&self) -> Result<Layout, LayoutError> {
        let &Self { unit, partition_bytes, extent_bytes, hosts, processes, services, mailbox_slots, .. } =
            self;
        let sizes =
            LayoutParams { unit, partition_bytes, extent_bytes, hosts, processes, services, mailbox_slots };
        Layout::new(sizes)
    }

    /// Bytes of the whole region.
    pub fn region_bytes(&self) -> u64 {
        // `layout` has seen to it that this is a number.
        self.unit + u64::from(self.hosts) * self.partition_bytes
    }
}

fn coherence_number(coherence: Coherence) -> u32 {
    match coherence {
        Coherence::Hardware => 1,
        Coherence::Software => 2,
    }
}

impl Uuid {
    /// Its two words, for seals.
    pub fn words(self) -> [u64; 2] {
        let word = |at: usize| u64::from_le_bytes(self.0[at..at + 8].try_into().expect("8 bytes"));
        [word(0), word(8)]
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            let dash = if matches!(i, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{dash}{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn superblock() -> Superblock {
        Superblock {
            coherence: Coherence::Software,
            uuid: Uuid(*b"sixteen byte id."),
            unit: 4096,
            partition_bytes: 1 << 20,
            extent_bytes: 64 << 10,
            hosts: 3,
            processes: 8,
            services: 16,
            mailbox_slots: 64,
            heartbeat_ms: 100,
            lease_ms: 1000,
            pod: "pod0".into(),
        }
    }

    #[test]
    fn comes_back_from_its_bytes() {
        let superblock = superblock();
        let bytes = superblock.encode();
        let layout = superblock.layout().unwrap();
        assert_eq!(layout.partition(layout.hosts() - 1).end().0, superblock.region_bytes());
        assert_eq!(Superblock::decode(&bytes), Ok(superblock));
        assert_eq!(&bytes[..16], b"NNREGION\x01\0\0\0\x02\0\0\0");
        assert_eq!(Uuid(*b"sixteen byte id.").to_string(), "73697874-6565-6e20-6279-74652069642e");
    }

    #[test]
    fn a_superblock_with_any_bit_changed_is_refused() {
        let bytes = superblock().encode();
        for bit in 0..SUPERBLOCK_BYTES * 8 {
            let mut spoilt = bytes;
            spoilt[bit / 8] ^= 1 << (bit % 8);
            assert!(Superblock::decode(&spoilt).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn what_checks_and_cannot_be_is_refused() {
        let fine = superblock();
        for wrong in [
            Superblock { unit: 4095, ..fine.clone() },
            Superblock { partition_bytes: 4097, ..fine.clone() },
            Superblock { partition_bytes: 4096, ..fine.clone() },
            Superblock { partition_bytes: 1 << 63, ..fine.clone() },
            Superblock { extent_bytes: 0, ..fine.clone() },
            Superblock { extent_bytes: 1 << 40, ..fine.clone() },
            Superblock { hosts: 0, ..fine.clone() },
            Superblock { hosts: 257, ..fine.clone() },
            Superblock { mailbox_slots: 33, ..fine.clone() },
            Superblock { lease_ms: 299, ..fine.clone() },
            Superblock { pod: String::new(), ..fine.clone() },
        ] {
            assert!(Superblock::decode(&wrong.encode()).is_err(), "{wrong:?}");
        }
    }
}
