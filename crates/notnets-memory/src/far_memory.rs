//! Where the model of far memory hooks into mapped memory: without the feature `testing` no memory is far.

#[cfg(any(test, loom, feature = "testing"))]
pub(crate) use crate::far_memory_model::{arrive, fetch, is_on as is_modelled, write_back};

#[cfg(not(any(test, loom, feature = "testing")))]
pub(crate) use off::{arrive, fetch, is_modelled, write_back};

#[cfg(not(any(test, loom, feature = "testing")))]
mod off {
    use std::ops::Range;

    use crate::Coherence;

    pub(crate) const fn is_modelled() -> bool {
        false
    }

    pub(crate) fn fetch(_: Coherence, _: bool, _: usize, _: Range<usize>, _: impl Fn(usize) -> u64) {}

    pub(crate) fn write_back(_: Coherence, _: usize) {}

    pub(crate) fn arrive() {}
}
