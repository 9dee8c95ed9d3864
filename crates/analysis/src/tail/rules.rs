//! What can be the matter, as a table: by what it is known, in which words it is told, and what helps.

use super::rule::{Advice, Evidence, Rule, advice, drops};

const NET: &str = "kernel: Documentation/admin-guide/sysctl/net.rst";
const SCALING: &str = "kernel: Documentation/networking/scaling.rst";
const IP: &str = "kernel: Documentation/networking/ip-sysctl.rst";
const CONNTRACK: &str = "kernel: Documentation/networking/nf_conntrack-sysctl.rst";
const OFFLOADS: &str = "kernel: Documentation/networking/segmentation-offloads.rst";
const EXTENSIONS: &str = "iptables-extensions(8), target CT";
const FLANNEL: &str = "flannel: Documentation/backends.md";
const CILIUM: &str = "Cilium: documentation, Routing";

const SPREAD: Advice =
    advice("spread the flows over the CPUs: RSS, RPS (rps_cpus), RFS (rps_flow_cnt)", SCALING);
const BACKLOG: Advice = advice("raise net.core.netdev_max_backlog", NET);
const NOTRACK: Advice =
    advice("exempt the tunnel's outer packets from connection tracking (-j CT --notrack)", EXTENSIONS);
const BUCKETS: Advice = advice(
    "more buckets, so that fewer connections share one: net.netfilter.nf_conntrack_buckets",
    CONNTRACK,
);
const MTU: Advice =
    advice("give the pods' devices an MTU that leaves room for the tunnel's headers", "ip-link(8), mtu");
const NO_TUNNEL: Advice = advice(
    "where all nodes are in one layer-2 network, do without the tunnel: backend host-gw instead of vxlan",
    FLANNEL,
);
const NATIVE: Advice = advice("or Cilium's native routing instead of its tunnel", CILIUM);
const IPVS: Advice = advice(
    "kube-proxy in a mode without long chains: nftables or ipvs",
    "Kubernetes: Virtual IPs and Service Proxies",
);
const RCVBUF: Advice = advice("a larger receive buffer: SO_RCVBUF, net.core.rmem_max", "socket(7)");

/// The causes that a recording alone can betray. The more specific first.
pub static RULES: &[Rule] = &[
    Rule {
        id: "slow-reader",
        evidence: Evidence::OfProgram(&["socket-wait", "tcp-backlog-wait"]),
        what: "the program that reads the socket comes late: packets lie in its queue",
        advice: &[
            advice(
                "look at the reader: its CPU share and limits, its threads, what it does per request",
                "sched(7), cgroups(7)",
            ),
            RCVBUF,
        ],
    },
    Rule {
        id: "retransmission",
        evidence: Evidence::Timeouts,
        what: "packets were lost, and TCP waited before it sent them again: its timeout is 200 ms at least",
        advice: &[
            advice("mend what drops them: the place is where the wait is shown", "tcp(7)"),
            advice("the shortest timeout can be set for a route: rto_min", "ip-route(8)"),
        ],
    },
    Rule {
        id: "slow-answer",
        evidence: Evidence::OfProgram(&["answering"]),
        what: "the program that answers takes long between getting a request and sending the answer",
        advice: &[advice(
            "look at that program, not at the network: its own work, its locks, what it asks others",
            "sched(7)",
        )],
    },
    Rule {
        id: "zero-window",
        evidence: Evidence::ZeroWindows,
        what: "a receiver has closed its window: its program reads more slowly than what comes",
        advice: &[
            advice(
                "look at the reader: its CPU share and limits, what it does per request",
                "sched(7), cgroups(7)",
            ),
            advice("more room: net.ipv4.tcp_rmem", IP),
        ],
    },
    Rule {
        id: "elsewhere",
        evidence: Evidence::Excess(&["elsewhere"]),
        what: "the time passes out of this recording's sight: between a request's leaving and the answer's coming",
        advice: &[advice("record on the other node, or on this one's host, as well", "overlay-trace record")],
    },
    Rule {
        id: "one-core",
        evidence: Evidence::OneCore(&[
            "backlog-wait",
            "softirq-wait",
            "ksoftirqd-wait",
            "gro-cells-wait",
            "batch-wait",
            "gro",
        ]),
        what: "all flows are on one core: their packets wait for each other there, while the node has others",
        advice: &[
            advice(
                "spread the flows over the CPUs where they come in: RSS, or RPS on the device's receive queues (rps_cpus)",
                SCALING,
            ),
            advice(
                "a tunnel's flows differ by the outer header's UDP source port alone: let the NIC hash it (ethtool -N DEVICE rx-flow-hash udp4 sdfn)",
                "ethtool(8); RFC 7348, 5",
            ),
        ],
    },
    Rule {
        id: "busy-core-ksoftirqd",
        // Whether the thread or another task's softirq takes them in the end is an accident.
        evidence: Evidence::Led(&["ksoftirqd-wait", "softirq-wait"]),
        what: "the core is so busy that received packets are left to ksoftirqd, which has to wait for its turn among the programs",
        advice: &[
            SPREAD,
            advice("keep programs off the cores that receive (cpusets, isolcpus)", "cpuset(7)"),
        ],
    },
    Rule {
        id: "busy-core-scheduling",
        evidence: Evidence::Excess(&["scheduling-wait"]),
        what: "the sending or reading program loses the CPU in the middle of its packets",
        advice: &[advice(
            "raise the program's CPU limit or priority, or give it cores of its own",
            "sched(7), cpuset(7)",
        )],
    },
    Rule {
        id: "busy-core-softirq",
        evidence: Evidence::Excess(&["softirq-wait", "softirq-interruption", "irq-interruption"]),
        what: "the core is busy with interrupts or other packets' softirqs when these packets come",
        advice: &[SPREAD],
    },
    Rule {
        id: "interleaving",
        evidence: Evidence::Spread(&["batch-wait", "softirq-wait", "backlog-wait", "gro-cells-wait"]),
        what: "packets that come many at once wait for each other in one queue of the core after the other",
        advice: &[
            SPREAD,
            NO_TUNNEL,
            NATIVE,
            advice("smaller batches: net.core.dev_weight, netdev_budget", NET),
        ],
    },
    Rule {
        id: "batch",
        evidence: Evidence::Excess(&["batch-wait"]),
        what: "packets wait behind the others of their batch on one core",
        advice: &[SPREAD, advice("smaller batches: net.core.dev_weight, netdev_budget", NET)],
    },
    Rule {
        id: "backlog-wait",
        evidence: Evidence::Excess(&["backlog-wait"]),
        what: "packets lie in a CPU's backlog: one more softirq for each virtual device on the way",
        advice: &[SPREAD, NO_TUNNEL],
    },
    Rule {
        id: "gro-cells-wait",
        evidence: Evidence::Excess(&["gro-cells-wait"]),
        what: "decapsulated packets lie in the tunnel device's receive queue (gro_cells) of one core",
        advice: &[SPREAD, NO_TUNNEL, NATIVE],
    },
    Rule {
        id: "qdisc-wait",
        evidence: Evidence::Excess(&["qdisc-wait"]),
        what: "a long queue stands before the device: more is sent than it takes",
        advice: &[
            advice("a queueing discipline that keeps the queue short (fq_codel)", "tc-fq_codel(8)"),
            advice(
                "a shorter queue: txqueuelen, or the qdisc's limit; or more bandwidth",
                "ip-link(8), tc(8)",
            ),
        ],
    },
    Rule {
        id: "driver",
        evidence: Evidence::Excess(&["driver-xmit"]),
        what: "the device's driver keeps packets for long: its ring is full, or the device, or its host, is slow",
        advice: &[advice(
            "more transmit queues (ethtool -L), a look at its ring and counters (-g, -S)",
            "ethtool(8)",
        )],
    },
    Rule {
        id: "tun-wait",
        evidence: Evidence::Excess(&["tun-wait"]),
        what: "packets wait for the program behind a TUN or TAP device",
        advice: &[advice("encapsulate in the kernel instead: backend vxlan instead of udp", FLANNEL)],
    },
    Rule {
        id: "neighbour-wait",
        evidence: Evidence::Excess(&["neighbour-wait", "neighbour"]),
        what: "packets wait until the next hop's link-layer address is known (ARP, neighbour discovery)",
        advice: &[
            advice("keep entries longer: neigh/*/base_reachable_time_ms, gc_thresh1 to gc_thresh3", IP),
            advice(
                "or permanent ones, as flannel's vxlan sets them for its tunnel devices",
                "ip-neighbour(8)",
            ),
        ],
    },
    Rule {
        id: "fragments",
        evidence: Evidence::Excess(&["reassembly-wait", "fragment"]),
        what: "packets are too long for a device on their way: they are cut, and wait until all their parts have arrived",
        advice: &[MTU],
    },
    Rule {
        id: "software-segmentation",
        evidence: Evidence::Excess(&["gso-segment", "checksum"]),
        what: "packets are cut or checksummed by the CPU because the device does not",
        advice: &[advice("turn the device's offloads on, those for tunnels too (ethtool -K)", OFFLOADS)],
    },
    Rule {
        id: "wireguard-wait",
        evidence: Evidence::Excess(&["wireguard-wait"]),
        what: "packets wait for a worker that encrypts or decrypts them",
        advice: &[advice(
            "leave the workers CPU time: they run on all cores",
            "wireguard.com, Known Limitations",
        )],
    },
    Rule {
        id: "slow-rules",
        evidence: Evidence::Excess(&["iptables", "nftables", "ipvs-in", "ipvs-out"]),
        what: "some packets go through far more rules than others",
        advice: &[IPVS],
    },
    Rule {
        id: "slow-conntrack",
        evidence: Evidence::Excess(&["conntrack-in", "conntrack-confirm", "nat"]),
        what: "some packets are held up in connection tracking: new connections, or long hash chains",
        advice: &[NOTRACK, BUCKETS],
    },
    Rule {
        id: "long-rules",
        evidence: Evidence::Time { layers: &["iptables", "nftables"], least: 0.3 },
        what: "every packet goes through long lists of rules",
        advice: &[
            IPVS,
            advice("sets instead of one rule per address (ipset, nftables sets)", "ipset(8), nft(8)"),
        ],
    },
    Rule {
        id: "long-conntrack",
        evidence: Evidence::Time { layers: &["conntrack"], least: 0.2 },
        what: "connection tracking takes a large part of every packet's time",
        advice: &[BUCKETS, NOTRACK],
    },
    Rule {
        id: "software-offload",
        evidence: Evidence::Time { layers: &["gso", "checksum"], least: 0.05 },
        what: "the CPU cuts or checksums packets, which the device could do",
        advice: &[advice("turn the device's offloads on, those for tunnels too (ethtool -K)", OFFLOADS)],
    },
    Rule {
        id: "fragmentation",
        evidence: Evidence::Time { layers: &["fragment"], least: 0.05 },
        what: "packets are cut into fragments and put together again: they are too long for a device on their way",
        advice: &[MTU],
    },
    Rule {
        id: "user-space",
        evidence: Evidence::Time { layers: &["tun"], least: 0.05 },
        what: "every packet goes through a program behind a TUN or TAP device, which has to be woken for it",
        advice: &[advice("encapsulate in the kernel instead: backend vxlan instead of udp", FLANNEL)],
    },
    Rule {
        id: "gro-cells-overflow",
        evidence: drops(&[], &[], &["gro_cells_receive"]),
        what: "the tunnel device's receive queue (gro_cells) was full: it holds netdev_max_backlog packets per core",
        advice: &[BACKLOG, SPREAD, NO_TUNNEL],
    },
    Rule {
        id: "backlog-overflow",
        evidence: drops(&["CPU_BACKLOG"], &[], &["enqueue_to_backlog"]),
        what: "a CPU's backlog was full: it holds netdev_max_backlog packets",
        advice: &[BACKLOG, SPREAD],
    },
    Rule {
        id: "socket-overflow",
        evidence: drops(
            &["SOCKET_RCVBUFF", "SOCKET_BACKLOG", "PROTO_MEM"],
            &[],
            &["__udp_enqueue_schedule_skb", "udp_queue_rcv_one_skb", "tcp_add_backlog", "sock_queue_rcv_skb"],
        ),
        what: "a socket's receive buffer was full: its program reads too slowly for what comes",
        advice: &[RCVBUF, advice("or a faster reader: more threads, SO_REUSEPORT", "socket(7)")],
    },
    Rule {
        id: "qdisc-overflow",
        evidence: drops(
            &[
                "QDISC_DROP",
                "QDISC_OVERLIMIT",
                "QDISC_CONGESTED",
                "QDISC_BURST_DROP",
                "FQ_FLOW_LIMIT",
                "FQ_BAND_LIMIT",
            ],
            &[],
            &["__dev_xmit_skb", "kfree_skb_list"],
        ),
        what: "a queueing discipline refused packets: its queue was full, or it is set to drop them",
        advice: &[advice("look at the qdisc (tc -s qdisc): its limit, its rate, netem's loss", "tc(8)")],
    },
    Rule {
        id: "conntrack-refused",
        evidence: drops(&["NETFILTER_DROP"], &["conntrack-in"], &[]),
        what: "connection tracking refused packets: its table is full (the kernel's log says so)",
        advice: &[
            advice("raise net.netfilter.nf_conntrack_max, or shorten its timeouts", CONNTRACK),
            NOTRACK,
        ],
    },
    Rule {
        id: "conntrack-race",
        evidence: drops(&["NETFILTER_DROP"], &["conntrack-confirm"], &[]),
        what: "two packets raced for the entry of one new connection, and connection tracking dropped the second (insert_failed), or too many connections share a bucket (chaintoolong)",
        advice: &[
            advice("conntrack -S tells the two apart", "conntrack(8)"),
            advice(
                "one resolver per node without translation on the way (node-local DNS cache)",
                "Kubernetes: NodeLocal DNSCache",
            ),
            BUCKETS,
            NOTRACK,
        ],
    },
    Rule {
        id: "rule-drop",
        evidence: Evidence::Drops {
            reasons: &["NETFILTER_DROP"],
            stages: &["iptables", "nftables", "ipvs-in", "ipvs-out"],
            functions: &[],
            intended: true,
        },
        what: "a rule of the packet filter, or a network policy, drops packets",
        advice: &[advice("find it by its counters: iptables -vnL, nft list ruleset", "iptables(8), nft(8)")],
    },
    Rule {
        id: "tc-drop",
        evidence: Evidence::Drops {
            reasons: &["TC_INGRESS", "TC_EGRESS", "XDP", "BPF_CGROUP_EGRESS"],
            stages: &[],
            // The egress filters' own function is part of the last one; other drops there are `kfree_skb_list`'s.
            functions: &["tcf_classify", "sch_handle_ingress", "sch_handle_egress", "__dev_queue_xmit"],
            intended: true,
        },
        what: "a program or filter at the device (tc, XDP, a cgroup's) drops packets",
        advice: &[advice(
            "look at what is attached there: tc -s filter show dev DEVICE, bpftool net",
            "tc(8), bpftool-net(8)",
        )],
    },
    Rule {
        id: "flooding",
        evidence: Evidence::Copies {
            stages: &["vxlan-encap", "geneve-encap", "gretap-encap", "ip6gretap-encap"],
            least: 0.01,
        },
        what: "the tunnel device does not know behind which node an address is, and sends a copy to every node",
        advice: &[
            advice(
                "is there an entry for the address, and does it stay: bridge fdb show dev DEVICE",
                "bridge(8)",
            ),
            advice(
                "entries that do not age, made by the network's agent, instead of learning (nolearning)",
                "ip-link(8), vxlan",
            ),
        ],
    },
    Rule {
        id: "fdb-miss",
        evidence: drops(&["VXLAN_NO_REMOTE", "NO_TX_TARGET"], &[], &["vxlan_xmit", "vxlan_xmit_one"]),
        what: "the VXLAN device's forwarding table has no entry for the destination",
        advice: &[
            advice("is there an entry for the other node: bridge fdb show dev DEVICE", "bridge(8)"),
            advice("is its agent (flanneld, calico-node) running: it makes one per node", FLANNEL),
        ],
    },
    Rule {
        id: "neighbour-failed",
        evidence: drops(
            &["NEIGH_FAILED", "NEIGH_QUEUEFULL", "NEIGH_DEAD", "NEIGH_CREATEFAIL"],
            &[],
            &["neigh_invalidate", "__neigh_event_send"],
        ),
        what: "the next hop's link-layer address was not found, or too many packets waited for it",
        advice: &[advice(
            "is the next hop there, and its address in ip neigh? neigh/*/unres_qlen_bytes is the room for those that wait",
            IP,
        )],
    },
    Rule {
        id: "no-route",
        evidence: drops(
            &["IP_OUTNOROUTES", "IP_INNOROUTES", "IP_INADDRERRORS"],
            &[],
            &["ip_error", "ip6_pkt_drop"],
        ),
        what: "there is no route for the packets",
        advice: &[advice("ip route get ADDRESS in the namespace where they were dropped", "ip-route(8)")],
    },
    Rule {
        id: "reverse-path",
        evidence: drops(&["IP_RPFILTER"], &[], &[]),
        what: "packets came through another device than the answer would take, and the reverse path filter drops such",
        advice: &[advice("net.ipv4.conf.*.rp_filter = 2 or 0 where ways are asymmetric by design", IP)],
    },
    Rule {
        id: "too-long",
        evidence: drops(&["PKT_TOO_BIG"], &[], &["ip_exceeds_mtu", "ip6_pkt_too_big"]),
        what: "packets are too long for a device on their way and must not be cut",
        advice: &[MTU, advice("let ICMP's \"fragmentation needed\" pass the filters", IP)],
    },
    Rule {
        id: "not-forwarded",
        // What gives a reason is too-long's, or nobody's mistake.
        evidence: drops(&[], &[], &["ip_forward", "ip6_forward"]),
        what: "packets were not forwarded: they are too long for a device on their way and must not be cut, or their time to live is over (this kernel does not say which)",
        advice: &[
            MTU,
            advice(
                "or is there a loop in the routes: ip route get ADDRESS on each node on the way",
                "ip-route(8)",
            ),
        ],
    },
    Rule {
        id: "fragments-lost",
        evidence: drops(&["FRAG_REASM_TIMEOUT", "FRAG_TOO_FAR", "DUP_FRAG"], &["reassembly-wait"], &[]),
        what: "fragments were lost, and what had arrived of their packets with them",
        advice: &[MTU, advice("room and time for fragments: net.ipv4.ipfrag_high_thresh, ipfrag_time", IP)],
    },
    Rule {
        id: "bad-checksum",
        evidence: drops(&["TCP_CSUM", "UDP_CSUM", "IP_CSUM", "ICMP_CSUM", "SKB_CSUM"], &[], &[]),
        what: "packets arrived with a wrong checksum, as kernels before 5.7 send them after translating a tunnel's outer header",
        advice: &[advice(
            "turn checksum offload of the tunnel device off: ethtool -K flannel.1 tx-checksum-ip-generic off",
            "flannel: issues 1243 and 1279",
        )],
    },
];
