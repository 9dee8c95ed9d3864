//! Every format is read back, and its sums are those of the report.

use std::{
    collections::{BTreeMap, HashMap},
    io::Cursor,
    net::IpAddr,
};

use overlay_trace_analysis::breakdown::{Analysis, By};
use overlay_trace_format::Recording;
use parquet::{
    file::reader::{FileReader, SerializedFileReader},
    record::{Field, Row},
};
use pcap_file::pcapng::{
    Block, PcapNgReader,
    blocks::{enhanced_packet::EnhancedPacketOption, interface_description::InterfaceDescriptionOption},
};
use prost::Message as _;
use serde_json::Value;

use crate::{
    Exported, Format, export,
    perfetto::messages::{EventType, WholeTrace},
    pprof,
};

/// A real recording with segments, clones and interruptions.
fn recording() -> Recording {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/recordings/flannel-vxlan-6.12.otr");
    Recording::open(path).unwrap()
}

fn exported(format: Format) -> (Vec<u8>, Exported) {
    let mut bytes = Vec::new();
    let exported = export(&recording(), format, &mut bytes).unwrap();
    (bytes, exported)
}

/// The time of a report's rows by stage, level, namespace and device.
type Sums = BTreeMap<(String, u64, String, String), u128>;

fn report() -> (Sums, u128) {
    let analysis = Analysis::of(&recording(), By::Stage).unwrap();
    let mut sums = Sums::new();
    for row in &analysis.rows {
        let key = row.key.clone();
        let name = |name: Option<String>| name.unwrap_or_default();
        let at = (name(key.stage), u64::from(key.level.unwrap()), name(key.netns), name(key.device));
        *sums.entry(at).or_default() += row.raw.sum();
    }
    (sums, analysis.end_to_end.sum())
}

#[test]
fn json_lines_have_the_sums_of_the_report() {
    let (bytes, Exported { items, .. }) = exported(Format::Jsonl);
    let (mut sums, mut lines) = (Sums::new(), 0);
    for line in String::from_utf8(bytes).unwrap().lines() {
        lines += 1;
        let line: Value = serde_json::from_str(line).unwrap();
        let mut ns = 0;
        for span in line["spans"].as_array().unwrap() {
            let text = |key: &str| span[key].as_str().unwrap_or_default().to_owned();
            let at = (text("stage"), span["level"].as_u64().unwrap(), text("netns"), text("device"));
            let weight = line["weight"].as_u64().unwrap();
            ns += span["ns"].as_u64().unwrap();
            *sums.entry(at).or_default() += u128::from(span["ns"].as_u64().unwrap() * weight);
        }
        assert_eq!(line["ns"], ns);
        assert!(line["source"].as_str().unwrap().parse::<IpAddr>().is_ok());
    }
    assert_eq!((lines, items), (231, 231));
    assert_eq!(sums, report().0);
}

#[test]
fn a_parquet_file_has_the_sums_of_the_report() {
    let (bytes, Exported { items, .. }) = exported(Format::Parquet);
    let reader = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
    assert_eq!((reader.metadata().file_metadata().num_rows(), items), (231, 231));
    let number = |row: &Row, name: &str| match row.get_column_iter().find(|(column, _)| *column == name) {
        Some((_, Field::Long(number))) => *number as u128,
        Some((_, Field::Int(number))) => *number as u128,
        other => panic!("{name}: {other:?}"),
    };
    let text = |row: &Row, name: &str| match row.get_column_iter().find(|(column, _)| *column == name) {
        Some((_, Field::Str(text))) => text.clone(),
        other => panic!("{name}: {other:?}"),
    };
    let mut sums = Sums::new();
    for row in reader.get_row_iter(None).unwrap() {
        let row = row.unwrap();
        let (weight, mut ns) = (number(&row, "weight"), 0);
        let Some((_, Field::ListInternal(spans))) = row.get_column_iter().find(|(name, _)| *name == "spans")
        else {
            panic!("no spans")
        };
        for span in spans.elements() {
            let Field::Group(span) = span else { panic!("{span:?}") };
            let at = (
                text(span, "stage"),
                number(span, "level") as u64,
                text(span, "netns"),
                text(span, "device"),
            );
            ns += number(span, "ns");
            *sums.entry(at).or_default() += number(span, "ns") * weight;
        }
        assert_eq!(ns, number(&row, "ns"));
    }
    assert_eq!(sums, report().0);
}

#[test]
fn a_perfetto_trace_nests_and_has_the_sums_of_the_report() {
    let (bytes, _) = exported(Format::Perfetto);
    let trace = WholeTrace::decode(&bytes[..]).unwrap();
    let (mut tracks, mut open, mut stages, mut flows) =
        (HashMap::new(), HashMap::new(), 0u128, HashMap::new());
    for packet in &trace.packet {
        if let Some(track) = &packet.track_descriptor {
            assert!(
                track.parent_uuid.is_none_or(|parent| tracks.contains_key(&parent)),
                "parents come first"
            );
            tracks.insert(track.uuid, track.name.clone());
        }
        let Some(event) = &packet.track_event else { continue };
        let (ns, track) = (packet.timestamp.unwrap(), event.track_uuid.unwrap());
        assert!(tracks[&track].starts_with("CPU ") || tracks[&track] == "unknown CPU");
        let stack: &mut Vec<(u64, u64, bool)> = open.entry(track).or_default();
        match EventType::try_from(event.r#type.unwrap()).unwrap() {
            EventType::SliceBegin => {
                let is_packet = event.categories[0] == "packet";
                assert_eq!(is_packet, stack.is_empty(), "stages lie in packets");
                stack.push((ns, ns, !is_packet));
                *flows.entry(event.flow_ids.first().copied()).or_insert(0) += i32::from(is_packet);
                *flows.entry(event.terminating_flow_ids.first().copied()).or_insert(0) +=
                    i32::from(is_packet);
            }
            EventType::SliceEnd => {
                let (begin, last, is_stage) = stack.pop().unwrap();
                assert!(ns >= last);
                stages += if is_stage { u128::from(ns - begin) } else { 0 };
            }
            _ => {}
        }
        if let Some(top) = stack.last_mut() {
            assert!(ns >= top.1, "time goes on");
            top.1 = ns;
        }
    }
    assert!(open.values().all(Vec::is_empty));
    assert_eq!(stages, report().1);
    for name in ["node linux-6-12", "ot-flannel-vxlan-pod1", "flannel.1"] {
        assert!(tracks.values().any(|known| known == name), "{name}");
    }
    // Packets pass more than one place.
    assert!(flows.len() > 200 && flows.iter().any(|(id, visits)| id.is_some() && *visits > 5));
}

#[test]
fn a_pcapng_file_has_the_headers_the_times_and_the_devices() {
    let (bytes, Exported { items, left_out }) = exported(Format::Pcapng);
    let mut reader = PcapNgReader::new(Cursor::new(bytes)).unwrap();
    let (mut names, mut packets, mut ipv4, mut ns, mut total) = (Vec::new(), 0, 0, 0u128, 0u128);
    let header = recording().header;
    while let Some(block) = reader.next_block() {
        match block.unwrap() {
            Block::InterfaceDescription(interface) => {
                assert!(interface.options.contains(&InterfaceDescriptionOption::IfTsResol(9)));
                names.extend(interface.options.iter().find_map(|option| match option {
                    InterfaceDescriptionOption::IfName(name) => Some(name.to_string()),
                    _ => None,
                }));
            }
            Block::EnhancedPacket(packet) => {
                packets += 1;
                let is_ipv4 = packet.data[0] == 0x45;
                ipv4 += u32::from(is_ipv4 && packet.data[12..14] == [10, 244]);
                assert!(is_ipv4 || packet.data[0] == 0x60);
                assert!(packet.original_len as usize >= packet.data.len());
                let since = packet.timestamp.as_nanos() - u128::from(header.start_wall_ns);
                assert!(since < 20_000_000_000, "{since}");
                let [EnhancedPacketOption::Comment(comment)] = &packet.options[..] else { panic!() };
                let (time, stages) = comment.split_once(": ").unwrap();
                total += time.split_once(" ns").unwrap().0.parse::<u128>().unwrap();
                let of_stage =
                    |stage: &str| stage.split(" ns").next()?.rsplit(' ').next()?.parse::<u128>().ok();
                ns += stages.split(", ").map(|stage| of_stage(stage).unwrap()).sum::<u128>();
            }
            _ => {}
        }
    }
    assert!(ipv4 > 200, "{ipv4}");
    assert_eq!((packets, left_out), (items, 0));
    assert_eq!((ns, total), (report().1, report().1));
    assert!(names.iter().any(|name| name == "ot-flannel-vxlan-pod1/eth0"), "{names:?}");
}

#[test]
fn profiles_have_the_sums_of_the_report() {
    let total = report().1;
    let (folded, _) = exported(Format::Folded);
    let folded = String::from_utf8(folded).unwrap();
    let of_line = |line: &str| line.rsplit_once(' ').unwrap().1.parse::<u128>().unwrap();
    assert_eq!(folded.lines().map(of_line).sum::<u128>(), total);

    let profile = pprof::tests::read(&exported(Format::Pprof).0);
    let text = |number: i64| profile.string_table[number as usize].as_str();
    let units: Vec<_> = profile.sample_type.iter().map(|kind| (text(kind.r#type), text(kind.unit))).collect();
    assert_eq!(units, [("packets", "count"), ("time", "nanoseconds")]);
    assert_eq!(profile.sample.iter().map(|sample| sample.value[1] as u128).sum::<u128>(), total);
    let mut stacks = BTreeMap::new();
    for sample in &profile.sample {
        let name = |id: &u64| text(profile.function[*id as usize - 1].name);
        let stack: Vec<_> = sample.location_id.iter().rev().map(name).collect();
        *stacks.entry(stack.join(";")).or_insert(0) += sample.value[1];
    }
    let lines: String = folded.lines().map(|line| line.to_owned() + "\n").collect();
    for (stack, ns) in &stacks {
        assert!(lines.contains(&format!("{stack} {ns}\n")), "{stack} {ns}");
    }
    assert_eq!(stacks.len(), folded.lines().count());

    let speedscope: Value = serde_json::from_slice(&exported(Format::Speedscope).0).unwrap();
    let profile = &speedscope["profiles"][0];
    let (samples, weights) = (profile["samples"].as_array().unwrap(), profile["weights"].as_array().unwrap());
    assert_eq!(
        (samples.len(), &profile["type"], &profile["unit"]),
        (weights.len(), &"sampled".into(), &"nanoseconds".into())
    );
    let sum: u64 = weights.iter().map(|weight| weight.as_u64().unwrap()).sum();
    assert_eq!((u128::from(sum), profile["endValue"].as_u64()), (total, Some(sum)));
    let frames = speedscope["shared"]["frames"].as_array().unwrap().len() as u64;
    let numbers = samples.iter().flat_map(|sample| sample.as_array().unwrap());
    assert!(numbers.clone().all(|number| number.as_u64().unwrap() < frames));
}

/// A format whose output cannot be written says so.
#[test]
fn a_full_disk_is_an_error_in_every_format() {
    struct Full(usize);
    impl std::io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let written = bytes.len().min(self.0);
            self.0 -= written;
            if written == 0 { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(written) }
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    use clap::ValueEnum;
    for &format in Format::value_variants() {
        for room in [0, 1000] {
            assert!(export(&recording(), format, Full(room)).is_err(), "{format:?} {room}");
        }
    }
}
