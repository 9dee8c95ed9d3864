//! The part of a recording that belongs to pods.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use overlay_trace_format::{HopName, Pod, PodFilter, Recording};

/// From now on only packets of these pods are read; of all where none is given.
///
/// # Errors
///
/// No packet of the recording passed one of them, or it cannot be read.
pub(super) fn select(recording: &mut Recording, filter: &PodFilter) -> Result<()> {
    if filter.is_empty() {
        return Ok(());
    }
    let is_meant = |hop: &HopName| hop.pod.as_ref().is_some_and(|pod| filter.has(pod));
    if !recording.select(&filter.to_string(), is_meant)? {
        let pods: BTreeSet<String> =
            recording.hops.values().filter_map(|hop| hop.pod.as_ref()).map(Pod::shown).collect();
        match pods.is_empty() {
            true => bail!(
                "the recording names no pods or containers: it was made on a machine without, or by an early version"
            ),
            false => bail!(
                "no packet of the recording passed {filter}: its pods are {}",
                pods.into_iter().collect::<Vec<_>>().join(", ")
            ),
        }
    }
    Ok(())
}
