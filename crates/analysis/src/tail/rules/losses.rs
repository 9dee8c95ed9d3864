//! Causes of loss: drops by place and reason, and packets that were copied to many receivers.

use super::{
    super::rule::{Evidence, Rule, advice, drops},
    advice::*,
};

pub(super) static LOSSES: &[Rule] = &[
    Rule {
        id: "gro-cells-overflow",
        evidence: drops(&[], &[], &["gro_cells_receive"]),
        what: "the tunnel device's receive queue (gro_cells) was full: it holds netdev_max_backlog packets per CPU",
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
        what: "a socket's receive buffer was full: its program reads more slowly than data arrives",
        advice: &[RCVBUF, advice("read faster: more threads, SO_REUSEPORT", "socket(7)")],
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
        what: "a qdisc dropped packets: its queue was full, or it is configured to drop",
        advice: &[advice("check the qdisc (tc -s qdisc): its limit, its rate, netem's loss", "tc(8)")],
    },
    Rule {
        id: "conntrack-refused",
        evidence: drops(&["NETFILTER_DROP"], &["conntrack-in"], &[]),
        what: "connection tracking dropped packets: its table is full (the kernel log says so)",
        advice: &[
            advice("raise net.netfilter.nf_conntrack_max, or shorten its timeouts", CONNTRACK),
            NOTRACK,
        ],
    },
    Rule {
        id: "conntrack-race",
        evidence: drops(&["NETFILTER_DROP"], &["conntrack-confirm"], &[]),
        what: "connection tracking could not insert an entry: two packets raced to create the same connection (insert_failed), or too many connections share a hash bucket (chaintoolong)",
        advice: &[
            advice("tell the two apart by the counters of conntrack -S", "conntrack(8)"),
            advice(
                "for DNS: one resolver per node, reached without address translation (node-local DNS cache)",
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
        what: "a firewall rule or a network policy drops packets",
        advice: &[advice(
            "find the rule by its counters: iptables -vnL, nft list ruleset",
            "iptables(8), nft(8)",
        )],
    },
    Rule {
        id: "tc-drop",
        evidence: Evidence::Drops {
            reasons: &["TC_INGRESS", "TC_EGRESS", "XDP", "BPF_CGROUP_EGRESS"],
            stages: &[],
            // The compiler inlines the egress filter into the last one; other drops there are by `kfree_skb_list`.
            functions: &["tcf_classify", "sch_handle_ingress", "sch_handle_egress", "__dev_queue_xmit"],
            intended: true,
        },
        what: "a BPF program or filter (tc, XDP or cgroup) drops packets",
        advice: &[advice(
            "list what is attached there: tc -s filter show dev DEVICE, bpftool net",
            "tc(8), bpftool-net(8)",
        )],
    },
    Rule {
        id: "flooding",
        evidence: Evidence::Copies {
            stages: &["vxlan-encap", "geneve-encap", "gretap-encap", "ip6gretap-encap"],
            least: 0.01,
        },
        what: "the tunnel device has no forwarding entry for an address and floods: it sends a copy to every node",
        advice: &[
            advice("check that the address has an entry that stays: bridge fdb show dev DEVICE", "bridge(8)"),
            advice(
                "let the network's agent set permanent entries instead of learning (nolearning)",
                "ip-link(8), vxlan",
            ),
        ],
    },
    Rule {
        id: "fdb-miss",
        evidence: drops(&["VXLAN_NO_REMOTE", "NO_TX_TARGET"], &[], &["vxlan_xmit", "vxlan_xmit_one"]),
        what: "the VXLAN device's forwarding table has no entry for the destination",
        advice: &[
            advice("check that the other node has an entry: bridge fdb show dev DEVICE", "bridge(8)"),
            advice(
                "check that the network's agent (flanneld, calico-node) is running: it makes one entry per node",
                FLANNEL,
            ),
        ],
    },
    Rule {
        id: "neighbour-failed",
        evidence: drops(
            &["NEIGH_FAILED", "NEIGH_QUEUEFULL", "NEIGH_DEAD", "NEIGH_CREATEFAIL"],
            &[],
            &["neigh_invalidate", "__neigh_event_send"],
        ),
        what: "the next hop's link-layer address could not be resolved, or too many packets waited for it",
        advice: &[advice(
            "check that the next hop is up and has an entry in ip neigh; neigh/*/unres_qlen_bytes limits the packets that wait",
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
        what: "there is no route to the destination",
        advice: &[advice(
            "check with ip route get ADDRESS in the namespace where they were dropped",
            "ip-route(8)",
        )],
    },
    Rule {
        id: "reverse-path",
        evidence: drops(&["IP_RPFILTER"], &[], &[]),
        what: "the reverse path filter dropped packets: they arrived on another device than the route back would use",
        advice: &[advice(
            "set net.ipv4.conf.*.rp_filter to 2 or 0 where routes are asymmetric by design",
            IP,
        )],
    },
    Rule {
        id: "too-long",
        evidence: drops(&["PKT_TOO_BIG"], &[], &["ip_exceeds_mtu", "ip6_pkt_too_big"]),
        what: "packets exceed a device's MTU and must not be fragmented (DF)",
        advice: &[MTU, advice("let ICMP \"fragmentation needed\" pass the firewalls", IP)],
    },
    Rule {
        id: "not-forwarded",
        // With a reason given, too-long applies, or the drop is normal.
        evidence: drops(&[], &[], &["ip_forward", "ip6_forward"]),
        what: "packets were not forwarded: they exceed a device's MTU and must not be fragmented, or their TTL has expired (this kernel gives no reason)",
        advice: &[
            MTU,
            advice("look for a routing loop: ip route get ADDRESS on each node of the path", "ip-route(8)"),
        ],
    },
    Rule {
        id: "fragments-lost",
        evidence: drops(&["FRAG_REASM_TIMEOUT", "FRAG_TOO_FAR", "DUP_FRAG"], &["reassembly-wait"], &[]),
        what: "fragments were lost, and with them the packets that they belong to",
        advice: &[
            MTU,
            advice("give reassembly more memory and time: net.ipv4.ipfrag_high_thresh, ipfrag_time", IP),
        ],
    },
    Rule {
        id: "bad-checksum",
        evidence: drops(&["TCP_CSUM", "UDP_CSUM", "IP_CSUM", "ICMP_CSUM", "SKB_CSUM"], &[], &[]),
        what: "packets arrived with a wrong checksum, as kernels before 5.7 send them after NAT of a tunnel's outer header",
        advice: &[advice(
            "disable checksum offload of the tunnel device: ethtool -K flannel.1 tx-checksum-ip-generic off",
            "flannel: issues 1243 and 1279",
        )],
    },
];
