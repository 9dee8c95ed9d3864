//! Labs by name.

use anyhow::{Context, Result};
use overlay_trace_format::printable;
use overlay_trace_lab::dataplanes::{self, Lab};

/// Names that are at least so similar are meant, by Jaro-Winkler; at most so many are told.
const SIMILAR: f64 = 0.85;
const NAMED: usize = 4;

/// The lab of this name.
///
/// # Errors
///
/// There is none; the message has the names that are like it.
pub(super) fn find(name: &str) -> Result<&'static Lab> {
    dataplanes::find(name).with_context(|| {
        let like = similar(name, dataplanes::all().iter().map(|lab| lab.name));
        let meant =
            if like.is_empty() { String::new() } else { format!("did you mean {}? ", like.join(", ")) };
        format!("no lab is called '{}': {meant}`overlay-trace lab list` lists them", printable(name))
    })
}

/// Names that are like this one, the most similar first: a few letters differ, or it is a part of them.
fn similar(name: &str, names: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
    let likeness = |known: &str| {
        let is_part = name.len() > 2 && known.contains(name);
        strsim::jaro_winkler(name, known).max(if is_part { 0.9 } else { 0.0 })
    };
    let mut like: Vec<(f64, &str)> = names.map(|known| (likeness(known), known)).collect();
    like.retain(|(likeness, _)| *likeness >= SIMILAR);
    like.sort_by(|a, b| b.0.total_cmp(&a.0));
    like.into_iter().take(NAMED).map(|(_, known)| known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_name_is_answered_with_similar_ones() {
        let said = |name: &str| find(name).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(
            said("flanel-vxlan").starts_with("no lab is called 'flanel-vxlan': did you mean flannel-vxlan")
        );
        assert!(said("geneve6").contains("did you mean geneve"));
        assert!(!said("xyzzy").contains("did you mean") && said("xyzzy").contains("lab list"));
        assert_eq!(
            similar("vxlan", ["docker-overlay", "cilium-vxlan", "vxlan6"].into_iter()),
            ["vxlan6", "cilium-vxlan"]
        );
    }
}
