use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn any_fields_are_refused_or_an_entry(line in any::<[u64; 7]>(), entry in any::<[u64; 15]>(), state in 0u64..4) {
        let mut line = line;
        line[0] = line[0] & !0xff | state;
        if let Some(extent) = ExtentEntry::decode(line) {
            prop_assert_eq!(ExtentEntry::decode(extent.encode()), Some(extent));
        }
        line[6] = line[6] & !0xff | state;
        if let Some(host) = HostRecord::decode(line) {
            prop_assert_eq!(HostRecord::decode(host.encode()), Some(host));
        }
        let peer = PeerRecord::decode(line);
        prop_assert_eq!(PeerRecord::decode(peer.encode()), peer);
        let process = ProcessEntry::decode(entry);
        prop_assert_eq!(ProcessEntry::decode(process.encode()), process);
        let mut entry = entry;
        entry[0] = entry[0] & !0xff | 1;
        if let Some(service) = ServiceEntry::decode(entry) {
            prop_assert_eq!(ServiceEntry::decode(ServiceEntry::encode(Some(&service))), Some(service));
        }
    }

    #[test]
    fn services_come_back(name in "[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,63}", process: u16, generation: u32) {
        let entry = ServiceEntry { process, generation, name: name.parse().unwrap() };
        prop_assert_eq!(ServiceEntry::decode(ServiceEntry::encode(Some(&entry))), Some(entry));
    }
}

#[test]
fn sets_of_hosts() {
    let mut hosts = Hosts::default();
    assert!(hosts.is_empty());
    assert!(hosts.insert(255) && hosts.insert(64) && !hosts.insert(64));
    assert!(hosts.contains(255) && !hosts.contains(0));
    hosts.remove(255);
    hosts.remove(64);
    assert!(hosts.is_empty());
}

#[test]
fn an_older_agent_reads_past_what_it_does_not_know() {
    let with = |able| {
        let (claims, watches) = (able, able);
        HostRecord { state: HostState::Running, claims, watches, boot: 7, ..Default::default() }
    };
    let state = |record: HostRecord| record.encode()[6];
    assert_eq!(
        state(with(true)) & !0xff00,
        state(with(false)),
        "the state is in byte 0, the boot in the high half"
    );
    let with = |payloads| ExtentEntry { state: ExtentState::Kept, payloads, ..Default::default() };
    let state = |entry: ExtentEntry| entry.encode()[0];
    assert_eq!(state(with(true)) & !0xff00, state(with(false)));
}

#[test]
fn extents_that_can_be_claimed_have_a_bit() {
    let bit = |extent| ExtentId { host: 0, extent }.bit();
    assert_eq!((bit(0), bit(63), bit(64)), (1, 1 << 63, 0));
}
