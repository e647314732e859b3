//! Shared memory that a process has mapped, by kind: what the kernel says of it, so that it costs the process
//! nothing to be asked.

use std::fs;

/// Bytes of shared memory that a process has mapped. Pages of them are memory once they were used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MappedBytes {
    /// Segments of its own, for what its links send.
    pub own: u64,
    /// Segments of its peers, for what its links receive.
    pub peers: u64,
    /// Payloads in shared memory (`SharedBytes`), its own and those that it has received.
    pub payloads: u64,
}

impl MappedBytes {
    /// All kinds, by names for programs.
    pub fn by_kind(&self) -> [(&'static str, u64); 3] {
        [("own_segments", self.own), ("peer_segments", self.peers), ("payloads", self.payloads)]
    }

    /// All of it.
    pub fn sum(&self) -> u64 {
        self.own.saturating_add(self.peers).saturating_add(self.payloads)
    }
}

/// What a process has mapped; nothing for one that this process may not look into. Memory of a pod's region
/// is not told from other files.
pub fn of_process(pid: u32) -> MappedBytes {
    sum(&fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default())
}

fn sum(maps: &str) -> MappedBytes {
    let mut sum = MappedBytes::default();
    for line in maps.lines() {
        let Some((mapping, name)) = line.split_once("/memfd:notnets") else { continue };
        let Some((bytes, is_writable)) = size_and_access(mapping) else { continue };
        let kind = match name.strip_suffix(" (deleted)").unwrap_or(name) {
            "" if is_writable => &mut sum.own,
            "" => &mut sum.peers,
            "-sealed" => &mut sum.payloads,
            _ => continue,
        };
        *kind = kind.saturating_add(bytes);
    }
    sum
}

fn size_and_access(mapping: &str) -> Option<(u64, bool)> {
    let mut fields = mapping.split_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let address = |text| u64::from_str_radix(text, 16).ok();
    Some((address(end)?.checked_sub(address(start)?)?, fields.next()?.starts_with("rw")))
}

#[cfg(test)]
mod tests {
    use notnets_memory::{OwnSegment, PAGE, PeerSegment, Sealed};

    use super::*;

    #[test]
    fn kinds_are_told_by_names_and_rights() {
        let maps = "\
            7f0000000000-7f000000b000 rw-s 00000000 00:01 2051   /memfd:notnets (deleted)\n\
            7f0000010000-7f0000011000 rw-s 0000b000 00:01 2051   /memfd:notnets (deleted)\n\
            7f0000020000-7f0000022000 r--s 00000000 00:01 2052   /memfd:notnets (deleted)\n\
            7f0000030000-7f0000034000 r--s 00000000 00:01 2053   /memfd:notnets-sealed (deleted)\n\
            7f0000040000-7f0000045000 rw-s 00000000 00:01 2054   /memfd:notnets-stats (deleted)\n\
            7f0000050000-7f0000059000 rw-s 00000000 00:01 2055   /memfd:another (deleted)\n\
            7f0000060000-7f0000069000 rw-p 00000000 00:00 0\n\
            nonsense /memfd:notnets\n";
        let expected = MappedBytes { own: 0xc000, peers: 0x2000, payloads: 0x4000 };
        assert_eq!(sum(maps), expected);
        assert_eq!(expected.sum(), 0x12000);
    }

    #[test]
    fn what_this_process_maps_is_seen() {
        let own = OwnSegment::create(PAGE).unwrap();
        let peer = PeerSegment::map(own.descriptor(), PAGE as u64).unwrap();
        let payload = Sealed::copy_of(&[1; PAGE]).unwrap();
        // Others of this process's tests map more.
        let seen = of_process(std::process::id());
        assert!([seen.own, seen.peers, seen.payloads].iter().all(|bytes| *bytes >= PAGE as u64), "{seen:?}");
        drop((own, peer, payload));
    }
}
