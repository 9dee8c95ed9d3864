//! Sampling by packet: 1 in so many packets is followed, and every machine chooses the same ones.
//!
//! What a packet is chosen by is what no machine on its way rewrites, address translation included; see
//! [`RecordHeader::witness`].

use crate::{headers::IPPROTO_TCP, record::RecordHeader};

/// Of sequence and acknowledgement numbers of TCP, so many low bits do not count: most packets that GRO makes of others,
/// and those that GSO cuts, are chosen with them.
const BLOCK_BITS: u32 = 14;
/// The highest number of packets of which one is followed.
pub const SAMPLE_MAX: u32 = 1 << 16;

/// Whether a packet is one of those that are followed, 1 in `one_in`; of 0 and 1 all are.
#[inline(always)]
pub fn is_sampled(header: &RecordHeader, one_in: u32) -> bool {
    one_in <= 1 || (number(header) as u64 * one_in as u64) >> 32 == 0
}

/// A number that is as good as random, and the same for a packet wherever it is met.
#[inline(always)]
fn number(header: &RecordHeader) -> u32 {
    let mark = if header.flow.protocol == IPPROTO_TCP {
        let acknowledged = (header.witness >> 32) as u32;
        ((header.flow.sequence >> BLOCK_BITS) as u64) << 32 | (acknowledged >> BLOCK_BITS) as u64
    } else {
        header.witness ^ (header.flow.ip_id as u64) << 48
    };
    // The finalizer of splitmix64 (Steele, Lea, Flood 2014): each bit of the mark decides about each bit of the result.
    let mut mixed = (mark ^ (header.flow.protocol as u64) << 24).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed >> 32) as u32 ^ mixed as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Flow;

    fn tcp(sequence: u32, acknowledged: u32) -> RecordHeader {
        let flow = Flow { protocol: IPPROTO_TCP, sequence, ..Flow::default() };
        RecordHeader { flow, witness: (acknowledged as u64) << 32, ..RecordHeader::default() }
    }

    fn udp(payload: u64, ip_id: u16) -> RecordHeader {
        let flow = Flow { protocol: 17, ip_id, ..Flow::default() };
        RecordHeader { flow, witness: payload, ..RecordHeader::default() }
    }

    fn share(packets: impl Iterator<Item = RecordHeader>, one_in: u32) -> f64 {
        let (mut chosen, mut all) = (0, 0);
        for packet in packets {
            all += 1;
            chosen += is_sampled(&packet, one_in) as u32;
        }
        chosen as f64 * one_in as f64 / all as f64
    }

    #[test]
    fn one_in_so_many_is_chosen() {
        for one_in in [2, 64, 1000] {
            let requests = (0..1_000_000u32).map(|n| tcp(n.wrapping_mul(16_384), 77));
            let acknowledgements = (0..1_000_000u32).map(|n| tcp(5, n.wrapping_mul(16_384)));
            let datagrams = (0..1_000_000u64).map(|n| udp(n.to_be(), 0));
            let numbered = (0..65_536u64).map(|n| udp(1, n as u16));
            for share in [share(requests, one_in), share(acknowledgements, one_in), share(datagrams, one_in)]
            {
                assert!((0.9..1.1).contains(&share), "1 in {one_in}: {share}");
            }
            let share = share(numbered, one_in);
            assert!((0.7..1.3).contains(&share), "1 in {one_in}: {share}");
        }
    }

    #[test]
    fn all_are_chosen_where_none_is_left_out() {
        assert!((0..1000).all(|n| is_sampled(&tcp(n << 14, 0), 1) && is_sampled(&udp(n as u64, 0), 0)));
    }

    #[test]
    fn segments_of_one_block_are_chosen_alike_whatever_their_addresses() {
        for block in 0..1000u32 {
            let first = tcp(block << 14, 9);
            let mut translated = tcp((block << 14) + 14_000, 9);
            translated.flow.source[0] = 10;
            translated.flow.source_port = 4711;
            assert_eq!(is_sampled(&first, 8), is_sampled(&translated, 8));
        }
    }
}
