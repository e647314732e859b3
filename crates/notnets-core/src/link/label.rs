//! Labels of processes, by a security module of the kernel.

use std::collections::HashSet;
use std::fmt;

use once_cell::race::OnceBox;

use crate::per_process::PerProcess;

/// So many labels are kept; processes with further ones have none. A label of SELinux has some 50 bytes.
const MOST: usize = 65_536;

/// The label of a process (SELinux, Smack, AppArmor). As there are few of them, the text of each is kept once
/// for as long as this process runs.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Label(&'static str);

type Labels = HashSet<&'static str>;

impl Label {
    /// The label with this text. `None` for an empty one, and when there are too many.
    pub fn new(text: &str) -> Option<Self> {
        static LABELS: OnceBox<PerProcess<Labels>> = OnceBox::new();
        let mut labels = LABELS.get_or_init(|| PerProcess::new(Labels::new()).into()).lock(Labels::new);
        if let Some(known) = labels.get(text) {
            return Some(Self(known));
        }
        if text.is_empty() || labels.len() >= MOST {
            return None;
        }
        let text: &'static str = Box::leak(text.into());
        labels.insert(text);
        Some(Self(text))
    }

    /// Its text, as the kernel has it.
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_kept_once() {
        let label = Label::new("system_u:system_r:shop_t:s0").unwrap();
        let again = Label::new("system_u:system_r:shop_t:s0").unwrap();
        assert_eq!((label, label.as_str().as_ptr()), (again, again.as_str().as_ptr()));
        assert_ne!(Label::new("unconfined"), Some(label));
        assert_eq!(
            (label.as_str(), format!("{label:?}")),
            ("system_u:system_r:shop_t:s0", "\"system_u:system_r:shop_t:s0\"".to_owned())
        );
        assert_eq!(Label::new(""), None);
    }
}
