//! Packets that are parts of others on the other side of a crossing: segmentation that the sender's device does, and
//! merging (GRO) before the receiver's probe.

use std::collections::BTreeMap;

use overlay_trace_common::record::Flow;
use rustc_hash::FxHashMap;

use crate::{
    edge::Passage,
    join::How,
    search::{Search, State, has_range},
};

/// No packet is longer than this many bytes of a stream's numbers.
const LONGEST: u32 = 1 << 20;

/// The packets of one flow that may be cut or merged, by their sequence number.
type BySequence = BTreeMap<u32, Vec<u32>>;

/// Joins wholes that leave to parts that enter, and parts that leave to wholes that enter.
pub(crate) fn join(search: &mut Search<'_>) {
    for leave_whole in [true, false] {
        let exits = by_flow(search.exits, &search.exit_states);
        let entries = by_flow(search.entries, &search.entry_states);
        let mut flows: Vec<&Flow> = exits.keys().filter(|flow| entries.contains_key(*flow)).collect();
        let order = |flow: &&Flow| (flow.source, flow.destination, flow.source_port, flow.destination_port);
        flows.sort_unstable_by_key(order);
        for flow in flows {
            let (out, back) = ((&exits[flow], search.exits), (&entries[flow], search.entries));
            if leave_whole {
                let Found { wholes, ambiguous } =
                    find(back, out, |part, whole| search.crossing(whole, part).is_some());
                ambiguous.into_iter().for_each(|part| search.entry_states[part as usize] = State::Ambiguous);
                for (whole, part) in wholes {
                    search.add(whole, part, How::Part);
                }
            } else {
                let Found { wholes, ambiguous } =
                    find(out, back, |part, whole| search.crossing(part, whole).is_some());
                ambiguous.into_iter().for_each(|part| search.exit_states[part as usize] = State::Ambiguous);
                for (whole, part) in wholes {
                    search.add(part, whole, How::Part);
                }
            }
        }
    }
}

fn by_flow(passages: &[Passage], states: &[State]) -> FxHashMap<Flow, BySequence> {
    let mut flows: FxHashMap<Flow, BySequence> = FxHashMap::default();
    for (number, passage) in passages.iter().enumerate() {
        if states[number] == State::Open && has_range(passage) {
            let flow = Flow { ip_id: 0, sequence: 0, ..passage.flow };
            flows.entry(flow).or_default().entry(passage.flow.sequence).or_default().push(number as u32);
        }
    }
    flows
}

/// Wholes and their parts, in order, and the parts of which more than one packet could be the whole.
struct Found {
    wholes: Vec<(u32, u32)>,
    ambiguous: Vec<u32>,
}

/// Finds the parts that have exactly one whole; parts of one whole do not overlap.
fn find(
    (parts, part_passages): (&BySequence, &[Passage]),
    (wholes, whole_passages): (&BySequence, &[Passage]),
    can_cross: impl Fn(u32, u32) -> bool,
) -> Found {
    let mut by_whole: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let mut ambiguous = Vec::new();
    for &part in parts.values().flatten() {
        let passage = &part_passages[part as usize];
        let mut candidates = before(wholes, passage.flow.sequence)
            .filter(|&whole| contains(&whole_passages[whole as usize], passage) && can_cross(part, whole));
        match (candidates.next(), candidates.next()) {
            (Some(whole), None) => by_whole.entry(whole).or_default().push(part),
            (Some(_), Some(_)) => ambiguous.push(part),
            (None, _) => {}
        }
    }
    let mut found = Vec::new();
    for (whole, mut parts) in by_whole {
        let start = whole_passages[whole as usize].flow.sequence;
        let offset = |part: u32| part_passages[part as usize].flow.sequence.wrapping_sub(start);
        parts.sort_by_key(|&part| offset(part));
        let passages: Vec<&Passage> = parts.iter().map(|&part| &part_passages[part as usize]).collect();
        if are_disjoint(&passages, start) {
            found.extend(parts.into_iter().map(|part| (whole, part)));
        } else {
            ambiguous.extend(parts);
        }
    }
    Found { wholes: found, ambiguous }
}

/// The packets whose sequence number is at most this one, and not much less.
fn before(numbers: &BySequence, sequence: u32) -> impl Iterator<Item = u32> {
    let from = sequence.wrapping_sub(LONGEST);
    let (first, second) = match from <= sequence {
        true => (from..=sequence, None),
        // The numbers begin again at 0.
        false => (0..=sequence, Some(from..=u32::MAX)),
    };
    let second = second.into_iter().flat_map(|range| numbers.range(range));
    numbers.range(first).rev().chain(second).flat_map(|(_, all)| all.iter().copied())
}

/// Whether a packet's data can be a part of another one's. Both have headers of the same length.
fn contains(whole: &Passage, part: &Passage) -> bool {
    let offset = part.flow.sequence.wrapping_sub(whole.flow.sequence);
    let known = |one: u64, other: u64| one == other || one == 0 || other == 0;
    part.bytes < whole.bytes
        && offset.checked_add(part.bytes).is_some_and(|end| end <= whole.bytes)
        && known(whole.witness, part.witness)
}

/// Whether the parts of a packet that begins at `start`, in order, do not overlap.
fn are_disjoint(parts: &[&Passage], start: u32) -> bool {
    /// Bytes of headers with all options that TCP can have, so that no data is counted that may be a header.
    const LONGEST_HEADERS: u32 = 100;
    let offset = |part: &Passage| part.flow.sequence.wrapping_sub(start);
    parts.windows(2).all(|two| {
        let (here, next) = (offset(two[0]), offset(two[1]));
        here < next && here + two[0].bytes.saturating_sub(LONGEST_HEADERS) <= next
    })
}
