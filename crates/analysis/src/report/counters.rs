//! What the kernel's own counters grew by: the table of `report`, the line of `tail`, and the JSON of both.

use serde::Serialize;

use super::{
    table::lines,
    units::{count, percent, time},
};
use crate::tail::{CountedAt, counter_row};
use overlay_trace_format::{KernelCounters, ThrottledCgroup};

/// The line of `tail` names at most so many.
const NAMED: usize = 6;

/// A counter that grew.
#[derive(Serialize)]
struct Counter<'a> {
    /// Absent for a counter of the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    netns: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    device: &'a str,
    counter: &'a str,
    by: u64,
    /// What one count is; absent for ordinary events.
    #[serde(skip_serializing_if = "Option::is_none")]
    means: Option<&'static str>,
}

/// The counters of a recording as JSON.
#[derive(Serialize)]
pub(super) struct Counters<'a> {
    duration_ns: u64,
    grown: Vec<Counter<'a>>,
    throttled: &'a [ThrottledCgroup],
    unread: &'a [String],
}

impl<'a> From<&'a KernelCounters> for Counters<'a> {
    fn from(counters: &'a KernelCounters) -> Counters<'a> {
        Counters {
            duration_ns: counters.duration_ns,
            grown: all(counters).collect(),
            throttled: &counters.throttled,
            unread: &counters.unread,
        }
    }
}

fn all(counters: &KernelCounters) -> impl Iterator<Item = Counter<'_>> {
    let node = counters.node.iter().map(|growth| (None, growth));
    let netns = counters
        .netns
        .iter()
        .flat_map(|at| at.grown.iter().map(move |growth| (Some(at.netns.as_str()), growth)));
    node.chain(netns).map(|(netns, growth)| Counter {
        netns,
        device: &growth.device,
        counter: &growth.counter,
        by: growth.by,
        means: counter_row(&growth.counter).map(|row| row.means),
    })
}

/// The table of what was thrown away or taken away; empty where nothing was, or nothing is known.
pub(super) fn tables(counters: Option<&KernelCounters>) -> String {
    largest(counters, usize::MAX)
}

/// The same with the largest `most` counters only, if there are more.
pub(super) fn largest(counters: Option<&KernelCounters>, most: usize) -> String {
    let Some(counters) = counters else { return String::new() };
    let row = |counter: Counter<'_>| {
        let place = match (counter.device, counter.netns) {
            ("", netns) => netns.unwrap_or("the node").to_owned(),
            (device, netns) => format!("{device} of {}", netns.unwrap_or("the node")),
        };
        Some(vec![
            amount(counter.counter, counter.by),
            counter.counter.to_owned(),
            place,
            counter.means?.to_owned(),
        ])
    };
    let mut known: Vec<Counter<'_>> = all(counters).filter(|counter| counter.means.is_some()).collect();
    let more = known.len().saturating_sub(most);
    if more > 0 {
        known.sort_by_key(|counter| std::cmp::Reverse((counter.netns.is_some(), counter.by)));
    }
    let rows: Vec<Vec<String>> = known.into_iter().take(most).filter_map(row).collect();
    let mut out = String::new();
    if !rows.is_empty() {
        out += &format!("\n{}\n", lines(&["counted", "counter", "where", "meaning"], &rows, 4).join("\n"));
    }
    if more > 0 {
        out += &format!("({} more counters: --full)\n", count(more as u64));
    }
    for group in &counters.throttled {
        out += &format!("\nCPU quota: {}\n", throttled(group));
    }
    out
}

/// `12`, or a time.
fn amount(counter: &str, by: u64) -> String {
    if counter.ends_with("_ns") { time(by as f64) } else { count(by) }
}

/// The most frequent of what was thrown away, in a line; `None` where nothing was.
pub(super) fn line(counters: Option<&KernelCounters>) -> Option<String> {
    let counters = counters?;
    let mut known: Vec<Counter<'_>> = all(counters).filter(|counter| counter.means.is_some()).collect();
    known.sort_by_key(|counter| std::cmp::Reverse((counter.netns.is_some(), counter.by)));
    let shown = known.iter().take(NAMED).map(|counter| {
        let netns = counter.netns.unwrap_or_default();
        place(counter.counter, netns, counter.device, counter.by)
    });
    let mut parts: Vec<String> = shown.collect();
    if known.len() > NAMED {
        parts.push(format!("{} others (report shows all)", known.len() - NAMED));
    }
    if !counters.unread.is_empty() {
        parts.push(format!("not read at both ends: {}", counters.unread.join(", ")));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// `XfrmInNoStates +2 in n2, rx.drop +3 at eth0 of n1`.
pub(super) fn sentence(counted: &[CountedAt]) -> String {
    let parts = counted.iter().map(|at| place(&at.counter, &at.netns, &at.device, at.by));
    parts.collect::<Vec<_>>().join(", ")
}

fn place(counter: &str, netns: &str, device: &str, by: u64) -> String {
    let place = match (device, netns) {
        ("", "") => String::new(),
        ("", netns) => format!(" in {netns}"),
        (device, "") => format!(" at {device}"),
        (device, netns) => format!(" at {device} of {netns}"),
    };
    format!("{counter} +{}{place}", amount(counter, by))
}

/// `/pod (python3) may use 15ms in 100ms: it was stopped in 27 of 52 periods, for 1.9s in total`.
pub(super) fn throttled(group: &ThrottledCgroup) -> String {
    let commands = match &*group.commands {
        [] => String::new(),
        commands => format!(" ({})", commands.join(", ")),
    };
    let quota = match (group.quota_ns, group.period_ns) {
        (Some(quota), Some(period)) => format!(
            " may use {} of CPU time in {}, {} of one CPU:",
            time(quota as f64),
            time(period as f64),
            percent(quota as f64 / period.max(1) as f64)
        ),
        _ => String::new(),
    };
    format!(
        "{}{commands}{quota} stopped in {} of {} periods, for {} in total",
        group.cgroup,
        count(group.throttled_periods),
        count(group.periods),
        time(group.throttled_ns as f64)
    )
}

#[cfg(test)]
mod tests {
    use overlay_trace_format::{Growth, NetnsCounters};

    use super::*;

    fn counters() -> KernelCounters {
        let growth =
            |device: &str, counter: &str, by| Growth { device: device.into(), counter: counter.into(), by };
        let grown = vec![
            growth("", "IpInDelivers", 900),
            growth("", "TcpExtListenOverflows", 12),
            growth("eth0", "rx.drop", 3),
        ];
        KernelCounters {
            node: vec![growth("", "steal_ns", 2_000_000)],
            netns: vec![NetnsCounters { netns: "p2".into(), grown, ..NetnsCounters::default() }],
            throttled: vec![ThrottledCgroup {
                cgroup: "/pod".into(),
                commands: vec!["python3".into()],
                quota_ns: Some(15_000_000),
                period_ns: Some(100_000_000),
                periods: 52,
                throttled_periods: 27,
                throttled_ns: 1_900_000_000,
                ..ThrottledCgroup::default()
            }],
            ..KernelCounters::default()
        }
    }

    #[test]
    fn what_was_thrown_away_is_told_with_its_place_and_its_meaning() {
        let text = tables(Some(&counters()));
        assert!(
            text.contains("TcpExtListenOverflows")
                && text.contains("a listening socket's accept queue was full"),
            "{text}"
        );
        assert!(
            text.contains("eth0 of p2") && text.contains("the node") && !text.contains("IpInDelivers"),
            "{text}"
        );
        assert!(text.contains("/pod (python3) may use 15.0ms of CPU time in 100ms, 15.0% of one CPU: stopped in 27 of 52 periods"), "{text}");
        assert_eq!(
            line(Some(&counters())).unwrap(),
            "TcpExtListenOverflows +12 in p2, rx.drop +3 at eth0 of p2, steal_ns +2.00ms"
        );
        assert_eq!((tables(None), line(None)), (String::new(), None));
    }

    #[test]
    fn json_has_every_counter_that_grew() {
        let value = serde_json::to_value(Counters::from(&counters())).unwrap();
        assert_eq!(value["grown"].as_array().unwrap().len(), 4);
        assert_eq!(
            (&value["grown"][1]["by"], &value["grown"][1]["means"]),
            (&900.into(), &serde_json::Value::Null)
        );
    }
}
