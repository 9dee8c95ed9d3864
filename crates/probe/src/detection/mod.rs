//! Detects the container networks of this machine by devices, chains, sets, routes and virtual servers (`rules.rs`).
//! Detection changes nothing and loads no kernel module.

mod facts;
mod matching;
mod netfilter;
mod read_facts;
mod rules;

use std::fs::File;

use crate::sys::{lookup::within_limit, netns};
pub use facts::Facts;
use overlay_trace_format::Detection;

/// Detects the networks of these network namespaces, given by name, path or process id; of all if none is given. `None`
/// where that takes too long.
pub fn look_within_limit(given: &[String]) -> Option<Vec<Detection>> {
    let given = given.to_vec();
    within_limit(move || look(&given))
}

/// Detects the networks of these network namespaces, given by name, path or process id; of all if none is given.
pub fn look(given: &[String]) -> Vec<Detection> {
    let namespaces: Vec<(String, File)> = netns::all()
        .into_iter()
        .filter(|namespace| {
            let is_it = |given: &String| netns::inode(given).is_ok_and(|inode| inode == namespace.inode);
            given.is_empty() || given.iter().any(is_it)
        })
        .map(|namespace| (namespace.name, namespace.file))
        .collect();
    matching::detections(&read_facts::facts(namespaces))
}

#[cfg(test)]
mod tests;
