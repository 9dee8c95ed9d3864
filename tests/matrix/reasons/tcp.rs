//! Faults of TCP.

use std::io::Write;
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use socket2::SockRef;

use super::bench::{Bench, NOBODY, RECEIVER, SENDER, least_ttl, several, sign};
use super::frames::{ACK, FIN, IPV4, Ip, SYN, Segment, TCP};
use super::list::{Fault, fault};
use super::wire::End;

const KEY: &[u8] = b"one";
const OTHER_KEY: &[u8] = b"other";
/// Two signatures (kind 19), where there may be one; and padding.
const TWO_SIGNATURES: [u8; 40] = {
    let mut options = [1; 40];
    (options[0], options[1], options[18], options[19]) = (19, 18, 19, 18);
    options
};
/// A time stamp of the connections that have any.
const TIME: u32 = 1_000_000;

pub const FAULTS: &[Fault] = &[
    fault("TCP_CSUM", "c", |bench| opening(bench, 7850, SYN, &[], true)),
    fault("TCP_FLAGS", "c", |bench| opening(bench, 7851, SYN | FIN, &[], false)),
    fault("TCP_AUTH_HDR", "c", |bench| opening(bench, 7852, SYN, &TWO_SIGNATURES, false)),
    fault("TCP_MD5NOTFOUND", "c", |bench| {
        let listener = bench.listener(7853)?;
        sign(SockRef::from(&listener), SENDER, KEY)?;
        bench.knock(7853, |_| Ok(()))
    }),
    fault("TCP_MD5UNEXPECTED", "c", |bench| {
        let _listener = bench.listener(7854)?;
        bench.knock(7854, |socket| sign(SockRef::from(socket), RECEIVER, KEY))
    }),
    fault("TCP_MD5FAILURE", "c", |bench| {
        let listener = bench.listener(7855)?;
        sign(SockRef::from(&listener), SENDER, KEY)?;
        bench.knock(7855, |socket| sign(SockRef::from(socket), RECEIVER, OTHER_KEY))
    }),
    fault("TCP_MINTTL", "c", |bench| {
        let listener = bench.listener(7856)?;
        least_ttl(SockRef::from(&listener), 250)?;
        bench.knock(7856, |_| Ok(()))
    }),
    // The receiver takes nothing any more.
    fault("TCP_ABORT_ON_DATA", "c", |bench| {
        let listener = bench.listener(7857)?;
        several(|_| {
            let (mut client, server) = bench.connection(&listener)?;
            server.shutdown(Shutdown::Both)?;
            thread::sleep(Duration::from_millis(20));
            client.write_all(&[7; 100])?;
            thread::sleep(Duration::from_millis(20));
            Ok(())
        })
    }),
    fault("TCP_OLD_DATA", "c", |bench| {
        standing(bench, 7860, None, |end| {
            end.send(end.next, &[7; 10])?;
            several(|_| end.send(end.next, &[7; 10]))
        })
    }),
    fault("TCP_OLD_SEQUENCE", "c", |bench| {
        standing(bench, 7861, None, |end| several(|_| end.send(end.next.wrapping_sub(5000), &[7; 10])))
    }),
    fault("TCP_INVALID_SEQUENCE", "c", |bench| {
        standing(bench, 7862, None, |end| several(|_| end.send(end.next.wrapping_add(1 << 24), &[7; 10])))
    }),
    // Right behind what the receiver takes.
    fault("TCP_OVERWINDOW", "c", |bench| {
        standing(bench, 7863, None, |end| {
            end.fill(&[7; 10])?;
            let behind = end.next.wrapping_add(u32::from(end.window));
            several(|_| end.send(behind, &[7; 10]))
        })
    }),
    fault("TCP_OFOMERGE", "c", |bench| {
        standing(bench, 7864, None, |end| several(|_| end.send(end.next.wrapping_add(100), &[7; 10])))
    }),
    fault("TCP_INVALID_SYN", "c", |bench| {
        standing(bench, 7865, None, |end| several(|_| end.send_as(SYN, end.next, 0, &[])))
    }),
    fault("TCP_ACK_UNSENT_DATA", "c", |bench| {
        standing(bench, 7866, None, |end| {
            several(|_| end.send_as(ACK, end.next, end.expected.wrapping_add(5000), &[]))
        })
    }),
    fault("TCP_TOO_OLD_ACK", "c", |bench| {
        standing(bench, 7867, None, |end| {
            several(|_| end.send_as(ACK, end.next, end.expected.wrapping_sub(500_000), &[]))
        })
    }),
    fault("TCP_RFC7323_PAWS", "c", |bench| {
        standing(bench, 7868, Some(TIME), |end| {
            end.time = Some(TIME - 5000);
            several(|_| end.send(end.next, &[7; 10]))
        })
    }),
    fault("TCP_ZEROWINDOW", "c", |bench| {
        let listener = bench.listener(7869)?;
        SockRef::from(&listener).set_recv_buffer_size(1)?;
        let (mut end, _unread) = bench.end(&listener, None)?;
        while end.window > 0 {
            end.fill(&vec![7; usize::from(end.window).min(1000)])?;
        }
        several(|_| end.send(end.next, &[7; 10]))
    }),
    // Somebody answers who acknowledges what was never sent.
];

/// Sends first segments of a connection to a listener.
fn opening(bench: &Bench, port: u16, flags: u8, options: &[u8], is_broken: bool) -> Result<()> {
    let _listener = bench.listener(port)?;
    let ip = Ip::new(NOBODY, RECEIVER, TCP);
    bench.packets(IPV4, |number| {
        let ports = (42_000 + number as u16, port);
        let mut bytes =
            ip.tcp(&Segment { ports, sequence: 77, flags, window: 20_000, options, ..Segment::default() });
        bytes[16] ^= if is_broken { 0x55 } else { 0 };
        ip.packet(&bytes)
    })
}

/// Does something with a connection that stands.
fn standing(
    bench: &Bench,
    port: u16,
    time: Option<u32>,
    work: impl FnOnce(&mut End<'_>) -> Result<()>,
) -> Result<()> {
    let listener = bench.listener(port)?;
    let (mut end, _server) = bench.end(&listener, time)?;
    work(&mut end)
}
