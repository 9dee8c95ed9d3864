//! What holds for every recording.

use anyhow::{Context, Result, bail, ensure};
use overlay_trace_analysis::breakdown::By;
use overlay_trace_common::record::Outcome as End;
use overlay_trace_format::RecordView;
use overlay_trace_lab::traffic::{Kind, PORT, Protocol};
use overlay_trace_probe::ProbeSet;
use serde_json::Value;

use crate::results::{Outcome, Verdict};
use crate::routed;
use crate::scene::{Check, check};
use crate::seen::Seen;

/// For all recordings.
pub const EXACT: &[Check] = &[
    check("schema", schema),
    check("conservation", conservation),
    check("routed-devices", routed::at_their_devices),
];

/// For recordings at moderate load.
pub const MODERATE: &[Check] = &[check("accounting", accounting), check("losses", losses)];

/// For those that begin while traffic runs.
pub const BEGUN_UNDER_WAY: &[Check] =
    &[check("accounting", accounting), check("losses", losses_begun_under_way)];

/// For recordings of request/response traffic without a filter.
pub const REQUESTS: &[Check] =
    &[check("every-datagram", every_datagram), check("every-request", every_request)];

/// For labs in which all time must be explained.
pub const EXPLAINED: &[Check] = &[check("other-share", other_share)];

/// On kernels that interrupt programs one probe in so many may be skipped.
const SKIPPED_AT_MOST: u64 = 500;
const DIST: &[&str] = &["count", "sum", "mean", "p50", "p90", "p99", "p999", "p9999", "max"];
const FIELDS: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "schema",
            "capture",
            "packets",
            "losses",
            "end_to_end_ns",
            "stages",
            "other_share",
            "probe_cost_ns",
        ],
    ),
    ("/capture", &["kernel", "probe_set", "duration_ns", "node", "unseen_stages"]),
    ("/packets", &["started", "finished", "delivered", "dropped", "forwarded", "unfinished"]),
    ("/losses", LOSSES),
    ("/probe_cost_ns", &["entry", "exit", "tracepoint", "tc"]),
    ("/end_to_end_ns", DIST),
];
const LOSSES: &[&str] = &["records", "probe_misses", "state_full", "unmatched_exits", "unknown_start"];
const STAGE: &[&str] = &[
    "layer",
    "stage",
    "kind",
    "level",
    "direction",
    "netns",
    "device",
    "packets",
    "segments",
    "bytes",
    "share",
    "self_ns",
    "self_ns_net",
];

fn has_fields(value: &Value, place: &str, names: &[&str]) -> Result<()> {
    for name in names {
        ensure!(value.get(name).is_some(), "the report has no {place}/{name}");
    }
    Ok(())
}

fn stages(seen: &Seen) -> Result<&Vec<Value>> {
    seen.json["stages"].as_array().context("`stages` is no list")
}

fn schema(seen: &Seen, _: &[Seen]) -> Outcome {
    for (place, names) in FIELDS {
        has_fields(seen.json.pointer(place).context("missing object")?, place, names)?;
    }
    ensure!(seen.json["schema"] == 1, "the schema is {}", seen.json["schema"]);
    ensure!(seen.json["capture"]["probe_set"] == seen.set.name(), "another probe set was used");
    ensure!(!stages(seen)?.is_empty(), "there are no stages");
    for stage in stages(seen)? {
        has_fields(stage, "/stages", STAGE)?;
        has_fields(&stage["self_ns"], "/stages/self_ns", DIST)?;
        ensure!(["work", "wait"].iter().any(|kind| stage["kind"] == *kind), "a stage is {}", stage["kind"]);
    }
    Ok(Verdict::Passed)
}

/// The sum of all stages is the end-to-end time, to the nanosecond, however it is grouped. That each record
/// by itself adds up is one of the loss counters.
fn conservation(seen: &Seen, _: &[Seen]) -> Outcome {
    let sum = |value: &Value| value["sum"].as_u64().context("a sum is no whole number");
    let total = sum(&seen.json["end_to_end_ns"])?;
    let parts = stages(seen)?.iter().map(|stage| sum(&stage["self_ns"])).sum::<Result<u64>>()?;
    ensure!(total > 0 && total == parts, "the stages add up to {parts} ns, the packets took {total} ns");
    for by in [By::Layer, By::Device, By::Level] {
        let analysis = seen.analysis_of(by, |_| true)?;
        let parts: u128 = analysis.rows.iter().map(|row| row.raw.sum()).sum();
        ensure!(parts == u128::from(total), "by {by:?} the parts add up to {parts} ns, not to {total} ns");
    }
    Ok(Verdict::Passed)
}

/// Every packet that began has ended, is counted as lost, or is the end of a connection that lives on.
fn accounting(seen: &Seen, _: &[Seen]) -> Outcome {
    let counters = &seen.recording.last.counters;
    let read = seen.analysis.records;
    let outcomes = &seen.analysis.outcomes;
    let ended = outcomes.delivered + outcomes.dropped + outcomes.forwarded + outcomes.merged + outcomes.split;
    ensure!(read > 0, "no packet was recorded");
    ensure!(ended == read, "{read} records, but {ended} outcomes");
    ensure!(
        counters.finished == read + counters.lost_records,
        "{} packets finished, but {read} were recorded and {} lost",
        counters.finished,
        counters.lost_records
    );
    let ended = counters.finished + counters.without_record();
    ensure!(counters.started >= ended, "{} began, {ended} ended or were filtered", counters.started);
    let unfinished = counters.started - ended;
    ensure!(seen.json["packets"]["unfinished"] == unfinished, "the report has another number of unfinished");
    // A few acknowledgements and connections' last segments are in flight when the recording ends.
    ensure!(
        unfinished <= ends_unseen(counters.started),
        "{unfinished} of {} packets never ended",
        counters.started
    );
    Ok(Verdict::With(format!("{read} packets, {unfinished} unfinished")))
}

/// How many ends may be unseen.
fn ends_unseen(packets: u64) -> u64 {
    16 + packets / 100
}

/// At moderate load nothing is lost, and the report says so. There are two exceptions, both counted: tracepoints
/// do not show the device set how every TCP segment without data ends; and the kernel
/// skips a probe whose program has been interrupted by what comes to the same probe, each of which can hide one packet's beginning or end, or the entry that belongs to an
/// exit.
fn losses(seen: &Seen, _: &[Seen]) -> Outcome {
    lossless(seen, 0)
}

/// When the recording begins, each processor may be in the middle of a function whose exit is then seen alone, and of
/// the path of a packet, if it does not get on with it for longer than the recording waits.
fn losses_begun_under_way(seen: &Seen, _: &[Seen]) -> Outcome {
    lossless(seen, std::thread::available_parallelism()?.get() as u64)
}

fn lossless(seen: &Seen, in_the_middle: u64) -> Outcome {
    let all = seen.json["losses"].as_object().context("`losses` is no object")?;
    ensure!(seen.recording.complete, "the recording is not complete");
    let skipped = seen.skipped();
    let allowed = |name: &str| match (name, seen.set) {
        ("probe_misses", _) if skipped > 0 => seen.recording.last.counters.hits / SKIPPED_AT_MOST,
        // The second key is the first one's value under its new name.
        ("lost_end" | "missed_ends", ProbeSet::Device) => ends_unseen(seen.analysis.packets()),
        ("lost_end" | "missed_ends", _) => skipped,
        ("unknown_start" | "unmatched_exits", _) => skipped + in_the_middle,
        _ => 0,
    };
    let lost: Vec<String> = all
        .iter()
        .filter(|(name, count)| count.as_u64().is_some_and(|count| count > allowed(name)))
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    ensure!(lost.is_empty(), "lost: {}", lost.join(", "));
    Ok(if skipped > 0 { Verdict::With(format!("{skipped} probes skipped")) } else { Verdict::Passed })
}

/// Whether the packet has reached its socket: so said, or freed there without having been dropped.
pub fn is_delivered(seen: &Seen, record: &RecordView<'_>) -> bool {
    let stages = record.spans().filter_map(|step| seen.recording.header.stages.get(usize::from(step.stage)));
    // Waits for the CPU are in the middle of a stage.
    let last = stages.filter(|stage| stage.layer != "cpu").last();
    let at_socket = last.is_some_and(|stage| stage.layer == "socket" || stage.layer == "transport");
    match End::from_u8(record.header.outcome) {
        Some(End::Delivered) => true,
        Some(End::Freed) => at_socket,
        _ => false,
    }
}

/// Whether no headers are around the packet at its end: what a user-space overlay's daemon gets is not at its end.
fn is_unpacked(record: &RecordView<'_>) -> bool {
    record.spans().last().is_some_and(|last| last.level == 0)
}

/// Each datagram that the traffic's two ends count has a record of its delivery; in the device set it may
/// instead be one of those whose end was not seen, and else one that a skipped probe would have shown.
fn every_datagram(seen: &Seen, _: &[Seen]) -> Outcome {
    let of_traffic = seen.traffic.iter().filter(|report| report.protocol == Protocol::Udp);
    let expected: u64 = of_traffic.map(|report| report.sent + report.received).sum();
    let recorded = seen.count(|record| {
        let flow = record.header.flow;
        seen.is_own(record)
            && flow.protocol == 17
            && (flow.source_port == PORT || flow.destination_port == PORT)
            && is_unpacked(record)
            && is_delivered(seen, record)
    })?;
    ensure!(expected > 0, "no datagrams were sent");
    let unseen = if seen.set == ProbeSet::Device { seen.analysis.unfinished() } else { seen.skipped() };
    let fits = (recorded..=recorded + unseen).contains(&expected);
    ensure!(fits, "{expected} datagrams arrived, {recorded} were recorded");
    Ok(Verdict::With(format!("{recorded} datagrams")))
}

/// The traffic arrived, and its report is in the recording.
fn every_request(seen: &Seen, _: &[Seen]) -> Outcome {
    let stored = seen.json["traffic"].as_array().map_or(0, Vec::len);
    ensure!(stored == seen.traffic.len(), "{stored} reports of traffic instead of {}", seen.traffic.len());
    for report in seen.traffic.iter().filter(|report| report.kind == Kind::Rr) {
        ensure!(report.sent > 0 && report.lost == 0, "{} of {} requests were lost", report.lost, report.sent);
    }
    Ok(Verdict::Passed)
}

/// What no stage claims may be at most so much of the packets' time.
pub const OTHER: f64 = 0.03;

/// Nearly all time is claimed, for UDP and for TCP. That stages do not claim what is not theirs is looked at in
/// [`truth`](crate::truth).
fn other_share(seen: &Seen, _: &[Seen]) -> Outcome {
    if seen.set != ProbeSet::Full {
        bail!("only the full set explains all time");
    }
    let mut figures = Vec::new();
    for (name, protocol) in [("UDP", 17), ("TCP", 6)] {
        let analysis = seen.analysis_of(By::Layer, |record| record.header.flow.protocol == protocol)?;
        let share = analysis.other_share();
        ensure!(analysis.packets() > 100, "there are only {} packets of {name}", analysis.packets());
        ensure!(share <= OTHER, "no stage claims {:.1} % of the time of {name}", share * 100.0);
        figures.push(format!("{name} {:.2} %", share * 100.0));
    }
    Ok(Verdict::With(figures.join(", ")))
}
