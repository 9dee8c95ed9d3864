//! A packet's headers, rebuilt from its record.

use overlay_trace_common::{flags::RecordFlags, record::RecordHeader};

const TCP: u8 = 6;
const UDP: u8 = 17;

const HOPS: u8 = 64;
const IPV4_BYTES: u32 = 20;
const IPV6_BYTES: u32 = 40;
const TCP_SYN: u8 = 0x02;
const TCP_ACK: u8 = 0x10;

/// The IP header and that of TCP or UDP; `None` where the headers were not read. Checksums of transports are 0, since
/// they depend on the payload.
pub fn rebuild(header: &RecordHeader) -> Option<Vec<u8>> {
    match header.flow.version {
        4 => Some(ipv4(header)),
        6 => Some(ipv6(header)),
        _ => None,
    }
}

/// A length of 16 bits; 0 stands for a longer one, as in segmentation offload.
fn length(bytes: u32) -> [u8; 2] {
    u16::try_from(bytes).unwrap_or(0).to_be_bytes()
}

fn ipv4(header: &RecordHeader) -> Vec<u8> {
    let flow = &header.flow;
    let mut out = vec![0x45, 0];
    out.extend(length(header.bytes.max(IPV4_BYTES)));
    out.extend(flow.ip_id.to_be_bytes());
    out.extend([0, 0, HOPS, flow.protocol, 0, 0]);
    out.extend(&flow.source[..4]);
    out.extend(&flow.destination[..4]);
    let sum = checksum(&out);
    out[10..12].copy_from_slice(&sum.to_be_bytes());
    transport(header, header.bytes.saturating_sub(IPV4_BYTES), &mut out);
    out
}

fn ipv6(header: &RecordHeader) -> Vec<u8> {
    let flow = &header.flow;
    let mut out = vec![0x60, 0, 0, 0];
    let payload = header.bytes.saturating_sub(IPV6_BYTES);
    out.extend(length(payload));
    out.extend([flow.protocol, HOPS]);
    out.extend(flow.source);
    out.extend(flow.destination);
    transport(header, payload, &mut out);
    out
}

/// The ones' complement of the sum of all 16-bit words (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// The transport's header, before so many bytes with it.
fn transport(header: &RecordHeader, bytes: u32, out: &mut Vec<u8>) {
    let flow = &header.flow;
    let ports = [flow.source_port.to_be_bytes(), flow.destination_port.to_be_bytes()].concat();
    match flow.protocol {
        TCP => {
            let has = |flag| header.flags.has(flag);
            // The witness has the acknowledgement number in its upper half.
            let acknowledged = (header.witness >> 32) as u32;
            let syn = if has(RecordFlags::SYN) { TCP_SYN } else { 0 };
            let ack = if acknowledged == 0 && syn != 0 { 0 } else { TCP_ACK };
            let window = if has(RecordFlags::ZERO_WINDOW) { 0 } else { u16::MAX };
            out.extend(ports);
            out.extend(flow.sequence.to_be_bytes());
            out.extend(acknowledged.to_be_bytes());
            out.extend([5 << 4, syn | ack]);
            out.extend(window.to_be_bytes());
            out.extend([0; 4]);
        }
        UDP => {
            out.extend(ports);
            out.extend(length(bytes));
            out.extend([0; 2]);
        }
        // Of others, ICMP among them, too little was recorded.
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use overlay_trace_common::record::Flow;

    use super::*;

    fn header(protocol: u8, version: u8, bytes: u32) -> RecordHeader {
        let mut flow = Flow {
            protocol,
            version,
            source_port: 1234,
            destination_port: 53,
            ip_id: 7,
            sequence: 9,
            ..Flow::default()
        };
        flow.source[..4].copy_from_slice(&[10, 0, 0, 1]);
        flow.destination[..4].copy_from_slice(&[10, 0, 0, 2]);
        RecordHeader { flow, bytes, witness: 5 << 32, flags: RecordFlags::SYN, ..RecordHeader::default() }
    }

    #[test]
    fn an_ipv4_header_has_a_right_checksum_and_the_lengths_of_the_packet() {
        let udp = rebuild(&header(UDP, 4, 128)).unwrap();
        assert_eq!((udp.len(), checksum(&udp[..20])), (28, 0));
        assert_eq!((&udp[2..4], &udp[4..6]), (&[0, 128][..], &[0, 7][..]));
        assert_eq!(&udp[20..26], [4, 210, 0, 53, 0, 108]);
        let tcp = rebuild(&header(TCP, 4, 100_000)).unwrap();
        assert_eq!((tcp.len(), &tcp[2..4], tcp[33]), (40, &[0, 0][..], TCP_SYN | TCP_ACK));
        assert_eq!((&tcp[24..28], &tcp[28..32]), (&[0, 0, 0, 9][..], &[0, 0, 0, 5][..]));
    }

    #[test]
    fn ipv6_and_what_has_no_ports() {
        let udp = rebuild(&header(UDP, 6, 104)).unwrap();
        assert_eq!((udp.len(), &udp[4..6], &udp[44..46]), (48, &[0, 64][..], &[0, 64][..]));
        assert_eq!(rebuild(&header(50, 4, 60)).unwrap().len(), 20);
        assert_eq!(rebuild(&header(UDP, 0, 60)), None);
    }
}
