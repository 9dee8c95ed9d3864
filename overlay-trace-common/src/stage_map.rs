//! The stage map itself.
//!
//! The order of the rows is the stages' numbers within a recording; a recording carries the map that it
//! was made with, so rows may be added anywhere.

use crate::record::Outcome;
use crate::stage::{Action, Headers, Layer, Point, Probe, Sets, Stage, Target::Transmit};

#[macro_use]
mod constructors;

use constructors::*;

const FULL: Sets = Sets::FULL;
const NOT_TC: Sets = Sets::NOT_TC;
const DEVICE: Sets = Sets::DEVICE;
const NOT_DEVICE: Sets = Sets::NOT_DEVICE;
const NOT_LIGHT: Sets = Sets::NOT_LIGHT;
const TC: Sets = Sets::TC;
const DEVICE_AND_TC: Sets = Sets::DEVICE_AND_TC;
const ALL: Sets = Sets::ALL;

/// The number of the stage that owns what no other stage claims.
pub const OTHER: u8 = 0;
/// The number of the stage of a sending socket, of which [`Action::Note`] knows.
pub const SOCKET_SEND: u8 = 1;
/// The number of the stage of TCP's transmission, of which [`Action::Note`] knows.
pub const TCP_SEND: u8 = 2;

/// The number of the stage of a cgroup's programs, of which [`Action::Note`] knows.
pub const CGROUP_PROGRAM: u8 = number("cgroup-program");

/// The numbers of the waits in the middle of a stage, of which the accounting knows.
pub const BATCH_WAIT: u8 = number("batch-wait");
pub const SOFTIRQ_WAIT: u8 = number("softirq-wait");
pub const KSOFTIRQD_WAIT: u8 = number("ksoftirqd-wait");
pub const SOFTIRQ_INTERRUPTION: u8 = number("softirq-interruption");
pub const SCHEDULING_WAIT: u8 = number("scheduling-wait");
pub const UNSEEN_WAIT: u8 = number("unseen-wait");
pub const TCP_BACKLOG_WAIT: u8 = number("tcp-backlog-wait");

/// The numbers of the waits in a device's qdisc.
pub const QDISC_WAIT: u8 = number("qdisc-wait");
pub const BQL_WAIT: u8 = number("bql-wait");
pub const TX_RING_WAIT: u8 = number("tx-ring-wait");

/// The number of the stage in which a packet goes up from its device.
pub const RECEIVE: u8 = number("receive");
/// Those of the first and the last stage in which a packet can be that a driver gets next, where only tracepoints see it.
pub const DEV_QUEUE_XMIT: u8 = number("dev-queue-xmit");
pub const QDISC_RUN: u8 = number("qdisc-run");

/// The numbers of the waits between a NIC's interrupt and GRO.
pub const NAPI_IRQ_WAIT: u8 = number("napi-irq-wait");
pub const NAPI_TIMER_WAIT: u8 = number("napi-timer-wait");
pub const NAPI_POLL_WAIT: u8 = number("napi-poll-wait");
pub const NAPI_THREAD_WAIT: u8 = number("napi-thread-wait");
pub const BUSY_POLL_WAIT: u8 = number("busy-poll-wait");

/// The numbers of the stages in which packets are made of other packets, or become part of them.
pub const FRAGMENT: u8 = number("fragment");
pub const REASSEMBLY_WAIT: u8 = number("reassembly-wait");
pub const TC_CLASSIFY: u8 = number("tc-classify");
pub const GSO_SEGMENT: u8 = number("gso-segment");
pub const GRO: u8 = number("gro");
pub const COPY: u8 = number("copy");
/// The number of the stage of a TUN or TAP device's queue.
pub const TUN_WAIT: u8 = number("tun-wait");
/// The numbers of the stages that begin at TC hooks; see [`tc`](crate::tc).
pub const TC_INGRESS: u8 = number("tc-ingress");
pub const TC_EGRESS: u8 = number("tc-egress");

/// The number of the stage of this name, which must be in the map.
const fn number(name: &str) -> u8 {
    let mut number = 0;
    while !is_same(STAGES[number].name.as_bytes(), name.as_bytes()) {
        number += 1;
    }
    number as u8
}

const fn is_same(one: &[u8], other: &[u8]) -> bool {
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

/// The stage map.
pub static STAGES: &[Stage] = &[
    work("other", Layer::Other, ALL, &[], "Time that no stage claims."),
    // --- the sending socket and transport
    work(
        "socket-send",
        Layer::Socket,
        FULL,
        &[
            note(&[f("udp_sendmsg", 0)]),
            note(&[f("udpv6_sendmsg", 0)]),
            with_exit(note(&[f("tcp_sendmsg_locked", 0)])),
            note(&[f("raw_sendmsg", 0)]),
            note(&[f("ping_v4_sendmsg", 0)]),
            note(&[f("rawv6_sendmsg", 0)]),
        ],
        "The send call until the packet is handed to its transport: route look-up, memory, copying from the application.",
    )
    .before_start(),
    work(
        "tcp-send",
        Layer::Transport,
        NOT_DEVICE,
        &[note(&[f("__tcp_transmit_skb", 0)])],
        "TCP clones the segment out of its retransmission queue and writes the header.",
    )
    .before_start(),
    work(
        "cgroup-program",
        Layer::Cgroup,
        FULL,
        &[
            with_exit(note(&[f("__cgroup_bpf_run_filter_sock_addr", 0)])),
            with_exit(enter(&[f("__cgroup_bpf_run_filter_skb", 1)])),
        ],
        "Programs of the sender's or receiver's cgroup: they choose a send call's address, or look at the packet.",
    ),
    work(
        "udp-send",
        Layer::Transport,
        NOT_DEVICE,
        &[first(&[f("udp_send_skb", 0)]), first(&[f("udp_v6_send_skb", 0)])],
        "UDP writes its header and checksum.",
    ),
    // --- ip, egress
    work(
        "ip-send",
        Layer::Ip,
        NOT_DEVICE,
        &[first(&[f("__ip_queue_xmit", 1)]), first(&[f("inet6_csk_xmit", 1)])],
        "IP takes a TCP segment: route check and IP header.",
    ),
    work(
        "ip-local-out",
        Layer::Ip,
        FULL,
        &[
            birth_with_headers(&[f("__ip_local_out", 2)]),
            birth_with_headers(&[f("__ip6_local_out", 2), f("ip6_local_out", 2)]),
        ],
        "IP's local output, up to the netfilter hooks of OUTPUT.",
    ),
    work(
        "ip-output",
        Layer::Ip,
        FULL,
        &[
            hop(&[f("ip_finish_output", 2)]),
            Point { routed: true, ..birth_with_headers(&[f("ip6_output", 2)]) },
            hop(&[f("ip6_finish_output", 2)]),
        ],
        "IP output after the netfilter hooks of POSTROUTING: MTU check, neighbour look-up, link-layer header.",
    ),
    // --- ip, ingress
    work(
        "ip-rcv",
        Layer::Ip,
        FULL,
        // VLAN, macvlan, ipvlan and bonds have changed the device since the packet was received.
        &[hop(&[f("ip_rcv_core", 0), f("ip_rcv", 0)]), hop(&[f("ip6_rcv_core", 0), f("ipv6_rcv", 0)])],
        "IP input: header checks, up to the netfilter hooks of PREROUTING.",
    ),
    work(
        "route-input",
        Layer::Route,
        FULL,
        &[decide(&[f("ip_route_input_noref", 0)]), decide(&[f("ip6_route_input", 0)])],
        "The routing decision for a received packet.",
    ),
    work(
        "ip-forward",
        Layer::Ip,
        FULL,
        &[forward(&[f("ip_forward", 0)]), forward(&[f("ip6_forward", 0)])],
        "Forwarding: TTL, MTU, up to the netfilter hooks of FORWARD.",
    )
    .leaves(),
    work(
        "fragment",
        Layer::Fragment,
        NOT_DEVICE,
        &[
            hop(&[f("ip_do_fragment", 2)]),
            hop(&[f("ip6_fragment", 2)]),
            copy(&[f("ip_copy_metadata", 0)]),
            copy(&[f("ip6_copy_metadata", 0)]),
            part(&[f("ip_frag_next", 0)]),
            part(&[f("ip6_frag_next", 0)]),
        ],
        "Cutting a packet into fragments.",
    ),
    wait(
        "reassembly-wait",
        Layer::Fragment,
        NOT_DEVICE,
        &[
            enter(&[f("ip_defrag", 1)]),
            enter(&[f("ipv6_frag_rcv", 0)]),
            // Where conntrack puts IPv6 together, nf_ct_frag6_gather comes by whole packets too.
            enter(&[f("inet_frag_queue_insert", 1)]),
            join(&[f("inet_frag_reasm_finish", 1)]),
        ],
        "A fragment waits for the others of its packet.",
    ),
    work(
        "neighbour",
        Layer::Neighbour,
        FULL,
        &[hop(&[f("neigh_resolve_output", 1)])],
        "The link-layer address is not cached with the route: neighbour look-up.",
    ),
    wait(
        "neighbour-wait",
        Layer::Neighbour,
        NOT_DEVICE,
        &[hop(&[f("__neigh_event_send", 1)])],
        "The packet waits until ARP or neighbour discovery has found the link-layer address.",
    ),
    // --- netfilter
    work(
        "conntrack-in",
        Layer::Conntrack,
        FULL,
        &[enter(&[f("nf_conntrack_in", 0)])],
        "Connection tracking looks the packet's connection up or creates it.",
    ),
    work(
        "conntrack-confirm",
        Layer::Conntrack,
        FULL,
        &[hop(&[f("__nf_conntrack_confirm", 0)])],
        "Connection tracking at a connection's first packet's way out: the connection is put into the table.",
    ),
    work("nat", Layer::Nat, FULL, &[enter(&[f("nf_nat_inet_fn", 1)])], "Address translation."),
    work(
        "iptables",
        Layer::Iptables,
        FULL,
        &[hop(&[since("ipt_do_table", 1, (5, 16), 0)]), hop(&[since("ip6t_do_table", 1, (5, 16), 0)])],
        "A table of iptables: the chains of one hook.",
    ),
    work(
        "nftables",
        Layer::Nftables,
        FULL,
        &[
            hop(&[f("nft_do_chain_ipv4", 1)]),
            hop(&[f("nft_do_chain_ipv6", 1)]),
            hop(&[f("nft_do_chain_inet", 1)]),
            hop(&[f("nft_do_chain_bridge", 1)]),
        ],
        "A base chain of nftables (iptables-nft included).",
    ),
    // --- Services and encryption, in the middle of IP
    work(
        "ipvs-in",
        Layer::Ipvs,
        FULL,
        &[
            enter(&[f("ip_vs_in_hook", 1), f("ip_vs_remote_request4", 1)]),
            enter(&[f("ip_vs_remote_request6", 1)]),
        ],
        "IPVS looks for the packet's virtual server or its connection.",
    ),
    work(
        "ipvs-out",
        Layer::Ipvs,
        FULL,
        &[enter(&[f("ip_vs_out_hook", 1), f("ip_vs_reply4", 1)]), enter(&[f("ip_vs_reply6", 1)])],
        "IPVS looks whether the packet is an answer that it has to translate back.",
    ),
    work(
        "ipvs-send",
        Layer::Ipvs,
        FULL,
        &[
            enter(&[f("ip_vs_nat_xmit", 0)]),
            enter(&[f("ip_vs_nat_xmit_v6", 0)]),
            enter(&[f("ip_vs_dr_xmit", 0)]),
            enter(&[f("ip_vs_dr_xmit_v6", 0)]),
        ],
        "IPVS sends the packet on to a real server: translation, or its link-layer address.",
    ),
    up(work(
        "ipvs-tunnel",
        Layer::Ipvs,
        NOT_DEVICE,
        &[enter(&[f("ip_vs_tunnel_xmit", 0)]), enter(&[f("ip_vs_tunnel_xmit_v6", 0)])],
        "IPVS sends the packet to a real server through a tunnel: route, outer header.",
    )),
    up(work(
        "xfrm-output",
        Layer::Xfrm,
        NOT_DEVICE,
        &[hop(&[f("xfrm_output", 1)])],
        "IPsec: outer header, encryption.",
    )),
    work(
        "xfrm-input",
        Layer::Xfrm,
        NOT_DEVICE,
        &[enter(&[f("xfrm_input", 0)])],
        "IPsec: the security association, decryption, outer header taken off.",
    ),
    wait(
        "wireguard-wait",
        Layer::Wireguard,
        NOT_DEVICE,
        &[enter(&[f("wg_prev_queue_enqueue", 1)])],
        "The packet waits for a worker that encrypts or decrypts it.",
    ),
    work(
        "wireguard-encrypt",
        Layer::Wireguard,
        FULL,
        &[enter(&[f("encrypt_packet", 0)])],
        "WireGuard encrypts the packet.",
    ),
    work(
        "wireguard-send",
        Layer::Wireguard,
        FULL,
        &[enter(&[f("wg_socket_send_skb_to_peer", 1)])],
        "WireGuard sends the encrypted packet: route, outer headers.",
    ),
    work(
        "wireguard-receive",
        Layer::Wireguard,
        NOT_DEVICE,
        &[enter(&[f("wg_packet_receive", 1)])],
        "WireGuard takes an encrypted packet from its socket: the key that it was encrypted with.",
    ),
    work(
        "wireguard-decrypt",
        Layer::Wireguard,
        FULL,
        &[enter(&[f("decrypt_packet", 0)])],
        "WireGuard decrypts the packet.",
    ),
    // --- the bridge
    work(
        "bridge-netfilter",
        Layer::Bridge,
        FULL,
        &[hop(&[f("br_nf_pre_routing", 1)]), hop(&[f("br_nf_forward", 1), f("br_nf_forward_ip", 1)])],
        "br_netfilter prepares a bridged packet for the IP hooks.",
    ),
    work(
        "bridge-rx",
        Layer::Bridge,
        FULL,
        &[hop(&[f("br_handle_frame_finish", 2)])],
        "The bridge learns the sender and looks the destination up.",
    ),
    // --- Open vSwitch
    work(
        "ovs-receive",
        Layer::Ovs,
        FULL,
        &[enter(&[f("ovs_vport_receive", 1)])],
        "Open vSwitch takes the packet from a port: its headers become a flow's key.",
    ),
    work(
        "ovs-lookup",
        Layer::Ovs,
        FULL,
        &[enter(&[f("ovs_dp_process_packet", 0)])],
        "Open vSwitch looks the flow up.",
    ),
    work(
        "ovs-actions",
        Layer::Ovs,
        FULL,
        &[enter(&[f("ovs_execute_actions", 1)])],
        "Open vSwitch does what the flow says: tags, headers, tunnel.",
    ),
    work(
        "ovs-conntrack",
        Layer::Ovs,
        FULL,
        &[enter(&[f("ovs_ct_execute", 1)])],
        "Open vSwitch asks connection tracking.",
    ),
    work(
        "ovs-output",
        Layer::Ovs,
        FULL,
        &[enter(&[f("ovs_vport_send", 1)])],
        "Open vSwitch hands the packet to the port it leaves by.",
    ),
    // --- devices, egress
    work(
        "dev-queue-xmit",
        Layer::Qdisc,
        NOT_LIGHT,
        &[pick_up(Headers::Out, &[f("__dev_queue_xmit", 0), t("net_dev_queue", 0)])],
        "Hands the packet to a device: egress tc, choice of the queue, qdisc without waiting.",
    )
    .transmits(),
    wait(
        "qdisc-wait",
        Layer::Qdisc,
        NOT_TC,
        &[
            Point { after: true, ..hop(&[t("qdisc_enqueue", 2)]) },
            // The queue inside a tbf, to which no tracepoint leads: tbf may have cut the packet.
            hop(&[f("bfifo_enqueue", 0)]),
            // Before 5.15 the qdiscs themselves are asked.
            qdisc(&[f("pfifo_fast_enqueue", 0)]),
            qdisc(&[f("pfifo_enqueue", 0)]),
            qdisc(&[f("fq_codel_enqueue", 0)]),
            qdisc(&[f("fq_enqueue", 0)]),
            qdisc(&[f("tbf_enqueue", 0)]),
            qdisc(&[f("htb_enqueue", 0)]),
            qdisc(&[f("netem_enqueue", 0)]),
        ],
        "The packet lies in the device's qdisc.",
    )
    .shared_queue(),
    wait(
        "bql-wait",
        Layer::Qdisc,
        NOT_TC,
        &[],
        "The packet lies in the device's qdisc, and byte queue limits (BQL) hold the device's queue back: the driver has enough.",
    )
    .shared_queue()
    .probed_by("qdisc-wait"),
    wait(
        "tx-ring-wait",
        Layer::Qdisc,
        NOT_TC,
        &[],
        "The packet lies in the device's qdisc, and the driver has stopped the device's queue: its ring is full.",
    )
    .shared_queue()
    .probed_by("qdisc-wait"),
    work(
        "qdisc-run",
        Layer::Qdisc,
        NOT_LIGHT,
        &[Point { dequeued: true, ..enter(&[t("qdisc_dequeue", 3)]) }],
        "The packet was taken out of the qdisc: validation, driver lock.",
    ),
    work(
        "tc-classify",
        Layer::Tc,
        FULL,
        &[with_exit(enter(&[f("tcf_classify", 0)])), with_exit(enter(&[f("tcf_classify_ingress", 0)]))],
        "Classifiers and actions of tc (clsact, and the filters of a qdisc).",
    ),
    work(
        "tc-redirect",
        Layer::Tc,
        FULL,
        &[enter(&[f("skb_do_redirect", 0)])],
        "A program at tc or tcx sends the packet to another device, or into another namespace.",
    ),
    work(
        "gso-segment",
        Layer::Gso,
        NOT_DEVICE,
        &[Point { split: true, ..with_exit(hop(&[f("__skb_gso_segment", 0)])) }],
        "Segmentation in software.",
    ),
    work(
        "checksum",
        Layer::Checksum,
        FULL,
        &[with_exit(enter(&[f("skb_checksum_help", 0)]))],
        "Checksumming in software, because the device cannot.",
    ),
    work(
        "driver-xmit",
        Layer::Driver,
        NOT_TC,
        &[transmit(&[kind("")])],
        "The driver of a NIC, real or virtual, until the device has the packet: there its path ends.",
    )
    .transmits(),
    transmit!("veth-xmit", Veth, ["veth"], "veth hands the packet to its other end."),
    transmit!("bridge-xmit", Bridge, ["bridge"], "The bridge device: the node sends through its bridge."),
    up(transmit!("vxlan-encap", Vxlan, ["vxlan"], "VXLAN: forwarding table, route, outer headers.")),
    up(transmit!("ipip-encap", Ipip, ["ipip"], "IPIP: route, outer header.")),
    up(transmit!("gre-encap", Gre, ["gre"], "GRE over IP: route, outer headers.")),
    up(transmit!("gretap-encap", Gre, ["gretap"], "GRE with Ethernet inside: route, outer headers.")),
    up(transmit!("geneve-encap", Geneve, ["geneve"], "Geneve: route, outer headers.")),
    up(transmit!("ip6tnl-encap", Ipip, ["ip6tnl"], "A tunnel over IPv6: route, outer header.")),
    up(transmit!("sit-encap", Ipip, ["sit"], "IPv6 over IPv4: route, outer header.")),
    up(transmit!("ip6gre-encap", Gre, ["ip6gre"], "GRE over IPv6: route, outer headers.")),
    up(transmit!("ip6gretap-encap", Gre, ["ip6gretap"], "GRE over IPv6 with Ethernet inside: route, outer headers.")),
    up(transmit!("wireguard-encap", Wireguard, ["wireguard"], "WireGuard: the peer, and its queue for encryption.")),
    wait(
        "tun-wait",
        Layer::Tun,
        NOT_TC,
        &[transmit(&[kind("tun")])],
        "The packet lies in a TUN or TAP device's queue, until the program behind it has read it.",
    )
    .transmits(),
    transmit!("ipvlan-xmit", Ipvlan, ["ipvlan", "ipvtap"], "ipvlan chooses the way out."),
    transmit!("macvlan-xmit", Macvlan, ["macvlan", "macvtap"], "macvlan chooses the way out."),
    transmit!("vlan-xmit", Vlan, ["vlan"], "The VLAN device adds its tag and hands the packet to the device below."),
    // --- devices, ingress
    wait(
        "backlog-wait",
        Layer::Backlog,
        NOT_TC,
        // A tunnel that has no gro_cells hands over what it has unpacked here.
        &[Point {
            deferred: true,
            headers: Headers::In,
            ..hop(&[f("enqueue_to_backlog", 0), t("netif_rx", 0)])
        }],
        "The packet waits in a CPU's backlog for its softirq.",
    )
    .shared_queue(),
    wait(
        "napi-irq-wait",
        Layer::Gro,
        NOT_LIGHT,
        &[point(Action::Raise, &[t("softirq_raise", 0)])],
        "From a NIC's interrupt until the NIC is polled for packets.",
    )
    .before_start(),
    wait(
        "napi-timer-wait",
        Layer::Gro,
        NOT_LIGHT,
        &[],
        "The same from a timer's interrupt, which stands for the NIC's (napi_defer_hard_irqs with gro_flush_timeout).",
    )
    .before_start()
    .probed_by("napi-irq-wait"),
    wait(
        "napi-poll-wait",
        Layer::Gro,
        NOT_LIGHT,
        &[point(Action::Poll, &[t("napi_poll", 0)])],
        "From the beginning of a NIC's poll until the packet's turn: the driver, and the packets before it.",
    )
    .before_start(),
    wait(
        "napi-thread-wait",
        Layer::Gro,
        NOT_LIGHT,
        &[],
        "The same in a thread of the NIC's (threaded NAPI).",
    )
    .before_start()
    .probed_by("napi-poll-wait"),
    wait(
        "busy-poll-wait",
        Layer::Gro,
        NOT_LIGHT,
        &[],
        "The same in a task that polls the NIC for its sockets (SO_BUSY_POLL).",
    )
    .before_start()
    .probed_by("napi-poll-wait"),
    work(
        "gro",
        Layer::Gro,
        NOT_LIGHT,
        &[
            gro(&[f("napi_gro_receive", 1), f("gro_receive_skb", 1), t("napi_gro_receive_entry", 0)]),
            gro(&[t("napi_gro_frags_entry", 0)]),
        ],
        "GRO: merging with other packets of the same flow, waiting for them included.",
    ),
    work(
        "receive",
        Layer::Backlog,
        NOT_TC,
        &[pick_up(Headers::In, &[t("netif_receive_skb", 0)])],
        "The softirq takes the packet from its device: taps, ingress tc, the choice of protocol or bridge.",
    )
    .stays(),
    work(
        "ipvlan-receive",
        Layer::Ipvlan,
        FULL,
        &[enter(&[by_address("ipvlan_handle_frame", 0)])],
        "ipvlan looks the address up, and the packet is now its slave's.",
    ),
    work(
        "macvlan-receive",
        Layer::Macvlan,
        FULL,
        &[enter(&[by_address("macvlan_handle_frame", 0)])],
        "macvlan looks the address up, and the packet is now its slave's.",
    ),
    wait(
        "macvtap-wait",
        Layer::Tun,
        NOT_DEVICE,
        &[hop(&[by_address("tap_handle_frame", 0)])],
        "The packet lies in a macvtap's or ipvtap's queue, until the program behind it has read it.",
    ),
    work(
        "vlan-receive",
        Layer::Vlan,
        NOT_DEVICE,
        &[enter(&[by_address("vlan_do_receive", 0)])],
        "The tag is taken off, and the packet is now its VLAN device's.",
    ),
    work(
        "vxlan-decap",
        Layer::Vxlan,
        NOT_DEVICE,
        &[enter(&[f("vxlan_rcv", 1)])],
        "VXLAN: outer headers taken off.",
    ),
    work(
        "ipip-decap",
        Layer::Ipip,
        NOT_DEVICE,
        &[
            enter(&[f("ipip_rcv", 0), f("tunnel4_rcv", 0)]),
            enter(&[f("ipip6_rcv", 0), f("tunnel64_rcv", 0)]),
            enter(&[f("ip6ip6_rcv", 0)]),
            enter(&[f("ip4ip6_rcv", 0)]),
        ],
        "IPIP, 6in4, or IPv4 or IPv6 over IPv6: outer header taken off.",
    ),
    work(
        "gre-decap",
        Layer::Gre,
        NOT_DEVICE,
        &[enter(&[f("gre_rcv", 0)]), enter(&[f("ip6_tnl_rcv", 1)])],
        "GRE: outer headers taken off.",
    ),
    work(
        "geneve-decap",
        Layer::Geneve,
        NOT_DEVICE,
        &[enter(&[f("geneve_udp_encap_recv", 1)])],
        "Geneve: outer headers taken off.",
    ),
    down(wait(
        "gro-cells-wait",
        Layer::GroCells,
        NOT_DEVICE,
        &[Point { deferred: true, ..hop(&[f("gro_cells_receive", 1)]) }],
        "The decapsulated packet waits in the tunnel device's queue for its softirq.",
    )
    .shared_queue()),
    // --- the receiving transport and socket
    work(
        "udp-rcv",
        Layer::Transport,
        FULL,
        &[enter(&[f("udp_rcv", 0)]), enter(&[f("udpv6_rcv", 0)])],
        "UDP input: socket look-up, checksum.",
    ),
    work(
        "tcp-rcv",
        Layer::Transport,
        FULL,
        &[enter(&[f("tcp_v4_rcv", 0)]), enter(&[f("tcp_v6_rcv", 0)])],
        "TCP input: socket look-up, acknowledgement, what to send next.",
    ),
    wait(
        "tcp-backlog-wait",
        Layer::Transport,
        NOT_DEVICE,
        &[enter(&[f("tcp_add_backlog", 1)])],
        "The socket is in use by its application: the segment waits until that is done.",
    ),
    work(
        "tcp-do-rcv",
        Layer::Transport,
        FULL,
        &[enter(&[f("tcp_v4_do_rcv", 1)]), enter(&[f("tcp_v6_do_rcv", 1)])],
        "TCP processes the segment.",
    ),
    work(
        "icmp-rcv",
        Layer::Transport,
        NOT_DEVICE,
        &[enter(&[f("icmp_rcv", 0)]), enter(&[f("icmpv6_rcv", 0)])],
        "ICMP input.",
    ),
    wait(
        "socket-wait",
        Layer::Socket,
        NOT_DEVICE,
        &[
            enter(&[f("__udp_enqueue_schedule_skb", 1)]),
            enter(&[f("tcp_queue_rcv", 1)]),
            enter(&[f("__sock_queue_rcv_skb", 1)]),
        ],
        "The packet lies in the socket until the application reads it.",
    ),
    work(
        "socket-receive",
        Layer::Socket,
        FULL,
        &[Point { in_socket: true, ..enter(&[t("skb_copy_datagram_iovec", 0)]) }],
        "Copying to the application; of a small datagram that is part of the wait.",
    ),
    // --- waiting for the CPU, in the middle of any stage
    wait(
        "batch-wait",
        Layer::Cpu,
        NOT_TC,
        &[],
        "Behind other packets of its batch, or of those that came meanwhile: the CPU was busy with them.",
    )
    .behind_others(),
    wait(
        "softirq-wait",
        Layer::Cpu,
        NOT_LIGHT,
        &[],
        "In a CPU's queue (backlog, gro-cells), until the softirq that empties it has begun.",
    )
    .shared_queue()
    .probed_by("softirq-interruption"),
    wait(
        "ksoftirqd-wait",
        Layer::Cpu,
        NOT_LIGHT,
        &[],
        "As softirq-wait; the softirqs were so many, or a task so urgent, that they were left to the thread ksoftirqd.",
    )
    .shared_queue()
    .probed_by("softirq-interruption"),
    wait(
        "unseen-wait",
        Layer::Cpu,
        NOT_LIGHT,
        &[],
        "Left by its softirq in a queue that no probe sees, until it is seen again.",
    )
    .probed_by("softirq-interruption"),
    wait(
        "softirq-interruption",
        Layer::Cpu,
        NOT_LIGHT,
        &[
            Point { softirq: true, ..interrupt(&[t("softirq_entry", 0)]) },
            Point { softirq: true, ..resume(&[t("softirq_exit", 0)]) },
        ],
        "A softirq interrupted the work on the packet.",
    ),
    wait(
        "irq-interruption",
        Layer::Cpu,
        NOT_LIGHT,
        &[
            interrupt(&[t("irq_handler_entry", 0)]),
            resume(&[t("irq_handler_exit", 0)]),
            Point { timer: true, ..interrupt(&[t("local_timer_entry", 0)]) },
            resume(&[t("local_timer_exit", 0)]),
        ],
        "A hard interrupt (a device's, or the timer's) interrupted the work on the packet.",
    ),
    wait(
        "scheduling-wait",
        Layer::Cpu,
        NOT_LIGHT,
        &[Point { resumes: true, ..interrupt(&[t("sched_switch", 0)]) }],
        "The task that worked on the packet lost the CPU to another one.",
    ),
    // --- copies
    wait(
        "copy",
        Layer::Cpu,
        NOT_DEVICE,
        &[copy(&[f("__copy_skb_header", 0)])],
        "A copy of a packet, which is followed as its child: until its turn comes, or whoever listens reads it.",
    )
    .clones(),
    work(
        "device-change",
        Layer::Other,
        NOT_DEVICE,
        &[point(Action::Change, &[f("call_netdevice_notifiers_info", 0)])],
        "A device has come, gone, or got another name: hops are looked at anew. This row has no time of its own.",
    ),
    // --- between TC hooks
    work(
        "tc-ingress",
        Layer::Tc,
        TC,
        &[],
        "From the TC hook at a device's ingress to the packet's next TC hook: work and waiting together.",
    )
    .comes_in(),
    work(
        "tc-egress",
        Layer::Tc,
        TC,
        &[],
        "From the TC hook at a device's egress to the packet's next TC hook: work and waiting together.",
    )
    .transmits(),
    // --- ends
    ends(
        "end-read",
        Outcome::Delivered,
        NOT_DEVICE,
        &[end(&[f("skb_attempt_defer_free", 0)]), end(&[f("kfree_skb_partial", 0)])],
        "The application has the data, or TCP has joined it to what it already holds.",
    ),
    ends(
        "end-freed",
        Outcome::Freed,
        NOT_DEVICE,
        &[end(&[f("__kfree_skb", 0)])],
        "The packet was freed without being dropped: read, acknowledged, or sent.",
    ),
    ends(
        "end-queued",
        Outcome::Delivered,
        DEVICE,
        &[Point { current: true, ..end(&[t("sk_data_ready", 0)]) }],
        "The packet lies in a socket that is not TCP's.",
    ),
    ends(
        "end-taken-up",
        Outcome::Delivered,
        DEVICE_AND_TC,
        &[
            Point { in_tcp: true, ..end(&[t("tcp_probe", 1)]) },
            point(Action::SocketState, &[t("inet_sock_set_state", 0)]),
        ],
        "TCP has taken up a segment of a connection; no tracepoint shows when its data are read.",
    ),
    ends(
        "end-handed-over",
        Outcome::Freed,
        NOT_LIGHT,
        &[point(Action::HandOver, &[t("net_dev_xmit", 0)])],
        "The device has the packet. Until its driver frees it, that is its completion, which is no part of the path.",
    ),
    ends("end-consumed", Outcome::Freed, ALL, &[end(&[t("consume_skb", 0)])], "The packet was consumed."),
    ends(
        "end-merged",
        Outcome::Merged,
        NOT_DEVICE,
        &[
            Point { if_zero: true, ..end(&[f("skb_gro_receive", 1)]) },
            Point { if_zero: true, ..end(&[f("skb_gro_receive_list", 1)]) },
            end(&[f("napi_skb_free_stolen_head", 0)]),
        ],
        "GRO made the packet a part of another one.",
    ),
    ends(
        "end-gro-merged",
        Outcome::Merged,
        DEVICE,
        &[gro_result(&[t("napi_gro_receive_exit", 0)]), gro_result(&[t("napi_gro_frags_exit", 0)])],
        "GRO says that it has made the packet a part of another one.",
    ),
    ends("end-dropped", Outcome::Dropped, ALL, &[end(&[t("kfree_skb", 0)])], "The packet was dropped."),
];

/// The stages of a device's way out by its link kind: number of the stage, link kind.
pub fn transmit_stages() -> impl Iterator<Item = (u8, &'static str)> {
    STAGES.iter().enumerate().flat_map(|(number, stage)| {
        stage.points.iter().filter_map(move |point| match point.probes {
            [Probe { target: Transmit(kind), .. }] => Some((number as u8, *kind)),
            _ => None,
        })
    })
}
