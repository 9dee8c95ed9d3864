//! What of the traffic has been joined from the sending pod to the receiving one.

use std::collections::BTreeMap;

use anyhow::Result;
use overlay_trace_common::flags::RecordFlags;
use overlay_trace_common::headers::{IPPROTO_TCP, IPPROTO_UDP};
use overlay_trace_common::path::Span;
use overlay_trace_common::record::{Outcome, RecordHeader};
use overlay_trace_format::{RecordView, Recording};

const IP_HEADER: u32 = 20;
const UDP_HEADER: u32 = 8;
/// With time stamps, which all packets with data have.
const TCP_HEADER: u32 = 32;

/// One direction of a connection: protocol, source port, destination port.
pub type Direction = (u8, u16, u16);

/// Packets of one direction that were joined whole.
#[derive(Default)]
pub struct Joined {
    pub packets: u64,
    /// Start, sequence number and payload bytes of each.
    ranges: Vec<(u64, u32, u32)>,
    /// Start, and arrival on the last machine, of each.
    times: Vec<(u64, u64)>,
}

impl Joined {
    /// How many arrived before one that had begun earlier: on this way none overtakes another.
    pub fn overtaking(&self) -> usize {
        let mut times = self.times.clone();
        times.sort_unstable();
        times.windows(2).filter(|two| two[1].1 < two[0].1).count()
    }

    /// The payload bytes, each once.
    pub fn bytes(&self) -> u64 {
        let Some(&(_, first, _)) = self.ranges.iter().min() else { return 0 };
        // Numbers near the first one; those before it are of retransmissions.
        let from = first.wrapping_sub(1 << 30);
        let offset = |sequence: u32| u64::from(sequence.wrapping_sub(from));
        let mut ranges: Vec<(u64, u64)> = self
            .ranges
            .iter()
            .map(|&(_, sequence, bytes)| (offset(sequence), offset(sequence) + u64::from(bytes)))
            .collect();
        ranges.sort_unstable();
        let (mut end, mut sum) = (0, 0);
        for (from, to) in ranges {
            sum += to.saturating_sub(from.max(end));
            end = end.max(to);
        }
        sum
    }
}

/// Packets with data that began on the first or the last machine of the route, crossed from each to the next, and were
/// delivered on the other, or became a part of a packet there.
pub fn joined(merged: &Recording, route: &[&str]) -> Result<BTreeMap<Direction, Joined>> {
    let links = |route: &[&str]| -> Vec<String> {
        route.windows(2).map(|link| format!("{} > {}", link[0], link[1])).collect()
    };
    let back: Vec<&str> = route.iter().rev().copied().collect();
    let routes = [links(route), links(&back)];
    let mut all: BTreeMap<Direction, Joined> = BTreeMap::new();
    merged.for_each_record(|record| {
        let header = &record.header;
        let is_along = routes.iter().any(|links| links.iter().all(|link| crosses(merged, &record, link)));
        if let Some(bytes) = payload(header)
            && is_along
            && is_from_start_to_end(header)
        {
            let flow = header.flow;
            let one = all.entry((flow.protocol, flow.source_port, flow.destination_port)).or_default();
            one.packets += 1;
            one.ranges.push((header.start_ns, flow.sequence, bytes));
            one.times.push((header.start_ns, arrival(merged, &record)));
        }
    })?;
    Ok(all)
}

fn payload(header: &RecordHeader) -> Option<u32> {
    let headers = match header.flow.protocol {
        IPPROTO_UDP => IP_HEADER + UDP_HEADER,
        IPPROTO_TCP if !header.flags.has(RecordFlags::NO_DATA) => IP_HEADER + TCP_HEADER,
        _ => return None,
    };
    header.bytes.checked_sub(headers)
}

fn netns<'a>(merged: &'a Recording, span: &Span) -> &'a str {
    merged.hops.get(&span.hop).map_or("", |hop| hop.netns.as_str())
}

fn crosses(merged: &Recording, record: &RecordView<'_>, link: &str) -> bool {
    record.spans().any(|span| netns(merged, &span) == link)
}

/// What has crossed all of the route and was then freed has been read.
fn is_from_start_to_end(header: &RecordHeader) -> bool {
    let begins = !header.flags.has(RecordFlags::FROM_DEVICE | RecordFlags::UNKNOWN_START);
    let ends = [Outcome::Freed, Outcome::Delivered, Outcome::Merged];
    begins && ends.iter().any(|end| header.outcome == *end as u8)
}

/// When the last crossing ended.
fn arrival(merged: &Recording, record: &RecordView<'_>) -> u64 {
    let (mut now, mut arrival) = (record.header.start_ns, record.header.start_ns);
    for span in record.spans() {
        now += span.ns;
        if netns(merged, &span).contains(" > ") {
            arrival = now;
        }
    }
    arrival
}
