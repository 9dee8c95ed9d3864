//! Reasons of sockets and transport protocols other than TCP.

use super::{
    super::rules::advice::NET,
    DropRow,
    Effect::{Configured, Lost, Unwanted},
    reason,
};

pub(super) static ROWS: &[DropRow] = &[
    reason(
        &["NO_SOCKET"],
        Lost,
        "no socket has this address and port: nobody listens there, or the connection is not known",
        &[
            "the program is not running, or listens on another address or port",
            "the connection was closed before its last packets arrived (ordinary after a close)",
            "address translation was lost: the answer has another address than the client asked",
        ],
        "ss -tuanp in the namespace: is there such a socket; conntrack -L for the pair of addresses",
        ("start the program, or correct the service's port", "ss(8)"),
    ),
    reason(
        &["SOCKET_CLOSE"],
        Unwanted,
        "the socket was closed while the packet waited in it",
        &["the program ended or closed the connection before it had read everything"],
        "ss -tan; the program's log",
        ("nothing, if the program meant to close", "close(2)"),
    ),
    reason(
        &["QUEUE_PURGE"],
        Unwanted,
        "a queue was emptied because its owner went away: a socket that was closed, or a device that was removed",
        &[
            "a connection was closed with data or a FIN unread",
            "a pod's device was deleted while packets waited",
        ],
        "ss -tan; ip monitor link",
        ("nothing, if the program meant to close", "close(2)"),
    ),
    reason(
        &["SOCKET_FILTER"],
        Configured,
        "the socket's own filter refused the packet",
        &[
            "a BPF filter of the program (SO_ATTACH_FILTER): DHCP clients, tcpdump",
            "a cgroup program for ingress",
        ],
        "ss -0 --bpf; bpftool cgroup tree",
        ("nothing, if the filter is meant", "socket(7), SO_ATTACH_FILTER"),
    ),
    reason(
        &["SOCKET_RCVBUFF"],
        Lost,
        "the socket's receive buffer was full",
        &[
            "its program reads more slowly than data arrives: too little CPU, or stuck elsewhere",
            "a burst that is larger than the buffer",
        ],
        "ss -uamn: skmem, the last number (d) counts drops; nstat -az UdpRcvbufErrors",
        ("enlarge the receive buffer (SO_RCVBUF, net.core.rmem_max), or read faster", "socket(7)"),
    ),
    reason(
        &["SOCKET_BACKLOG"],
        Lost,
        "the queue of a socket that its program was just using was full",
        &["a fast sender on a socket whose program holds it for long", "many small segments"],
        "nstat -az TcpExtTCPBacklogDrop",
        ("enlarge the receive buffer: net.ipv4.tcp_rmem", "tcp(7)"),
    ),
    reason(
        &["PROTO_MEM"],
        Lost,
        "the protocol's memory for all sockets of the node was used up",
        &[
            "very many sockets, or some that hold much unread data",
            "a cgroup's memory limit, which counts socket buffers",
        ],
        "/proc/net/sockstat against net.ipv4.tcp_mem and udp_mem; memory.events of the pod's cgroup",
        ("raise net.ipv4.tcp_mem or udp_mem, or the pod's memory limit", "tcp(7), udp(7)"),
    ),
    reason(
        &["UDP_CSUM"],
        Lost,
        "the UDP checksum is wrong",
        &[
            "the packet was damaged",
            "an offloaded checksum that nobody filled in: NAT of a tunnel's outer packets before Linux 5.7",
        ],
        "nstat -az UdpInCsumErrors; tcpdump -vvni DEVICE udp",
        ("ethtool -K flannel.1 tx-checksum-ip-generic off", "flannel: issues 1243 and 1279"),
    ),
    reason(
        &["ICMP_CSUM"],
        Lost,
        "the ICMP checksum is wrong",
        &["the packet was damaged", "an address in it was translated without its checksum"],
        "nstat -az IcmpInCsumErrors",
        ("find the device that damages packets: ethtool -S", "ethtool(8)"),
    ),
    reason(
        &["INVALID_PROTO"],
        Unwanted,
        "a message of a type that the protocol does not take here",
        &["an ICMP message that the host ignores: echo to a broadcast address, an unknown type"],
        "nstat -az | grep Icmp; tcpdump -ni DEVICE icmp",
        ("nothing, if it is meant: net.ipv4.icmp_echo_ignore_broadcasts", "icmp(7)"),
    ),
    reason(
        &["PACKET_SOCK_ERROR"],
        Unwanted,
        "a copy for a packet socket (tcpdump, DHCP) could not be delivered to it",
        &["the listener's buffer is full; the packet itself goes on"],
        "ss -0anp; /proc/net/packet",
        ("give the listener a larger buffer (tcpdump -B)", "packet(7)"),
    ),
    reason(
        &["UNIX_DISCONNECT", "UNIX_SKIP_OOB"],
        Unwanted,
        "data of a Unix socket, which is no packet of the network",
        &["the peer has disconnected, or urgent data was skipped"],
        "ss -xanp",
        ("nothing for the network", "unix(7)"),
    ),
    reason(
        &["SKB_CONSUMED", "SKB_NOT_DROPPED_YET"],
        Unwanted,
        "the packet was used up, not dropped",
        &["the ordinary end of a packet"],
        "none is needed",
        ("nothing", NET),
    ),
];
