//! Where the model of far memory hooks into mapped memory.

pub(crate) use crate::far_memory_model::{fetch, is_on as is_modelled};
