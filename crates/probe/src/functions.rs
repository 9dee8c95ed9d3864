//! The kernel functions that the recorder looks up.

use overlay_trace_common::{stage::Target, stage_map::STAGES};

use crate::{calibrate, modules, synthetic_skb_cost, sys::kernel::Functions};

/// The functions that the stage map names and those that are probed for measurements, with the module that each is
/// usually in.
pub fn wanted_functions() -> Functions {
    STAGES
        .iter()
        .flat_map(|stage| stage.points)
        .flat_map(|point| point.probes)
        .filter_map(|probe| match probe.target {
            Target::Function(name) => Some(name),
            _ => None,
        })
        .chain([calibrate::FUNCTION, synthetic_skb_cost::FUNCTION])
        .map(|function| (function, modules::module_of(function)))
        .collect()
}
