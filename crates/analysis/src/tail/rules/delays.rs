//! Causes of delay: where slow packets wait, and what takes a large part of every packet's time.

use super::{
    super::rule::{Evidence, Rule, advice},
    advice::*,
};

pub(super) static DELAYS: &[Rule] = &[
    Rule {
        id: "slow-reader",
        evidence: Evidence::ExcessInProgram(&["socket-wait", "tcp-backlog-wait"]),
        what: "the receiving program reads its socket late: packets wait in the receive queue",
        check: "ss -tmn or ss -umn in the pod's namespace: Recv-Q; cpu.stat of its cgroup: nr_throttled; top -H; is it stopped: ps -o stat (T), cgroup.events (frozen)",
        advice: &[
            advice(
                "check the receiving program: its CPU share and limits, its threads, its work per request",
                "sched(7), cgroups(7)",
            ),
            RCVBUF,
        ],
    },
    Rule {
        id: "retransmission",
        evidence: Evidence::Timeouts,
        what: "packets were lost, and TCP waited for its retransmission timeout (RTO), which is at least 200 ms",
        check: "ss -tino: retrans; nstat -az TcpRetransSegs TcpExtTCPTimeouts on both sides",
        advice: &[
            advice("fix the cause of the drops: the place is where the wait is shown", "tcp(7)"),
            advice("lower the minimum RTO of a route: rto_min", "ip-route(8)"),
        ],
    },
    Rule {
        id: "slow-answer",
        evidence: Evidence::ExcessInProgram(&["answering"]),
        what: "the server program is slow: it takes long between receiving a request and sending the answer",
        check: "cpu.stat of its cgroup: does nr_throttled grow (CPU quota); top -H, strace -c or perf trace of the program",
        advice: &[advice(
            "check that program, not the network: its own work, its locks, its requests to other services",
            "sched(7)",
        )],
    },
    Rule {
        id: "zero-window",
        evidence: Evidence::ZeroWindows,
        what: "a receiver advertised a zero window: its program reads more slowly than data arrives",
        check: "ss -tmn: Recv-Q; nstat -az TcpExtTCPToZeroWindowAdv TcpExtTCPFromZeroWindowAdv",
        advice: &[
            advice(
                "check the receiving program: its CPU share and limits, its work per request",
                "sched(7), cgroups(7)",
            ),
            advice("raise the receive buffer limit: net.ipv4.tcp_rmem", IP),
        ],
    },
    Rule {
        id: "elsewhere",
        evidence: Evidence::Excess(&["elsewhere"]),
        what: "the time is spent outside this recording: between the departure of a request and the arrival of its answer",
        check: "record on the other node at the same time",
        advice: &[advice(
            "record on the other node as well, or on this node's hypervisor",
            "overlay-trace record",
        )],
    },
    Rule {
        id: "one-core",
        evidence: Evidence::ExcessOnOneCpu(&[
            "backlog-wait",
            "softirq-wait",
            "ksoftirqd-wait",
            "gro-cells-wait",
            "batch-wait",
            "gro",
        ]),
        what: "packets of all flows are processed on one CPU and wait for each other, though the node has more CPUs",
        check: "mpstat -P ALL 1: one CPU with much %soft; /proc/softirqs: NET_RX of one CPU grows alone",
        advice: &[
            advice(
                "distribute the flows over the CPUs where they arrive: RSS, or RPS on the device's receive queues (rps_cpus)",
                SCALING,
            ),
            advice(
                "let the NIC hash UDP ports: flows in a tunnel differ only in the outer UDP source port (ethtool -N DEVICE rx-flow-hash udp4 sdfn)",
                "ethtool(8); RFC 7348, 5",
            ),
        ],
    },
    Rule {
        id: "busy-core-ksoftirqd",
        // In the end ksoftirqd or a softirq on top of another task processes them: which of the two is chance.
        evidence: Evidence::ExcessLed(&["ksoftirqd-wait", "softirq-wait"]),
        what: "the CPU is overloaded: received packets are deferred to ksoftirqd, which competes with programs for the CPU",
        check: "mpstat -P ALL 1; top: ksoftirqd/N; /proc/net/softnet_stat: the third column (time_squeeze)",
        advice: &[
            SPREAD,
            advice(
                "keep programs off the CPUs that process received packets (cpusets, isolcpus)",
                "cpuset(7)",
            ),
        ],
    },
    Rule {
        id: "busy-core-scheduling",
        evidence: Evidence::Excess(&["scheduling-wait"]),
        what: "the sending or receiving program is preempted while it processes packets",
        check: "cpu.stat of its cgroup: nr_throttled; pidstat -w 1; /proc/pressure/cpu",
        advice: &[advice(
            "raise the program's CPU limit or priority, or give it dedicated CPUs",
            "sched(7), cpuset(7)",
        )],
    },
    Rule {
        id: "busy-core-softirq",
        evidence: Evidence::Excess(&["softirq-wait", "softirq-interruption", "irq-interruption"]),
        what: "the CPU is busy with interrupts or softirqs of other packets when these packets arrive",
        check: "mpstat -P ALL 1: %soft and %irq; /proc/interrupts",
        advice: &[SPREAD],
    },
    Rule {
        id: "interleaving",
        evidence: Evidence::ExcessSpread(&["batch-wait", "softirq-wait", "backlog-wait", "gro-cells-wait"]),
        what: "packets of a burst wait for each other in several queues of one CPU, one after the other",
        check: "/proc/net/softnet_stat; mpstat -P ALL 1: %soft",
        advice: &[
            SPREAD,
            NO_TUNNEL,
            NATIVE,
            advice("process smaller batches: net.core.dev_weight, netdev_budget", NET),
        ],
    },
    Rule {
        id: "batch",
        evidence: Evidence::Excess(&["batch-wait"]),
        what: "packets wait behind the other packets of their NAPI batch on one CPU",
        check: "/proc/net/softnet_stat: time_squeeze; sysctl net.core.dev_weight net.core.netdev_budget",
        advice: &[SPREAD, advice("process smaller batches: net.core.dev_weight, netdev_budget", NET)],
    },
    Rule {
        id: "backlog-wait",
        evidence: Evidence::Excess(&["backlog-wait"]),
        what: "packets wait in a CPU's backlog: each virtual device on the path adds one softirq",
        check: "/proc/net/softnet_stat; mpstat -P ALL 1: %soft",
        advice: &[SPREAD, NO_TUNNEL],
    },
    Rule {
        id: "gro-cells-wait",
        evidence: Evidence::Excess(&["gro-cells-wait"]),
        what: "decapsulated packets wait in the tunnel device's per-CPU receive queue (gro_cells)",
        check: "mpstat -P ALL 1: %soft; ip -s link show the tunnel device",
        advice: &[SPREAD, NO_TUNNEL, NATIVE],
    },
    Rule {
        id: "qdisc-wait",
        evidence: Evidence::Queue(&["qdisc-wait"]),
        what: "packets wait in the device's qdisc: more is sent than the device or its shaper lets through",
        check: "tc -s qdisc show dev DEVICE: backlog, overlimits, and a rate that was set (tbf, htb, fq maxrate)",
        advice: &[
            advice("use a qdisc that keeps the queue short (fq_codel)", "tc-fq_codel(8)"),
            advice(
                "shorten the queue (txqueuelen, or the qdisc's limit), or add bandwidth",
                "ip-link(8), tc(8)",
            ),
        ],
    },
    Rule {
        id: "driver",
        evidence: Evidence::Excess(&["driver-xmit"]),
        what: "the device's driver is slow to transmit: its ring is full, or the device or its hypervisor is slow",
        check: "ethtool -S DEVICE; tc -s qdisc show dev DEVICE: requeues",
        advice: &[advice(
            "add transmit queues (ethtool -L); check the ring size and the counters (ethtool -g, -S)",
            "ethtool(8)",
        )],
    },
    Rule {
        id: "tun-wait",
        evidence: Evidence::Excess(&["tun-wait", "macvtap-wait"]),
        what: "packets wait for the program that reads a TUN, TAP or macvtap device",
        check: "top -H: the program that reads the device; ip -s link show DEVICE",
        advice: &[advice("encapsulate in the kernel instead: backend vxlan instead of udp", FLANNEL)],
    },
    Rule {
        id: "neighbour-wait",
        evidence: Evidence::Excess(&["neighbour-wait", "neighbour"]),
        what: "packets wait until the next hop's link-layer address is resolved (ARP, neighbour discovery)",
        check: "ip -s neigh show dev DEVICE: STALE, INCOMPLETE; ip monitor neigh",
        advice: &[
            advice(
                "keep neighbour entries longer: neigh/*/base_reachable_time_ms, gc_thresh1 to gc_thresh3",
                IP,
            ),
            advice(
                "or use permanent entries, as flannel's vxlan backend does for its tunnel devices",
                "ip-neighbour(8)",
            ),
        ],
    },
    Rule {
        id: "fragments",
        evidence: Evidence::Excess(&["reassembly-wait", "fragment"]),
        what: "packets exceed a device's MTU: they are fragmented, and wait until all fragments have arrived",
        check: "nstat -az IpFragCreates IpReasmReqds; ip -d link: the MTUs on the path",
        advice: &[MTU],
    },
    Rule {
        id: "software-segmentation",
        evidence: Evidence::Excess(&["gso-segment", "checksum"]),
        what: "packets are segmented or checksummed by the CPU, because the device does not do it",
        check: "ethtool -k DEVICE: tx-checksumming, tcp-segmentation-offload, tx-udp_tnl-segmentation",
        advice: &[advice("enable the device's offloads, including those for tunnels (ethtool -K)", OFFLOADS)],
    },
    Rule {
        id: "wireguard-wait",
        evidence: Evidence::Queue(&["wireguard-wait"]),
        what: "packets wait for a WireGuard worker that encrypts or decrypts them",
        check: "top -H: kworker threads of wg-crypt; mpstat -P ALL 1",
        advice: &[advice(
            "leave CPU time to the workers: they run on all CPUs",
            "wireguard.com, Known Limitations",
        )],
    },
    Rule {
        id: "slow-rules",
        evidence: Evidence::Excess(&["iptables", "nftables", "ipvs-in", "ipvs-out"]),
        what: "some packets are matched against far more firewall rules than others",
        check: "iptables-save | wc -l, or nft list ruleset | wc -l, in that namespace",
        advice: &[IPVS],
    },
    Rule {
        id: "slow-conntrack",
        evidence: Evidence::Excess(&["conntrack-in", "conntrack-confirm", "nat"]),
        what: "some packets are slow in connection tracking: new connections, or long hash chains",
        check: "conntrack -C; conntrack -S: chaintoolong; sysctl net.netfilter.nf_conntrack_buckets",
        advice: &[NOTRACK, BUCKETS],
    },
    Rule {
        id: "long-rules",
        evidence: Evidence::TimeShare { layers: &["iptables", "nftables"], least: 0.3 },
        what: "every packet is matched against long lists of firewall rules",
        check: "iptables-save | wc -l, or nft list ruleset | wc -l, in that namespace",
        advice: &[
            IPVS,
            advice("use sets instead of one rule per address (ipset, nftables sets)", "ipset(8), nft(8)"),
        ],
    },
    Rule {
        id: "long-conntrack",
        evidence: Evidence::TimeShare { layers: &["conntrack"], least: 0.2 },
        what: "connection tracking takes a large part of every packet's time",
        check: "conntrack -C against sysctl net.netfilter.nf_conntrack_buckets",
        advice: &[BUCKETS, NOTRACK],
    },
    Rule {
        id: "software-offload",
        evidence: Evidence::TimeShare { layers: &["gso", "checksum"], least: 0.05 },
        what: "the CPU segments or checksums packets, which the device could do",
        check: "ethtool -k DEVICE: tx-checksumming, tcp-segmentation-offload",
        advice: &[advice("enable the device's offloads, including those for tunnels (ethtool -K)", OFFLOADS)],
    },
    Rule {
        id: "fragmentation",
        evidence: Evidence::TimeShare { layers: &["fragment"], least: 0.05 },
        what: "packets are fragmented and reassembled: they exceed a device's MTU",
        check: "nstat -az IpFragCreates IpReasmReqds; ip -d link: the MTUs on the path",
        advice: &[MTU],
    },
    Rule {
        id: "user-space",
        evidence: Evidence::TimeShare { layers: &["tun"], least: 0.05 },
        what: "every packet passes a program that reads a TUN or TAP device and has to be woken up for it",
        check: "ip -d link show type tun; ps: the program that has it open",
        advice: &[advice("encapsulate in the kernel instead: backend vxlan instead of udp", FLANNEL)],
    },
];
