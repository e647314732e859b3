//! Memory of the pod's region: all of it comes back once those that had it are gone.

use std::path::Path;
use std::time::Instant;

use notnets_memory::region::Region;
use notnets_pod::survey::survey;

use crate::Result;
use crate::child::PATIENCE;

/// Waits until no extent of the region is granted or kept back.
///
/// # Errors
/// When some are for long, or the region is damaged.
pub fn wait_until_all_are_free(path: &Path) -> Result {
    let region = Region::open(path)?;
    let begin = Instant::now();
    loop {
        let found = survey(&region);
        let held: Vec<_> = found.hosts.iter().map(|host| (host.granted, host.kept)).collect();
        if found.problems.is_empty() && held.iter().all(|held| *held == (0, 0)) {
            println!("all extents of the region are free after {:.1?}", begin.elapsed());
            return Ok(());
        }
        if begin.elapsed() > PATIENCE {
            let problems = found.problems;
            return Err(format!(
                "extents that are granted, and kept back, of each host: {held:?}; {problems:?}"
            )
            .into());
        }
    }
}
