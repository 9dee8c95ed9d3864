//! Why no packet was found to cross from one machine to another.

use std::collections::BTreeMap;

use crate::{
    edge::{Device, edge_of},
    error::MergeError,
    machine::Machine,
};

/// The error that says it best; `passages` are how many left and came in, by device.
pub(crate) fn reason(machines: &[Machine], passages: &BTreeMap<Device, (u64, u64)>) -> MergeError {
    let pairs = (0..machines.len()).flat_map(|one| (one + 1..machines.len()).map(move |other| (one, other)));
    let gaps: Option<Vec<Gap<'_>>> = pairs
        .map(|(one, other)| {
            let (one, other) = (&machines[one], &machines[other]);
            Gap::between(one, other).or_else(|| Gap::between(other, one))
        })
        .collect();
    match gaps.and_then(|gaps| gaps.into_iter().min_by_key(|gap| gap.ns)) {
        Some(Gap { earlier, later, ns }) => {
            MergeError::NoOverlap { earlier: earlier.name.clone(), later: later.name.clone(), ns }
        }
        None => MergeError::NoCrossing { edges: describe_edges(machines, passages) },
    }
}

/// A time, by the wall clocks, in which neither machine recorded.
struct Gap<'a> {
    earlier: &'a Machine,
    later: &'a Machine,
    ns: u64,
}

impl Gap<'_> {
    /// `None` if the later one began while the other recorded, or the wall clocks are not known.
    fn between<'a>(earlier: &'a Machine, later: &'a Machine) -> Option<Gap<'a>> {
        let begin = |machine: &Machine| Some(machine.recording.header.start_wall_ns).filter(|ns| *ns > 0);
        let end = begin(earlier)?.checked_add(earlier.recording.last.duration_ns)?;
        let ns = begin(later)?.checked_sub(end).filter(|ns| *ns > 0)?;
        Some(Gap { earlier, later, ns })
    }
}

/// The edges of the machines with the packets that left and came in, for people.
fn describe_edges(machines: &[Machine], passages: &BTreeMap<Device, (u64, u64)>) -> String {
    let of_machine = |(number, machine): (usize, &Machine)| {
        let mut devices: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for (&hop, name) in &machine.recording.hops {
            let Some(is_tap) = edge_of(name) else { continue };
            let device = Device { machine: number as u16, hop, is_tap };
            let (out, back) = passages.get(&device).copied().unwrap_or_default();
            let sum = devices.entry(&name.device).or_default();
            *sum = (sum.0 + out, sum.1 + back);
        }
        let devices: Vec<String> =
            devices.iter().map(|(device, (out, back))| format!("{device} ({out} out, {back} in)")).collect();
        let devices = if devices.is_empty() { "none".to_owned() } else { devices.join(", ") };
        format!("{}: {devices}", machine.name)
    };
    machines.iter().enumerate().map(of_machine).collect::<Vec<_>>().join("; ")
}
