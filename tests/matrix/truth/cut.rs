//! Packets that are cut in software in one place: fragments because of an MTU, segments because a device
//! cannot do it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Result, ensure};
use overlay_trace_common::{flags::RecordFlags, record::Outcome as End};
use overlay_trace_format::RecordView;
use overlay_trace_lab::dataplanes::drive;
use overlay_trace_lab::traffic::{Kind, PORT, Protocol, Spec};

use super::compare::{Place, Recorded, is_in};
use super::fixture::{Change, Fixture, Window};
use super::flow::{Flow, TRUTH_PORT};
use super::{Cause, Injected};
use crate::invariants::is_delivered;
use crate::results::{Outcome, Verdict};
use crate::seen::is_stage;

/// An MTU of the underlay that the encapsulated datagrams of [`LARGE`] exceed by less than one packet.
const NARROW: u32 = 1400;
const LARGE: Flow = Flow { bytes: 1400, ..Flow::PLAIN };
/// So many fragments are one datagram of [`LARGE`].
const FRAGMENTS: usize = 2;
const BULK: Duration = Duration::from_millis(25);

const FRAGMENT: Place = Place { stage: "fragment", netns: "node1", device: "eth0", level: 1 };
const REASSEMBLY: Place = Place { stage: "reassembly-wait", netns: "node2", device: "eth0", level: 1 };
const POD_SEGMENTS: Place = Place { stage: "gso-segment", netns: "pod1", device: "eth0", level: 0 };
const UNDERLAY_SEGMENTS: Place = Place { netns: "node1", level: 1, ..POD_SEGMENTS };

pub const CAUSES: &[Cause] = &[
    Cause { name: "mtu/underlay", inject: narrow, untraced: None, check: is_fragmented },
    Cause {
        name: "gso/pod",
        inject: |fixture| without_gso(fixture, &POD_SEGMENTS),
        untraced: None,
        check: |recorded, windows| is_segmented(recorded, windows, &POD_SEGMENTS),
    },
    Cause {
        name: "gso/underlay",
        inject: |fixture| without_gso(fixture, &UNDERLAY_SEGMENTS),
        untraced: None,
        check: |recorded, windows| is_segmented(recorded, windows, &UNDERLAY_SEGMENTS),
    },
];

fn narrow(fixture: &Fixture) -> Result<Injected> {
    let wide = fixture.send(&LARGE, 1.0)?;
    let mtu = |netns| {
        let command = |mtu: u32| format!("ip link set dev eth0 mtu {mtu}");
        Change::new(netns, &[&command(NARROW)], &[&command(1500)])
    };
    let narrow = fixture.with(&[mtu("node1"), mtu("node2")], || fixture.send(&LARGE, FRAGMENTS as f64))?;
    Ok(narrow.map(|narrow| vec![wide, narrow]))
}

/// What became of the datagrams of a window: how many parts each was cut into, at which places of a stage
/// they or their parts were, how many of them or their parts were delivered.
#[derive(Default)]
struct Cut {
    parts: BTreeMap<u64, usize>,
    delivered: usize,
}

fn cut(recorded: &Recorded, is_whole: impl Fn(&RecordView<'_>) -> bool) -> Cut {
    let mut cut = Cut::default();
    let is_delivered = |record: &RecordView<'_>| is_delivered(&recorded.seen, record);
    for record in recorded.packets().filter(&is_whole) {
        cut.parts.insert(record.header.id, 0);
        cut.delivered += usize::from(is_delivered(&record));
    }
    for record in recorded.packets() {
        if record.header.flags.has(RecordFlags::CHILD)
            && let Some(parts) = cut.parts.get_mut(&record.header.parent)
        {
            *parts += 1;
            cut.delivered += usize::from(is_delivered(&record));
        }
    }
    cut
}

/// The places where packets of the window were in the stage: of our datagrams, or of bulk data.
fn places(recorded: &Recorded, window: &Window, stage: &str) -> BTreeSet<String> {
    let analysis = recorded.analysis(recorded.packets().filter(|record| {
        let flow = record.header.flow;
        [TRUTH_PORT, PORT].contains(&flow.destination_port)
            && (window.begin_ns..window.end_ns).contains(&record.header.start_ns)
    }));
    let of_stage = analysis.rows.iter().map(|row| &row.key).filter(|key| is_stage(key, stage));
    of_stage
        .map(|key| {
            let text = |part: &Option<String>| part.clone().unwrap_or_default();
            let netns = text(&key.netns);
            format!(
                "{} {}, level {}",
                recorded.seen.short(&netns),
                text(&key.device),
                key.level.unwrap_or_default()
            )
        })
        .collect()
}

fn only(place: &Place) -> BTreeSet<String> {
    BTreeSet::from([format!("{} {}, level {}", place.netns, place.device, place.level)])
}

/// Each datagram was cut in two by node1 and joined by node2, encapsulated, and only there; its fragments are
/// its children.
fn is_fragmented(recorded: &Recorded, windows: &[Window]) -> Outcome {
    for place in [FRAGMENT, REASSEMBLY] {
        let without = places(recorded, &windows[0], place.stage);
        ensure!(without.is_empty(), "there is {} at {without:?} although all fits", place.stage);
        let with = places(recorded, &windows[1], place.stage);
        ensure!(with == only(&place), "there is {} at {with:?} instead of {:?}", place.stage, only(&place));
    }
    let cut = cut(recorded, |record| is_in(&windows[1], record));
    let (sent, parts) = (windows[1].times_ns.len(), cut.parts.values().sum::<usize>());
    ensure!(cut.parts.len() == sent, "of {sent} datagrams {} have a record", cut.parts.len());
    ensure!(
        cut.parts.values().all(|parts| *parts == FRAGMENTS),
        "{sent} datagrams were cut into {FRAGMENTS} fragments each, and have {parts} children"
    );
    ensure!(cut.delivered == sent, "of {sent} datagrams {} were delivered", cut.delivered);
    Ok(Verdict::With(format!("{sent} datagrams, {parts} fragments")))
}

fn bulk(fixture: &Fixture) -> Result<Window> {
    let spec = Spec { duration: BULK, ..Spec::new(Kind::Bulk, Protocol::Tcp) };
    let begin_ns = super::flow::now_ns()?;
    drive(fixture.running, &[spec], fixture.stop)?;
    Ok(Window { begin_ns, end_ns: super::flow::now_ns()?, size: 0.0, times_ns: Vec::new() })
}

fn without_gso(fixture: &Fixture, place: &Place) -> Result<Injected> {
    let with = bulk(fixture)?;
    let command = |state| format!("ethtool -K {} tso {state} gso {state}", place.device);
    let change = Change::new(place.netns, &[&command("off")], &[&command("on")]);
    let without = fixture.with(&[change], || bulk(fixture))?;
    Ok(without.map(|without| vec![with, without]))
}

/// The segments were cut there and only there, and each packet that was cut has all of them as its children.
fn is_segmented(recorded: &Recorded, windows: &[Window], place: &Place) -> Outcome {
    let without = places(recorded, &windows[0], place.stage);
    ensure!(without.is_empty(), "there is {} at {without:?} although devices do it", place.stage);
    let with = places(recorded, &windows[1], place.stage);
    ensure!(with == only(place), "there is {} at {with:?} instead of {:?}", place.stage, only(place));
    let window = &windows[1];
    let is_split = |record: &RecordView<'_>| {
        record.header.outcome == End::Split as u8
            && (window.begin_ns..window.end_ns).contains(&record.header.start_ns)
    };
    let expected: BTreeMap<u64, usize> = recorded
        .packets()
        .filter(is_split)
        .map(|record| (record.header.id, usize::from(record.header.segments)))
        .collect();
    let cut = cut(recorded, is_split);
    let (wholes, parts) = (cut.parts.len(), cut.parts.values().sum::<usize>());
    let wrong = expected.iter().filter(|(id, segments)| cut.parts.get(id) != Some(segments)).count();
    ensure!(
        wholes > 0 && wrong == 0,
        "of {wholes} packets that were cut {wrong} have not all their segments"
    );
    Ok(Verdict::With(format!("{wholes} packets, {parts} segments")))
}
