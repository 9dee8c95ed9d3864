//! What the kernel itself counts: `/proc/net/snmp` and `/proc/net/netstat` of a lab's namespaces.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use overlay_trace_lab::dataplanes::{Netns, Running};

use crate::nic;

/// A little longer than TCP's shortest timeout, 200 ms.
const REST: Duration = Duration::from_millis(250);
const RESTS_MAX: u32 = 12;

/// Counters by short name of the namespace and name of the counter, as `pod1 Tcp/OutSegs`.
pub type Counted = BTreeMap<String, i64>;

/// The counters of all of a lab's namespaces, and of its NICs.
///
/// # Errors
///
/// When a namespace cannot be entered or the kernel does not show its counters.
pub fn of(running: &Running) -> Result<Counted> {
    let prefix = format!("ot-{}-", running.lab().name);
    let mut counted = Counted::new();
    for netns in running.namespaces() {
        let short = netns.name().strip_prefix(&prefix).unwrap_or(netns.name());
        // Of the thread, which alone is in the namespace.
        for file in ["/proc/thread-self/net/snmp", "/proc/thread-self/net/netstat"] {
            let text = netns.run(|| std::fs::read_to_string(file))?.with_context(|| file.to_string())?;
            counted.extend(parse(&text).map(|(name, number)| (format!("{short} {name}"), number)));
        }
    }
    counted.extend(nic::counted(running)?);
    Ok(counted)
}

/// How many packets the devices of a namespace have received and sent, by name.
///
/// # Errors
///
/// When the namespace cannot be entered or the kernel does not show its devices.
pub fn of_devices(netns: &Netns) -> Result<BTreeMap<String, [u64; 2]>> {
    // Of the thread, which alone is in the namespace.
    let text = netns.run(|| std::fs::read_to_string("/proc/thread-self/net/dev"))??;
    let count = |line: &str| {
        let (device, numbers) = line.split_once(':')?;
        let mut numbers = numbers.split_whitespace().map(|one| one.parse().ok());
        Some((device.trim().to_owned(), [numbers.nth(1)??, numbers.nth(7)??]))
    };
    let counts =
        text.lines().skip(2).map(|line| count(line).with_context(|| format!("`{line}` has no counters")));
    counts.collect()
}

/// The counters when they have come to rest: a segment that is sent again after its traffic's end is recorded, and is
/// to be counted too. After a while they are taken as they are.
///
/// # Errors
///
/// As [`of`].
pub fn at_rest(running: &Running) -> Result<Counted> {
    let mut counted = of(running)?;
    for _ in 0..RESTS_MAX {
        std::thread::sleep(REST);
        let before = std::mem::replace(&mut counted, of(running)?);
        if counted == before {
            break;
        }
    }
    Ok(counted)
}

/// How much each counter has grown.
pub fn growth(before: &Counted, after: &Counted) -> Counted {
    let since = |(name, number): (&String, &i64)| {
        (name.clone(), number - before.get(name).copied().unwrap_or_default())
    };
    after.iter().map(since).collect()
}

/// Lines come in pairs: a group's names, and its numbers.
fn parse(text: &str) -> impl Iterator<Item = (String, i64)> {
    let lines: Vec<&str> = text.lines().collect();
    let pairs = lines.chunks_exact(2).flat_map(|pair| {
        let group = pair[0].split(':').next().unwrap_or_default();
        let numbers = pair[1].split_whitespace().skip(1).map(str::parse::<i64>);
        let names = pair[0].split_whitespace().skip(1);
        names
            .zip(numbers)
            .filter_map(move |(name, number)| Some((format!("{group}/{name}"), number.ok()?)))
            .collect::<Vec<_>>()
    });
    pairs.collect::<Vec<_>>().into_iter()
}
