//! What passed a NIC during a recording, by its driver's count and by what became of the packets.

use overlay_trace_common::edges::{EdgeCounts, Fate, Passage};
use serde::{Deserialize, Serialize};

/// The direction in which packets pass a NIC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NicDirection {
    #[default]
    Received,
    Sent,
}

/// What a driver counts as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NicUnit {
    /// What it hands to the kernel or takes from it at once, which may be several packets on the wire.
    #[default]
    Packets,
    /// Packets on the wire.
    Segments,
}

/// The packets that passed a NIC in one direction, in the unit that its driver counts. All numbers are counted; what they
/// differ by is [`unexplained`](NicCount::unexplained).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NicCount {
    /// Number of the hop.
    pub hop: u16,
    /// The driver's name (`virtio_net`); empty if the kernel does not tell it.
    pub driver: String,
    pub direction: NicDirection,
    pub unit: NicUnit,
    /// The growth of the driver's own counter (`rx_packets`, `tx_packets`).
    pub by_driver: u64,
    pub recorded: u64,
    pub lost_records: u64,
    pub not_ip: u64,
    /// Rejected by the filter.
    pub filtered: u64,
    /// Their path ended before their headers could be read.
    pub unreadable: u64,
    /// They found the packet table full.
    pub table_full: u64,
    pub missed_ends: u64,
    /// Segments of a packet that was cut where the probe set does not see it, or packets that were in flight when the
    /// recording began.
    pub untracked: u64,
    /// In flight at the end of the recording.
    pub in_flight: u64,
}

/// A difference of so many packets at each end of a recording is not told: the counters are not read at one moment.
const MOMENT_PACKETS: u64 = 64;
/// A difference of one in so many packets is not told either.
const MOMENT_PART: u64 = 1000;

impl NicCount {
    /// The counts of an edge in the driver's unit.
    pub fn new(direction: NicDirection, unit: NicUnit, counts: &EdgeCounts) -> NicCount {
        let passage = match direction {
            NicDirection::Received => Passage::Received,
            NicDirection::Sent => Passage::Sent,
        };
        let of = |fate: Fate| {
            let amount = counts[passage as usize][fate as usize];
            match unit {
                NicUnit::Packets => amount.packets,
                NicUnit::Segments => amount.segments,
            }
        };
        NicCount {
            direction,
            unit,
            recorded: of(Fate::Recorded),
            lost_records: of(Fate::LostRecord),
            not_ip: of(Fate::NotIp),
            filtered: of(Fate::Rejected),
            unreadable: of(Fate::Unreadable),
            table_full: of(Fate::TableFull),
            missed_ends: of(Fate::MissedEnd),
            untracked: of(Fate::Untracked),
            in_flight: of(Fate::InFlight),
            ..NicCount::default()
        }
    }

    /// What became of packets that have no record, and how many they are.
    pub fn causes(&self) -> [(u64, &'static str); 8] {
        [
            (self.not_ip, "not IP"),
            (self.filtered, "rejected by the filter"),
            (self.unreadable, "headers not readable"),
            (self.lost_records, "records lost"),
            (self.table_full, "packet table full"),
            (self.missed_ends, "missed ends"),
            (self.untracked, "not followed to the driver"),
            (self.in_flight, "still in flight"),
        ]
    }

    /// What the driver counted beyond all that is known; negative where more is known than it counted.
    pub fn unexplained(&self) -> i64 {
        let known =
            self.causes().into_iter().fold(self.recorded, |sum, (number, _)| sum.wrapping_add(number));
        self.by_driver.wrapping_sub(known) as i64
    }

    /// Whether packets are missing, or too many, beyond what the moments of counting explain.
    pub fn has_gap(&self) -> bool {
        self.unexplained().unsigned_abs() > (2 * MOMENT_PACKETS).max(self.by_driver / MOMENT_PART)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use overlay_trace_common::edges::{Amount, FATES};

    #[test]
    fn only_what_nothing_explains_is_a_difference() {
        let mut counts: EdgeCounts = [[Amount::default(); FATES]; 2];
        counts[Passage::Sent as usize][Fate::Recorded as usize] = Amount { packets: 10, segments: 400 };
        counts[Passage::Sent as usize][Fate::NotIp as usize] = Amount { packets: 3, segments: 3 };
        let of = |unit, by_driver| NicCount { by_driver, ..NicCount::new(NicDirection::Sent, unit, &counts) };
        assert_eq!(of(NicUnit::Packets, 13).unexplained(), 0);
        assert_eq!(of(NicUnit::Segments, 500).unexplained(), 97);
        assert_eq!(of(NicUnit::Segments, 400).unexplained(), -3);
        assert!(!of(NicUnit::Segments, 531).has_gap() && of(NicUnit::Segments, 532).has_gap());
        assert!(!of(NicUnit::Segments, 403 + 403).causes().iter().any(|(number, _)| *number == 403));
        let received = NicCount::new(NicDirection::Received, NicUnit::Packets, &counts);
        assert_eq!((received.recorded, received.unexplained()), (0, 0));
    }
}
