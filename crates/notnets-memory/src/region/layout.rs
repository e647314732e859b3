//! Where what lies in a region: computed from the numbers in its superblock.

use std::ops::Range;

use super::offset::{RegionOffset, RegionRange};
use crate::LINE;

/// Bytes of a process entry and of a service entry.
pub const ENTRY_BYTES: usize = 2 * LINE;

/// The numbers that a layout is computed from, as a region's superblock has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayoutParams {
    /// Bytes of a mapping unit.
    pub unit: u64,
    /// Bytes of a partition.
    pub partition_bytes: u64,
    /// Bytes of an extent.
    pub extent_bytes: u64,
    /// Partitions.
    pub hosts: u32,
    /// Process entries of each partition.
    pub processes: u32,
    /// Service entries of each partition.
    pub services: u32,
    /// Slots of a mailbox.
    pub mailbox_slots: u32,
}

/// Where the parts of a region lie: partitions, control areas and extents, and what is in a control area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    unit: usize,
    partition: usize,
    extent: usize,
    control: usize,
    hosts: usize,
    processes: usize,
    services: usize,
    extents: usize,
    slots: usize,
}

/// Why sizes do not go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// A partition is too small.
    #[error(
        "a partition of {partition} bytes has no room for its control area of {control} bytes and an extent of {extent}"
    )]
    Small {
        /// Bytes of a partition.
        partition: u64,
        /// Bytes of the control area at least.
        control: u64,
        /// Bytes of an extent.
        extent: u64,
    },
    /// The region is larger than addresses go.
    #[error("a region of {hosts} times {partition} bytes is larger than the address space")]
    Large {
        /// How many partitions.
        hosts: u32,
        /// Bytes of an extent.
        partition: u64,
    },
}

impl Layout {
    /// Computes the layout.
    ///
    /// # Errors
    /// When a partition does not hold what it must.
    pub fn new(params: LayoutParams) -> Result<Self, LayoutError> {
        let LayoutParams { unit, partition_bytes, extent_bytes, hosts, .. } = params;
        let large = LayoutError::Large { hosts, partition: partition_bytes };
        let all = partition_bytes.checked_mul(hosts.into()).and_then(|all| all.checked_add(unit));
        if all.is_none_or(|all| all > isize::MAX as u64) {
            return Err(large);
        }
        let fixed = fixed_bytes(params);
        let control = |extents: u64| (fixed + extents * LINE as u64).next_multiple_of(unit);
        // As many as fit beside their own entries; rounding the control area up can cost one.
        let most = partition_bytes.saturating_sub(fixed) / (extent_bytes + LINE as u64);
        let fits = |extents: &u64| {
            extents
                .checked_mul(extent_bytes)
                .is_some_and(|bytes| control(*extents) + bytes <= partition_bytes)
        };
        let small =
            LayoutError::Small { partition: partition_bytes, control: control(1), extent: extent_bytes };
        let extents = (1..=most).rev().take(unit as usize / LINE + 2).find(fits).ok_or(small)?;
        Ok(Self {
            unit: unit as usize,
            partition: partition_bytes as usize,
            extent: extent_bytes as usize,
            control: control(extents) as usize,
            hosts: hosts as usize,
            processes: params.processes as usize,
            services: params.services as usize,
            extents: extents as usize,
            slots: params.mailbox_slots as usize,
        })
    }

    /// How many extents each partition has.
    pub fn extents(&self) -> usize {
        self.extents
    }

    /// Bytes of an extent.
    pub fn extent_bytes(&self) -> usize {
        self.extent
    }

    /// How many hosts there can be.
    pub fn hosts(&self) -> usize {
        self.hosts
    }

    /// How many processes of each host there can be.
    pub fn processes(&self) -> usize {
        self.processes
    }

    /// How many services of each host there can be.
    pub fn services(&self) -> usize {
        self.services
    }

    /// Where a host's partition is.
    pub fn partition(&self, host: usize) -> RegionRange {
        RegionRange::within(self.partition_start(host), self.partition)
    }

    fn partition_start(&self, host: usize) -> usize {
        assert!(host < self.hosts);
        self.unit + host * self.partition
    }

    /// Where the part of a partition is that the host's agent writes.
    pub fn control(&self, host: usize) -> RegionRange {
        RegionRange::within(self.partition_start(host), self.control)
    }

    /// Where one of a host's extents is.
    pub fn extent(&self, host: usize, extent: usize) -> RegionRange {
        assert!(extent < self.extents);
        let start = self.partition_start(host) + self.control + extent * self.extent;
        RegionRange::within(start, self.extent)
    }

    /// The host whose partition a byte belongs to.
    pub fn host_of(&self, byte: RegionOffset) -> Option<usize> {
        let host = (byte.0 as usize).checked_sub(self.unit)? / self.partition;
        (host < self.hosts).then_some(host)
    }

    /// Returns `true` if there are bytes in this range, and all of them are of this host's extents.
    pub fn is_in_extents(&self, host: usize, range: RegionRange) -> bool {
        host < self.hosts
            && !range.is_empty()
            && range.start() >= self.extent(host, 0).start()
            && range.end() <= self.extent(host, self.extents - 1).end()
    }

    /// Where the host's own record is in its control area. This and what follows is in bytes from the area's
    /// beginning.
    pub fn host_record(&self) -> usize {
        0
    }

    /// Where the record of another host is.
    pub fn peer(&self, host: usize) -> usize {
        assert!(host < self.hosts);
        LINE + host * LINE
    }

    /// The offset of the word that counts how much of another host's mailbox to this one has been read.
    pub fn taken(&self, host: usize) -> usize {
        self.peer(host) + self.hosts * LINE
    }

    /// Where a process entry is.
    pub fn process(&self, index: usize) -> usize {
        assert!(index < self.processes);
        LINE + 2 * self.hosts * LINE + index * ENTRY_BYTES
    }

    /// Where a service entry is.
    pub fn service(&self, index: usize) -> usize {
        assert!(index < self.services);
        LINE + 2 * self.hosts * LINE + (self.processes + index) * ENTRY_BYTES
    }

    /// Where an extent's entry is.
    pub fn extent_entry(&self, index: usize) -> usize {
        assert!(index < self.extents);
        self.mailbox(self.hosts - 1).end + index * LINE
    }

    /// Where the mailbox to another host is.
    pub fn mailbox(&self, host: usize) -> Range<usize> {
        assert!(host < self.hosts);
        let first = LINE + 2 * self.hosts * LINE + (self.processes + self.services) * ENTRY_BYTES;
        let start = first + host * self.slots * LINE;
        start..start + self.slots * LINE
    }
}

/// Bytes of a control area without the extents' entries.
fn fixed_bytes(params: LayoutParams) -> u64 {
    let LayoutParams { hosts, processes, services, mailbox_slots, .. } = params;
    let hosts = u64::from(hosts);
    let entries = u64::from(processes) + u64::from(services);
    let lines = 1 + 2 * hosts + hosts * u64::from(mailbox_slots);
    lines * LINE as u64 + entries * ENTRY_BYTES as u64
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn params() -> LayoutParams {
        LayoutParams {
            unit: 4096,
            partition_bytes: 1 << 20,
            extent_bytes: 64 << 10,
            hosts: 3,
            processes: 8,
            services: 16,
            mailbox_slots: 64,
        }
    }

    #[test]
    fn parts_follow_one_another_and_fit() {
        for (hosts, processes, extent_bytes, partition_bytes) in [
            (3, 8, 64 << 10, 1 << 20),
            (1, 1, 4096, 1 << 16),
            (256, 64, 2 << 20, 1 << 30),
            (2, 3, 4096, 1 << 24),
        ] {
            let params = LayoutParams { hosts, processes, extent_bytes, partition_bytes, ..params() };
            let layout = Layout::new(params).unwrap();
            let hosts = layout.hosts();
            assert_eq!(layout.host_record() + LINE, layout.peer(0));
            assert_eq!(layout.peer(hosts - 1) + LINE, layout.taken(0));
            assert_eq!(layout.taken(hosts - 1) + LINE, layout.process(0));
            assert_eq!(layout.process(layout.processes() - 1) + ENTRY_BYTES, layout.service(0));
            assert_eq!(layout.service(layout.services() - 1) + ENTRY_BYTES, layout.mailbox(0).start);
            assert_eq!(layout.mailbox(hosts - 1).end, layout.extent_entry(0));
            assert!(layout.extent_entry(layout.extents() - 1) + LINE <= layout.control(0).len());
            let end = layout.extent(hosts - 1, layout.extents() - 1).end();
            assert!(end <= layout.partition(hosts - 1).end());
            let unused = layout.partition(hosts - 1).end().0 - end.0;
            assert!(unused < extent_bytes + params.unit, "{unused} bytes are not used");
            assert_eq!(layout.partition(hosts - 1).end().0, params.unit + hosts as u64 * partition_bytes);
            assert!(layout.extent(0, 0).start().is_aligned(params.unit as usize));
        }
    }

    #[test]
    fn offsets_know_their_host() {
        let layout = Layout::new(params()).unwrap();
        assert_eq!(layout.host_of(RegionOffset::ZERO), None);
        assert_eq!(layout.host_of(layout.partition(1).start()), Some(1));
        assert_eq!(layout.host_of(layout.partition(2).end()), None);
        let extent = layout.extent(1, 2);
        assert!(layout.is_in_extents(1, extent));
        assert!(!layout.is_in_extents(0, extent));
        assert!(!layout.is_in_extents(9, extent));
        assert!(!layout.is_in_extents(1, extent.part(0, 0).unwrap()));
        assert!(!layout.is_in_extents(1, layout.control(1)));
        assert!(!layout.is_in_extents(
            1,
            RegionRange::new(extent.start(), usize::MAX - extent.end().0 as usize).unwrap()
        ));
    }
}
