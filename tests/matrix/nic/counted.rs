//! The drivers' own counters beside the recording.

use anyhow::{Context, Result, ensure};
use overlay_trace_lab::dataplanes::{Running, Uplink, Wire};
use overlay_trace_probe::ProbeSet;
use serde_json::Value;

use super::at_nic::{NICS, NODES, is_received, is_sent};
use crate::counters::{self, Counted};
use crate::identity::packets::{Packet, Packets};
use crate::results::{Outcome, Verdict};
use crate::seen::Seen;

/// Packets at the recording's two edges: between the reading of a counter and the recording's begin or end.
const AT_EDGES: u64 = 2 * 64;
/// Of so many packets one may be missing.
const ONE_IN: u64 = 1000;

/// What the report counts of a NIC's packets that have no record.
const CAUSES: [&str; 8] = [
    "lost_records",
    "not_ip",
    "filtered",
    "unreadable",
    "table_full",
    "missed_ends",
    "untracked",
    "in_flight",
];

/// What the drivers of the nodes' NICs have counted; nothing in a lab without NICs.
///
/// # Errors
///
/// When the kernel does not say it.
pub fn of(running: &Running) -> Result<Counted> {
    let mut counted = Counted::new();
    if !matches!(running.knobs().wire, Wire::Nics(_)) {
        return Ok(counted);
    }
    let uplink = running.knobs().uplink;
    let nics = if uplink == Uplink::PLAIN { &NICS[..1] } else { &NICS[1..=uplink.nics] };
    for node in NODES {
        let devices = counters::of_devices(running.netns(node)?)?;
        for nic in nics {
            let [received, sent] =
                devices.get(*nic).with_context(|| format!("{nic} of {node} has no counters"))?;
            counted.insert(format!("{node} {nic}/rx"), i64::try_from(*received)?);
            counted.insert(format!("{node} {nic}/tx"), i64::try_from(*sent)?);
        }
    }
    Ok(counted)
}

type IsThere = fn(&Packets<'_>, &Packet, &str) -> bool;

pub fn sent(seen: &Seen, _: &[Seen]) -> Outcome {
    beside_driver(seen, "tx", is_sent)
}

pub fn received(seen: &Seen, _: &[Seen]) -> Outcome {
    beside_driver(seen, "rx", is_received)
}

/// The driver's number is that of records or, where it counts segments, or GRO comes before the recording, that of
/// segments.
fn beside_driver(seen: &Seen, direction: &str, is_there: IsThere) -> Outcome {
    let packets = Packets::of(seen)?;
    let mut said = Vec::new();
    for node in NODES {
        let of_nic = |nic: &&str| seen.counted.get(&format!("{node} {nic}/{direction}"));
        let counted = u64::try_from(NICS.iter().filter_map(of_nic).sum::<i64>())?;
        let there: Vec<&Packet> =
            packets.all.iter().filter(|packet| is_there(&packets, packet, node)).collect();
        let records = there.len() as u64;
        let segments: u64 = there.iter().map(|packet| u64::from(packet.header.segments)).sum();
        let tolerance = (counted / ONE_IN).max(AT_EDGES);
        let words = format!("{node}: {counted} by the driver, {records} records of {segments} segments");
        ensure!(counted > AT_EDGES, "{words}: too few to tell");
        let is_close = |recorded: u64| recorded.abs_diff(counted) <= tolerance;
        // All drivers count what they give to napi_gro_receive, and light sees what comes out of it.
        let in_segments = direction == "tx" || seen.set == ProbeSet::Light;
        ensure!(is_close(records) || in_segments && is_close(segments), "{words}");
        said.push(words);
    }
    Ok(Verdict::With(said.join("; ")))
}

/// Whether the emulated hardware counts a packet as one that it sends in segments, which a real one of its kind does not:
/// QEMU's `e1000e_on_tx_done_update_stats`. What the driver counts is then compared with packets alone ([`sent`]).
fn counts_whole(nic: &Value) -> bool {
    let text = |key: &str| nic[key].as_str().unwrap_or_default();
    ["e1000e", "igb"].contains(&text("driver")) && text("direction") == "sent"
}

/// The report says of each NIC what its driver has counted, and what became of that: nothing is unexplained, and what
/// was not recorded is a small part.
pub fn reported(seen: &Seen, _: &[Seen]) -> Outcome {
    let all = seen.json["nics"].as_array().context("the report has no `nics`")?;
    let mut said = Vec::new();
    for node in NODES {
        for (direction, name) in [("rx", "received"), ("tx", "sent")] {
            let is_this = |nic: &&Value| {
                let text = |key: &str| nic[key].as_str().unwrap_or_default();
                seen.short(text("netns")) == node
                    && NICS.contains(&text("device"))
                    && text("direction") == name
            };
            let nics: Vec<&Value> = all.iter().filter(is_this).collect();
            let sum = |key: &str| nics.iter().filter_map(|nic| nic[key].as_i64()).sum::<i64>();
            let of_nic = |nic: &&str| seen.counted.get(&format!("{node} {nic}/{direction}"));
            let counted = NICS.iter().filter_map(of_nic).sum::<i64>();
            let (by_driver, recorded, unexplained) = (sum("by_driver"), sum("recorded"), sum("unexplained"));
            let words = format!("{node}: {recorded} of {by_driver} {name}, {unexplained} unexplained");
            let tolerance = (counted.unsigned_abs() / ONE_IN).max(AT_EDGES);
            let is_close = |one: i64, other: i64| one.abs_diff(other) <= tolerance;
            // Some drivers count segments in one place and packets in the other.
            ensure!(
                by_driver > 0 && by_driver >= counted - tolerance as i64,
                "{words}; the driver says {counted}"
            );
            let by_cause = CAUSES.iter().map(|cause| sum(cause)).sum::<i64>();
            let is_whole = nics.iter().all(|nic| counts_whole(nic)) && by_driver > 0 && recorded > by_driver;
            ensure!(is_whole || is_close(unexplained, 0), "{words}");
            ensure!(is_whole || is_close(recorded + by_cause, by_driver), "{words}, {by_cause} by cause");
            let skipped = seen.skipped() as i64;
            let lost = sum("unreadable") + sum("lost_records") + sum("table_full");
            ensure!(lost <= skipped + by_driver / ONE_IN as i64, "{words}, {lost} lost");
            said.push(words);
        }
    }
    Ok(Verdict::With(said.join("; ")))
}
