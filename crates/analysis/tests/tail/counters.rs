//! The kernel's own counters as evidence: joined to the packets that a recording shows, and told once.

use overlay_trace_analysis::{
    breakdown::{Analysis, By},
    report::{self, Format, Sort, TailFormat},
    tail::{Confidence, Of, Severity, Tail, Threshold},
};
use overlay_trace_common::{
    path::Span,
    record::{Flow, Outcome},
};
use overlay_trace_format::{
    Checkpoint, Growth, HopName, KernelCounters, Names, NetnsCounters, Recording, ThrottledCgroup, Writer,
    encode_path, encode_record,
};
use tempfile::TempDir;

use super::{Record, support};

const INODE: u32 = 4_026_532_999;
const SECOND: u64 = 1_000_000_000;

fn growth(device: &str, counter: &str, by: u64) -> Growth {
    Growth { device: device.into(), counter: counter.into(), by }
}

/// What grew in `n2`, in ten seconds.
fn counters(grown: Vec<Growth>) -> KernelCounters {
    KernelCounters {
        duration_ns: 10 * SECOND,
        netns: vec![NetnsCounters { netns_inode: INODE, netns: "n2".into(), grown }],
        ..KernelCounters::default()
    }
}

/// Packets that wait so long in a socket of `n2`, and some that `function` drops there while in `stage`.
fn recording(
    dir: &TempDir,
    waits: impl Fn(u64) -> u64,
    drops: Option<(&str, &str)>,
    counters: &KernelCounters,
) -> Recording {
    let path = dir.path().join("a.otr");
    let mut writer = Writer::create(&path, true, &support::header()).unwrap();
    let hop = HopName { netns_inode: INODE, netns: "n2".into(), device: "eth0".into(), ..HopName::default() };
    writer.hops(&[(1, hop)]).unwrap();
    let mut names = Names::default();
    let (stage, function) = drops.unwrap_or(("receive", ""));
    names.symbols.insert(7, format!("{function}+0x1f"));
    writer.names(&names).unwrap();
    for number in 0..400 {
        let is_dropped = drops.is_some() && number % 40 == 39;
        let span = |name, ns| Span { ns, hop: 1, level: 0, stage: support::stage(name), cpu: None };
        let way = match is_dropped {
            true => vec![span("receive", 9000), span(stage, 300)],
            false => vec![span("receive", 9000), span("socket-wait", waits(number))],
        };
        let outcome = if is_dropped { Outcome::Dropped } else { Outcome::Delivered };
        let (mut header, way): Record =
            (support::record(number + 1, number * SECOND / 40, &way, outcome), way);
        header.flow =
            Flow { version: 4, protocol: 17, source_port: 40_000, destination_port: 80, ..Flow::default() };
        header.drop_location = if is_dropped { 7 } else { 0 };
        let mut bytes = Vec::new();
        encode_record(&header, &encode_path(&way), &mut bytes);
        writer.records(&bytes).unwrap();
    }
    writer.kernel_counters(counters).unwrap();
    writer.finish(&Checkpoint::default()).unwrap();
    Recording::open(&path).unwrap()
}

fn steady(_: u64) -> u64 {
    2000
}

fn tail(recording: &Recording) -> Tail {
    Tail::of(recording, Of::Packets, Threshold::Quantile(0.95), 0).unwrap()
}

#[test]
fn what_a_listener_throws_away_is_a_cause_without_a_drop() {
    let dir = TempDir::new().unwrap();
    let grown = vec![growth("", "TcpExtListenDrops", 14), growth("", "TcpExtListenOverflows", 14)];
    let recording = recording(&dir, steady, None, &counters(grown));
    let tail = tail(&recording);
    let found = &tail.findings[0];
    assert_eq!((found.rule.id, found.severity, found.packets), ("listener-full", Severity::Severe, 14));
    // Both count the same.
    assert_eq!(found.lost_ns, 14 * u128::from(SECOND));
    assert_eq!((found.key.netns.as_deref(), found.has_place()), (Some("n2"), true));
    let text = String::from_utf8(report::tail(&tail, TailFormat::FullText).unwrap()).unwrap();
    assert!(text.starts_with("Cause: a listening socket threw away connection requests"), "{text}");
    assert!(text.contains("TcpExtListenOverflows +14 in n2"), "{text}");
}

/// A broken file can say anything.
#[test]
fn what_a_device_counts_as_an_error_is_a_cause_at_that_device() {
    let dir = TempDir::new().unwrap();
    let grown = vec![growth("wg0", "rx.errs", 181), growth("wg0", "rx.frame", 181)];
    let found = tail(&recording(&dir, steady, None, &counters(grown))).findings.remove(0);
    assert_eq!(
        (found.rule.id, found.packets, found.key.device.as_deref()),
        ("receive-errors", 181, Some("wg0"))
    );
}

#[test]
fn counters_add_up_to_no_more_than_a_number_holds() {
    let dir = TempDir::new().unwrap();
    let grown = vec![growth("", "TcpExtListenDrops", u64::MAX), growth("", "TcpExtListenDrops", u64::MAX)];
    let found = tail(&recording(&dir, steady, None, &counters(grown))).findings.remove(0);
    assert_eq!((found.rule.id, found.packets), ("listener-full", u64::MAX));
}

#[test]
fn an_unknown_spi_is_told_by_the_counter_and_told_once() {
    let dir = TempDir::new().unwrap();
    let dropped = Some(("receive", "xfrm_input"));
    let grown = vec![growth("", "XfrmInNoStates", 10)];
    let found = tail(&recording(&dir, steady, dropped, &counters(grown))).findings.remove(0);
    assert_eq!((found.rule.id, found.confidence, found.packets), ("unknown-spi", Confidence::Certain, 10));
    // Without the counter it can be several things.
    let found = tail(&recording(&dir, steady, dropped, &counters(Vec::new()))).findings.remove(0);
    assert_eq!((found.rule.id, found.possible().len()), ("drop", 3));
}

/// A group of `n2` that was stopped for two of ten seconds.
fn throttled() -> ThrottledCgroup {
    ThrottledCgroup {
        cgroup: "/pod".into(),
        quota_ns: Some(15_000_000),
        period_ns: Some(100_000_000),
        periods: 90,
        throttled_periods: 40,
        throttled_ns: 2 * SECOND,
        commands: vec!["<script>".into()],
        netns_inodes: vec![INODE],
    }
}

#[test]
fn a_quota_is_the_cause_where_packets_wait_for_its_program() {
    let dir = TempDir::new().unwrap();
    let all = KernelCounters { throttled: vec![throttled()], ..counters(Vec::new()) };
    let late = |number: u64| if number.is_multiple_of(20) { 50_000_000 } else { 2000 };
    let recording = recording(&dir, late, None, &all);
    let tail = tail(&recording);
    let ids: Vec<&str> = tail.findings.iter().map(|finding| finding.rule.id).collect();
    assert_eq!(ids, ["cpu-quota"]);
    let found = &tail.findings[0];
    assert_eq!((found.severity, found.confidence), (Severity::Severe, Confidence::Certain));
    assert_eq!(found.key.stage.as_deref(), Some("socket-wait"));
    let text = String::from_utf8(report::tail(&tail, TailFormat::FullText).unwrap()).unwrap();
    assert!(text.contains("stopped in 40 of 90 periods, for 2.00s in total"), "{text}");
    let page = String::from_utf8(report::tail(&tail, TailFormat::Html).unwrap()).unwrap();
    assert!(page.contains("&lt;script&gt;") && !page.contains("(<script>"));
    let mut analysis = Analysis::of(&recording, By::Stage).unwrap();
    let json: serde_json::Value =
        serde_json::from_slice(&report::report(&mut analysis, Format::Json, Sort::Path).unwrap()).unwrap();
    assert_eq!(json["kernel_counters"]["throttled"][0]["throttled_ns"], 2 * SECOND);
}

#[test]
fn a_quota_that_nobody_waits_for_is_no_severe_cause() {
    let dir = TempDir::new().unwrap();
    let all = KernelCounters { throttled: vec![throttled()], ..counters(Vec::new()) };
    let found = tail(&recording(&dir, steady, None, &all)).findings.remove(0);
    assert_eq!((found.rule.id, found.severity), ("cpu-quota", Severity::Warning));
    assert_eq!((found.confidence, found.share), (Confidence::Possible, None));
    // Stopped now and then, as programs with a quota are.
    let rarely = ThrottledCgroup { throttled_ns: SECOND / 100, ..throttled() };
    let all = KernelCounters { throttled: vec![rarely], ..counters(Vec::new()) };
    assert!(tail(&recording(&dir, steady, None, &all)).findings.is_empty());
}

#[test]
fn stolen_time_is_told_from_what_every_guest_loses() {
    let dir = TempDir::new().unwrap();
    let of = |steal| {
        let node = vec![growth("", "steal_ns", steal)];
        let recording = recording(&dir, steady, None, &KernelCounters { node, ..counters(Vec::new()) });
        tail(&recording)
            .findings
            .into_iter()
            .map(|finding| (finding.rule.id, finding.severity))
            .collect::<Vec<_>>()
    };
    let cpus = u64::from(support::header().cpus.unwrap_or(1));
    assert_eq!(of(cpus * SECOND / 10), []);
    assert_eq!(of(cpus * SECOND / 2), [("steal", Severity::Note)]);
    assert_eq!(of(cpus * SECOND * 2), [("steal", Severity::Warning)]);
}
