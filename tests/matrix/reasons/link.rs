//! Faults of devices: tc, bridges, tunnels, taps, and of the first look at a frame.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use overlay_trace_lab::dataplanes::tap::{self, Kind};

use super::bench::{Bench, ELSEWHERE_MAC, RECEIVER, ROUTER, ROUTER_MAC, SENDER, TUNNEL_MAC, VNI, several};
use super::frames::{IPV4, Ip, Mac, UDP, ethernet};
use super::list::{Fault, fault};

/// The UDP port of VXLAN.
const VXLAN: u16 = 4789;
/// Of an inner sender.
const INNER_MAC: Mac = [2, 0, 0, 0x55, 9, 2];
const BEHIND_TAP: Ipv4Addr = Ipv4Addr::new(10, 95, 7, 2);
/// Congestion experienced, in IP's second byte.
const CE: u8 = 3;

pub const FAULTS: &[Fault] = &[
    fault("OTHERHOST", "r", |bench| {
        let ip = Ip::new(SENDER, RECEIVER, UDP);
        let packet = ip.packet(&ip.udp((4000, 7800), &[7; 100]));
        several(|_| bench.wire.send_to([2, 0, 0, 0x55, 1, 0x99], IPV4, &packet))
    }),
    fault("UNICAST_IN_L2_MULTICAST", "r", |bench| {
        let ip = Ip::new(SENDER, ROUTER, UDP);
        let packet = ip.packet(&ip.udp((4000, 7801), &[7; 100]));
        several(|_| bench.wire.send_to([0xff; 6], IPV4, &packet))
    })
    .with(
        &[("r", "sysctl -qw net.ipv4.conf.left.drop_unicast_in_l2_multicast=1")],
        &[("r", "sysctl -qw net.ipv4.conf.left.drop_unicast_in_l2_multicast=0")],
    ),
    fault("TC_INGRESS", "r", |bench| bench.datagrams(RECEIVER, 7803, 100)).with(
        &[
            ("r", "tc qdisc add dev left clsact"),
            ("r", "tc filter add dev left ingress protocol ip u32 match ip dport 7803 0xffff action drop"),
        ],
        &[("r", "tc qdisc del dev left clsact")],
    ),
    fault("TC_EGRESS", "r", |bench| bench.datagrams(RECEIVER, 7804, 100)).with(
        &[
            ("r", "tc qdisc add dev right clsact"),
            ("r", "tc filter add dev right egress protocol ip u32 match ip dport 7804 0xffff action drop"),
        ],
        &[("r", "tc qdisc del dev right clsact")],
    ),
    fault("TC_RECLASSIFY_LOOP", "r", |bench| bench.datagrams(RECEIVER, 7805, 100)).with(
        &[
            ("r", "tc qdisc add dev left clsact"),
            (
                "r",
                "tc filter add dev left ingress protocol ip u32 match ip dport 7805 0xffff action reclassify",
            ),
        ],
        &[("r", "tc qdisc del dev left clsact")],
    ),
    fault("QDISC_DROP", "r", |bench| bench.datagrams(RECEIVER, 7806, 100)).with(
        &[("r", "tc qdisc replace dev right root netem loss 100%")],
        &[("r", "tc qdisc del dev right root")],
    ),
    // The other end takes less than the device sends.
    fault("__dev_forward_skb", "r", |bench| bench.datagrams(RECEIVER, 7807, 1200))
        .with(&[("c", "ip link set eth0 mtu 600")], &[("c", "ip link set eth0 mtu 1500")]),
    // State 0 is "disabled".
    fault("br_handle_frame", "r", |bench| {
        bench.datagrams_of(&bench.c, Ipv4Addr::new(10, 95, 3, 1), 7808, 100)
    })
    .with(&[("r", "bridge link set dev port state 0")], &[("r", "bridge link set dev port state 3")]),
    fault("FULL_RING", "r", |bench| {
        let _unread = attached(bench)?;
        several(|_| bench.datagrams(BEHIND_TAP, 7809, 100))
    }),
    fault("TAP_TXFILTER", "r", |bench| {
        let tap = attached(bench)?;
        take_only(&tap, [2, 0, 0, 0, 0, 1])?;
        bench.datagrams(BEHIND_TAP, 7810, 100)
    }),
    fault("NO_TX_TARGET", "r", |bench| bench.datagrams(Ipv4Addr::new(10, 95, 6, 2), 7811, 100)),
    fault("VXLAN_VNI_NOT_FOUND", "r", |bench| encapsulated(bench, VNI + 1, 0x08, 0, INNER_MAC)),
    fault("VXLAN_INVALID_HDR", "r", |bench| encapsulated(bench, VNI, 0, 0, INNER_MAC)),
    fault("VXLAN_ENTRY_EXISTS", "r", |bench| encapsulated(bench, VNI, 0x08, 0, ELSEWHERE_MAC)),
    fault("LOCAL_MAC", "r", |bench| encapsulated(bench, VNI, 0x08, 0, TUNNEL_MAC)),
    fault("MAC_INVALID_SOURCE", "r", |bench| encapsulated(bench, VNI, 0x08, 0, [0; 6])),
    fault("IP_TUNNEL_ECN", "r", |bench| encapsulated(bench, VNI, 0x08, CE, INNER_MAC)),
];

/// Sends VXLAN packets to the router, from an inner sender.
fn encapsulated(bench: &Bench, vni: u32, flags: u8, tos: u8, inner: Mac) -> Result<()> {
    let (from, to) = (Ipv4Addr::new(10, 95, 6, 2), Ipv4Addr::new(10, 95, 6, 1));
    let ip = Ip::new(from, to, UDP);
    let frame = ethernet(TUNNEL_MAC, inner, IPV4, &ip.packet(&ip.udp((4000, 7812), &[7; 60])));
    let header = [&[flags, 0, 0, 0][..], &(vni << 8).to_be_bytes()].concat();
    let outer = Ip { tos, ..Ip::new(SENDER, ROUTER, UDP) };
    let packet = outer.packet(&outer.udp((50_000, VXLAN), &[header, frame].concat()));
    several(|_| bench.wire.send_to(ROUTER_MAC, IPV4, &packet))
}

/// The router's tap, once its queue is there.
fn attached(bench: &Bench) -> Result<File> {
    let tap = tap::attach(&bench.r, "tap0", Kind::Tap)?;
    thread::sleep(Duration::from_millis(200));
    Ok(tap)
}

/// Has a tap refuse what is sent to another address.
fn take_only(tap: &File, address: Mac) -> Result<()> {
    // `struct tun_filter`: flags, the number of addresses, the addresses.
    let mut filter = [0u8; 10];
    filter[2..4].copy_from_slice(&1u16.to_ne_bytes());
    filter[4..].copy_from_slice(&address);
    // SAFETY: TUNSETTXFILTER reads a tun_filter with as many addresses as it says; the descriptor is open.
    let outcome = unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETTXFILTER, filter.as_ptr()) };
    ensure!(outcome >= 0, "the tap takes no filter: {}", std::io::Error::last_os_error());
    Ok(())
}
