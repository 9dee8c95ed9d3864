//! Faults of IP, its fragments, routes and neighbours, and of firewalls.

use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use super::bench::{COUNT, RECEIVER, ROUTER, SENDER, several};
use super::frames::{DF, ICMP, IPV4, Ip, MF, UDP, icmp};
use super::list::{Fault, fault};

/// Nobody has these addresses.
const ABSENT: Ipv4Addr = Ipv4Addr::new(10, 95, 2, 99);
const ABSENT_TOO: Ipv4Addr = Ipv4Addr::new(10, 95, 2, 98);
/// No protocol has this number.
const UNKNOWN_PROTOCOL: u8 = 253;
/// The router gives up incomplete packets after a second, and looks for a neighbour for a tenth of one.
const SHORT_TIMES: &[(&str, &str)] = &[
    ("r", "sysctl -qw net.ipv4.ipfrag_time=1"),
    ("r", "sysctl -qw net.ipv4.neigh.right.retrans_time_ms=50"),
    ("r", "sysctl -qw net.ipv4.neigh.right.mcast_solicit=1"),
];
const INCOMPLETE: Duration = Duration::from_millis(1500);
const UNANSWERED: Duration = Duration::from_millis(400);

pub const FAULTS: &[Fault] = &[
    fault("IP_CSUM", "r", |bench| {
        let ip = Ip::new(SENDER, RECEIVER, UDP);
        let mut packet = ip.packet(&ip.udp((4000, 7820), &[7; 100]));
        packet[10] ^= 0xff;
        bench.packets(IPV4, |_| packet.clone())
    }),
    fault("IP_INHDR", "r", |bench| bench.changed(RECEIVER, 7821, 100, |ip| ip.ttl = 1)),
    fault("IP_RPFILTER", "r", |bench| {
        bench.changed(RECEIVER, 7822, 100, |ip| ip.from = Ipv4Addr::new(10, 95, 2, 50))
    })
    .with(
        &[("r", "sysctl -qw net.ipv4.conf.left.rp_filter=1")],
        &[("r", "sysctl -qw net.ipv4.conf.left.rp_filter=0")],
    ),
    fault("IP_NOPROTO", "c", |bench| {
        let ip = Ip::new(SENDER, RECEIVER, UNKNOWN_PROTOCOL);
        bench.packets(IPV4, |_| ip.packet(&[7; 100]))
    }),
    fault("IP_INNOROUTES", "r", |bench| bench.datagrams(Ipv4Addr::new(10, 55, 0, 1), 7824, 100)),
    // Is routed to the receiver, which forwards nothing.
    fault("IP_INADDRERRORS", "c", |bench| bench.datagrams(Ipv4Addr::new(10, 95, 9, 5), 7825, 100)),
    fault("PKT_TOO_BIG", "r", |bench| bench.changed(RECEIVER, 7826, 1300, |ip| ip.fragment = DF))
        .with(&[("r", "ip link set right mtu 1000")], &[("r", "ip link set right mtu 1500")]),
    fault("NETFILTER_DROP", "r", |bench| bench.datagrams(RECEIVER, 7827, 100)).with(
        &[("r", "iptables-legacy -I FORWARD -p udp --dport 7827 -j DROP")],
        &[("r", "iptables-legacy -D FORWARD 1")],
    ),
    fault("DUP_FRAG", "r", |bench| {
        let first = Ip { id: 900, fragment: MF, ..Ip::new(SENDER, ROUTER, UDP) };
        bench.packets(IPV4, |_| first.packet(&[7; 80]))
    })
    .with(SHORT_TIMES, &[]),
    fault("FRAG_REASM_TIMEOUT", "r", |bench| {
        let first = Ip { fragment: MF, ..Ip::new(SENDER, ROUTER, UDP) };
        bench.packets(IPV4, |number| Ip { id: 1000 + number as u16, ..first }.packet(&[7; 80]))?;
        thread::sleep(INCOMPLETE);
        Ok(())
    })
    .with(SHORT_TIMES, &[]),
    // Between two fragments of a packet there are those of others.
    fault("FRAG_TOO_FAR", "r", |bench| {
        let fragment = |id: usize, offset: u16| {
            let ip = Ip { id: id as u16, fragment: MF | offset, ..Ip::new(SENDER, ROUTER, UDP) };
            bench.wire.send(IPV4, &ip.packet(&[7; 80]))
        };
        several(|number| {
            (0..4).try_for_each(|other| fragment(2000 + 10 * number + other, 0))?;
            fragment(2000 + 10 * number, 10)
        })
    })
    .with(
        &[("r", "sysctl -qw net.ipv4.ipfrag_max_dist=1")],
        &[("r", "sysctl -qw net.ipv4.ipfrag_max_dist=64")],
    ),
    fault("NEIGH_FAILED", "r", |bench| {
        bench.datagrams(ABSENT, 7830, 100)?;
        thread::sleep(UNANSWERED);
        Ok(())
    })
    .with(SHORT_TIMES, &[]),
    fault("NEIGH_QUEUEFULL", "r", |bench| {
        several(|_| bench.datagrams(ABSENT_TOO, 7831, 100))?;
        thread::sleep(UNANSWERED);
        Ok(())
    })
    .with(
        &[
            ("r", "sysctl -qw net.ipv4.neigh.right.unres_qlen=1"),
            ("r", "sysctl -qw net.ipv4.neigh.right.retrans_time_ms=1000"),
        ],
        SHORT_TIMES,
    ),
    // As long as entries can be removed there is room for others: each packet asks for another neighbour.
    fault("NEIGH_CREATEFAIL", "r", |bench| {
        bench.with_setting("net.ipv4.neigh.default.gc_thresh3", "0", || {
            (100..100 + 3 * COUNT as u8).try_for_each(|last| {
                let ip = Ip::new(SENDER, Ipv4Addr::new(10, 95, 2, last), UDP);
                bench.wire.send(IPV4, &ip.packet(&ip.udp((4000, 7832), &[7; 100])))
            })
        })
    }),
    fault("ICMP_CSUM", "c", |bench| {
        let mut echo = icmp(8, 0, &[7; 60]);
        echo[2] ^= 0xff;
        bench.packets(IPV4, |_| Ip::new(SENDER, RECEIVER, ICMP).packet(&echo))
    }),
    // An echo request to all of a network.
    fault("INVALID_PROTO", "r", |bench| {
        let ip = Ip::new(SENDER, Ipv4Addr::new(10, 95, 1, 255), ICMP);
        let packet = ip.packet(&icmp(8, 0, &[7; 60]));
        several(|_| bench.wire.send_to([0xff; 6], IPV4, &packet))
    }),
];
