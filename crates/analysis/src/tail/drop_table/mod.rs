//! What the kernel's drop reasons mean: one row for each value of `enum skb_drop_reason` and of the enumerations of
//! subsystems, and one for each function that drops packets of a container network without giving a reason.
//!
//! A drop is looked up by its reason; where the kernel gives none (`NOT_SPECIFIED`, or Linux before 5.17), by the
//! function that freed the packet. The names are those of the kernels' BTF, from 5.17 to 7.2; a test of the crate `probe`
//! walks the BTF of the kernels of the matrix and of the running kernel, and fails for a reason without a row.
//!
//! mac80211's reasons are left out: no packet of a container network passes that code.

mod ip;
mod link;
mod places;
mod socket;
mod tcp;

use super::rule::{Advice, advice};

/// What a drop means for the flow that the packet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A packet that its receiver would have taken is lost.
    Lost,
    /// The packet is lost, and that can be configured: a firewall rule, a policy, a filter.
    Configured,
    /// Nothing is lost: a duplicate, or an acknowledgement that says nothing new.
    Refused,
    /// Nothing is lost: the packet was for nobody here, or its socket had been closed.
    Unwanted,
}

impl Effect {
    /// The effect as a clause for people.
    pub fn name(self) -> &'static str {
        match self {
            Effect::Lost => "lost",
            Effect::Configured => "lost, can be configured",
            Effect::Refused => "nothing is lost: refused as a duplicate",
            Effect::Unwanted => "nothing is lost: nobody waited for it",
        }
    }
}

/// How a drop is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// By the kernel's reason.
    Reason,
    /// By the function that freed the packet, where the kernel gives no reason.
    Function,
}

/// What the drops of one reason mean, or those of one function.
#[derive(Debug)]
pub struct DropRow {
    pub known: Known,
    /// Names of reasons, as recordings have them, or of functions.
    pub names: &'static [&'static str],
    pub effect: Effect,
    /// What happened to the packet, as a clause for people.
    pub means: &'static str,
    /// Typical causes in container networks, the most frequent one first; more than one if the reason does not tell them
    /// apart.
    pub causes: &'static [&'static str],
    /// How to make sure which it is.
    pub check: &'static str,
    pub helps: Advice,
}

/// Reasons, and functions without one, that a test of the matrix brings about and that are named rightly there.
const BROUGHT_ABOUT: &[&str] = &[
    "CPU_BACKLOG",
    "DUP_FRAG",
    "FRAG_REASM_TIMEOUT",
    "FRAG_TOO_FAR",
    "FULL_RING",
    "ICMP_CSUM",
    "INVALID_PROTO",
    "IPV6DISABLED",
    "IPV6_BAD_EXTHDR",
    "IPV6_NDISC_BAD_CODE",
    "IPV6_NDISC_BAD_OPTIONS",
    "IPV6_NDISC_HOP_LIMIT",
    "IPV6_NDISC_NS_OTHERHOST",
    "IP_CSUM",
    "IP_INADDRERRORS",
    "IP_INHDR",
    "IP_INNOROUTES",
    "IP_NOPROTO",
    "IP_RPFILTER",
    "IP_TUNNEL_ECN",
    "LOCAL_MAC",
    "MAC_INVALID_SOURCE",
    "NEIGH_CREATEFAIL",
    "NEIGH_FAILED",
    "NEIGH_QUEUEFULL",
    "NETFILTER_DROP",
    "NO_SOCKET",
    "NO_TX_TARGET",
    "OTHERHOST",
    "PKT_TOO_BIG",
    "PKT_TOO_SMALL",
    "PROTO_MEM",
    "QDISC_DROP",
    "SOCKET_FILTER",
    "SOCKET_RCVBUFF",
    "TAP_TXFILTER",
    "TCP_ABORT_ON_DATA",
    "TCP_ACK_UNSENT_DATA",
    "TCP_AUTH_HDR",
    "TCP_CSUM",
    "TCP_FLAGS",
    "TCP_INVALID_SEQUENCE",
    "TCP_INVALID_SYN",
    "TCP_MD5FAILURE",
    "TCP_MD5NOTFOUND",
    "TCP_MD5UNEXPECTED",
    "TCP_MINTTL",
    "TCP_OFOMERGE",
    "TCP_OLD_DATA",
    "TCP_OLD_SEQUENCE",
    "TCP_OVERWINDOW",
    "TCP_RFC7323_PAWS",
    "TCP_TOO_OLD_ACK",
    "TCP_ZEROWINDOW",
    "TC_EGRESS",
    "TC_INGRESS",
    "TC_RECLASSIFY_LOOP",
    "UDP_CSUM",
    "UNICAST_IN_L2_MULTICAST",
    "VXLAN_ENTRY_EXISTS",
    "VXLAN_INVALID_HDR",
    "VXLAN_NO_REMOTE",
    "VXLAN_VNI_NOT_FOUND",
    "XFRM_POLICY",
    "__dev_forward_skb",
    "br_handle_frame",
    "gro_cells_receive",
    "udp_destruct_common",
];

impl DropRow {
    /// Whether a test brings such a drop about and sees it named.
    pub fn is_brought_about(&self) -> bool {
        self.names.iter().any(|name| BROUGHT_ABOUT.contains(name))
    }
}

/// Where ICMP messages end that no socket of the kind ping has asked for: raw sockets, as ping uses them, have had copies.
const OF_MESSAGES: &[&str] = &["icmp_rcv", "icmpv6_rcv", "ping_rcv"];

/// The row of a drop; `reason` and `location` as a recording has them. `None` for functions that no row knows, and for
/// reasons of kernels that are newer than the table.
pub fn drop_row(reason: &str, location: &str) -> Option<&'static DropRow> {
    // Early recordings have the names of the kernel's enumeration.
    let reason = reason.strip_prefix("SKB_DROP_REASON_").unwrap_or(reason);
    let function = function_of(location);
    if reason == "NO_SOCKET" && OF_MESSAGES.contains(&function) {
        return row_of(Known::Function, function);
    }
    if is_specific(reason) {
        return row_of(Known::Reason, reason);
    }
    let by_function = row_of(Known::Function, function);
    by_function.or_else(|| row_of(Known::Reason, reason).filter(|_| !reason.is_empty()))
}

fn row_of(known: Known, name: &str) -> Option<&'static DropRow> {
    drop_rows().find(|row| row.known == known && row.names.contains(&name))
}

/// Every row: reasons first, then functions.
pub fn drop_rows() -> impl Iterator<Item = &'static DropRow> {
    [ip::ROWS, link::ROWS, socket::ROWS, tcp::ROWS, places::ROWS].into_iter().flatten()
}

/// Whether a packet that was dropped for this reason was refused as a duplicate: it is not the one that was lost.
pub fn is_duplicate(reason: &str) -> bool {
    is_specific(reason) && drop_row(reason, "").is_some_and(|row| row.effect == Effect::Refused)
}

/// Whether a reason says anything.
pub(super) fn is_specific(reason: &str) -> bool {
    !matches!(reason, "" | "NOT_SPECIFIED")
}

/// The function of a location `function+offset`, without the suffixes that the compiler adds to parts of it.
pub(super) fn function_of(location: &str) -> &str {
    location.split(['+', '.']).next().unwrap_or_default()
}

/// A row of a reason: means, causes, check, helps and its source.
const fn reason(
    names: &'static [&'static str],
    effect: Effect,
    means: &'static str,
    causes: &'static [&'static str],
    check: &'static str,
    helps: (&'static str, &'static str),
) -> DropRow {
    DropRow { known: Known::Reason, names, effect, means, causes, check, helps: advice(helps.0, helps.1) }
}

/// The same of a function.
const fn function(
    names: &'static [&'static str],
    effect: Effect,
    means: &'static str,
    causes: &'static [&'static str],
    check: &'static str,
    helps: (&'static str, &'static str),
) -> DropRow {
    DropRow { known: Known::Function, ..reason(names, effect, means, causes, check, helps) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_row_is_complete_and_every_name_is_in_one_row() {
        let mut names = BTreeSet::new();
        for row in drop_rows() {
            assert!(!row.names.is_empty() && !row.causes.is_empty(), "{row:?}");
            let texts = [row.means, row.check, row.helps.what, row.helps.source];
            for text in texts.iter().chain(row.causes) {
                assert!(!text.trim().is_empty() && !text.ends_with('.'), "{row:?}");
            }
            for name in row.names {
                assert!(names.insert((row.known == Known::Reason, *name)), "{name} has two rows");
            }
        }
    }

    #[test]
    fn a_drop_is_known_by_its_reason_and_without_one_by_its_function() {
        let name = |reason, location| drop_row(reason, location).map(|row| row.names[0]);
        assert_eq!(name("OTHERHOST", "ip_rcv_core+0x1"), Some("OTHERHOST"));
        assert_eq!(name("NOT_SPECIFIED", "xfrm_input+0x1"), Some("xfrm_input"));
        assert_eq!(name("", "br_forward.part.0+0x1"), Some("br_forward"));
        assert_eq!(name("NOT_SPECIFIED", "no_such_function+0x1"), Some("NOT_SPECIFIED"));
        assert_eq!(name("NO_SOCKET", "__udp4_lib_rcv+0x1"), Some("NO_SOCKET"));
        assert!(drop_row("NO_SOCKET", "icmp_rcv+0x1e3").is_some_and(|row| row.effect == Effect::Unwanted));
        assert_eq!((name("", "no_such_function+0x1"), name("NO_SUCH", "xfrm_input+0x1")), (None, None));
    }

    #[test]
    fn only_refused_packets_are_duplicates() {
        assert!(is_duplicate("TCP_OLD_DATA") && is_duplicate("TCP_OLD_SEQUENCE") && is_duplicate("DUP_FRAG"));
        assert!(!is_duplicate("TCP_ZEROWINDOW") && !is_duplicate("QUEUE_PURGE") && !is_duplicate(""));
    }
}
