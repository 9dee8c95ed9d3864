//! What the kernel's own counters grow by during a recording.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    time::Duration,
};

use overlay_trace_format::{COUNTED_MAX, GROWTHS_MAX, Growth, KernelCounters, NetnsCounters};

use crate::sys::{
    clock::monotonic_ns,
    cpu_quota::{self, CpuStat, Members},
    lookup::{LIMIT, Lookup, within_limit},
    netns::Identity,
    netns_counters::{self, Counted},
};

/// How long reading all counters may take: that of the namespaces ends by itself.
const MOMENT_LIMIT: Duration = netns_counters::TIME_MAX.saturating_add(LIMIT).saturating_add(LIMIT);

/// A namespace of the recording: what identifies it, and its name. Its cookie is that of [`Identity`] where the kernel has
/// cookies.
pub struct NamedNetns {
    pub inode: u32,
    pub cookie: u32,
    pub name: String,
}

/// All counters at one moment.
struct Moment {
    at_ns: u64,
    netns: HashMap<Identity, Counted>,
    /// All namespaces were read.
    is_complete: bool,
    groups: BTreeMap<PathBuf, CpuStat>,
    /// Those of the groups: a process can end meanwhile.
    members: BTreeMap<PathBuf, Members>,
    node: BTreeMap<&'static str, u64>,
}

impl Moment {
    /// Reads them on a thread of its own, which enters the namespaces; `None` where that takes too long.
    fn now() -> Option<Moment> {
        let read = || {
            let (groups, node) = (cpu_quota::read(), cpu_quota::node());
            let members = groups.keys().map(|folder| (folder.clone(), Members::of(folder))).collect();
            let (netns, is_complete) = netns_counters::of_all();
            Moment { at_ns: monotonic_ns(), netns, is_complete, groups, members, node }
        };
        Lookup::start(read)?.wait(MOMENT_LIMIT).ok()
    }
}

/// The counters since the start of a recording.
pub struct CountersSince(Option<Moment>);

impl CountersSince {
    /// The recording begins now. Nothing is kept open: what it reads can be removed meanwhile.
    pub fn start() -> CountersSince {
        CountersSince(Moment::now())
    }

    /// What has grown since the start, in these namespaces; `None` where reading took too long. It enters namespaces, which
    /// needs CAP_SYS_ADMIN, and looks at processes of throttled control groups, which needs CAP_SYS_PTRACE.
    pub fn grown(&self, named: &[NamedNetns]) -> Option<KernelCounters> {
        let start = self.0.as_ref()?;
        let now = Moment::now()?;
        let mut counters = KernelCounters {
            duration_ns: now.at_ns.saturating_sub(start.at_ns),
            node: node(start, &now),
            ..KernelCounters::default()
        };
        for NamedNetns { inode, cookie, name } in named {
            match netns(start, &now, *inode, *cookie) {
                Some(grown) if counters.netns.len() < COUNTED_MAX => {
                    counters.netns.push(NetnsCounters { netns_inode: *inode, netns: name.clone(), grown });
                }
                _ if counters.unread.len() < COUNTED_MAX => counters.unread.push(name.clone()),
                _ => {}
            }
        }
        let grown = throttled(&start.groups, &now.groups);
        let before = start.members.clone();
        let describe = move |(folder, grown): (PathBuf, CpuStat)| {
            cpu_quota::describe(&folder, grown, before.get(&folder).unwrap_or(&Members::default()))
        };
        counters.throttled = within_limit(move || grown.into_iter().map(describe).collect())?;
        let is_named = |inode: &u32| named.iter().any(|netns| netns.inode == *inode);
        counters
            .throttled
            .retain(|group| group.netns_inodes.is_empty() || group.netns_inodes.iter().any(is_named));
        counters.throttled.truncate(COUNTED_MAX);
        Some(counters)
    }
}

/// The node's counters that grew.
fn node(start: &Moment, now: &Moment) -> Vec<Growth> {
    let grown = now.node.iter().map(|(counter, value)| {
        let before = start.node.get(counter).copied().unwrap_or(0);
        Growth { device: String::new(), counter: (*counter).to_owned(), by: value.saturating_sub(before) }
    });
    grown.filter(|growth| growth.by > 0).collect()
}

/// The counters of a namespace that grew; `None` if it was not read at both ends. One that did not exist at the start began
/// at 0.
fn netns(start: &Moment, now: &Moment, inode: u32, cookie: u32) -> Option<Vec<Growth>> {
    let is_it = |id: &&Identity| id.inode == inode && id.cookie.is_none_or(|known| known == cookie);
    let id = now.netns.keys().find(is_it)?;
    let (now, before) = (&now.netns[id], start.netns.get(id));
    match before {
        // Its number was another namespace's before (kernels without cookies).
        Some(before) if has_shrunk(before, now) => None,
        None if !start.is_complete => None,
        before => Some(growth(before, now)),
    }
}

/// Devices are removed and made anew; the counters of a namespace never get smaller.
fn has_shrunk(before: &Counted, now: &Counted) -> bool {
    before.iter().any(|(key, value)| key.0.is_empty() && now.get(key).is_none_or(|now| now < value))
}

fn growth(before: Option<&Counted>, now: &Counted) -> Vec<Growth> {
    let grown = now.iter().map(|(key, value)| {
        let before = before.and_then(|before| before.get(key)).copied().unwrap_or(0);
        // A device that was made anew began at 0.
        let by = value.checked_sub(before).unwrap_or(*value);
        Growth { device: key.0.clone(), counter: key.1.clone(), by }
    });
    grown.filter(|growth| growth.by > 0).take(GROWTHS_MAX).collect()
}

/// The control groups whose quota ran out, those that waited longest first.
fn throttled(
    start: &BTreeMap<PathBuf, CpuStat>,
    now: &BTreeMap<PathBuf, CpuStat>,
) -> Vec<(PathBuf, CpuStat)> {
    let mut grown: Vec<(PathBuf, CpuStat)> = now
        .iter()
        .map(|(folder, now)| {
            let before = start.get(folder).copied().unwrap_or_default();
            let grown = CpuStat {
                periods: now.periods.saturating_sub(before.periods),
                throttled_periods: now.throttled_periods.saturating_sub(before.throttled_periods),
                throttled_ns: now.throttled_ns.saturating_sub(before.throttled_ns),
            };
            (folder.clone(), grown)
        })
        .filter(|(_, grown)| grown.throttled_periods > 0)
        .collect();
    grown.sort_by_key(|(_, grown)| std::cmp::Reverse(grown.throttled_ns));
    grown.truncate(COUNTED_MAX);
    grown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(values: &[(&str, &str, u64)]) -> Counted {
        values.iter().map(|(device, name, value)| (((*device).into(), (*name).into()), *value)).collect()
    }

    fn moment(netns: &[(Identity, Counted)], is_complete: bool) -> Moment {
        let netns = netns.iter().cloned().collect();
        Moment {
            at_ns: 0,
            netns,
            is_complete,
            groups: BTreeMap::new(),
            members: BTreeMap::new(),
            node: BTreeMap::new(),
        }
    }

    #[test]
    fn a_namespace_is_told_by_what_grew_and_a_new_one_began_at_nothing() {
        let [old, new] = [7, 8].map(|cookie| Identity { inode: 4, cookie: Some(cookie) });
        let before = counted(&[("", "TcpOutRsts", 3), ("eth0", "rx.drop", 9)]);
        let after = counted(&[("", "TcpOutRsts", 5), ("", "TcpExtPAWSEstab", 1), ("eth0", "rx.drop", 2)]);
        let start = moment(&[(old, before)], true);
        let now = moment(&[(old, after.clone()), (new, after)], true);
        let of = |start, cookie| {
            let grown = netns(start, &now, 4, cookie)?;
            Some(grown.into_iter().map(|growth| (growth.counter, growth.by)).collect::<Vec<_>>())
        };
        let grown = |outgoing| {
            Some(vec![
                ("TcpExtPAWSEstab".to_owned(), 1),
                ("TcpOutRsts".to_owned(), outgoing),
                ("rx.drop".to_owned(), 2),
            ])
        };
        assert_eq!((of(&start, 7), of(&start, 8), of(&start, 9)), (grown(2), grown(5), None));
        // What was not read at the start is not told to be new.
        assert_eq!(of(&moment(&[], false), 8), None);
    }

    #[test]
    fn a_number_that_another_namespace_had_is_not_told() {
        let id = Identity { inode: 4, cookie: None };
        let start = moment(&[(id, counted(&[("", "TcpOutRsts", 3)]))], true);
        assert_eq!(netns(&start, &moment(&[(id, counted(&[("", "TcpOutRsts", 2)]))], true), 4, 1), None);
    }

    #[test]
    fn groups_are_told_by_what_they_waited_meanwhile() {
        let stat = |throttled_periods, throttled_ns| CpuStat { periods: 10, throttled_periods, throttled_ns };
        let start = BTreeMap::from([("a".into(), stat(2, 20)), ("b".into(), stat(5, 50))]);
        let now =
            BTreeMap::from([("a".into(), stat(4, 25)), ("b".into(), stat(5, 50)), ("c".into(), stat(1, 9))]);
        let grown: Vec<_> =
            throttled(&start, &now).into_iter().map(|(folder, stat)| (folder, stat.throttled_ns)).collect();
        assert_eq!(grown, [(PathBuf::from("c"), 9), (PathBuf::from("a"), 5)]);
    }
}
