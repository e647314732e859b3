//! The runtime of a process.

use tokio::runtime::{Builder, Runtime};

use crate::Result;

/// Creates a runtime: with 0 workers tokio's current-thread runtime. On few cores, one thread for each
/// process is what HTTP/2 is fastest with, too.
pub fn runtime(workers: usize) -> Result<Runtime> {
    let mut builder = if workers == 0 {
        Builder::new_current_thread()
    } else {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(workers);
        builder
    };
    Ok(builder.enable_all().build()?)
}
