//! Causes of loss: drops by place and reason, and packets that were copied to many receivers.

use super::{
    super::rule::{Advice, Evidence, Rule, Sign, advice, drops, told_apart},
    advice::*,
};

const CHECKSUMS: &[&str] = &["TCP_CSUM", "UDP_CSUM", "IP_CSUM", "ICMP_CSUM", "SKB_CSUM"];
const OFFLOAD: Advice = advice(
    "disable checksum offload of the tunnel device: ethtool -K flannel.1 tx-checksum-ip-generic off",
    "flannel: issues 1243 and 1279",
);

pub(super) static LOSSES: &[Rule] = &[
    Rule {
        id: "gro-cells-overflow",
        evidence: drops(&[], &[], &["gro_cells_receive"]),
        what: "the tunnel device's receive queue (gro_cells) was full: it holds netdev_max_backlog packets per CPU",
        check: "",
        advice: &[BACKLOG, SPREAD, NO_TUNNEL],
    },
    Rule {
        id: "backlog-overflow",
        evidence: drops(&["CPU_BACKLOG"], &[], &["enqueue_to_backlog"]),
        what: "a CPU's backlog was full: it holds netdev_max_backlog packets",
        check: "",
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
        check: "",
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
        check: "",
        advice: &[advice("check the qdisc (tc -s qdisc): its limit, its rate, netem's loss", "tc(8)")],
    },
    Rule {
        id: "conntrack-refused",
        evidence: drops(&["NETFILTER_DROP"], &["conntrack-in"], &[]),
        what: "connection tracking dropped packets: its table is full (the kernel log says so)",
        check: "",
        advice: &[
            advice("raise net.netfilter.nf_conntrack_max, or shorten its timeouts", CONNTRACK),
            NOTRACK,
        ],
    },
    Rule {
        id: "conntrack-race",
        evidence: told_apart(&["NETFILTER_DROP"], &["conntrack-confirm"], &[], Sign::Raced),
        what: "two packets raced to create the same connection tracking entry: the second one is dropped",
        check: "conntrack -S: insert_failed grows; two packets of one socket at once (two DNS questions) do it by design",
        advice: &[
            advice(
                "for DNS: one resolver per node, reached without address translation (node-local DNS cache)",
                "Kubernetes: NodeLocal DNSCache",
            ),
            advice(
                "let the client send one question after the other (resolv.conf: single-request-reopen, or use-vc)",
                "resolv.conf(5)",
            ),
            NOTRACK,
        ],
    },
    Rule {
        id: "snat-ports-used-up",
        evidence: told_apart(&["NETFILTER_DROP"], &["conntrack-confirm"], &[], Sign::OneDestination),
        what: "no source port is free for address translation: all are taken by connections to the same address and port",
        check: "conntrack -S: insert_failed grows; conntrack -L -d ADDRESS -p tcp | wc -l against the ports of the rule (--to-ports); chaintoolong would mean full hash buckets instead",
        advice: &[
            advice(
                "translate to more addresses, or to more ports (--to-ports, --random-fully)",
                "iptables-extensions(8), MASQUERADE and SNAT",
            ),
            advice(
                "make fewer connections: keep them open and share them, or close them sooner (nf_conntrack_tcp_timeout_*)",
                CONNTRACK,
            ),
        ],
    },
    Rule {
        id: "conntrack-insert",
        evidence: drops(&["NETFILTER_DROP"], &["conntrack-confirm"], &[]),
        what: "connection tracking could not insert an entry: two packets raced for it, no source port was free for address translation, or too many connections share a hash bucket",
        check: "conntrack -S: insert_failed (a race or no free port) or chaintoolong (buckets)",
        advice: &[
            BUCKETS,
            advice(
                "more source ports or addresses for translation, where one destination has many connections",
                "iptables-extensions(8), MASQUERADE and SNAT",
            ),
            NOTRACK,
        ],
    },
    Rule {
        id: "no-server",
        evidence: drops(&["NETFILTER_DROP"], &["ipvs-in", "ipvs-out"], &[]),
        what: "IPVS refused packets to a virtual service: it has no server for them (none is listed, or all have weight 0), or their connection's server was removed",
        check: "ipvsadm -Ln --stats: the servers and weights of the service; the service's endpoints",
        advice: &[advice("see that the service has ready endpoints, and that kube-proxy runs", "ipvsadm(8)")],
    },
    Rule {
        id: "queue-to-program",
        evidence: drops(&[], &[], &["nf_queue", "__nf_queue", "nfqnl_enqueue_packet"]),
        what: "a firewall rule hands packets to a program (NFQUEUE), and no program takes them: none listens, or its queue is full",
        check: "",
        advice: &[advice(
            "start the program that reads the queue, or let packets pass without it: --queue-bypass, fail-open",
            "iptables-extensions(8), NFQUEUE",
        )],
    },
    Rule {
        id: "rule-drop",
        evidence: Evidence::Drops {
            reasons: &["NETFILTER_DROP"],
            stages: &["iptables", "nftables"],
            functions: &[],
            sign: Sign::Any,
            intended: true,
        },
        what: "a firewall rule or a network policy drops packets",
        check: "",
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
            sign: Sign::Any,
            intended: true,
        },
        what: "a BPF program or filter (tc, XDP or cgroup) drops packets",
        check: "",
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
        check: "bridge fdb show dev DEVICE: is the destination's MAC address there; bridge monitor fdb",
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
        check: "",
        advice: &[
            advice("check that the other node has an entry: bridge fdb show dev DEVICE", "bridge(8)"),
            advice(
                "check that the network's agent (flanneld, calico-node) is running: it makes one entry per node",
                FLANNEL,
            ),
        ],
    },
    Rule {
        id: "unknown-spi",
        evidence: told_apart(
            &[],
            &[],
            &["xfrm_input", "xfrm4_rcv_encap", "xfrm6_rcv_spi", "xfrm4_esp_rcv"],
            Sign::Counted(&["XfrmInNoStates"]),
        ),
        what: "IPsec has no state for the SPI of the packets (XfrmInNoStates): the sender uses a key that this node does not have",
        check: "ip xfrm state on both nodes: the sender's spi for this direction is missing here; /proc/net/xfrm_stat: XfrmInNoStates grows",
        advice: &[advice(
            "at a key rotation give the receiver the new state before the sender uses it, and remove the old one last",
            "ip-xfrm(8)",
        )],
    },
    Rule {
        id: "translation-lost",
        evidence: told_apart(
            &["NO_SOCKET", "IP_INNOROUTES"],
            &[],
            &["tcp_v4_rcv", "tcp_v6_rcv", "ip_error", "ip6_pkt_drop"],
            Sign::TranslationLost,
        ),
        what: "the address translation of standing connections was lost: packets go on with the addresses of before, which the other side does not know",
        check: "conntrack -E -p tcp: entries that are destroyed while their connections stand; nstat -az TcpOutRsts TcpEstabResets on both sides",
        advice: &[
            advice(
                "find what removes the entries: conntrack -D or -F, a proxy's clean-up, a table that is full, timeouts that are too short",
                CONNTRACK,
            ),
            advice(
                "where entries are marked invalid: net.netfilter.nf_conntrack_tcp_be_liberal=1, or drop invalid packets (-m conntrack --ctstate INVALID -j DROP) so that no reset follows",
                CONNTRACK,
            ),
        ],
    },
    Rule {
        id: "stale-entry",
        evidence: told_apart(
            &["NEIGH_FAILED", "NEIGH_QUEUEFULL", "NEIGH_DEAD", "NO_SOCKET", "IP_INNOROUTES", "OTHERHOST"],
            &[],
            &["neigh_invalidate", "__neigh_event_send", "__udp4_lib_rcv", "__udp6_lib_rcv", "ip_error"],
            Sign::StaleEntry,
        ),
        what: "a connection tracking entry still sends the flow to an endpoint that is gone: new flows to the same address and port get through",
        check: "conntrack -L -d ADDRESS: an entry whose reply address is the old endpoint; ip neigh: that address FAILED",
        advice: &[
            advice("delete the entry: conntrack -D -p udp --orig-dst ADDRESS", "conntrack(8)"),
            advice(
                "run a proxy that cleans up entries of removed endpoints (kube-proxy does for UDP), and let the client open a new socket after a timeout",
                "Kubernetes: Virtual IPs and Service Proxies",
            ),
        ],
    },
    Rule {
        id: "mtu-differs",
        evidence: told_apart(
            &[],
            &[],
            &[
                "__dev_forward_skb",
                "__dev_forward_skb2",
                "dev_forward_skb",
                "br_forward",
                "__br_forward",
                "br_dev_queue_push_xmit",
                "ovs_vport_send",
                "do_output",
            ],
            Sign::Longest,
        ),
        what: "a device could not take the longer packets, and the shorter ones of the same flows got through: the two ends of a link have different MTUs",
        check: "ip -d link show on both ends of the link, and of the bridge's ports: mtu",
        advice: &[advice("give all devices of one network the same MTU", "ip-link(8), mtu"), MTU],
    },
    Rule {
        id: "tunnel-port",
        evidence: told_apart(
            &["NO_SOCKET"],
            &["udp-rcv"],
            &["__udp4_lib_rcv", "__udp6_lib_rcv"],
            Sign::Outer,
        ),
        what: "no tunnel device listens on the UDP port that the other node's tunnel sends to: the device is missing or down here, or the nodes use different ports",
        check: "ip -d link show type vxlan (or geneve) on both nodes: dstport, state UP; ss -uan: the port",
        advice: &[
            advice("give the tunnel devices of all nodes the same port", "ip-link(8), vxlan"),
            advice("check that the network's agent is running on this node: it makes the device", FLANNEL),
        ],
    },
    Rule {
        id: "hairpin",
        evidence: told_apart(
            &[],
            &[],
            &["br_forward", "__br_forward", "br_handle_frame_finish"],
            Sign::Sometimes,
        ),
        what: "the bridge does not send a frame back by the port that it came by: a pod cannot reach itself through a service",
        check: "bridge -d link show dev PORT: hairpin off; connections of the pod to its service fail exactly when it is chosen itself",
        advice: &[
            advice(
                "turn hairpin mode on for the pods' ports: bridge link set dev PORT hairpin on",
                "bridge(8)",
            ),
            advice(
                "in the network's configuration: hairpinMode of the CNI plugin bridge",
                "CNI: bridge plugin",
            ),
        ],
    },
    Rule {
        id: "neighbour-table-full",
        evidence: drops(&["NEIGH_CREATEFAIL"], &[], &[]),
        what: "the neighbour table is full (gc_thresh3): no entry could be made for the next hop",
        check: "",
        advice: &[
            advice(
                "raise net.ipv4.neigh.default.gc_thresh1 to gc_thresh3, which hold for all namespaces",
                IP,
            ),
            advice("find what asks for so many addresses: ip neigh in each namespace", "ip-neighbour(8)"),
        ],
    },
    Rule {
        id: "neighbour-failed",
        evidence: drops(
            &["NEIGH_FAILED", "NEIGH_QUEUEFULL", "NEIGH_DEAD"],
            &[],
            &["neigh_invalidate", "__neigh_event_send"],
        ),
        what: "the next hop's link-layer address could not be resolved, or too many packets waited for it",
        check: "",
        advice: &[advice(
            "check that the next hop is up and has an entry in ip neigh; neigh/*/unres_qlen_bytes limits the packets that wait",
            IP,
        )],
    },
    Rule {
        id: "forwarding-off",
        evidence: told_apart(&["IP_INADDRERRORS"], &[], &[], Sign::Forwards),
        what: "forwarding is off on the device that the packets came in by, or was for a while: other packets are forwarded in this namespace",
        check: "sysctl net.ipv4.ip_forward net.ipv4.conf.DEVICE.forwarding; what sets them: /etc/sysctl.d, a configuration manager",
        advice: &[advice("turn forwarding on for the devices of the network, in one place", IP)],
    },
    Rule {
        id: "wrong-host",
        evidence: drops(&["IP_INADDRERRORS"], &[], &[]),
        what: "packets came to a namespace that does not have their destination address and does not forward: the sender or the bridge takes it for the receiver, or its forwarding is off",
        check: "",
        advice: &[
            advice(
                "compare the MAC addresses of this namespace and of the true receiver with ip neigh of the sender and bridge fdb show",
                "ip-neighbour(8), bridge(8)",
            ),
            advice("if this is a router: sysctl net.ipv4.ip_forward=1", IP),
        ],
    },
    Rule {
        id: "route-rejects",
        // For a route that is missing, kernels with drop reasons give one.
        evidence: told_apart(&[], &[], &["ip_error"], Sign::NoReason),
        what: "a route or a rule of the type blackhole, unreachable or prohibit rejects the packets",
        check: "ip route get ADDRESS from SOURCE iif DEVICE; ip route show table all type blackhole (unreachable, prohibit); ip rule",
        advice: &[advice(
            "remove that route or rule, or add a more specific one; networks make them for blocks of addresses, of which one can have moved to another node",
            "ip-route(8), ip-rule(8)",
        )],
    },
    Rule {
        id: "no-route",
        evidence: drops(&["IP_OUTNOROUTES", "IP_INNOROUTES"], &[], &["ip_error", "ip6_pkt_drop"]),
        what: "there is no route to the destination",
        check: "",
        advice: &[advice(
            "check with ip route get ADDRESS in the namespace where they were dropped",
            "ip-route(8)",
        )],
    },
    Rule {
        id: "reverse-path",
        evidence: drops(&["IP_RPFILTER"], &[], &[]),
        what: "the reverse path filter dropped packets: they arrived on another device than the route back would use",
        check: "",
        advice: &[advice(
            "set net.ipv4.conf.*.rp_filter to 2 or 0 where routes are asymmetric by design",
            IP,
        )],
    },
    Rule {
        id: "too-long",
        evidence: drops(&["PKT_TOO_BIG"], &[], &["ip_exceeds_mtu", "ip6_pkt_too_big"]),
        what: "packets exceed a device's MTU and must not be fragmented (DF)",
        check: "",
        advice: &[MTU, advice("let ICMP \"fragmentation needed\" pass the firewalls", IP)],
    },
    Rule {
        id: "not-forwarded",
        // With a reason given, too-long applies, or the drop is normal.
        evidence: drops(&[], &[], &["ip_forward", "ip6_forward"]),
        what: "packets were not forwarded: they exceed a device's MTU and must not be fragmented, or their TTL has expired (this kernel gives no reason)",
        check: "",
        advice: &[
            MTU,
            advice("look for a routing loop: ip route get ADDRESS on each node of the path", "ip-route(8)"),
        ],
    },
    Rule {
        id: "fragments-lost",
        evidence: drops(&["FRAG_REASM_TIMEOUT", "FRAG_TOO_FAR"], &["reassembly-wait"], &[]),
        what: "fragments were lost, and with them the packets that they belong to",
        check: "",
        advice: &[
            MTU,
            advice("give reassembly more memory and time: net.ipv4.ipfrag_high_thresh, ipfrag_time", IP),
        ],
    },
    Rule {
        id: "checksum-not-filled",
        evidence: told_apart(CHECKSUMS, &[], &[], Sign::Total),
        what: "no packet of a flow has a right checksum: an offload left it to a device that did not fill it in, as kernels before 5.7 do after NAT of a tunnel's outer header",
        check: "tcpdump -vvni DEVICE: bad cksum in every packet; ethtool -k DEVICE: tx-checksumming",
        advice: &[OFFLOAD],
    },
    Rule {
        id: "bad-checksum",
        evidence: drops(CHECKSUMS, &[], &[]),
        what: "packets arrived with a wrong checksum, and others of the same flows with a right one: they were damaged on the way",
        check: "ethtool -S DEVICE on both ends: crc, errors; tc qdisc show: netem corrupt; nstat -az UdpInCsumErrors TcpInCsumErrors",
        advice: &[
            advice(
                "find the link, NIC or virtual switch that damages packets, by its error counters",
                "ethtool(8)",
            ),
            OFFLOAD,
        ],
    },
    Rule {
        id: "drop",
        evidence: Evidence::OtherDrops,
        what: "the kernel dropped packets",
        check: "",
        advice: &[],
    },
];
