//! Labels of processes, by a security module of the kernel.

use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::num::NonZeroU32;

use once_cell::race::OnceBox;

/// So many labels are kept; processes with further ones have none. A label of SELinux has some 50 bytes.
const MOST: usize = 65_536;

/// The label of a process (SELinux, Smack, AppArmor). As there are few of them, each is kept once for as long
/// as this process runs, so that what has one is a number.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Label(NonZeroU32);

/// Each in the place of its hash, or the first free one after it. Without a lock, which a thread could have
/// as its process is forked.
static LABELS: [OnceBox<Box<str>>; MOST] = [const { OnceBox::new() }; MOST];

impl Label {
    /// The label with this text. `None` for an empty one, and when there are too many.
    pub fn new(text: &str) -> Option<Self> {
        if text.is_empty() {
            return None;
        }
        let first = BuildHasherDefault::<DefaultHasher>::default().hash_one(text) as usize % MOST;
        let place = (first..MOST).chain(0..first).find(|place| {
            let kept = LABELS[*place].get_or_init(|| Box::new(text.into()));
            **kept == *text
        });
        place.and_then(|place| NonZeroU32::new(place as u32 + 1)).map(Self)
    }

    /// Its text, as the kernel has it.
    pub fn as_str(self) -> &'static str {
        LABELS.get(self.0.get() as usize - 1).and_then(OnceBox::get).map_or("", |text| text)
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
