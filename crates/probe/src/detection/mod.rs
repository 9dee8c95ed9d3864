//! What container networks this machine looks like it has: told by its devices, chains, sets, routes and virtual
//! servers, as the rules in `rules.rs` know them. Nothing is changed by looking, and no kernel module is loaded.

mod facts;
mod look;
mod matching;
mod netfilter;
mod rules;

use std::fs::File;

use crate::sys::netns;
pub use facts::Facts;
use overlay_trace_format::Detection;

/// Looks into these network namespaces, given by name, path or process, or into all there are.
pub fn look(given: &[String]) -> Vec<Detection> {
    let namespaces: Vec<(String, File)> = netns::all()
        .into_iter()
        .filter(|place| {
            given.is_empty()
                || given.iter().any(|given| netns::inode(given).is_ok_and(|own| own == place.inode))
        })
        .map(|place| (place.name, place.file))
        .collect();
    matching::detections(&look::facts(namespaces))
}

#[cfg(test)]
mod tests;
