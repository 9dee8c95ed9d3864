//! Waits of TCP between the packets of a request, which are nobody's drop.

use super::{
    super::rule::{Evidence, Rule, advice},
    advice::IP,
};

pub(super) static WAITS: &[Rule] = &[
    Rule {
        id: "slow-connect",
        evidence: Evidence::Excess(&["connection-wait"]),
        what: "connections take long to be made: a SYN or its answer was lost or discarded, and TCP sent it again after 1 s, then after 2 s more",
        check: "ss -ltn: Recv-Q of the listener reaches Send-Q; nstat -az TcpExtListenOverflows TcpExtListenDrops TcpExtTCPReqQFullDrop",
        advice: &[
            advice(
                "let the server accept faster, or its queue be longer: the backlog of listen(2), net.core.somaxconn",
                "listen(2)",
            ),
            advice("keep connections open for several requests", "tcp(7)"),
        ],
    },
    Rule {
        id: "delayed-ack",
        evidence: Evidence::RequestWait(&["delayed-ack-wait"]),
        what: "the rest of a message waits for the acknowledgement of its beginning (Nagle's algorithm), which the receiver delays by 40 ms or more",
        check: "strace -e trace=write,sendto,sendmsg,setsockopt of the sender: several small writes for a message, no TCP_NODELAY",
        advice: &[
            advice("set TCP_NODELAY, or hand a message over at once (writev, MSG_MORE)", "tcp(7)"),
            advice("have the receiver acknowledge at once: quickack of the route", "ip-route(8)"),
        ],
    },
    Rule {
        id: "window-full",
        evidence: Evidence::RequestWait(&["window-wait"]),
        what: "a sender has as much in flight as it may have, and waits for acknowledgements before it sends the rest: its congestion window is small (a new or idle connection, a loss before), or the receiver's window is",
        check: "ss -tin: cwnd, ssthresh, rwnd_limited, sndbuf_limited; nstat -az TcpExtTCPFromZeroWindowAdv TcpRetransSegs",
        advice: &[
            advice(
                "keep connections open and busy; without net.ipv4.tcp_slow_start_after_idle the window stays open in pauses",
                IP,
            ),
            advice("begin with more: initcwnd of the route", "ip-route(8)"),
            advice("raise the buffers' limits if the receiver's window is the limit: net.ipv4.tcp_rmem", IP),
        ],
    },
    Rule {
        id: "loss-probe",
        evidence: Evidence::Excess(&["loss-probe-wait"]),
        what: "the last segment of a message was lost, and TCP sent it again before its retransmission timeout: a tail loss probe, after two round trips or more",
        check: "nstat -az TcpExtTCPLossProbes TcpExtTCPLossProbeRecovery; what dropped the segment is told at its place",
        advice: &[advice("find what drops the segments", "tcp(7)")],
    },
];
