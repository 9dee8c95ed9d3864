//! Faults of sockets, UDP and IPsec's policies.

use std::net::UdpSocket;

use anyhow::Result;
use overlay_trace_lab::dataplanes::Netns;
use socket2::{SockFilter, SockRef};

use super::bench::{Bench, RECEIVER, SENDER, several};
use super::frames::{IPV4, Ip, UDP};
use super::list::{Fault, fault};

/// Datagrams that fill a megabyte of a buffer, of which each CPU has some in reserve.
const FLOOD: usize = 1500;
const LARGE_BUFFER: usize = 16 << 20;

pub const FAULTS: &[Fault] = &[
    fault("NO_SOCKET", "c", |bench| bench.datagrams(RECEIVER, 7840, 100)),
    fault("UDP_CSUM", "c", |bench| broken(bench, 7841, 6)),
    // The length says less than there must be.
    fault("PKT_TOO_SMALL", "c", |bench| {
        let ip = Ip::new(SENDER, RECEIVER, UDP);
        let mut datagram = ip.udp((4000, 7842), &[7; 100]);
        datagram[4..6].copy_from_slice(&[0, 4]);
        bench.packets(IPV4, |_| ip.packet(&datagram))
    }),
    fault("SOCKET_FILTER", "c", |bench| {
        let socket = bound(&bench.c, 7843)?;
        // BPF_RET | BPF_K: take nothing.
        SockRef::from(&socket).attach_filter(&[SockFilter::new(0x06, 0, 0, 0)])?;
        bench.datagrams(RECEIVER, 7843, 100)
    }),
    fault("SOCKET_RCVBUFF", "c", |bench| {
        let socket = bound(&bench.c, 7844)?;
        SockRef::from(&socket).set_recv_buffer_size(1)?;
        several(|_| bench.datagrams(RECEIVER, 7844, 1000))
    }),
    fault("PROTO_MEM", "c", |bench| {
        let socket = bound(&bench.c, 7845)?;
        bench.with_setting("net.core.rmem_max", &LARGE_BUFFER.to_string(), || {
            Ok(SockRef::from(&socket).set_recv_buffer_size(LARGE_BUFFER)?)
        })?;
        bench.with_setting("net.ipv4.udp_mem", "1 1 1", || {
            bench.a.run(|| -> Result<()> {
                let sender = UdpSocket::bind("0.0.0.0:0")?;
                for _ in 0..FLOOD {
                    sender.send_to(&[7; 1400], (RECEIVER, 7845))?;
                }
                Ok(())
            })?
        })
    }),
    fault("udp_destruct_common", "c", |bench| {
        let _unread = bound(&bench.c, 7846)?;
        bench.datagrams(RECEIVER, 7846, 100)
    }),
    fault("XFRM_POLICY", "c", |bench| {
        let _socket = bound(&bench.c, 7847)?;
        bench.datagrams(RECEIVER, 7847, 100)
    })
    .with(
        &[(
            "c",
            "ip xfrm policy add src 10.95.1.2/32 dst 10.95.2.2/32 proto udp dport 7847 dir in tmpl proto esp mode transport",
        )],
        &[("c", "ip xfrm policy flush")],
    ),
];

fn bound(netns: &Netns, port: u16) -> Result<UdpSocket> {
    Ok(netns.run(|| UdpSocket::bind((RECEIVER, port)))??)
}

/// Sends datagrams with a wrong byte.
fn broken(bench: &Bench, port: u16, byte: usize) -> Result<()> {
    let ip = Ip::new(SENDER, RECEIVER, UDP);
    let mut datagram = ip.udp((4000, port), &[7; 100]);
    datagram[byte] ^= 0x55;
    bench.packets(IPV4, |_| ip.packet(&datagram))
}
