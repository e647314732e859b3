//! A routes file: where the servers of names are.

use std::collections::HashMap;

use notnets_core::name::Name;
use serde_json::Value;

use super::target::Target;

/// Stands for all names that are not listed.
const OTHERS: &str = "*";
/// Is replaced by the name, in the target for all others.
const NAME: &str = "{name}";

/// Targets by names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    named: HashMap<String, Target>,
    others: Option<String>,
}

impl Table {
    /// A table from its JSON: `{"NAME": "TARGET", "NAME": ["TARGET", "TARGET"], "*": "TARGET with {name}"}`.
    ///
    /// # Errors
    /// A sentence that says what is wrong where.
    pub(super) fn from_json(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))?;
        let routes = value.as_object().ok_or("it has to be an object with a target for each name")?;
        let mut table = Self::default();
        for (name, target) in routes {
            let failed = |why: String| format!("`{name}`: {why}");
            let target = text_of(target).map_err(failed)?;
            if name == OTHERS {
                parse(&target.replace(NAME, "name")).map_err(failed)?;
                table.others = Some(target);
            } else {
                name.parse::<Name>().map_err(|error| failed(error.to_string()))?;
                table.named.insert(name.clone(), parse(&target).map_err(failed)?);
            }
        }
        Ok(table)
    }

    /// Returns where the servers of a name are, if the table says so.
    pub(super) fn target(&self, name: &Name) -> Option<Target> {
        let other = || parse(&self.others.as_ref()?.replace(NAME, name.as_str())).ok();
        self.named.get(name.as_str()).cloned().or_else(other)
    }
}

/// A target as it is written: a string, or several in a list.
fn text_of(target: &Value) -> Result<String, String> {
    let wrong = || "the target has to be a string, or a list of strings".to_owned();
    match target {
        Value::String(target) => Ok(target.clone()),
        Value::Array(targets) => {
            let targets: Option<Vec<_>> = targets.iter().map(Value::as_str).collect();
            Ok(targets.ok_or_else(wrong)?.join(","))
        }
        _ => Err(wrong()),
    }
}

fn parse(target: &str) -> Result<Target, String> {
    target.parse().map_err(|error: crate::Error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(table: &Table, name: &str) -> Option<String> {
        table.target(&name.parse().unwrap()).map(|target| target.to_string())
    }

    #[test]
    fn a_table_has_targets_by_names() {
        let text = r#"{"a": "notnets:///x", "b": ["notnets:///b", "notnets://p/b"]}"#;
        let table = Table::from_json(text).unwrap();
        assert_eq!(target(&table, "a").unwrap(), "notnets:///x");
        assert_eq!(target(&table, "b").unwrap(), "notnets:///b,notnets://p/b");
        assert_eq!(target(&table, "c"), None);
        let others = r#"{"a": "notnets:///x", "*": ["notnets:///{name}", "notnets://p/{name}"]}"#;
        let table = Table::from_json(others).unwrap();
        assert_eq!(target(&table, "a").unwrap(), "notnets:///x");
        assert_eq!(target(&table, "c").unwrap(), "notnets:///c,notnets://p/c");
    }

    #[test]
    fn what_is_no_table_is_told_in_a_sentence() {
        for (text, words) in [
            ("", "it is not JSON"),
            ("[]", "it has to be an object with a target for each name"),
            (r#"{"a": 1}"#, "`a`: the target has to be a string, or a list of strings"),
            (r#"{"a": ["notnets:///a", 1]}"#, "`a`: the target has to be a string, or a list of strings"),
            (r#"{"a": ""}"#, "`a`: the target is empty; write `notnets:///NAME`"),
            (r#"{"a": []}"#, "`a`: the target is empty; write `notnets:///NAME`"),
            (r#"{"a": "ftp://x"}"#, "`a`: `ftp://x` is not a notnets: URI"),
            (r#"{"*": "{name}"}"#, "`*`: "),
            (r#"{"a/b": "notnets:///a"}"#, "`a/b`: "),
        ] {
            let sentence = Table::from_json(text).unwrap_err();
            assert!(sentence.starts_with(words), "{text}: {sentence}");
        }
    }
}
