//! What must hold of the merged recording.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use overlay_trace_common::headers::{IPPROTO_TCP, IPPROTO_UDP};
use overlay_trace_lab::traffic::{Kind, PORT, Protocol, TrafficReport};
use overlay_trace_merge::summary::{ClockSummary, IntervalSummary};

use super::guest::SERVICE;
use super::streams::{self, Direction, Joined};
use super::true_clock;
use super::{Merged, Run};
use crate::own::is_exact;
use crate::results::{Outcome, Verdict};

/// Of what the load generator has counted so much is joined from pod to pod.
const JOINED_PERCENT: f64 = 98.0;
/// The clocks' intervals are at most so wide in the median.
const INTERVAL_NS: u64 = 300_000;
/// At so many moments at least the true clock is compared.
const READINGS: usize = 5;

/// A check by its name.
type Check = (&'static str, fn(&Run) -> Outcome);

pub const ALL: &[Check] = &[
    ("requests", requests),
    ("bulk", bulk),
    ("levels", levels),
    ("exact", exact),
    ("true-clocks", true_clocks),
    ("interval", interval),
    ("epochs", epochs),
    ("without-host", without_host),
    ("without-guest2", without_guest2),
];

fn percent(part: u64, whole: u64) -> f64 {
    part as f64 * 100.0 / whole.max(1) as f64
}

fn enough(said: String, parts: &[f64]) -> Outcome {
    ensure!(!parts.is_empty() && parts.iter().all(|part| *part >= JOINED_PERCENT), "{said}");
    Ok(Verdict::With(said))
}

/// The client's port.
fn client_port(report: &TrafficReport) -> Result<u16> {
    let port = report.from.rsplit(':').next().and_then(|port| port.parse().ok());
    port.with_context(|| format!("{} has no port", report.from))
}

fn of(all: &BTreeMap<Direction, Joined>, direction: Direction) -> (u64, u64) {
    all.get(&direction).map_or((0, 0), |joined| (joined.packets, joined.bytes()))
}

/// Requests and answers are joined from pod to pod, to the server's own address and to the service's.
fn requests(run: &Run) -> Outcome {
    joined_requests(&run.traffic, &run.all, &["guest1", &run.host, "guest2"])
}

/// Datagrams count by number, TCP's requests by bytes, since several may be one packet. No datagram is joined to a wrong
/// one: those of one direction keep their order.
fn joined_requests(traffic: &[TrafficReport], merged: &Merged, route: &[&str]) -> Outcome {
    let joined = streams::joined(&merged.recording, route)?;
    let (mut said, mut parts) = (Vec::new(), Vec::new());
    for report in traffic.iter().filter(|report| report.kind == Kind::Rr) {
        ensure!(report.received > 0, "no request was answered");
        let port = client_port(report)?;
        let (protocol, unit) = match report.protocol {
            Protocol::Udp => (IPPROTO_UDP, "packets"),
            _ => (IPPROTO_TCP, "bytes"),
        };
        for (from, to, bytes) in [(port, PORT, report.request_bytes), (PORT, port, report.answer_bytes)] {
            let direction = (protocol, from, to);
            let ((packets, joined_bytes), received) = (of(&joined, direction), report.received);
            let (part, whole) = match report.protocol {
                Protocol::Udp => (packets, received),
                _ => (joined_bytes, received * u64::from(bytes)),
            };
            let datagrams = joined.get(&direction).filter(|_| protocol == IPPROTO_UDP);
            let overtaking = datagrams.map_or(0, Joined::overtaking);
            ensure!(overtaking == 0, "{overtaking} of {packets} datagrams to port {to} overtake others");
            said.push(format!("{part} of {whole} {unit}"));
            parts.push(percent(part, whole));
        }
    }
    enough(said.join(", "), &parts)
}

/// The bytes of a stream that GSO has cut and GRO merged.
fn bulk(run: &Run) -> Outcome {
    let joined = streams::joined(&run.all.recording, &["guest1", &run.host, "guest2"])?;
    let report =
        run.traffic.iter().find(|report| report.kind == Kind::Bulk).context("there was no stream")?;
    let (packets, bytes) = of(&joined, (IPPROTO_TCP, client_port(report)?, PORT));
    let said = format!("{bytes} of {} bytes, in {packets} packets", report.bytes);
    enough(said, &[percent(bytes, report.bytes)])
}

/// The pods' own packets, in the guests' VXLAN, in the hypervisors' VXLAN.
fn levels(run: &Run) -> Outcome {
    let mut levels: BTreeMap<&str, BTreeSet<u8>> = BTreeMap::new();
    run.all.recording.for_each_record(|record| {
        for span in record.spans() {
            let Some(hop) = run.all.recording.hops.get(&span.hop) else { continue };
            if let Some((machine, _)) = hop.netns.split_once(" / ") {
                levels.entry(machine).or_default().insert(span.level);
            }
        }
    })?;
    let of = |machine: &str| levels.get(machine).map(|all| all.iter().copied().collect::<Vec<_>>());
    for (machine, expected) in
        [("guest1", vec![0, 1]), ("guest2", vec![0, 1]), (run.host.as_str(), vec![1, 2])]
    {
        // The guests' own small talk, as ARP's, is at no level of its own.
        let found = of(machine).unwrap_or_default();
        let lacks: Vec<&u8> = expected.iter().filter(|level| !found.contains(level)).collect();
        ensure!(lacks.is_empty(), "{machine} has the levels {found:?}, not {expected:?}");
        ensure!(found.iter().all(|level| *level <= 2), "{machine} has the levels {found:?}");
    }
    Ok(Verdict::Passed)
}

/// Times add up, and no crossing takes less than no time.
fn exact(run: &Run) -> Outcome {
    is_exact(&run.all.recording)?;
    let (total, counts) = (run.all.summary.end_to_end_ns, &run.all.summary.joined.counts);
    ensure!(total.difference == 0, "legs and crossings differ from end to end by {} ns", total.difference);
    ensure!(counts.negative == 0, "{} crossings would have taken less than no time", counts.negative);
    Ok(Verdict::With(format!("{} records, {} ns", total.count, total.sum)))
}

fn clock<'a>(run: &'a Run, guest: &str) -> Result<&'a ClockSummary> {
    let clock = run.all.summary.clocks.iter().find(|clock| clock.node == guest);
    clock.with_context(|| format!("nothing is said of {guest}'s clock"))
}

/// The offset of the interval at a time, at least and at most.
fn at(interval: &IntervalSummary, ns: u64) -> (i128, i128) {
    let (since, length) =
        (i128::from(ns - interval.from_ns), i128::from(interval.to_ns - interval.from_ns).max(1));
    let between = |begin: i128, end: i128| begin + (end - begin) * since / length;
    (
        between(interval.offset_low_ns, interval.offset_low_end_ns),
        between(interval.offset_high_ns, interval.offset_high_end_ns),
    )
}

/// What was read over shared memory lies inside the intervals at every moment: no reading contradicts them, and what all
/// readings leave of the line between both clocks is inside.
fn true_clocks(run: &Run) -> Outcome {
    let mut said = Vec::new();
    for (guest, readings) in ["guest1", "guest2"].into_iter().zip(&run.clocks) {
        let intervals = &clock(run, guest)?.intervals;
        let at_ns = |ns: u64| {
            let interval = intervals.iter().find(|one| (one.from_ns..=one.to_ns).contains(&ns));
            interval.map(|interval| at(interval, ns))
        };
        for reading in readings {
            if let Some((low, high)) = at_ns(reading.guest_ns) {
                let (least, most) = reading.offset();
                let is_possible = low <= most && least <= high;
                ensure!(is_possible, "{guest}: {least} to {most} was read, outside of {low} to {high}");
            }
        }
        let truth = true_clock::line(readings).with_context(|| format!("{guest}'s clock was not read"))?;
        let (mut inside, mut all, mut widths) = (0, 0, Vec::new());
        for ns in intervals.iter().map(|interval| interval.from_ns) {
            let (Some((low, high)), Some((least, most))) = (at_ns(ns), true_clock::at(&truth, ns)) else {
                continue;
            };
            ensure!(
                low <= most && least <= high,
                "{guest}: {least} to {most} is true, outside of {low} to {high}"
            );
            inside += usize::from(low <= least && most <= high);
            all += 1;
            widths.push((most - least) as u64);
        }
        let width = median(widths);
        let sentence = format!("{guest}: {inside} of {all} inside, known to {:.1} us", width as f64 / 1e3);
        ensure!(all >= READINGS && inside * 2 > all, "{sentence}");
        said.push(sentence);
    }
    Ok(Verdict::With(said.join("; ")))
}

fn median(mut all: Vec<u64>) -> u64 {
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or(0)
}

fn interval(run: &Run) -> Outcome {
    let mut said = Vec::new();
    for guest in ["guest1", "guest2"] {
        let width =
            clock(run, guest)?.median_width_ns.with_context(|| format!("{guest}'s clock is not known"))?;
        ensure!(width < INTERVAL_NS, "{guest}'s clock is known to {width} ns in the median");
        said.push(format!("{guest} {:.1} us", width as f64 / 1e3));
    }
    Ok(Verdict::With(said.join(", ")))
}

/// Guest 2 was stopped once, and its clock with it.
fn epochs(run: &Run) -> Outcome {
    let counts = [("guest1", 1), ("guest2", 2)].map(|(guest, expected)| {
        let count = clock(run, guest)?.epochs.len();
        ensure!(count == expected, "{guest} has {count} epochs, not {expected}");
        Ok(())
    });
    counts.into_iter().collect::<Result<()>>()?;
    Ok(Verdict::Passed)
}

/// Guests are nodes like others where nobody has recorded their hypervisors. On this one crossing TCP's packets to the
/// service are translated and merged at once, which is not joined.
fn without_host(run: &Run) -> Outcome {
    let service = SERVICE.to_string();
    let is_possible =
        |report: &&TrafficReport| report.protocol == Protocol::Udp || !report.to.starts_with(&service);
    let traffic: Vec<TrafficReport> = run.traffic.iter().filter(is_possible).cloned().collect();
    joined_requests(&traffic, &run.without_host, &["guest1", "guest2"])
}

/// Where guest 2 was not recorded nothing is joined across it, and what left for it is counted.
fn without_guest2(run: &Run) -> Outcome {
    let counts = &run.without_guest2.summary.joined.counts;
    let crossed: u64 = run.without_guest2.summary.crossings.iter().map(|crossing| crossing.count).sum();
    let datagrams = run.traffic.iter().filter(|report| report.protocol == Protocol::Udp);
    let sent: u64 = datagrams.map(|report| report.received).sum();
    ensure!(crossed >= 2 * sent, "{crossed} crossings of {sent} requests and their answers");
    ensure!(counts.out_of_recording >= sent && counts.foreign >= sent, "{counts:?}");
    Ok(Verdict::With(format!("{crossed} crossings")))
}
