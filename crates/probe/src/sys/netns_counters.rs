//! The kernel's own counters of network namespaces, by the names that `nstat`, `conntrack -S` and /proc/net/xfrm_stat use.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::Read,
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, setns};
use overlay_trace_format::{COUNTED_MAX, printable};

use super::netns::{self, Identity};

/// The most bytes that are read of a table: one of devices has about 130 bytes for each.
const TABLE_MAX: u64 = 1 << 20;
/// How long reading may take: at first, for each further namespace, and at most.
const TIME: Duration = Duration::from_secs(1);
const TIME_EACH: Duration = Duration::from_millis(30);
pub const TIME_MAX: Duration = Duration::from_secs(12);
/// What is no count of events: it can be smaller later.
const GAUGES: &[&str] = &["TcpCurrEstab", "IpForwarding", "IpDefaultTTL", "conntrack.entries"];
/// The columns of /proc/net/dev behind the name that count what was lost; the others are traffic.
const DEVICE_COLUMNS: &[(usize, &str)] = &[
    (2, "rx.errs"),
    (3, "rx.drop"),
    (4, "rx.fifo"),
    (5, "rx.frame"),
    (10, "tx.errs"),
    (11, "tx.drop"),
    (12, "tx.fifo"),
    (13, "tx.colls"),
    (14, "tx.carrier"),
];

/// The values of counters by device (empty for those of the namespace) and name.
pub type Counted = BTreeMap<(String, String), u64>;

/// The counters of all namespaces that can be entered, and whether these are all that there are. Where it takes too long,
/// the others are left out. The calling thread stays in the last one.
pub fn of_all() -> (HashMap<Identity, Counted>, bool) {
    let all = netns::all();
    let number = all.len();
    let limit = TIME + TIME_EACH.saturating_mul(u32::try_from(number).unwrap_or(u32::MAX));
    let until = Instant::now() + limit.min(TIME_MAX);
    let read = |namespace: netns::Namespace| {
        setns(&namespace.file, CloneFlags::CLONE_NEWNET).ok()?;
        let cookie = netns::own_cookie().ok().map(|cookie| cookie as u32);
        Some((Identity { inode: namespace.inode, cookie }, here()))
    };
    let in_time = all.into_iter().take(COUNTED_MAX).take_while(|_| Instant::now() < until);
    let counted: HashMap<_, _> = in_time.filter_map(read).collect();
    let is_complete = counted.len() == number;
    (counted, is_complete)
}

/// The counters of the namespace that the calling thread is in. A table that the kernel does not have adds nothing.
fn here() -> Counted {
    let mut counted = Counted::new();
    for name in ["snmp", "netstat"] {
        headed(&table(name), &mut counted);
    }
    for name in ["snmp6", "xfrm_stat"] {
        listed(&table(name), &mut counted);
    }
    by_cpu(&table("stat/nf_conntrack"), "conntrack.", &mut counted);
    devices(&table("dev"), &mut counted);
    counted.retain(|(_, name), value| *value > 0 && !GAUGES.contains(&&**name));
    counted
}

fn table(name: &str) -> String {
    let mut text = String::new();
    if let Ok(file) = File::open(format!("/proc/thread-self/net/{name}")) {
        // What could be read of it is used.
        let _ = file.take(TABLE_MAX).read_to_string(&mut text);
    }
    text
}

/// Pairs of lines: `TcpExt: SyncookiesSent …` and `TcpExt: 3 …`.
fn headed(text: &str, counted: &mut Counted) {
    let mut lines = text.lines();
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        let (Some((group, names)), Some((_, values))) = (names.split_once(':'), values.split_once(':'))
        else {
            return;
        };
        for (name, value) in names.split_ascii_whitespace().zip(values.split_ascii_whitespace()) {
            // Limits can be -1.
            if let Ok(value) = value.parse() {
                counted.insert((String::new(), format!("{group}{name}")), value);
            }
        }
    }
}

/// A name and a value in each line.
fn listed(text: &str, counted: &mut Counted) {
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        if let (Some(name), Some(Ok(value))) = (words.next(), words.next().map(str::parse)) {
            counted.insert((String::new(), name.to_owned()), value);
        }
    }
}

/// A line of names, then for each CPU a line of hexadecimal values, which are added up.
fn by_cpu(text: &str, prefix: &str, counted: &mut Counted) {
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap_or_default().split_ascii_whitespace().collect();
    for line in lines {
        for (name, value) in names.iter().zip(line.split_ascii_whitespace()) {
            let value = u64::from_str_radix(value, 16).unwrap_or(0);
            *counted.entry((String::new(), format!("{prefix}{name}"))).or_default() += value;
        }
    }
}

fn devices(text: &str, counted: &mut Counted) {
    for line in text.lines() {
        let Some((device, numbers)) = line.split_once(':') else { continue };
        let numbers: Vec<u64> =
            numbers.split_ascii_whitespace().map_while(|number| number.parse().ok()).collect();
        for &(column, name) in DEVICE_COLUMNS {
            if let Some(&value) = numbers.get(column) {
                counted.insert((printable(device.trim()).into_owned(), name.to_owned()), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(counted: &Counted, device: &str, name: &str) -> Option<u64> {
        counted.get(&(device.to_owned(), name.to_owned())).copied()
    }

    #[test]
    fn every_kind_of_table_is_read() {
        let mut counted = Counted::new();
        headed("Tcp: MaxConn OutRsts\nTcp: -1 7\nTcpExt: PAWSEstab\nTcpExt: 3\n", &mut counted);
        listed("Ip6InDiscards                   \t2\nXfrmInNoStates          \t5\nbroken\n", &mut counted);
        by_cpu("entries insert_failed\n00000002 0000000a\n00000002 00000001\n", "conntrack.", &mut counted);
        devices("Inter-| Receive\n  eth0: 100 2 0 9 0 0 0 0 200 3 0 4 0 0 0 0\n", &mut counted);
        assert_eq!((of(&counted, "", "TcpOutRsts"), of(&counted, "", "TcpExtPAWSEstab")), (Some(7), Some(3)));
        assert_eq!(
            (of(&counted, "", "Ip6InDiscards"), of(&counted, "", "XfrmInNoStates")),
            (Some(2), Some(5))
        );
        assert_eq!(of(&counted, "", "conntrack.insert_failed"), Some(11));
        assert_eq!((of(&counted, "eth0", "rx.drop"), of(&counted, "eth0", "tx.drop")), (Some(9), Some(4)));
        assert_eq!(of(&counted, "", "TcpMaxConn"), None);
    }

    #[test]
    fn the_counters_of_this_namespace_grow() {
        let before = here();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(b"one", socket.local_addr().unwrap()).unwrap();
        let sent = |counted: &Counted| of(counted, "", "UdpOutDatagrams").unwrap_or(0);
        assert!(sent(&here()) > sent(&before));
    }
}
