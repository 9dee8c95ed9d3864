//! Waits of TCP between the packets of a request, which are nobody's drop.

use super::super::rule::{Evidence, Rule, advice};

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
        evidence: Evidence::Excess(&["delayed-ack-wait"]),
        what: "the rest of a message waits for the acknowledgement of its beginning (Nagle's algorithm), which the receiver delays by 40 ms or more",
        check: "strace -e trace=write,sendto,sendmsg,setsockopt of the sender: several small writes for a message, no TCP_NODELAY",
        advice: &[
            advice("set TCP_NODELAY, or hand a message over at once (writev, MSG_MORE)", "tcp(7)"),
            advice("have the receiver acknowledge at once: quickack of the route", "ip-route(8)"),
        ],
    },
];
