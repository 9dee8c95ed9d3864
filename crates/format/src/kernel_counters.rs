//! What the kernel's own counters grew by during a recording: of each network namespace, of the node, and of control groups
//! whose CPU quota ran out. They tell of packets that are thrown away without a drop, and of CPU time that is taken away.

use serde::{Deserialize, Serialize};

use crate::printable::{NAME_MAX, cut};

/// At most so many namespaces, or control groups; a recorder says which it left out.
pub const COUNTED_MAX: usize = 1024;
/// At most so many counters of one namespace.
pub const GROWTHS_MAX: usize = 1024;
/// At most so many commands, or namespaces, of one control group.
pub const GROUP_MEMBERS_MAX: usize = 8;

/// What grew from the start of a recording to its end. Only a recording that was finished has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KernelCounters {
    /// Between the two readings, in ns.
    pub duration_ns: u64,
    /// Of the whole node: `steal_ns` (sum over the CPUs), `softnet.time_squeeze`, `softnet.dropped`.
    pub node: Vec<Growth>,
    /// Of the namespaces that the recording names.
    pub netns: Vec<NetnsCounters>,
    /// Control groups that were throttled.
    pub throttled: Vec<ThrottledCgroup>,
    /// Namespaces that the recording names, but whose counters could not be read at the start or at the end.
    pub unread: Vec<String>,
}

/// The counters of a network namespace that grew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetnsCounters {
    /// Inode number of the namespace.
    pub netns_inode: u32,
    /// Its name, as that of its hops.
    pub netns: String,
    /// In the order of devices and counters.
    pub grown: Vec<Growth>,
}

/// A counter that grew.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Growth {
    /// The device that it belongs to; empty for a counter of the whole namespace or node.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub device: String,
    /// Its name as `nstat -a`, `conntrack -S` or /proc/net/xfrm_stat print it (`TcpExtListenOverflows`,
    /// `conntrack.insert_failed`, `XfrmInNoStates`), or `rx.drop` for the table of /proc/net/dev.
    pub counter: String,
    pub by: u64,
}

/// A control group whose CPU quota ran out (`cpu.stat`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThrottledCgroup {
    /// Its path below the mount point.
    pub cgroup: String,
    /// The CPU time that it may use in a period, and the period, in ns; `None` where it was not told.
    pub quota_ns: Option<u64>,
    pub period_ns: Option<u64>,
    /// Periods in which it ran.
    pub periods: u64,
    /// Those in which its quota ran out.
    pub throttled_periods: u64,
    /// How long its tasks were kept from running, summed over the CPUs that they waited on, in ns.
    pub throttled_ns: u64,
    /// Commands of processes in it, each once.
    pub commands: Vec<String>,
    /// Inode numbers of the network namespaces that these are in.
    pub netns_inodes: Vec<u32>,
}

impl KernelCounters {
    /// How much a counter grew in each namespace where it did, or on the node: its place, and by how much.
    pub fn of<'a>(
        &'a self,
        counter: &'a str,
    ) -> impl Iterator<Item = (Option<&'a NetnsCounters>, &'a Growth)> {
        let node = self.node.iter().map(|growth| (None, growth));
        let netns =
            self.netns.iter().flat_map(|netns| netns.grown.iter().map(move |growth| (Some(netns), growth)));
        node.chain(netns).filter(move |(_, growth)| growth.counter == counter)
    }

    /// Whether there is no more than a recorder writes.
    pub(crate) fn is_sound(&self) -> bool {
        let groups = self.throttled.iter();
        self.netns.len() <= COUNTED_MAX
            && self.throttled.len() <= COUNTED_MAX
            && self.unread.len() <= COUNTED_MAX
            && self.node.len() <= GROWTHS_MAX
            && self.netns.iter().all(|netns| netns.grown.len() <= GROWTHS_MAX)
            && groups
                .map(|group| group.commands.len().max(group.netns_inodes.len()))
                .all(|members| members <= GROUP_MEMBERS_MAX)
    }

    /// Cuts names that are longer than any honest one.
    pub(crate) fn cut_names(&mut self) {
        let of_groups = self.throttled.iter_mut().flat_map(|group| &mut group.commands);
        let netns = self.netns.iter_mut();
        let of_netns = netns.flat_map(|NetnsCounters { netns, grown, .. }| {
            let names = grown.iter_mut().flat_map(|Growth { device, counter, .. }| [device, counter]);
            std::iter::once(netns).chain(names)
        });
        let of_node = self.node.iter_mut().map(|growth| &mut growth.counter);
        of_groups.chain(of_netns).chain(of_node).chain(&mut self.unread).for_each(|name| cut(name, NAME_MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn growth(counter: &str, by: u64) -> Growth {
        Growth { counter: counter.into(), by, ..Growth::default() }
    }

    #[test]
    fn a_counter_is_found_in_every_place() {
        let netns = |inode, by| NetnsCounters {
            netns_inode: inode,
            grown: vec![growth("TcpOutRsts", by)],
            ..NetnsCounters::default()
        };
        let counters = KernelCounters {
            node: vec![growth("steal_ns", 7)],
            netns: vec![netns(1, 2), netns(2, 3)],
            ..KernelCounters::default()
        };
        let places: Vec<_> =
            counters.of("TcpOutRsts").map(|(at, growth)| (at.map(|at| at.netns_inode), growth.by)).collect();
        assert_eq!(places, [(Some(1), 2), (Some(2), 3)]);
        assert_eq!(
            counters.of("steal_ns").map(|(at, growth)| (at, growth.by)).collect::<Vec<_>>(),
            [(None, 7)]
        );
    }

    #[test]
    fn more_than_a_recorder_writes_is_refused_and_long_names_are_cut() {
        let mut counters = KernelCounters { unread: vec!["x".repeat(1000)], ..KernelCounters::default() };
        counters.cut_names();
        assert!(counters.is_sound() && counters.unread[0].chars().count() <= NAME_MAX + 1);
        counters.netns = vec![NetnsCounters::default(); COUNTED_MAX + 1];
        assert!(!counters.is_sound());
    }
}
