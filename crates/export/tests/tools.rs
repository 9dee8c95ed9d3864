//! Exported files, opened in the tools that they are for. A tool that this machine lacks is skipped, with the reason.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Output},
};

use overlay_trace_analysis::breakdown::{Analysis, By};
use overlay_trace_export::{Format, export};
use overlay_trace_format::Recording;

/// Another interpreter than `python3`, which may have more modules.
const PYTHON: &str = "OVERLAY_TRACE_PYTHON";

fn recording() -> Recording {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/recordings/flannel-vxlan-6.12.otr");
    Recording::open(path).unwrap()
}

/// The end-to-end sum of its report, in ns.
fn total() -> u128 {
    Analysis::of(&recording(), By::Stage).unwrap().end_to_end.sum()
}

fn exported(folder: &Path, name: &str, format: Format) {
    export(&recording(), format, File::create(folder.join(name)).unwrap()).unwrap();
}

/// What a tool prints; `None` where the tool is missing, or does not know what it needs.
fn run(folder: &Path, tool: &str, probe: &[&str], arguments: &[&str]) -> Option<String> {
    let output = |arguments: &[&str]| Command::new(tool).args(arguments).current_dir(folder).output();
    if !output(probe).is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: `{tool} {}` does not work here", probe.join(" "));
        return None;
    }
    let Output { status, stdout, stderr } = output(arguments).unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    Some(String::from_utf8(stdout).unwrap())
}

fn python(folder: &Path, module: &str, script: &str) -> Option<String> {
    let python = std::env::var(PYTHON).unwrap_or_else(|_| "python3".into());
    run(folder, &python, &["-c", &format!("import {module}")], &["-c", script])
}

/// The queries of the book, and the sum of all spans.
#[test]
fn duckdb_reads_parquet() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("run")).unwrap();
    exported(&dir.path().join("run"), "a.parquet", Format::Parquet);
    let book = include_str!("../../../docs/src/export.md");
    let queries: Vec<&str> =
        book.split("```sql\n").skip(1).filter_map(|part| part.split("```").next()).collect();
    assert!(queries.len() >= 4);
    let script = format!(
        "import duckdb, json\n\
         for query in json.loads({:?}): print(len(duckdb.sql(query).fetchall()))\n\
         print(duckdb.sql(\"SELECT sum(span.ns * weight) FROM (SELECT weight, unnest(spans) AS span FROM 'run/*.parquet')\").fetchall()[0][0])\n\
         print(duckdb.sql(\"SELECT typeof(start) FROM 'run/*.parquet'\").fetchall()[0][0])",
        serde_json::to_string(&queries).unwrap()
    );
    let Some(said) = python(dir.path(), "duckdb", &script) else { return };
    let lines: Vec<&str> = said.lines().collect();
    let [rows @ .., sum, kind] = &lines[..] else { panic!("{said}") };
    assert_eq!(*sum, total().to_string());
    assert!(kind.starts_with("TIMESTAMP"), "{kind}");
    assert!(rows.len() == queries.len() && rows.iter().all(|rows| *rows != "0"), "{said}");
}

#[test]
fn tshark_reads_pcapng() {
    let dir = tempfile::tempdir().unwrap();
    exported(dir.path(), "a.pcapng", Format::Pcapng);
    let fields = [
        "-e",
        "frame.interface_name",
        "-e",
        "ip.checksum.status",
        "-e",
        "frame.comment",
        "-e",
        "_ws.malformed",
    ];
    let mut arguments =
        vec!["-r", "a.pcapng", "-o", "ip.check_checksum:TRUE", "-T", "fields", "-E", "separator=|"];
    arguments.extend(fields);
    let Some(said) = run(dir.path(), "tshark", &["--version"], &arguments) else { return };
    let (mut sum, mut good) = (0, 0);
    for line in said.lines() {
        let [name, checksum, comment, malformed] = line.split('|').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        assert!(name.contains('/') && malformed.is_empty(), "{line}");
        // A good one; IPv6 has none.
        good += u32::from(checksum == "1");
        assert!(["1", ""].contains(&checksum), "{line}");
        sum += comment.split_once(" ns").unwrap().0.parse::<u128>().unwrap();
    }
    assert!(good > 200, "{good}");
    assert_eq!((said.lines().count(), sum), (231, total()));
}

/// Perfetto's own protobuf classes.
#[test]
fn perfetto_reads_its_trace() {
    let dir = tempfile::tempdir().unwrap();
    exported(dir.path(), "a.pftrace", Format::Perfetto);
    let script = "from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackEvent\n\
        from google.protobuf.unknown_fields import UnknownFieldSet\n\
        trace = Trace(); trace.ParseFromString(open('a.pftrace', 'rb').read())\n\
        open_slices, sum, flows = {}, 0, 0\n\
        assert {c.clock_id for c in trace.packet[0].clock_snapshot.clocks} == {1, 3, 6}\n\
        for packet in trace.packet:\n\
        \x20 event, stack = packet.track_event, open_slices.setdefault(packet.track_event.track_uuid, [])\n\
        \x20 for message in [packet, event, packet.track_descriptor]: assert not len(UnknownFieldSet(message))\n\
        \x20 if event.type == TrackEvent.TYPE_SLICE_BEGIN: stack.append((packet.timestamp, 'stage' in event.categories))\n\
        \x20 if event.type == TrackEvent.TYPE_SLICE_END:\n\
        \x20   begin, is_stage = stack.pop(); sum += (packet.timestamp - begin) * is_stage\n\
        \x20 flows += len(event.flow_ids) + len(event.terminating_flow_ids)\n\
        print(sum, flows > 231, len([p for p in trace.packet if p.track_descriptor.name == 'flannel.1']))";
    let module = "perfetto.protos.perfetto.trace.perfetto_trace_pb2";
    let Some(said) = python(dir.path(), module, script) else { return };
    assert_eq!(said.trim(), format!("{} True 2", total()));
}

#[test]
fn go_reads_pprof() {
    let dir = tempfile::tempdir().unwrap();
    exported(dir.path(), "a.pb.gz", Format::Pprof);
    let arguments = ["tool", "pprof", "-top", "-unit=ns", "-nodecount=1000", "a.pb.gz"];
    let Some(said) = run(dir.path(), "go", &["version"], &arguments) else { return };
    assert!(said.contains(&format!("of {}ns total", total())), "{said}");
}
