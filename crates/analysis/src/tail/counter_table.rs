//! What the kernel's own counters mean, and which drops they count as well.

/// Counters that mean the same.
#[derive(Debug)]
pub struct CounterRow {
    /// As a recording names them.
    pub names: &'static [&'static str],
    /// What one count is, as a clause for people.
    pub means: &'static str,
    /// Drop reasons, functions where the kernel gives no reason, or stages, of packets that it counts: a recording shows
    /// these as drops too.
    pub seen_as: &'static [&'static str],
}

/// The row of a counter; `None` for counters of ordinary events.
pub fn counter_row(name: &str) -> Option<&'static CounterRow> {
    COUNTERS.iter().find(|row| row.names.contains(&name))
}

const fn row(
    names: &'static [&'static str],
    means: &'static str,
    seen_as: &'static [&'static str],
) -> CounterRow {
    CounterRow { names, means, seen_as }
}

/// A packet without a free receive buffer of its socket.
const RECEIVE_BUFFER: &[&str] =
    &["SOCKET_RCVBUFF", "__udp_enqueue_schedule_skb", "udp_queue_rcv_one_skb", "sock_queue_rcv_skb"];

/// In the order in which they are shown.
static COUNTERS: &[CounterRow] = &[
    // Sockets that listen.
    row(&["TcpExtListenOverflows"], "a listening socket's accept queue was full", &[]),
    row(
        &["TcpExtListenDrops"],
        "a listening socket threw away a connection request or its last acknowledgement",
        &[],
    ),
    row(
        &["TcpExtTCPReqQFullDrop"],
        "a listening socket's SYN queue was full: the request was thrown away",
        &[],
    ),
    row(
        &["TcpExtTCPReqQFullDoCookies"],
        "a listening socket's SYN queue was full: a cookie was sent instead",
        &[],
    ),
    row(&["TcpExtSyncookiesSent"], "a SYN cookie was sent, as a SYN queue was full", &[]),
    row(&["TcpExtSyncookiesFailed"], "an acknowledgement had no valid SYN cookie", &[]),
    // Sockets of connections.
    row(
        &["TcpExtTCPBacklogDrop"],
        "a socket that its program had locked had no room for a segment",
        &["SOCKET_BACKLOG", "tcp_add_backlog"],
    ),
    row(
        &["TcpExtTCPRcvQDrop"],
        "a segment was thrown away: its socket's receive queue was full",
        &["PROTO_MEM"],
    ),
    row(&["TcpExtTCPZeroWindowDrop"], "a segment came in spite of a zero window", &["TCP_ZEROWINDOW"]),
    row(
        &["TcpExtPruneCalled"],
        "a TCP socket ran out of receive buffer: received data was packed together",
        &[],
    ),
    row(&["TcpExtRcvPruned"], "received data was thrown away: the socket's receive buffer was full", &[]),
    row(
        &["TcpExtOfoPruned"],
        "segments that came out of order were thrown away to make room",
        &["TCP_OFO_QUEUE_PRUNE"],
    ),
    row(
        &["TcpExtPAWSActive", "TcpExtPAWSEstab"],
        "a segment with an older timestamp was refused (PAWS)",
        &["TCP_RFC7323_PAWS", "TCP_RFC7323_TW_PAWS"],
    ),
    row(
        &["TcpExtTSEcrRejected"],
        "a segment that echoes an impossible timestamp was refused",
        &["TCP_RFC7323_TSECR"],
    ),
    row(
        &["TcpExtTCPTimeWaitOverflow"],
        "a closed connection was forgotten early: there are too many in TIME-WAIT",
        &[],
    ),
    row(
        &["TcpExtTCPAbortOnMemory"],
        "a connection was given up: TCP had no memory, or too many orphans",
        &[],
    ),
    row(&["TcpExtTCPMemoryPressures"], "TCP came under memory pressure (net.ipv4.tcp_mem)", &[]),
    // Resets.
    row(&["TcpOutRsts"], "a reset was sent", &[]),
    row(&["TcpEstabResets"], "a connection that stood was reset", &[]),
    row(&["TcpAttemptFails"], "an attempt to connect failed", &[]),
    row(&["TcpExtTCPAbortOnClose"], "a reset was sent: the program closed the socket with data unread", &[]),
    row(
        &["TcpExtTCPAbortOnData"],
        "a reset was sent: data came for a socket that the program had closed",
        &[],
    ),
    row(&["TcpExtTCPAbortOnLinger"], "a reset was sent: the program closed with SO_LINGER 0", &[]),
    row(&["TcpExtTCPAbortOnTimeout"], "a connection was given up after too many retransmissions", &[]),
    // UDP and IP.
    row(
        &["UdpRcvbufErrors", "Udp6RcvbufErrors"],
        "a datagram found its socket's receive buffer full",
        RECEIVE_BUFFER,
    ),
    row(
        &["UdpSndbufErrors", "Udp6SndbufErrors"],
        "a datagram was not sent: the send buffer or a queue was full",
        &[],
    ),
    row(
        &["UdpMemErrors", "Udp6MemErrors"],
        "a datagram was thrown away: UDP had no memory (net.ipv4.udp_mem)",
        &["PROTO_MEM"],
    ),
    row(&["UdpInCsumErrors", "Udp6InCsumErrors"], "a datagram had a wrong checksum", &["UDP_CSUM"]),
    row(&["TcpInCsumErrors"], "a segment had a wrong checksum", &["TCP_CSUM"]),
    row(
        &["UdpNoPorts", "Udp6NoPorts"],
        "no socket is bound to the port of a datagram",
        &["NO_SOCKET", "__udp4_lib_rcv", "__udp6_lib_rcv"],
    ),
    row(&["TcpExtIPReversePathFilter"], "the reverse path filter refused a packet", &["IP_RPFILTER"]),
    row(
        &["IpInHdrErrors", "Ip6InHdrErrors"],
        "an IP header could not be used, or its TTL had run out",
        &["IP_INHDR", "IP_CSUM"],
    ),
    row(
        &["IpInAddrErrors", "Ip6InAddrErrors"],
        "a packet was neither for this namespace nor to be forwarded",
        &["IP_INADDRERRORS"],
    ),
    row(
        &["IpExtInNoRoutes", "Ip6InNoRoutes"],
        "there was no route for a packet that came in",
        &["IP_INNOROUTES", "ip_error", "ip6_pkt_drop"],
    ),
    row(
        &["IpOutNoRoutes", "Ip6OutNoRoutes"],
        "there was no route for a packet that was to be sent",
        &["IP_OUTNOROUTES"],
    ),
    row(
        &["IpReasmFails", "Ip6ReasmFails"],
        "a packet could not be put together from its fragments",
        &["FRAG_REASM_TIMEOUT", "FRAG_TOO_FAR", "DUP_FRAG"],
    ),
    row(
        &["IpFragFails", "Ip6FragFails"],
        "a packet was too long, and must not be fragmented",
        &["PKT_TOO_BIG", "ip_exceeds_mtu", "ip6_pkt_too_big"],
    ),
    // Connection tracking.
    row(
        &["conntrack.insert_failed"],
        "an entry of connection tracking could not be inserted",
        &["conntrack-confirm"],
    ),
    row(&["conntrack.drop"], "connection tracking dropped a packet: its table was full", &["conntrack-in"]),
    row(
        &["conntrack.early_drop"],
        "an entry of connection tracking was removed early to make room: its table is full",
        &[],
    ),
    row(
        &["conntrack.chaintoolong"],
        "an entry of connection tracking was refused: its hash bucket is too long",
        &["conntrack-confirm"],
    ),
    row(&["conntrack.invalid"], "connection tracking took a packet for invalid: it is not translated", &[]),
    // IPsec.
    row(&["XfrmInNoStates"], "IPsec has no state for the SPI of a packet", XFRM_IN),
    row(&["XfrmInStateProtoError"], "IPsec could not decrypt a packet: its key does not fit", XFRM_IN),
    row(
        &["XfrmInStateSeqError"],
        "IPsec refused a packet: its sequence number was seen before, or is too old",
        XFRM_IN,
    ),
    row(
        &["XfrmInStateExpired", "XfrmInStateInvalid"],
        "IPsec refused a packet: its state has expired",
        XFRM_IN,
    ),
    row(
        &["XfrmInNoPols", "XfrmInTmplMismatch", "XfrmInPolBlock", "XfrmFwdHdrError"],
        "a packet does not meet the IPsec policy",
        &["XFRM_POLICY"],
    ),
    row(
        &["XfrmOutNoStates", "XfrmOutStateExpired", "XfrmOutBundleGenError", "XfrmOutPolBlock"],
        "IPsec could not encrypt a packet: it has no valid state",
        &["XFRM_POLICY", "xfrm_output", "xfrm_lookup_route", "dst_discard", "dst_discard_out"],
    ),
    // Devices and CPUs.
    row(&["rx.drop", "rx.fifo"], "the device or its driver threw away a received packet", &[]),
    row(&["tx.drop", "tx.fifo"], "the device or its driver threw away a packet that was to be sent", &[]),
    row(&["rx.errs", "rx.frame", "tx.errs", "tx.carrier"], "the device had an error", &[]),
    row(&["softnet.dropped"], "a CPU's backlog was full", &["CPU_BACKLOG", "enqueue_to_backlog"]),
    row(&["softnet.time_squeeze"], "a softirq had used up its budget with packets left", &[]),
    row(&["steal_ns"], "ns that the hypervisor gave to others, summed over the CPUs", &[]),
];

/// Where IPsec throws away what comes in.
const XFRM_IN: &[&str] =
    &["xfrm_input", "xfrm4_rcv_encap", "xfrm6_rcv_spi", "xfrm4_esp_rcv", "esp_input_done2"];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use overlay_trace_common::stage_map::STAGES;

    use super::*;
    use crate::tail::drop_row;

    #[test]
    fn every_name_is_in_one_row_and_every_drop_is_known() {
        let mut names = BTreeSet::new();
        for row in COUNTERS {
            assert!(!row.names.is_empty() && !row.means.is_empty() && !row.means.ends_with('.'), "{row:?}");
            assert!(row.names.iter().all(|name| names.insert(*name)), "{row:?} has a name of another row");
            for seen in row.seen_as {
                let is_known = drop_row(seen, "").is_some() || drop_row("", seen).is_some();
                let is_stage = STAGES.iter().any(|stage| stage.name == *seen);
                assert!(is_known || is_stage, "{seen} is neither in the table of drops nor a stage");
            }
        }
        assert!(counter_row("TcpExtListenOverflows").is_some() && counter_row("IpInDelivers").is_none());
    }
}
