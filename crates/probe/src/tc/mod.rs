//! The probe set `tc`: classifiers at the sides of devices. They are aya's [`SchedClassifier`](aya::programs::SchedClassifier)s: tcx links where the
//! kernel has them (6.6), which end with their descriptors, and else filters in the qdisc `clsact`.

mod at_device;
mod clean;
mod clsact;
mod cost;
mod devices;
mod hooks;
mod hop_table;
mod note;
mod part;
mod sweeper;

pub use clean::{Cleaned, clean, clean_after_kill};
pub use cost::measure;
pub use hooks::works;
pub use note::{FOLDER, has_note};
pub use part::Part;
