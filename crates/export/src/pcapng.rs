//! pcapng: packets with headers rebuilt from their flow, at the time and the device where their path starts. The stages and
//! their times are each packet's comment. There is no payload: none was recorded.

mod headers;

use std::{borrow::Cow, collections::HashMap, io::Write, time::Duration};

use anyhow::{Result, anyhow};
use overlay_trace_analysis::breakdown::Key;
use overlay_trace_format::Recording;
use pcap_file::{
    DataLink, PcapError,
    pcapng::{
        PcapNgBlock, PcapNgWriter,
        blocks::{
            enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption},
            interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption},
            section_header::{SectionHeaderBlock, SectionHeaderOption},
        },
    },
};

use crate::{
    Exported,
    packet::{Packet, for_each, named, wall_ns},
};

/// Time stamps count in units of 10 to the power of minus this.
const NANOSECONDS: u8 = 9;
/// What a reader of the file has to know.
const COMMENT: &str = "Exported by overlay-trace: headers are rebuilt from what was recorded of each packet (innermost \
                       addresses, ports, lengths, TCP sequence numbers); payload and options were not recorded. Packets \
                       are in the order in which their paths end.";

pub fn write(recording: &Recording, out: impl Write) -> Result<Exported> {
    let node = &recording.header.node;
    let section = SectionHeaderBlock {
        options: vec![
            SectionHeaderOption::Comment(COMMENT.into()),
            SectionHeaderOption::OS(format!("Linux {} on {node}", recording.header.kernel).into()),
            SectionHeaderOption::UserApplication(concat!("overlay-trace ", env!("CARGO_PKG_VERSION")).into()),
        ],
        ..SectionHeaderBlock::default()
    };
    let mut writer = PcapNgWriter::with_section_header(out, section).map_err(said)?;
    let (mut interfaces, mut left_out) = (HashMap::new(), 0);
    let packets = for_each(recording, |packet| {
        let Some(data) = headers::rebuild(packet.header) else {
            left_out += 1;
            return Ok(());
        };
        let name = interface(packet);
        let next = interfaces.len() as u32;
        let interface_id = *interfaces.entry(name.clone()).or_insert(next);
        if interface_id == next {
            let options = vec![
                InterfaceDescriptionOption::IfName(name.into()),
                InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
            ];
            let block = InterfaceDescriptionBlock { linktype: DataLink::RAW, snaplen: 0, options };
            writer.write_block(&block.into_block()).map_err(said)?;
        }
        let block = EnhancedPacketBlock {
            interface_id,
            timestamp: Duration::from_nanos(wall_ns(recording, packet.header.start_ns)),
            original_len: packet.header.bytes.max(data.len() as u32),
            data: Cow::Borrowed(&data),
            options: vec![EnhancedPacketOption::Comment(comment(recording, packet).into())],
        };
        writer.write_block(&block.into_block()).map_err(said)?;
        Ok(())
    })?;
    Ok(Exported { items: packets - left_out, left_out })
}

fn said(error: PcapError) -> anyhow::Error {
    match error {
        PcapError::IoError(error) => error.into(),
        other => anyhow!("cannot encode a packet for pcapng: {other}"),
    }
}

/// Where the path starts: the first device on it, with its namespace.
fn interface(packet: &Packet<'_>) -> String {
    let place = |key: &&Key| named(&key.device).is_some();
    let first = packet.spans.iter().map(|(_, key)| *key).find(place);
    let key = first.or(packet.spans.first().map(|(_, key)| *key));
    let netns = key.and_then(|key| named(&key.netns)).unwrap_or("unknown namespace");
    format!("{netns}/{}", key.and_then(|key| named(&key.device)).unwrap_or("no device"))
}

/// The most bytes of a comment: the length of an option has 16 bits.
const COMMENT_MAX: usize = 60_000;

/// `12345 ns, delivered: veth-xmit 120 ns in pod1/eth0, …`.
fn comment(recording: &Recording, packet: &Packet<'_>) -> String {
    let header = packet.header;
    let mut text = format!("{} ns, {}", packet.ns(), packet.outcome());
    let (reason, location) =
        (recording.names.reason(header.drop_reason), recording.names.symbol(header.drop_location));
    for what in [reason, location].into_iter().filter(|what| !what.is_empty()) {
        text += &format!(" {what}");
    }
    if header.times() > 1 {
        text += &format!(", stands for {} packets", header.times());
    }
    let mut place = None;
    for (number, (span, key)) in packet.spans.iter().enumerate() {
        text += if number == 0 { ": " } else { ", " };
        text += &format!("{} {} ns", key.stage.as_deref().unwrap_or("other"), span.ns);
        let here = (named(&key.netns), named(&key.device), key.level);
        if place != Some(here) {
            let (netns, device) = (here.0.unwrap_or("?"), here.1.unwrap_or("no device"));
            text += &format!(" in {netns}/{device} level {}", key.level.unwrap_or(0));
            place = Some(here);
        }
        if text.len() > COMMENT_MAX {
            text += ", …";
            break;
        }
    }
    text
}
