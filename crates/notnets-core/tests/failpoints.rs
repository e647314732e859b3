//! The list of failpoints is that of those in the code.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use notnets_core::failpoint::STEPS;

#[test]
fn all_failpoints_are_listed() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("it is in the workspace");
    let mut found = BTreeSet::new();
    for name in ["notnets-core", "notnets-pod", "notnets-bench"] {
        collect(&crates.join(name).join("src"), &mut found);
    }
    let listed: BTreeSet<_> = STEPS.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(found, listed);
}

fn collect(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).expect("sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, found);
            continue;
        }
        let text = fs::read_to_string(&path).expect("text");
        for part in text.split("failpoint!(\"").skip(1) {
            found.insert(part.split('"').next().expect("a name").to_owned());
        }
    }
}
