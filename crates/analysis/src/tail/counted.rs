//! Evidence in the kernel's own counters: what they grew by during the recording, joined to the packets that it shows.

use overlay_trace_format::{KernelCounters, NetnsCounters, ThrottledCgroup};

use super::{
    comparison::{Tail, TailRow},
    counter_table::counter_row,
    drop_table::function_of,
    excess::{PACKETS_MIN, is_notable},
    finding::{Confidence, Finding, Severity},
    rule::{Counters, Rule},
};
use crate::breakdown::{Drop, Key};

/// A program is stopped by its quota in at least so many periods.
const PERIODS_MIN: u64 = 3;
/// And for at least this fraction of the recording.
const THROTTLED_MIN: f64 = 0.01;
/// It is the cause where waiting for the program holds this fraction of the excess, and severe.
const HALF: f64 = 0.5;
/// Stages in which packets wait for a program.
const PROGRAM_WAITS: &[&str] = &["socket-wait", "tcp-backlog-wait", "answering"];
/// Less than this fraction of the CPUs' time is stolen now and then in every virtual machine.
const STOLEN_MIN: f64 = 0.02;
/// From this fraction on it is a warning.
const STOLEN_WARNING: f64 = 0.1;
/// So often a softirq's budget is used up now and then on every machine.
const SQUEEZED_MIN: u64 = 10;
/// Stages in which packets wait for a softirq.
const SOFTIRQ_WAITS: &[&str] =
    &["ksoftirqd-wait", "softirq-wait", "backlog-wait", "gro-cells-wait", "batch-wait"];

/// A counter that grew, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountedAt {
    pub counter: String,
    /// Empty for a counter of the node.
    pub netns: String,
    /// Empty for a counter of the namespace.
    pub device: String,
    pub by: u64,
}

impl CountedAt {
    fn all<'a>(
        counters: &'a KernelCounters,
        names: &'a [&'static str],
    ) -> impl Iterator<Item = CountedAt> + 'a {
        names.iter().flat_map(move |name| counters.of(name)).map(|(netns, growth)| CountedAt {
            counter: growth.counter.clone(),
            netns: netns.map(|at: &NetnsCounters| at.netns.clone()).unwrap_or_default(),
            device: growth.device.clone(),
            by: growth.by,
        })
    }
}

/// One of these counters grew often enough. Counters of packets that the recording shows as drops are left to these.
pub(super) fn grown(tail: &Tail, rule: &'static Rule, counters: &Counters) -> Option<Finding> {
    let all = tail.analysis.kernel_counters.as_ref()?;
    let is_unseen = |at: &CountedAt| !tail.analysis.drops.iter().any(|drop| is_counted_by(drop, at));
    let mut counted: Vec<CountedAt> = CountedAt::all(all, counters.names).filter(is_unseen).collect();
    // Some of them count the same event, so that they are not added up.
    let most = counters.names.iter().map(|name| {
        let of_name = counted.iter().filter(|at| at.counter == *name);
        of_name.fold(0u64, |sum, at| sum.saturating_add(at.by))
    });
    let times = most.max().filter(|times| *times >= counters.least)?;
    let worst = counted.iter().max_by_key(|at| at.by)?;
    let device = Some(worst.device.clone()).filter(|device| !device.is_empty());
    let key = Key { device, ..in_netns(&worst.netns) };
    counted.extend(CountedAt::all(all, counters.with));
    Some(Finding {
        severity: counters.severity,
        confidence: Confidence::Certain,
        packets: times,
        lost_ns: u128::from(times) * u128::from(counters.waits_ns),
        counted,
        ..Finding::at(rule, &key)
    })
}

/// A program of the recording's namespaces was stopped by its CPU quota.
pub(super) fn throttled(tail: &Tail, rule: &'static Rule) -> Option<Finding> {
    let counters = tail.analysis.kernel_counters.as_ref()?;
    let least_ns = THROTTLED_MIN * counters.duration_ns as f64;
    let is_long = |group: &&ThrottledCgroup| {
        group.throttled_periods >= PERIODS_MIN && group.throttled_ns as f64 >= least_ns
    };
    // Where it holds most of the excess, then the one that was stopped longest.
    let of_group = |group: &'_ ThrottledCgroup| {
        let netns = netns_of(counters, group);
        (waits_in(tail, &netns), netns)
    };
    let worst = counters.throttled.iter().filter(is_long).map(|group| (of_group(group), group));
    let ((waits, netns), group) =
        worst.max_by_key(|((waits, _), group)| (waits.excess_ns, group.throttled_ns))?;
    let share = tail.share(waits.excess_ns);
    let is_cause = tail.is_comparison() && is_notable(tail, share, waits.packets);
    let key =
        waits.key.filter(|_| is_cause).unwrap_or_else(|| in_netns(netns.first().map_or("", String::as_str)));
    let lost_ns = u128::try_from(waits.excess_ns).unwrap_or(0).saturating_mul(tail.slow.packets.into());
    Some(Finding {
        severity: if is_cause && share >= HALF { Severity::Severe } else { Severity::Warning },
        confidence: match share {
            share if is_cause && share >= HALF => Confidence::Certain,
            _ => Confidence::Possible,
        },
        share: is_cause.then_some(share),
        lost_ns: if is_cause { lost_ns } else { group.throttled_ns.into() },
        packets: if is_cause { waits.packets } else { group.throttled_periods },
        throttled: Some(group.clone()),
        ..Finding::at(rule, &key)
    })
}

/// The hypervisor took time from the CPUs.
pub(super) fn stolen(tail: &Tail, rule: &'static Rule) -> Option<Finding> {
    let counters = tail.analysis.kernel_counters.as_ref()?;
    let (_, steal) = counters.of("steal_ns").next()?;
    let whole_ns = counters.duration_ns as f64 * f64::from(tail.analysis.header.cpus.unwrap_or(1).max(1));
    let part = steal.by as f64 / whole_ns.max(1.0);
    (part >= STOLEN_MIN).then(|| Finding {
        severity: if part >= STOLEN_WARNING { Severity::Warning } else { Severity::Note },
        confidence: Confidence::Possible,
        counted: CountedAt::all(counters, &["steal_ns"]).collect(),
        ..Finding::at(rule, &Key::default())
    })
}

/// Softirqs used up their budget, and slow packets waited for one.
pub(super) fn squeezed(tail: &Tail, rule: &'static Rule) -> Option<Finding> {
    let counters = tail.analysis.kernel_counters.as_ref()?;
    let (_, squeezed) = counters.of("softnet.time_squeeze").next()?;
    let waits = waits_of(tail, SOFTIRQ_WAITS, |_| true);
    let is_notable = tail.is_comparison() && is_notable(tail, tail.share(waits.excess_ns), waits.packets);
    (squeezed.by >= SQUEEZED_MIN && is_notable && waits.packets >= PACKETS_MIN).then(|| Finding {
        severity: Severity::Note,
        confidence: Confidence::Possible,
        packets: squeezed.by,
        counted: CountedAt::all(counters, &["softnet.time_squeeze"]).collect(),
        ..Finding::at(rule, &Key::default())
    })
}

/// Whether one of these counters grew in a namespace.
pub(super) fn has_grown(counters: Option<&KernelCounters>, names: &[&str], netns: Option<&str>) -> bool {
    let Some(counters) = counters else { return false };
    let is_here = |at: Option<&NetnsCounters>| at.is_some_and(|at| Some(at.netns.as_str()) == netns);
    names.iter().any(|name| counters.of(name).any(|(at, _)| is_here(at)))
}

/// The kernel's counters of the packets that a finding is about, in its namespace.
pub(crate) fn agreeing(tail: &Tail, finding: &Finding) -> Vec<CountedAt> {
    let (Some(counters), Some((reason, location))) = (&tail.analysis.kernel_counters, &finding.drop) else {
        return Vec::new();
    };
    let here = counters.netns.iter().filter(|at| Some(&at.netns) == finding.key.netns.as_ref());
    let grown = here.flat_map(|at| at.grown.iter().map(|growth| (&at.netns, growth)));
    let is_same = |counter: &str| {
        counter_row(counter).is_some_and(|row| {
            row.seen_as.iter().any(|seen| is_seen_as(seen, reason, location, finding.key.stage.as_deref()))
        })
    };
    let same = grown.filter(|(_, growth)| is_same(&growth.counter)).map(|(netns, growth)| CountedAt {
        counter: growth.counter.clone(),
        netns: netns.clone(),
        device: growth.device.clone(),
        by: growth.by,
    });
    same.collect()
}

fn is_counted_by(drop: &Drop, at: &CountedAt) -> bool {
    drop.key.netns.as_ref() == Some(&at.netns)
        && counter_row(&at.counter).is_some_and(|row| {
            let stage = drop.key.stage.as_deref();
            row.seen_as.iter().any(|seen| is_seen_as(seen, &drop.reason, &drop.location, stage))
        })
}

/// Whether a drop is what a row of the table of counters names: a reason, a function, or a stage.
fn is_seen_as(seen: &str, reason: &str, location: &str, stage: Option<&str>) -> bool {
    seen == reason || seen == function_of(location) || stage == Some(seen)
}

fn in_netns(netns: &str) -> Key {
    Key { netns: (!netns.is_empty()).then(|| netns.to_owned()), ..Key::default() }
}

/// The names of the namespaces that a control group's processes are in.
fn netns_of(counters: &KernelCounters, group: &ThrottledCgroup) -> Vec<String> {
    let is_in = |at: &&NetnsCounters| group.netns_inodes.contains(&at.netns_inode);
    counters.netns.iter().filter(is_in).map(|at| at.netns.clone()).collect()
}

/// Waits of slow packets beyond those of ordinary ones.
struct Waits {
    excess_ns: i128,
    /// Packets whose largest excess it is.
    packets: u64,
    /// The place with the largest part.
    key: Option<Key>,
}

fn waits_in(tail: &Tail, netns: &[String]) -> Waits {
    waits_of(tail, PROGRAM_WAITS, |key| key.netns.as_ref().is_some_and(|name| netns.contains(name)))
}

fn waits_of(tail: &Tail, stages: &[&str], is_there: impl Fn(&Key) -> bool) -> Waits {
    let is_here = |row: &&TailRow| {
        row.key.stage.as_deref().is_some_and(|stage| stages.contains(&stage)) && is_there(&row.key)
    };
    let rows: Vec<&TailRow> = tail.rows.iter().filter(is_here).collect();
    Waits {
        excess_ns: rows.iter().map(|row| row.excess_ns()).sum(),
        packets: rows.iter().map(|row| row.dominant).sum(),
        key: rows.iter().max_by_key(|row| row.excess_ns()).map(|row| row.key.clone()),
    }
}
