//! Replacements of names.

use std::collections::HashMap;

/// Names, numbered in the order in which they came.
#[derive(Default)]
pub(super) struct Table(HashMap<String, String>);

/// A name that is the same on every machine.
const LOOPBACK: &str = "lo";

impl Table {
    /// `kind-1`, `kind-2`, …: the same for the same name. No name stays none.
    pub fn replace(&mut self, kind: &str, name: &str) -> String {
        if name.is_empty() || name == LOOPBACK {
            return name.into();
        }
        let next = self.0.len() + 1;
        self.0.entry(name.into()).or_insert_with(|| format!("{kind}-{next}")).clone()
    }
}
