//! Memory of a pod that is lost: it ends the links of the process whose memory it was, and no others.

use std::time::Instant;

use notnets::Endpoint;
use notnets_memory::Coherence;
use notnets_memory::region::file::RegionFile;
use notnets_memory::region::format::Plan;
use notnets_pod::table::ExtentState;
use tonic::Code;

use crate::support::client::Client;
use crate::support::helper::Helper;
use crate::support::pod::Pod;
use crate::support::{LIMIT, within};

const REGION: u64 = 16 << 20;

/// A server on host 1, and a client on host 0 that has called it.
async fn serve(pod: &Pod, name: &str) -> (Helper, Client) {
    let uri = format!("notnets://pod0/{name}");
    let server = Helper::server(&pod.host(1), &format!("uri={uri}"));
    let endpoint = Endpoint::from_shared(uri).unwrap().directory(pod.host(0)).connect_timeout(LIMIT);
    let client = Client::new(endpoint.connect_lazy());
    assert_eq!(within(client.text("pid", "")).await.unwrap(), server.pid().to_string());
    (server, client)
}

/// The extents that host 1 has granted.
fn granted(pod: &Pod) -> Vec<usize> {
    let extents = pod.extents(1).enumerate();
    extents.filter(|(_, extent)| extent.state == ExtentState::Granted).map(|(nth, _)| nth).collect()
}

/// Two servers on a host, of which one loses memory by `lose`: from this byte on, which begins an extent.
/// Returns `false` if it can't be done here.
async fn one_of_two_loses_memory(lose: impl FnOnce(&Pod, u64) -> bool) -> bool {
    // A file on tmpfs, for only such pages stay poisoned.
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let pod = Pod::below(directory, REGION, Plan { extent_bytes: Some(1 << 20), ..Plan::new("pod0", 2) });
    assert_eq!(pod.region().superblock().coherence, Coherence::Software);
    let (first, to_first) = serve(&pod, "first").await;
    let before = granted(&pod);
    let (second, to_second) = serve(&pod, "second").await;
    let of_second: Vec<usize> = granted(&pod).into_iter().filter(|extent| !before.contains(extent)).collect();
    assert!(before < of_second && !of_second.is_empty(), "extents are granted in order");

    if !lose(&pod, pod.region().layout().extent(1, of_second[0]).start().0) {
        return false;
    }
    let begin = Instant::now();
    while let Ok(pid) = within(to_second.text("pid", "")).await {
        assert_eq!(pid, second.pid().to_string());
        assert!(begin.elapsed() < LIMIT, "calls go on over memory that is lost");
    }
    for _ in 0..20 {
        let refused = within(to_second.text("pid", "")).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
        assert_eq!(within(to_first.text("pid", "")).await.unwrap(), first.pid().to_string());
    }
    true
}

#[tokio::test]
async fn a_process_whose_memory_is_cut_off_loses_its_links_and_no_other_does() {
    let cut_off = |pod: &Pod, from: u64| {
        std::fs::File::options().write(true).open(pod.file()).unwrap().set_len(from).unwrap();
        true
    };
    assert!(one_of_two_loses_memory(cut_off).await);
}

#[tokio::test]
async fn a_process_whose_memory_is_poisoned_loses_its_links_and_no_other_does() {
    let poison = |pod: &Pod, page: u64| match RegionFile::open(&pod.file()).unwrap().poison(page) {
        Ok(()) => true,
        Err(error) => {
            eprintln!("NOT TESTED: this kernel does not poison memory for this user: {error}");
            false
        }
    };
    one_of_two_loses_memory(poison).await;
}
