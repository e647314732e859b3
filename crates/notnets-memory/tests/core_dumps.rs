//! What is said over a link is in no core dump.

use notnets_memory::{OwnSegment, PAGE, PeerSegment};

#[test]
fn segments_are_left_out() {
    let own = OwnSegment::create(3 * PAGE).unwrap();
    let _peer = PeerSegment::map(own.descriptor(), 3 * PAGE as u64).unwrap();
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut segments = 0;
    let mut in_segment = false;
    for line in maps.lines() {
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            let flags: Vec<_> = flags.split_whitespace().collect();
            assert!(!in_segment || (flags.contains(&"dd") && flags.contains(&"dc")), "{flags:?}");
            segments += usize::from(in_segment);
            in_segment = false;
        } else if line.contains("memfd:notnets") {
            in_segment = true;
        }
    }
    assert_eq!(segments, 2);
}
