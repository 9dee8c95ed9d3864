//! The walk through headers, over packets made by another implementation of the protocols.

use std::cell::Cell;

use etherparse::{EtherType, Ethernet2Header, IpNumber, Ipv4Header, Ipv6Header, TcpHeader, UdpHeader};
use overlay_trace_common::addresses::{Gso, describe};
use overlay_trace_common::flags::RecordFlags;
use overlay_trace_common::headers::{
    AT_IP, AT_TAG, Innermost, Memory, PLAIN_BYTES, Tunnel, Verdict, WINDOW_BYTES, WINDOW_ROOM, Window, plain,
    walk,
};
use overlay_trace_common::record::RecordHeader;
use proptest::prelude::*;

/// Where the packet lies.
const BASE: u64 = 1 << 40;
const SOURCE: [u8; 4] = [10, 244, 1, 2];
const DESTINATION: [u8; 4] = [10, 244, 2, 2];

/// A packet in memory; behind what can be read of it there is garbage, as there is in the kernel's.
struct Packet<'a> {
    bytes: &'a [u8],
    /// Bytes of the linear part.
    linear: usize,
    /// Bytes that can be read once the limit is raised: those of the first fragment too.
    extended: usize,
    limit: Cell<usize>,
}

impl<'a> Packet<'a> {
    fn new(bytes: &'a [u8]) -> Packet<'a> {
        Packet::in_pieces(bytes, bytes.len(), bytes.len())
    }

    fn in_pieces(bytes: &'a [u8], linear: usize, extended: usize) -> Packet<'a> {
        Packet { bytes, linear, extended, limit: Cell::new(linear) }
    }
}

impl Memory for Packet<'_> {
    fn read(&self, window: &mut Window, address: u64) -> bool {
        let from = (address - BASE) as usize;
        let mut bytes = [0x45; WINDOW_BYTES];
        for (place, byte) in bytes.iter_mut().zip(self.bytes.iter().take(self.limit.get()).skip(from)) {
            *place = *byte;
        }
        for (word, bytes) in window.0.iter_mut().zip(bytes.chunks(8)) {
            *word = u64::from_ne_bytes(bytes.try_into().unwrap());
        }
        true
    }

    fn limit(&self) -> u64 {
        BASE + self.limit.get() as u64
    }

    fn tail(&self) -> u64 {
        BASE + self.bytes.len() as u64
    }

    fn extend(&self) {
        self.limit.set(self.extended.max(self.linear));
    }

    fn tunnel(&self, port: u16) -> Tunnel {
        match port {
            4789 | 18472 => Tunnel::Vxlan,
            6081 => Tunnel::Geneve,
            8285 => Tunnel::Ip,
            _ => Tunnel::None,
        }
    }
}

/// What is found of a packet that can be read as a whole, and the record's header.
fn look(bytes: &[u8], what: u64) -> Option<(Innermost, RecordHeader)> {
    let packet = Packet::new(bytes);
    let plain = if what == AT_IP { short_cut(&packet) } else { None };
    let (found, header) = look_into(&packet, what, Gso::default()).ok()?;
    assert!(plain.is_none_or(|plain| plain == found), "the short cut leads elsewhere: {plain:?} {found:?}");
    Some((found, header))
}

fn look_into(packet: &Packet, what: u64, gso: Gso) -> Result<(Innermost, RecordHeader), Verdict> {
    let mut window = Window([0; WINDOW_ROOM / 8]);
    let mut found = Innermost::default();
    let verdict = walk(packet, what, BASE, &mut window, &mut found);
    if verdict != Verdict::Found {
        return Err(verdict);
    }
    let mut header = RecordHeader::default();
    let rest = packet.tail().saturating_sub(found.ip) as u32;
    describe(packet, &found, &mut window, rest, gso, &mut header);
    Ok((found, header))
}

/// What is found without the walk; there is nothing in the window behind the bytes that it may look at.
fn short_cut(packet: &Packet) -> Option<Innermost> {
    let mut window = Window([0; WINDOW_ROOM / 8]);
    packet.read(&mut window, BASE);
    window.0[PLAIN_BYTES / 8..].fill(0);
    plain(packet, BASE, &window)
}

fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    ipv4_with(protocol, &[], payload)
}

fn ipv4_with(protocol: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut header =
        Ipv4Header::new(payload.len() as u16, 64, IpNumber(protocol), SOURCE, DESTINATION).unwrap();
    header.options = options.try_into().unwrap();
    header.set_payload_len(payload.len()).unwrap();
    header.identification = 77;
    [&header.to_bytes()[..], payload].concat()
}

fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let header = Ipv6Header {
        payload_length: payload.len() as u16,
        next_header: IpNumber(next),
        hop_limit: 64,
        source: [0xfd; 16],
        destination: [0xfe; 16],
        ..Ipv6Header::default()
    };
    [&header.to_bytes()[..], payload].concat()
}

fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let header = UdpHeader::without_ipv4_checksum(from, to, payload.len()).unwrap();
    [&header.to_bytes()[..], payload].concat()
}

fn tcp(payload: &[u8]) -> Vec<u8> {
    let mut header = TcpHeader::new(4000, 7700, 0x0102_0304, 1000);
    header.set_options_raw(&[1; 12]).unwrap();
    [&header.to_bytes()[..], payload].concat()
}

fn ethernet(of: EtherType, payload: &[u8]) -> Vec<u8> {
    let header = Ethernet2Header { source: [2; 6], destination: [4; 6], ether_type: of };
    [&header.to_bytes()[..], payload].concat()
}

/// The IP packet's EtherType.
fn of(packet: &[u8]) -> EtherType {
    if packet[0] >> 4 == 6 { EtherType::IPV6 } else { EtherType::IPV4 }
}

fn frame(packet: &[u8]) -> Vec<u8> {
    ethernet(of(packet), packet)
}

/// A tag and what follows it, without the EtherType that announces the tag.
fn tag(number: u16, of: EtherType, payload: &[u8]) -> Vec<u8> {
    [&number.to_be_bytes()[..], &of.0.to_be_bytes(), payload].concat()
}

fn vxlan(port: u16, frame: &[u8]) -> Vec<u8> {
    udp(50_000, port, &[&[8, 0, 0, 0, 0, 0, 7, 0][..], frame].concat())
}

fn vxlan_gpe(inside: u8, payload: &[u8]) -> Vec<u8> {
    udp(50_000, 4789, &[&[0x0c, 0, 0, inside, 0, 0, 7, 0][..], payload].concat())
}

fn geneve(options: &[u8], of: u16, payload: &[u8]) -> Vec<u8> {
    let words = (options.len() / 4) as u8;
    let header = [&[words, 0][..], &of.to_be_bytes(), &[0, 0, 7, 0], options].concat();
    udp(50_000, 6081, &[&header[..], payload].concat())
}

fn gre(flags: u16, of: u16, payload: &[u8]) -> Vec<u8> {
    let optional = vec![0x45; (flags & 0xb000).count_ones() as usize * 4];
    [&flags.to_be_bytes()[..], &of.to_be_bytes(), &optional, payload].concat()
}

fn inner() -> Vec<u8> {
    ipv4(17, &udp(4000, 7700, b"payload"))
}

/// The innermost packet is [`inner`], and so deep inside.
fn finds_inner(bytes: &[u8], what: u64, depth: u64) {
    let (found, header) = look(bytes, what).expect("it is IP");
    assert_eq!(found.depth, depth);
    assert_eq!(header.flow.source[..4], SOURCE);
    assert_eq!(header.flow.destination[..4], DESTINATION);
    assert_eq!((header.flow.protocol, header.flow.version, header.flow.ip_id), (17, 4, 77));
    assert_eq!((header.flow.source_port, header.flow.destination_port), (4000, 7700));
    assert_eq!(header.bytes as usize, inner().len());
    assert_eq!(found.ip, BASE + (bytes.len() - inner().len()) as u64);
}

#[test]
fn a_tcp_header_says_what_its_segment_is() {
    let marks = |flags: u8, window: [u8; 2], data: &[u8]| {
        let mut segment = tcp(data);
        (segment[13], segment[14], segment[15]) = (flags, window[0], window[1]);
        let segment = ipv4(6, &segment);
        look(&segment, AT_IP).unwrap().1.flags
    };
    assert_eq!(marks(0x10, [0, 1], b"data"), RecordFlags::NONE);
    assert_eq!(marks(0x10, [0, 0], b"data"), RecordFlags::ZERO_WINDOW);
    assert_eq!(marks(0x10, [0, 0], b""), RecordFlags::ZERO_WINDOW | RecordFlags::NO_DATA);
    assert_eq!(marks(0x02, [0, 0], b""), RecordFlags::SYN | RecordFlags::NO_DATA);
    assert_eq!(marks(0x14, [0, 0], b""), RecordFlags::NO_DATA);
}

#[test]
fn an_ordinary_packet_is_itself() {
    finds_inner(&inner(), AT_IP, 0);
    let segment = ipv4(6, &tcp(b"data"));
    let (_, header) = look(&segment, AT_IP).unwrap();
    assert_eq!(
        (header.flow.source_port, header.flow.sequence, header.flags),
        (4000, 0x0102_0304, RecordFlags::NONE)
    );
    let acknowledgement = ipv6(6, &tcp(b""));
    let (found, header) = look(&acknowledgement, AT_IP).unwrap();
    assert_eq!((found.depth, header.flow.destination_port), (0, 7700));
    assert_eq!((header.flow.version, header.flow.source, header.bytes), (6, [0xfd; 16], 72));
    assert_eq!(header.flags & RecordFlags::TCP, RecordFlags::NO_DATA);
    let echo = ipv4(1, &[8, 0, 0, 0, 0x12, 0x34, 0, 1]);
    let (_, header) = look(&echo, AT_IP).unwrap();
    assert_eq!((header.flow.source_port, header.flow.destination_port), (0x1234, 0x1234));
}

#[test]
fn options_and_extension_headers_stand_before_the_ports() {
    for options in [4, 12, 40] {
        let packet = ipv4_with(17, &vec![1; options], &udp(4000, 7700, b"payload"));
        let (found, header) = look(&packet, AT_IP).unwrap();
        assert_eq!((found.depth, header.flow.destination_port), (0, 7700));
        let carried = ipv4_with(17, &vec![1; options], &vxlan(4789, &frame(&inner())));
        finds_inner(&carried, AT_IP, 1);
    }
    let extended = |carried: &[u8], next: u8| {
        let options = [&[next, 1, 5, 2, 0, 0, 1, 10, 0, 0, 0, 0, 0, 0, 0, 0][..], carried].concat();
        let routing = [&[60, 0, 4, 0, 0, 0, 0, 0][..], &options].concat();
        ipv6(0, &[&[43, 0, 1, 4, 0, 0, 0, 0][..], &routing].concat())
    };
    let packet = extended(&udp(4000, 7700, b"payload"), 17);
    let (_, header) = look(&packet, AT_IP).unwrap();
    assert_eq!((header.flow.protocol, header.flow.destination_port), (17, 7700));
    finds_inner(&extended(&vxlan(4789, &frame(&inner())), 17), AT_IP, 1);
    finds_inner(&extended(&inner(), 4), AT_IP, 1);
}

#[test]
fn every_tunnel_is_looked_into() {
    let packet = inner();
    let framed = frame(&packet);
    for outer in [ipv4 as fn(u8, &[u8]) -> Vec<u8>, ipv6] {
        finds_inner(&outer(4, &packet), AT_IP, 1);
        finds_inner(&outer(17, &udp(8285, 8285, &packet)), AT_IP, 1);
        finds_inner(&outer(17, &vxlan(4789, &framed)), AT_IP, 1);
        finds_inner(&outer(17, &vxlan(18472, &framed)), AT_IP, 1);
        finds_inner(&outer(17, &vxlan_gpe(1, &packet)), AT_IP, 1);
        finds_inner(&outer(17, &vxlan_gpe(3, &framed)), AT_IP, 1);
        for options in [0, 4, 8, 252] {
            finds_inner(&outer(17, &geneve(&vec![0x45; options], 0x6558, &framed)), AT_IP, 1);
            finds_inner(&outer(17, &geneve(&vec![0x45; options], 0x0800, &packet)), AT_IP, 1);
        }
        for flags in [0, 0x8000, 0x2000, 0x1000, 0xa000, 0x3000, 0xb000] {
            finds_inner(&outer(47, &gre(flags, 0x0800, &packet)), AT_IP, 1);
            finds_inner(&outer(47, &gre(flags, 0x6558, &framed)), AT_IP, 1);
        }
    }
    let v6 = ipv4(41, &ipv6(17, &udp(4000, 7700, b"")));
    let (found, header) = look(&v6, AT_IP).unwrap();
    assert_eq!((found.depth, header.flow.version, header.flow.destination_port), (1, 6, 7700));
}

#[test]
fn tags_are_no_level() {
    let tagged = tag(0x4502, EtherType::IPV4, &inner());
    finds_inner(&tagged, AT_TAG, 0);
    finds_inner(&tag(0x6045, EtherType::VLAN_TAGGED_FRAME, &tagged), AT_TAG, 0);
    let carried = ethernet(EtherType::VLAN_TAGGED_FRAME, &tagged);
    finds_inner(&ipv4(17, &vxlan(4789, &carried)), AT_IP, 1);
    let twice = ethernet(EtherType::PROVIDER_BRIDGING, &tag(200, EtherType::VLAN_TAGGED_FRAME, &tagged));
    finds_inner(&ipv4(17, &vxlan(4789, &twice)), AT_IP, 1);
    finds_inner(&tag(7, EtherType::IPV4, &ipv4(17, &vxlan(4789, &frame(&inner())))), AT_TAG, 1);
}

#[test]
fn tunnels_in_tunnels_are_counted() {
    let mut packet = inner();
    for depth in 1..=8 {
        packet = match depth % 4 {
            0 => ipv4(17, &vxlan(4789, &frame(&packet))),
            1 => ipv4(4, &packet),
            2 => ipv6(17, &vxlan(4789, &frame(&packet))),
            _ => ipv4(47, &gre(0x2000, of(&packet).0, &packet)),
        };
        finds_inner(&packet, AT_IP, depth);
    }
}

#[test]
fn what_only_looks_like_a_tunnel_is_none() {
    let framed = frame(&inner());
    // No identifier; another version; a source route; an unknown port; no IP at all; a header that is too short.
    for not_one in [
        ipv4(17, &udp(1, 4789, &[&[0; 8][..], &framed].concat())),
        ipv4(17, &udp(1, 6081, &[&[0x40, 0, 0x65, 0x58, 0, 0, 0, 0][..], &framed].concat())),
        ipv4(47, &gre(0x4000, 0x0800, &inner())),
        ipv4(17, &vxlan(4788, &framed)),
        ipv4(17, &udp(1, 8285, b"no IP packet, and long enough for one")),
        ipv4(17, &udp(1, 8285, &[0x44; 40])),
    ] {
        let (found, header) = look(&not_one, AT_IP).unwrap();
        assert_eq!((found.depth, found.ip), (0, BASE));
        assert_eq!(header.bytes as usize, not_one.len());
    }
}

#[test]
fn what_is_not_ip_is_not_found() {
    let question = ethernet(EtherType::ARP, &[0; 28]);
    for foreign in [
        vec![0x45, 0x02, 0x08, 0x06],
        ipv4(17, &vxlan(4789, &question)),
        ipv4(47, &gre(0, 0x6558, &question)),
        ipv4(17, &geneve(&[], 0x0806, &[0; 28])),
        ipv4(4, &[0; 40]),
    ] {
        let what = if foreign.len() == 4 { AT_TAG } else { AT_IP };
        assert!(look(&foreign, what).is_none(), "{foreign:02x?}");
    }
}

#[test]
fn a_later_fragment_has_no_ports() {
    let mut later = ipv4(17, &vxlan(4789, &frame(&inner())));
    later[7] = 100;
    let (found, header) = look(&later, AT_IP).unwrap();
    assert_eq!((found.depth, header.flow.destination_port), (0, 0));
    let fragment = |offset: u16| {
        let header = [&[17, 0][..], &offset.to_be_bytes(), &[0, 0, 0, 1]].concat();
        ipv6(44, &[&header[..], &vxlan(4789, &frame(&inner()))].concat())
    };
    finds_inner(&fragment(1), AT_IP, 1);
    let later = fragment(800 | 1);
    let (found, header) = look(&later, AT_IP).unwrap();
    assert_eq!((found.depth, header.flow.protocol, header.flow.destination_port), (0, 17, 0));
}

/// Packets with headers in many places, each with the bytes up to the end of what is read of its headers.
fn carried() -> Vec<(Vec<u8>, usize)> {
    let of = |outer: fn(u8, &[u8]) -> Vec<u8>, inner: &[u8], read: usize| {
        let packet = outer(17, &vxlan(4789, &frame(inner)));
        let end = packet.len() - inner.len() + read;
        (packet, end)
    };
    let (stream, datagram) = (ipv4(6, &tcp(&[7; 900])), ipv4(17, &udp(4000, 7700, &[7; 900])));
    let (stream6, datagram6) = (ipv6(6, &tcp(&[7; 900])), ipv6(17, &udp(4000, 7700, &[7; 900])));
    vec![
        (stream.clone(), 36),
        (datagram.clone(), 28),
        (stream6.clone(), 56),
        (datagram6.clone(), 48),
        (ipv4(4, &stream), 56),
        (ipv4(47, &gre(0x2000, 0x0800, &datagram)), 56),
        of(ipv4, &stream, 36),
        of(ipv6, &datagram, 28),
        of(ipv4, &datagram6, 48),
    ]
}

#[test]
fn what_lies_elsewhere_is_not_guessed() {
    for (packet, end) in carried() {
        let whole = look(&packet, AT_IP).unwrap();
        for linear in 0..packet.len() {
            let alone = look_into(&Packet::in_pieces(&packet, linear, linear), AT_IP, Gso::default());
            match alone {
                Ok((found, header)) => {
                    let mut expected = whole;
                    // TCP's options, and the payload of others, lie behind the headers.
                    if linear < end + 20 && header.witness == 0 {
                        expected.1.witness = 0;
                    }
                    assert!(linear >= end && (found, header) == expected, "{linear} of {end}: {header:?}");
                }
                Err(verdict) => assert_eq!(verdict, Verdict::Unreadable, "{linear} of {end}"),
            }
            // The headers themselves suffice, and a few bytes more than the shortest ones have.
            assert!(alone.is_ok() || linear < end + 12, "{linear} of {end}");
        }
    }
}

#[test]
fn headers_are_found_in_the_first_fragment() {
    for (packet, _) in carried() {
        let whole = look(&packet, AT_IP).unwrap();
        for linear in 0..packet.len() {
            let pieces = Packet::in_pieces(&packet, linear, packet.len());
            assert_eq!(look_into(&pieces, AT_IP, Gso::default()), Ok(whole), "{linear}");
        }
    }
}

#[test]
fn a_short_packet_to_a_tunnel_port_carries_nothing() {
    let packet = ipv4(17, &udp(1, 4789, &[8, 0, 0, 0]));
    let (found, header) = look(&packet, AT_IP).unwrap();
    assert_eq!((found.depth, header.flow.destination_port), (0, 4789));
}

#[test]
fn the_witness_is_of_what_nobody_rewrites() {
    let header = |bytes: &[u8]| look(bytes, AT_IP).unwrap().1;
    let mut segment = TcpHeader::new(4000, 7700, 1, 1000);
    segment.acknowledgment_number = 0xa1b2_c3d4;
    segment.set_options_raw(&[1, 1, 8, 10, 0x11, 0x22, 0x33, 0x44, 5, 6, 7, 8]).unwrap();
    let with_options = segment.to_bytes().to_vec();
    let expected = 0xa1b2_c3d4_1122_3344;
    for packet in [ipv4(6, &with_options), ipv6(6, &with_options), ipv4_with(6, &[1; 8], &with_options)] {
        assert_eq!(header(&packet).witness, expected);
    }
    segment.set_options_raw(&[]).unwrap();
    // What follows the header is data: a middlebox may cut it elsewhere.
    assert_eq!(header(&ipv4(6, &[&segment.to_bytes()[..], &[9; 40]].concat())).witness, 0xa1b2_c3d4 << 32);
    // Behind a short payload there is what is not the packet's.
    for length in 0..12 {
        let payload: Vec<u8> = (1..=length).collect();
        let mut expected = [0; 8];
        let known = payload.len().min(8);
        expected[..known].copy_from_slice(&payload[..known]);
        for packet in [ipv4(17, &udp(1, 2, &payload)), ipv6(17, &udp(1, 2, &payload))] {
            assert_eq!(header(&packet).witness, u64::from_be_bytes(expected), "{length}");
        }
    }
    assert_eq!(header(&ipv4(1, &[8, 0, 0, 0, 1, 2, 0, 3, 4, 5, 6, 7, 8])).witness, 0x0102_0003_0405_0607);
    // The payload lies in a fragment that cannot be read.
    let bytes = ipv4(17, &udp(1, 2, &[7; 64]));
    let packet = Packet::in_pieces(&bytes, 28, 28);
    assert_eq!(look_into(&packet, AT_IP, Gso::default()).unwrap().1.witness, 0);
}

#[test]
fn segments_are_those_on_the_wire() {
    let segments = |packet: &[u8], size, segments| {
        look_into(&Packet::new(packet), AT_IP, Gso { size, segments }).unwrap().1.segments
    };
    let stream = ipv4(6, &tcp(&[7; 4000]));
    assert_eq!(segments(&stream, 0, 0), 1);
    // The kernel's own GSO, and GRO, say how many.
    assert_eq!(segments(&stream, 1448, 3), 3);
    // A guest does not: its 4000 bytes are two full segments and a rest, or just two.
    assert_eq!(segments(&stream, 1448, 0), 3);
    assert_eq!(segments(&stream, 2000, 0), 2);
    assert_eq!(segments(&ipv6(17, &udp(1, 2, &[7; 2801])), 1400, 0), 3);
    let carried = ipv4(17, &vxlan(4789, &frame(&stream)));
    assert_eq!(segments(&carried, 1448, 0), 3);
    assert_eq!(segments(&ipv4(6, &tcp(b"")), 1448, 0), 1);
}

#[test]
fn a_packet_of_many_segments_has_the_length_that_is_there() {
    let mut packet = ipv4(17, &vxlan(4789, &frame(&inner())));
    packet[52..54].copy_from_slice(&[0, 0]);
    let (_, header) = look(&packet, AT_IP).unwrap();
    assert_eq!(header.bytes as usize, inner().len());
}

proptest! {
    #[test]
    fn any_bytes_are_walked_through(bytes in prop::collection::vec(any::<u8>(), 0..300), tagged: bool) {
        let what = if tagged { AT_TAG } else { AT_IP };
        if let Some((found, _)) = look(&bytes, what) {
            prop_assert!(found.ip >= BASE && found.ip + 20 <= BASE + bytes.len().max(24) as u64);
            prop_assert!(found.transport > found.ip && found.depth <= 24);
        }
    }

    #[test]
    fn a_damaged_packet_is_walked_through(place in 0..150usize, byte: u8) {
        let mut packet = ipv4(17, &vxlan(4789, &frame(&ipv6(17, &geneve(&[0; 8], 0x6558, &frame(&inner()))))));
        let place = place % packet.len();
        packet[place] = byte;
        if let Some((found, _)) = look(&packet, AT_IP) {
            prop_assert!(found.depth <= 3 && found.ip < BASE + packet.len() as u64);
        }
    }
}

#[test]
fn plain_packets_need_no_walk_and_others_do() {
    let of = |bytes: &[u8]| short_cut(&Packet::new(bytes)).is_some();
    assert!(of(&ipv4(6, &tcp(b"data"))));
    assert!(of(&ipv4(17, &udp(50_000, 7700, b"data"))));
    assert!(!of(&ipv4(17, &vxlan(4789, &frame(&ipv4(6, &tcp(b"data")))))));
    assert!(!of(&ipv4_with(6, &[1; 4], &tcp(b"data"))));
    assert!(!of(&ipv6(6, &tcp(b"data"))));
    let mut fragment = ipv4(17, &udp(50_000, 7700, b"data"));
    fragment[6] = 0x20;
    assert!(!of(&fragment));
}
