//! Registers of a PCI device, which are only read.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use crate::mapping::{Mapping, View};
use crate::{Coherence, PeerMemory, ReadMemory, WORD};

/// Some registers of a PCI device, of 32 bits each.
#[derive(Debug)]
pub struct Registers(PeerMemory);

impl Registers {
    /// Maps `bytes` bytes from `offset` on of a BAR, which in sysfs is the file `resourceN` of its device.
    ///
    /// # Errors
    /// When it can't be opened or mapped, or is shorter.
    pub fn open(bar: &Path, offset: u64, bytes: usize) -> io::Result<Self> {
        let file = File::open(bar)?;
        let length = file.metadata()?.len();
        let is_inside = offset.checked_add(bytes as u64).is_some_and(|end| end <= length);
        if !is_inside || !bytes.is_multiple_of(WORD) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the registers are not in the BAR"));
        }
        let map = Mapping::registers(file.as_fd(), offset, bytes).map_err(io::Error::other)?;
        Ok(Self(PeerMemory(View::new(&Arc::new(map), 0, bytes, Coherence::Hardware))))
    }

    /// The register at a byte. `None` if there is none.
    pub fn read(&self, byte: usize) -> Option<u32> {
        if !byte.is_multiple_of(4) || byte / WORD >= self.0.words() {
            return None;
        }
        let word = self.0.load(byte / WORD);
        Some((word >> (byte % WORD * 8)) as u32)
    }
}

#[cfg(all(test, not(loom), not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn registers_are_read_one_by_one() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let bytes: Vec<u8> = (0..2048u32).flat_map(u32::to_le_bytes).collect();
        std::fs::write(file.path(), bytes).unwrap();
        let registers = Registers::open(file.path(), 4096, 4096).unwrap();
        assert_eq!([0, 4, 4092].map(|byte| registers.read(byte)), [Some(1024), Some(1025), Some(2047)]);
        assert_eq!([2, 4096].map(|byte| registers.read(byte)), [None, None]);
        assert!(Registers::open(file.path(), 4096, 8192).is_err());
        assert!(Registers::open(file.path(), u64::MAX, 8).is_err());
    }
}
