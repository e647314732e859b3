//! Making a region: once, while nobody uses the memory.

use std::io;
use std::sync::Arc;

use rustix::mm::ProtFlags;

use super::file::RegionFile;
use super::layout::{ENTRY_BYTES, Layout, LayoutError};
use super::offset::{RegionOffset, RegionRange};
use super::superblock::{BadSuperblock, SUPERBLOCK_BYTES, Superblock, Uuid};
use super::{RegionError, read_superblock};
use crate::mapping::View;
use crate::{Coherence, LINE, OwnMemory, PAGE, PeerMemory, ReadMemory, SegmentError, WORD, WriteMemory};

/// How a region is to be divided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The pod's name.
    pub pod: String,
    /// How hosts' copies of a line are kept in step.
    pub coherence: Coherence,
    /// How many hosts there can be.
    pub hosts: u32,
    /// Bytes of an extent, or `None` for what suits the region.
    pub extent_bytes: Option<u64>,
    /// How many processes of each host can be in the pod.
    pub processes: u32,
    /// How many names each host can serve.
    pub services: u32,
    /// Slots of a mailbox.
    pub mailbox_slots: u32,
    /// Milliseconds between two heartbeats.
    pub heartbeat_ms: u32,
    /// Milliseconds without a heartbeat after which a host is considered dead.
    pub lease_ms: u32,
}

/// The present content of a file that is to become a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Present {
    /// Zeros, wherever something would be written.
    Nothing,
    /// A region.
    Region(Superblock),
    /// A region that this program does not understand.
    Strange(BadSuperblock),
    /// Something else; its first byte that is not zero.
    Data(RegionOffset),
}

/// Why a region can't be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The memory can't be divided as planned.
    #[error("{bytes} bytes can't be divided as planned: {reason}")]
    Plan {
        /// The bytes that it has.
        bytes: u64,
        /// Why not.
        reason: BadSuperblock,
    },
    /// It can't be mapped.
    #[error("can't be mapped: {0}")]
    Map(SegmentError),
    /// There is no random number for its uuid.
    #[error("could not get a random number: {0}")]
    Random(io::Error),
}

impl From<SegmentError> for FormatError {
    fn from(error: SegmentError) -> Self {
        Self::Map(error)
    }
}

impl Plan {
    /// A plan for `hosts` hosts, with defaults that suit most pods.
    pub fn new(pod: impl Into<String>, hosts: u32) -> Self {
        Self {
            pod: pod.into(),
            coherence: Coherence::Software,
            hosts,
            extent_bytes: None,
            processes: 64,
            services: 128,
            mailbox_slots: 64,
            heartbeat_ms: 100,
            lease_ms: 2000,
        }
    }

    /// Computes the superblock that this memory will get.
    ///
    /// # Errors
    /// When it can't be divided as planned.
    pub fn superblock(&self, file: &RegionFile, uuid: Uuid) -> Result<Superblock, FormatError> {
        let units = (file.bytes / file.unit).saturating_sub(1) / u64::from(self.hosts.max(1));
        let partition_bytes = units * file.unit;
        let superblock = Superblock {
            coherence: self.coherence,
            uuid,
            unit: file.unit,
            partition_bytes,
            extent_bytes: self
                .extent_bytes
                .unwrap_or_else(|| usual_extent(partition_bytes, file.unit, self.processes)),
            hosts: self.hosts,
            processes: self.processes,
            services: self.services,
            mailbox_slots: self.mailbox_slots,
            heartbeat_ms: self.heartbeat_ms,
            lease_ms: self.lease_ms,
            pod: self.pod.clone(),
        };
        superblock.check().map_err(|reason| FormatError::Plan { bytes: file.bytes, reason })
    }
}

/// 2 MiB, of which a link takes 45 to 270 KiB. Less in small partitions, so that there are some of them;
/// more in large ones, as payloads lie in 64 of them at most, and none is longer than one. There are still
/// four for each process.
fn usual_extent(partition_bytes: u64, unit: u64, processes: u32) -> u64 {
    let most = 4 * u64::from(processes).max(64);
    let extent = (partition_bytes / 4).clamp(PAGE as u64, 2 << 20).max(partition_bytes / most);
    extent.next_multiple_of(unit)
}

/// Finds out what lies in this memory where the plan would write.
///
/// # Errors
/// When it can't be mapped, or can't be divided as planned.
pub fn look(file: &RegionFile, plan: &Plan) -> Result<Present, FormatError> {
    match read_superblock(file) {
        Ok(superblock) => return Ok(Present::Region(superblock)),
        Err(RegionError::Superblock(BadSuperblock::Unformatted)) => {}
        Err(RegionError::Superblock(strange)) => return Ok(Present::Strange(strange)),
        Err(RegionError::Map(error)) => return Err(error.into()),
        Err(RegionError::File(_) | RegionError::Changed { .. }) => {}
    }
    let superblock = plan.superblock(file, Uuid([0; 16]))?;
    let layout = layout(file, &superblock)?;
    for part in parts(&layout, &superblock) {
        let map = Arc::new(file.map(part, ProtFlags::READ)?);
        let view = PeerMemory(View::new(&map, 0, part.len(), Coherence::Software));
        let mut page = vec![0; PAGE];
        for at in (0..part.len()).step_by(PAGE) {
            view.observe(at / WORD, PAGE / WORD);
            view.copy_out(at, &mut page);
            if let Some(byte) = page.iter().position(|byte| *byte != 0) {
                return Ok(Present::Data(RegionOffset(part.start().0 + (at + byte) as u64)));
            }
        }
    }
    Ok(Present::Nothing)
}

/// Makes a region of this memory, whatever was there. Its users must have stopped before.
///
/// # Errors
/// When it can't be mapped, or can't be divided as planned.
pub fn format(file: &RegionFile, plan: &Plan) -> Result<Superblock, FormatError> {
    let mut uuid = [0; 16];
    rustix::rand::getrandom(&mut uuid, rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| FormatError::Random(errno.into()))?;
    let superblock = plan.superblock(file, Uuid(uuid))?;
    let layout = layout(file, &superblock)?;
    // The superblock's unit is the first part: what was there ends before anything else changes.
    for part in parts(&layout, &superblock) {
        zero(file, part)?;
    }
    let map = Arc::new(file.map_first_unit(ProtFlags::READ | ProtFlags::WRITE)?);
    let memory = OwnMemory(View::new(&map, 0, SUPERBLOCK_BYTES, Coherence::Software));
    memory.copy_in(0, &superblock.encode());
    memory.publish(0, SUPERBLOCK_BYTES / WORD);
    Ok(superblock)
}

fn layout(file: &RegionFile, superblock: &Superblock) -> Result<Layout, FormatError> {
    let plan = |reason: LayoutError| FormatError::Plan { bytes: file.bytes, reason: reason.into() };
    superblock.layout().map_err(plan)
}

/// Returns the parts to zero: the superblock's unit and the control areas.
fn parts(layout: &Layout, superblock: &Superblock) -> Vec<RegionRange> {
    let first = RegionRange::within(0, superblock.unit as usize);
    std::iter::once(first).chain((0..layout.hosts()).map(|host| layout.control(host))).collect()
}

fn zero(file: &RegionFile, range: RegionRange) -> Result<(), SegmentError> {
    let map = Arc::new(file.map(range, ProtFlags::READ | ProtFlags::WRITE)?);
    let memory = OwnMemory(View::new(&map, 0, range.len(), Coherence::Software));
    let zeros = vec![0; PAGE];
    for at in (0..range.len()).step_by(PAGE) {
        memory.copy_in(at, &zeros);
        memory.publish(at / WORD, PAGE / WORD);
    }
    Ok(())
}

const _: () = assert!(PAGE.is_multiple_of(LINE) && ENTRY_BYTES.is_multiple_of(LINE));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_are_as_large_as_suits_the_partition() {
        const MIB: u64 = 1 << 20;
        for (partition, processes, extent) in [
            (16 << 10, 64, 4 << 10),
            (4 * MIB, 64, MIB),
            (512 * MIB, 64, 2 * MIB),
            (16_384 * MIB, 64, 64 * MIB),
            (16_384 * MIB, 256, 16 * MIB),
        ] {
            assert_eq!(usual_extent(partition, 4096, processes), extent, "{partition} for {processes}");
        }
        assert_eq!(usual_extent(16_384 * MIB, 1 << 30, 64), 1 << 30, "whole units");
    }
}
