//! Causes that the kernel's own counters tell of: packets that are thrown away without a drop, and CPU time that is taken
//! away.

use super::{
    super::{
        finding::Severity,
        rule::{Counters, Evidence, Rule, advice, counted},
    },
    advice::*,
};

pub(super) static COUNTED: &[Rule] = &[
    Rule {
        id: "cpu-quota",
        evidence: Evidence::Throttled,
        what: "a program is stopped by its CPU quota (cgroup cpu.max): it has used up its time and waits for the next period",
        check: "cpu.stat of the cgroup: nr_throttled and throttled_usec grow",
        advice: &[
            advice(
                "raise the quota (Kubernetes: the container's CPU limit), or remove it",
                "kernel: Documentation/admin-guide/cgroup-v2.rst, cpu.max",
            ),
            advice(
                "let the program run fewer threads at once: threads that run together use up the quota sooner",
                "kernel: Documentation/scheduler/sched-bwc.rst",
            ),
        ],
    },
    Rule {
        id: "steal",
        evidence: Evidence::Stolen,
        what: "the hypervisor runs something else on this machine's CPUs",
        check: "mpstat -P ALL 1: %steal; /proc/stat, the eighth number of the line cpu",
        advice: &[advice(
            "move the virtual machine to a host with less load, or give it CPUs of its own",
            "proc_stat(5)",
        )],
    },
    Rule {
        id: "listener-full",
        evidence: Evidence::Counted(Counters {
            names: &["TcpExtListenOverflows", "TcpExtListenDrops", "TcpExtTCPReqQFullDrop"],
            least: 3,
            with: &[],
            severity: Severity::Severe,
            // A client sends its SYN again after a second.
            waits_ns: 1_000_000_000,
        }),
        what: "a listening socket threw away connection requests: its queue was full, so clients wait until they try again (1 s, then longer)",
        check: "ss -ltn in the namespace: Recv-Q against Send-Q of the listening socket; nstat -az TcpExtListenOverflows",
        advice: &[
            advice("accept faster: more threads or processes, SO_REUSEPORT", "listen(2)"),
            advice(
                "lengthen the queue: the argument of listen, and net.core.somaxconn, which limits it",
                "listen(2)",
            ),
        ],
    },
    Rule {
        id: "syn-cookies",
        evidence: counted(&["TcpExtSyncookiesSent", "TcpExtTCPReqQFullDoCookies"], 3),
        what: "a listening socket's SYN queue was full: SYN cookies were sent, and connections lose TCP's options",
        check: "nstat -az TcpExtSyncookiesSent; ss -n state syn-recv | wc -l",
        advice: &[
            advice(
                "find out whether it is a SYN flood or a program that accepts too slowly",
                "tcp(7), tcp_syncookies",
            ),
            advice("lengthen the queue: net.ipv4.tcp_max_syn_backlog and the argument of listen", IP),
        ],
    },
    Rule {
        id: "receive-buffer-pruned",
        evidence: counted(
            &["TcpExtRcvPruned", "TcpExtTCPRcvQDrop", "TcpExtOfoPruned", "TcpExtPruneCalled"],
            3,
        ),
        what: "TCP sockets ran out of receive buffer: received data was packed together or thrown away",
        check: "nstat -az TcpExtPruneCalled TcpExtRcvPruned TcpExtTCPRcvCollapsed; ss -tm in the namespace: skmem",
        advice: &[
            advice("raise the receive buffer limit: net.ipv4.tcp_rmem", IP),
            advice(
                "read faster: the program's CPU share and limits, its work per request",
                "sched(7), cgroups(7)",
            ),
        ],
    },
    Rule {
        id: "old-timestamps",
        evidence: counted(&["TcpExtPAWSEstab", "TcpExtPAWSActive"], 3),
        what: "TCP refused segments with older timestamps (PAWS): several hosts share an address, or a port was used again too soon",
        check: "nstat -az TcpExtPAWSEstab TcpExtPAWSActive; is the client behind address translation with others",
        advice: &[advice("translate to addresses or port ranges that clients do not share", "RFC 7323, 5")],
    },
    Rule {
        id: "conntrack-early-drop",
        evidence: counted(&["conntrack.early_drop"], 1),
        what: "connection tracking is full: it removes entries of connections that stand to make room for new ones",
        check: "conntrack -S: early_drop grows; conntrack -C against sysctl net.netfilter.nf_conntrack_max",
        advice: &[
            advice("raise net.netfilter.nf_conntrack_max, or shorten its timeouts", CONNTRACK),
            NOTRACK,
        ],
    },
    Rule {
        id: "not-sent",
        evidence: counted(&["UdpSndbufErrors", "Udp6SndbufErrors"], 3),
        what: "datagrams were not sent: the socket's send buffer or the device's queue was full, which the program was told",
        check: "nstat -az UdpSndbufErrors; tc -s qdisc show dev DEVICE; ss -um: the send buffer",
        advice: &[advice(
            "send more slowly, or enlarge the send buffer: SO_SNDBUF, net.core.wmem_max",
            "socket(7)",
        )],
    },
    Rule {
        id: "receive-errors",
        evidence: counted(&["rx.errs", "rx.frame"], 3),
        what: "a device threw away received packets as errors, of which the kernel tells no drop: WireGuard those whose sender's address AllowedIPs does not list or whose key does not fit, a NIC damaged ones",
        check: "ip -s -s link show DEVICE: errors, frame, crc; of WireGuard also wg show: allowed ips, latest handshake",
        advice: &[
            advice(
                "of WireGuard: list all addresses behind a peer in its AllowedIPs, on both nodes",
                "wg(8)",
            ),
            advice("of a NIC: change the cable or the port; see ethtool -S", "ethtool(8)"),
        ],
    },
    Rule {
        id: "tcp-memory",
        evidence: counted(&["TcpExtTCPAbortOnMemory", "TcpExtTCPMemoryPressures"], 1),
        what: "TCP was short of memory: sockets get less buffer, and connections are given up",
        check: "cat /proc/net/sockstat: mem against sysctl net.ipv4.tcp_mem; dmesg: out of memory -- consider tuning tcp_mem",
        advice: &[advice("raise net.ipv4.tcp_mem, or make fewer connections with large buffers", IP)],
    },
    Rule {
        id: "softirq-budget",
        evidence: Evidence::Squeezed,
        what: "softirqs used up their budget with packets left: these wait until ksoftirqd or the next softirq takes them",
        check: "/proc/net/softnet_stat: the third column (time_squeeze) grows",
        advice: &[
            SPREAD,
            advice("raise net.core.netdev_budget and netdev_budget_usecs, if the CPU has time left", NET),
        ],
    },
    Rule {
        id: "resets",
        evidence: Evidence::Counted(Counters {
            names: &["TcpOutRsts"],
            least: 3,
            with: &[
                "TcpEstabResets",
                "TcpExtTCPAbortOnClose",
                "TcpExtTCPAbortOnData",
                "TcpExtTCPAbortOnLinger",
                "TcpExtTCPAbortOnTimeout",
            ],
            // Programs reset connections on purpose as well.
            severity: Severity::Note,
            waits_ns: 0,
        }),
        what: "TCP connections were reset",
        check: "nstat -az TcpOutRsts TcpEstabResets TcpExtTCPAbortOnClose TcpExtTCPAbortOnData in the namespaces; tcpdump 'tcp[tcpflags] & tcp-rst != 0'",
        advice: &[advice(
            "look at the program that is named, or at why its packets find no connection",
            "tcp(7)",
        )],
    },
];
