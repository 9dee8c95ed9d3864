//! Removing what recorders that were killed have left behind.

use std::path::Path;

use overlay_trace_format::printable;

use super::{
    clsact,
    devices::{all_here, enter},
    note::{Made, Notes},
};
use crate::sys::netns::{self, Namespace};

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Filters, on any device.
    pub filters: usize,
    /// What could not be removed, and why.
    pub failures: Vec<String>,
}

/// Removes the filters of recorders that do not run any more, and each `clsact` that a note in `folder` says one of them
/// made, if it is empty. Filters are known by their names. Those of recorders that run stay.
pub fn clean(folder: &Path) -> Cleaned {
    let notes = Notes::read(folder);
    let mut cleaned = Cleaned::default();
    let work = || {
        for namespace in netns::all() {
            clean_namespace(&namespace, &notes, &mut cleaned);
        }
    };
    // Entering namespaces takes a thread of its own.
    let is_complete = std::thread::scope(|scope| scope.spawn(work).join()).is_ok();
    if is_complete && cleaned.failures.is_empty() {
        notes.remove();
    }
    for failure in &cleaned.failures {
        tracing::warn!("{failure}");
    }
    cleaned
}

/// The same, if a note in `folder` is that of a recorder that was killed.
pub fn clean_after_kill(folder: &Path) {
    let left = Notes::read(folder).left;
    if !left.is_empty() {
        clean(folder);
    }
}

fn clean_namespace(namespace: &Namespace, notes: &Notes, cleaned: &mut Cleaned) {
    let here = match enter(namespace).and_then(|()| all_here()) {
        Ok(devices) => devices,
        // The namespace may have been deleted meanwhile, and its devices with it.
        Err(error) => return tracing::debug!("{error:#}"),
    };
    let cookie = netns::own_cookie().unwrap_or_default();
    let is_here = |made: &&Made| made.netns == namespace.inode && made.netns_cookie == cookie;
    for device in here {
        let of_device = |made: &&Made| is_here(made) && made.ifindex == device.ifindex;
        let keep: Vec<u32> = notes.alive.iter().filter(of_device).map(|made| made.handle).collect();
        let clsact_is_ours = notes.left.iter().filter(of_device).any(|made| made.clsact);
        match clsact::clean(device.ifindex, &keep, clsact_is_ours) {
            Ok(filters) => cleaned.filters += filters,
            Err(error) => cleaned.failures.push(format!(
                "filters on {} of {} cannot be removed: {error:#}",
                printable(&device.name),
                namespace.name
            )),
        }
    }
}
