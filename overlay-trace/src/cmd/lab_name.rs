//! Labs by name.

use anyhow::{Context, Result};
use overlay_trace_lab::dataplanes::{self, Lab};

/// The lab of this name.
///
/// # Errors
///
/// There is none; the message lists the names.
pub(super) fn find(name: &str) -> Result<&'static Lab> {
    dataplanes::find(name).with_context(|| {
        let names: Vec<_> = dataplanes::all().iter().map(|lab| lab.name).collect();
        format!("no lab is called '{name}'; the labs are {}", names.join(", "))
    })
}
