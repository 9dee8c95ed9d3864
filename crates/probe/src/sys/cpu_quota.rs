//! Control groups whose CPU quota runs out (`cpu.stat`), and the node's stolen time and softirq budget.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use overlay_trace_format::{GROUP_MEMBERS_MAX, ThrottledCgroup, printable, printable_bytes};

/// At most so many control groups are looked at.
const GROUPS_MAX: usize = 4096;
/// At most so many processes of a group.
const PROCESSES_MAX: usize = 64;
/// The most bytes that are read of a file.
const FILE_MAX: u64 = 64 << 10;

/// What a control group's `cpu.stat` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuStat {
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled_ns: u64,
}

/// The processes of a control group and of those below it: their commands and the inode numbers of their network namespaces,
/// each once.
#[derive(Clone, Debug, Default)]
pub struct Members {
    commands: BTreeSet<String>,
    netns: BTreeSet<u32>,
}

impl Members {
    /// Those that there are now.
    pub fn of(folder: &Path) -> Members {
        let mut members = Members::default();
        for id in processes(folder) {
            let process = Path::new("/proc").join(id.to_string());
            let command = text(&process.join("comm"));
            if !command.is_empty() {
                members.commands.insert(printable(command.trim()).into_owned());
            }
            members.netns.extend(fs::metadata(process.join("ns/net")).ok().map(|file| file.ino() as u32));
        }
        members
    }
}

/// The control groups that have a quota, by their folder.
pub fn read() -> BTreeMap<PathBuf, CpuStat> {
    let mounts = text(Path::new("/proc/thread-self/mounts"));
    let groups = mounts.lines().filter_map(hierarchy).flat_map(|root| below(&root, GROUPS_MAX));
    groups
        .filter_map(|folder| Some((stat(&text(&folder.join("cpu.stat")))?, folder)))
        .map(|(stat, folder)| (folder, stat))
        .collect()
}

/// The mount point of a hierarchy that can have CPU quotas.
fn hierarchy(mount: &str) -> Option<PathBuf> {
    let [_, point, kind, options, ..] = mount.split(' ').collect::<Vec<_>>()[..] else { return None };
    let has_cpu = kind == "cgroup2" || kind == "cgroup" && options.split(',').any(|option| option == "cpu");
    has_cpu.then(|| point.into())
}

/// A folder and all below it, up to a number.
fn below(root: &Path, most: usize) -> Vec<PathBuf> {
    let mut found = vec![root.to_owned()];
    let mut next = 0;
    while next < found.len() {
        let entries = fs::read_dir(&found[next]).into_iter().flatten().flatten();
        // A link is none.
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let room = most.saturating_sub(found.len());
        found.extend(folders.map(|entry| entry.path()).take(room));
        next += 1;
    }
    found
}

/// The numbers of a `cpu.stat`; `None` for a group that has had no quota.
fn stat(text: &str) -> Option<CpuStat> {
    let mut stat = CpuStat::default();
    for (name, value) in text.lines().filter_map(|line| line.split_once(' ')) {
        let value: u64 = value.trim().parse().unwrap_or(0);
        match name {
            "nr_periods" => stat.periods = value,
            "nr_throttled" => stat.throttled_periods = value,
            "throttled_usec" => stat.throttled_ns = value.saturating_mul(1000),
            // Version 1 of control groups counts in ns.
            "throttled_time" => stat.throttled_ns = value,
            _ => {}
        }
    }
    (stat.periods > 0).then_some(stat)
}

/// What is known of a group that was throttled: its quota, and its processes, those of `before` included.
pub fn describe(folder: &Path, grown: CpuStat, before: &Members) -> ThrottledCgroup {
    let (quota_ns, period_ns) = quota(folder);
    let mut members = Members::of(folder);
    members.commands.extend(before.commands.iter().cloned());
    members.netns.extend(&before.netns);
    ThrottledCgroup {
        cgroup: printable_bytes(without_mount(folder).as_os_str().as_encoded_bytes()),
        quota_ns,
        period_ns,
        periods: grown.periods,
        throttled_periods: grown.throttled_periods,
        throttled_ns: grown.throttled_ns,
        commands: members.commands.into_iter().take(GROUP_MEMBERS_MAX).collect(),
        netns_inodes: members.netns.into_iter().take(GROUP_MEMBERS_MAX).collect(),
    }
}

/// `/kubepods/pod1` for the folder `/sys/fs/cgroup/kubepods/pod1`.
fn without_mount(folder: &Path) -> PathBuf {
    let mounts = text(Path::new("/proc/thread-self/mounts"));
    let roots = mounts.lines().filter_map(hierarchy);
    let longest = roots.filter(|root| folder.starts_with(root)).max_by_key(|root| root.as_os_str().len());
    let inner = longest.and_then(|root| folder.strip_prefix(root).ok().map(Path::to_owned));
    Path::new("/").join(inner.unwrap_or_default())
}

/// The quota and its period, in ns.
fn quota(folder: &Path) -> (Option<u64>, Option<u64>) {
    let us = |word: &str| word.trim().parse::<u64>().ok().map(|us| us.saturating_mul(1000));
    let max = text(&folder.join("cpu.max"));
    match max.split_once(' ') {
        Some((quota, period)) => (us(quota), us(period)),
        None => (us(&text(&folder.join("cpu.cfs_quota_us"))), us(&text(&folder.join("cpu.cfs_period_us")))),
    }
}

/// The ids of processes in a group and below it.
fn processes(folder: &Path) -> Vec<u32> {
    let ids = below(folder, PROCESSES_MAX).into_iter().flat_map(|group| {
        let text = text(&group.join("cgroup.procs"));
        text.lines().filter_map(|id| id.parse().ok()).filter(|id| *id > 0).collect::<Vec<u32>>()
    });
    ids.take(PROCESSES_MAX).collect()
}

/// The node's own counters: time that a hypervisor gave to others (sum over the CPUs), how often a softirq had used up its
/// budget, and packets that found a CPU's backlog full.
pub fn node() -> BTreeMap<&'static str, u64> {
    // SAFETY: the call has no memory arguments.
    let ticks = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(100).max(1);
    let steal = steal(&text(Path::new("/proc/stat"))).saturating_mul(1_000_000_000 / ticks);
    let (dropped, squeezed) = softnet(&text(Path::new("/proc/net/softnet_stat")));
    [("steal_ns", steal), ("softnet.dropped", dropped), ("softnet.time_squeeze", squeezed)].into()
}

/// Stolen time of all CPUs, in ticks: the eighth number of the first line.
fn steal(stat: &str) -> u64 {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    line.split_ascii_whitespace().nth(7).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Packets dropped, and times that the budget was used up, of all CPUs: the second and third number of each line.
fn softnet(table: &str) -> (u64, u64) {
    table.lines().fold((0, 0), |(dropped, squeezed), line| {
        let mut numbers =
            line.split_ascii_whitespace().map(|hex| u64::from_str_radix(hex, 16).unwrap_or(0)).skip(1);
        (dropped + numbers.next().unwrap_or(0), squeezed + numbers.next().unwrap_or(0))
    })
}

fn text(path: &Path) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path) {
        let _ = file.take(FILE_MAX).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_of_control_groups_are_read() {
        let v2 = "usage_usec 9\nnr_periods 30\nnr_throttled 12\nthrottled_usec 1500\nnr_bursts 0\n";
        let v1 = "nr_periods 30\nnr_throttled 12\nthrottled_time 1500000\n";
        let expected = CpuStat { periods: 30, throttled_periods: 12, throttled_ns: 1_500_000 };
        assert_eq!((stat(v2), stat(v1), stat("usage_usec 9\n")), (Some(expected), Some(expected), None));
        assert_eq!(hierarchy("c /sys/fs/cgroup cgroup2 rw 0 0"), Some("/sys/fs/cgroup".into()));
        assert_eq!(hierarchy("c /cg cgroup rw,cpu,cpuacct 0 0"), Some("/cg".into()));
        assert_eq!((hierarchy("c /cg cgroup rw,cpuset 0 0"), hierarchy("t /tmp tmpfs rw 0 0")), (None, None));
    }

    #[test]
    fn a_group_is_described_by_its_quota_and_its_processes() {
        let folder = tempfile::TempDir::new().unwrap();
        let inner = folder.path().join("container");
        fs::create_dir(&inner).unwrap();
        fs::write(folder.path().join("cpu.max"), "15000 100000\n").unwrap();
        fs::write(inner.join("cgroup.procs"), format!("{}\n0\n", std::process::id())).unwrap();
        let stat = CpuStat { periods: 3, throttled_periods: 2, throttled_ns: 7 };
        let before = Members { commands: ["nginx".into()].into(), netns: [1].into() };
        let group = describe(folder.path(), stat, &before);
        assert_eq!((group.quota_ns, group.period_ns), (Some(15_000_000), Some(100_000_000)));
        let own = fs::metadata("/proc/self/ns/net").unwrap().ino() as u32;
        assert_eq!((group.netns_inodes, group.commands.len(), group.throttled_ns), (vec![1, own], 2, 7));
    }

    #[test]
    fn the_node_tells_what_was_stolen_and_squeezed() {
        assert_eq!(steal("cpu  1 2 3 4 5 6 7 269 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n"), 269);
        assert_eq!(softnet("0000000a 00000002 0000001f 0\n0000000b 00000001 00000001 0\n"), (3, 32));
        assert_eq!((steal(""), softnet("")), (0, (0, 0)));
    }
}
