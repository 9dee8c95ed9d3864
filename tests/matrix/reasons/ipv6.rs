//! Faults of IPv6.

use std::net::Ipv6Addr;

use anyhow::Result;

use super::bench::{Bench, ROUTER_V6, SENDER_V6};
use super::frames::{IPV6, UDP, icmpv6, ipv6};
use super::list::{Fault, fault};

/// ICMPv6's types.
const UNREACHABLE: u8 = 1;
const SOLICITATION: u8 = 135;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ENDS: (Ipv6Addr, Ipv6Addr) = (SENDER_V6, ROUTER_V6);
/// What messages of neighbour discovery must have: they come from no router.
const HOP_LIMIT: u8 = 255;

pub const FAULTS: &[Fault] = &[
    // An error about a packet whose headers are cut off.
    fault("IPV6_BAD_EXTHDR", "r", |bench| {
        let about = ipv6((ROUTER_V6, SENDER_V6), 0, 64, &[]);
        let message = icmpv6(ENDS, 64, (UNREACHABLE, 0), &[&[0; 4][..], &about].concat());
        bench.packets(IPV6, |_| message.clone())
    }),
    fault("IPV6_NDISC_HOP_LIMIT", "r", |bench| solicit(bench, ENDS, 64, 0, ROUTER_V6, &[])),
    fault("IPV6_NDISC_BAD_CODE", "r", |bench| solicit(bench, ENDS, HOP_LIMIT, 1, ROUTER_V6, &[])),
    // An option whose length is 0.
    fault("IPV6_NDISC_BAD_OPTIONS", "r", |bench| {
        solicit(bench, ENDS, HOP_LIMIT, 0, ROUTER_V6, &[1, 0, 2, 0, 0, 0x55, 1, 2])
    }),
    fault("IPV6_NDISC_NS_OTHERHOST", "r", |bench| {
        let absent = Ipv6Addr::new(0xfd95, 1, 0, 0, 0, 0, 0, 0x99);
        solicit(bench, (SENDER_V6, ALL_NODES), HOP_LIMIT, 0, absent, &[1, 1, 2, 0, 0, 0x55, 1, 2])
    })
    .background(),
    // The last one: the addresses are gone then.
    fault("IPV6DISABLED", "r", |bench| bench.packets(IPV6, |_| ipv6(ENDS, UDP, 64, &[7; 100]))).with(
        &[("r", "sysctl -qw net.ipv6.conf.left.disable_ipv6=1")],
        &[("r", "sysctl -qw net.ipv6.conf.left.disable_ipv6=0")],
    ),
];

/// Asks for the link-layer address of a neighbour.
fn solicit(
    bench: &Bench,
    ends: (Ipv6Addr, Ipv6Addr),
    hop_limit: u8,
    code: u8,
    target: Ipv6Addr,
    options: &[u8],
) -> Result<()> {
    let rest = [&[0; 4][..], &target.octets(), options].concat();
    let message = icmpv6(ends, hop_limit, (SOLICITATION, code), &rest);
    bench.packets(IPV6, |_| message.clone())
}
