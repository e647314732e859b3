//! Labels of processes, by a security module of the kernel.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

/// So many labels are kept; processes with further ones have none. A label of SELinux has some 50 bytes.
const MOST: usize = 65_536;

/// The label of a process (SELinux, Smack, AppArmor). As there are few of them, each is kept once for as long
/// as this process runs, so that what has one is a number.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Label(NonZeroU32);

#[derive(Default)]
struct Labels {
    texts: Vec<&'static str>,
    numbers: HashMap<&'static str, Label>,
}

static LABELS: LazyLock<Mutex<Labels>> = LazyLock::new(Mutex::default);

impl Label {
    /// The label with this text. `None` for an empty one, and when there are too many.
    pub fn new(text: &str) -> Option<Self> {
        let mut labels = lock();
        if let Some(known) = labels.numbers.get(text) {
            return Some(*known);
        }
        if text.is_empty() || labels.texts.len() >= MOST {
            return None;
        }
        let text: &'static str = Box::leak(text.into());
        labels.texts.push(text);
        let label = Self(NonZeroU32::new(labels.texts.len() as u32)?);
        labels.numbers.insert(text, label);
        Some(label)
    }

    /// Its text, as the kernel has it.
    pub fn as_str(self) -> &'static str {
        lock().texts.get(self.0.get() as usize - 1).copied().unwrap_or_default()
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

fn lock() -> MutexGuard<'static, Labels> {
    LABELS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_kept_once() {
        let label = Label::new("system_u:system_r:shop_t:s0").unwrap();
        assert_eq!(Label::new("system_u:system_r:shop_t:s0"), Some(label));
        assert_ne!(Label::new("unconfined"), Some(label));
        assert_eq!(
            (label.as_str(), format!("{label:?}")),
            ("system_u:system_r:shop_t:s0", "\"system_u:system_r:shop_t:s0\"".to_owned())
        );
        assert_eq!(Label::new(""), None);
    }
}
