//! The device behind the routing decision: IP's output and what follows it are at the device that the packet then leaves
//! by, not at the one that it came in by.

use std::collections::BTreeMap;

use anyhow::ensure;
use overlay_trace_common::path::Span;
use overlay_trace_format::{HopName, RecordView, Recording, StageRow};

use crate::results::{Outcome, Verdict};
use crate::seen::Seen;

/// Stages that are entered only behind the routing decision, once the packet's device is that of its route.
const BEHIND_ROUTING: &[&str] = &["ip-output", "neighbour", "neighbour-wait", "fragment"];

type Hops = BTreeMap<u16, HopName>;

/// Each such stage is at the device by which the packet then leaves its namespace.
pub fn at_their_devices(seen: &Seen, _: &[Seen]) -> Outcome {
    let Recording { header, hops, .. } = &seen.recording;
    let (mut compared, mut wrong) = (0u64, Vec::new());
    seen.recording.for_each_record(|record| {
        let spans: Vec<Span> = record.spans().collect();
        for (at, leaves) in pairs(&spans, &header.stages, hops) {
            compared += 1;
            if spans[at].hop != spans[leaves].hop {
                wrong.push(describe(&record, &spans, (at, leaves), &seen.recording));
            }
        }
    })?;
    ensure!(wrong.is_empty(), "{} of {compared} are at another device; one {}", wrong.len(), wrong[0]);
    Ok(Verdict::With(format!("{compared} spans")))
}

/// The spans behind the routing decision, each with that of the transmission that follows in the same namespace.
fn pairs(spans: &[Span], stages: &[StageRow], hops: &Hops) -> Vec<(usize, usize)> {
    let row = |span: &Span| stages.get(usize::from(span.stage));
    let netns = |span: &Span| hops.get(&span.hop).map_or(0, |hop| hop.netns_inode);
    let mut pairs = Vec::new();
    for (at, span) in spans.iter().enumerate() {
        if !row(span).is_some_and(|row| BEHIND_ROUTING.contains(&row.name.as_str())) {
            continue;
        }
        let leaves = spans[at + 1..].iter().zip(at + 1..).take_while(|(next, _)| {
            // IPsec routes what it has encrypted anew, and what comes in again is another matter.
            let is_other = |row: &StageRow| row.behaviour.arrives || row.layer == "xfrm";
            netns(next) == netns(span) && !row(next).is_some_and(is_other)
        });
        let mut leaves = leaves.filter(|(next, _)| row(next).is_some_and(|row| row.behaviour.transmits));
        pairs.extend(leaves.next().map(|(_, leaves)| (at, leaves)));
    }
    pairs
}

fn describe(
    record: &RecordView<'_>,
    spans: &[Span],
    (at, leaves): (usize, usize),
    recording: &Recording,
) -> String {
    let place = |span: &Span| {
        let stage = recording.header.stages.get(usize::from(span.stage)).map_or("", |row| &row.name);
        let hop = recording.hops.get(&span.hop).cloned().unwrap_or_default();
        format!("{stage} at \"{}\" in {}, level {}", hop.device, hop.netns, span.level)
    };
    format!("packet {}: {}, {}", record.header.id, place(&spans[at]), place(&spans[leaves]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(name: &str, transmits: bool) -> StageRow {
        let mut row = StageRow { name: name.into(), ..StageRow::default() };
        row.behaviour.transmits = transmits;
        row
    }

    #[test]
    fn what_follows_the_routing_decision_is_compared_with_the_next_transmission_there() {
        let stages = [stage("ip-output", false), stage("dev-queue-xmit", true), stage("veth-xmit", true)];
        let hop = |netns_inode| HopName { netns_inode, ..HopName::default() };
        let hops = Hops::from_iter([(1, hop(1)), (2, hop(1)), (3, hop(2))]);
        let span = |stage, hop| Span { stage, hop, ..Span::default() };
        assert_eq!(pairs(&[span(0, 1), span(1, 2), span(2, 2)], &stages, &hops), [(0, 1)]);
        assert_eq!(pairs(&[span(0, 1), span(1, 3)], &stages, &hops), []);
    }
}
