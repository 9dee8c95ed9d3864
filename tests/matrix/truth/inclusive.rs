//! The time of functions from call to return, once derived from a recording and once measured by the kernel's
//! own tracer, on the same traffic.
//!
//! A recording has entries, not returns. A function that calls nothing which is a stage of its own ends with
//! the next entry: what its caller does until then is in it. A function that hands the packet on ends, for
//! the packet, where that lies in another device's queue: what is left of the function by then, the returns
//! out of everything that it called, is not in it. Both are a few per cent of the functions here.

use anyhow::{Context, Result, ensure};
use overlay_trace::analysis::{Analysis, By, Collector};
use overlay_trace::trace::RecordView;
use overlay_trace_common::record::Segment;

use super::compare::is_in;
use super::flow::{Flow, WARM_UP};
use super::ftrace::Graph;
use super::ground::{Ground, Window};
use super::{Brought, Cause};
use crate::results::{Outcome, Verdict};
use crate::seen::Seen;

/// How far the two may be apart.
const TOLERANCE: f64 = 0.10;

/// A function whose time both tools know.
struct Function {
    name: &'static str,
    /// The stage in whose segment it is entered.
    stage: &'static str,
    /// Where it begins in a segment of the stage: at all, or only where the stage before it is another one.
    ends: Ends,
}

/// Where a function ends in a packet's way.
#[derive(Clone, Copy, PartialEq)]
enum Ends {
    /// At the next entry.
    AtNextEntry,
    /// Where the packet is queued.
    InQueue,
}

const VXLAN_XMIT: Function = Function { name: "vxlan_xmit", stage: "vxlan-encap", ends: Ends::InQueue };
/// Its first stage is what it calls at once.
const BR_HANDLE_FRAME: Function =
    Function { name: "br_handle_frame", stage: "bridge-netfilter", ends: Ends::InQueue };
const NF_CONNTRACK_IN: Function =
    Function { name: "nf_conntrack_in", stage: "conntrack-in", ends: Ends::AtNextEntry };
const IPT_DO_TABLE: Function = Function { name: "ipt_do_table", stage: "iptables", ends: Ends::AtNextEntry };

macro_rules! cause {
    ($name:literal, $function:expr) => {
        Cause {
            name: $name,
            bring_about: plain,
            untraced: Some(|ground| traced_by_the_kernel(ground, &$function)),
            check: |seen, windows| agree(seen, windows, &$function),
        }
    };
}

pub const CAUSES: &[Cause] = &[
    cause!("inclusive/vxlan_xmit", VXLAN_XMIT),
    cause!("inclusive/br_handle_frame", BR_HANDLE_FRAME),
    cause!("inclusive/nf_conntrack_in", NF_CONNTRACK_IN),
    cause!("inclusive/ipt_do_table", IPT_DO_TABLE),
];

fn plain(ground: &Ground) -> Result<Brought> {
    Ok(Ok(vec![ground.send(&Flow::PLAIN, 0.0)?]))
}

/// A window whose times are those of the function's calls, and whose size is what the tracer adds to each.
fn traced_by_the_kernel(ground: &Ground, function: &Function) -> Result<Brought> {
    if let Some(lack) = Graph::lack() {
        return Ok(Err(lack));
    }
    let own = Graph::own_cost_ns()?;
    let graph = Graph::of(function.name)?;
    let mut sent = 0;
    let forget_the_first = || {
        sent += 1;
        if sent == WARM_UP + 1 { graph.forget() } else { Ok(()) }
    };
    let window = ground.send_each(&Flow::PLAIN, own, forget_the_first)?;
    let calls = graph.calls()?;
    Ok(Ok(vec![Window { times_ns: calls.into_iter().map(|ns| ns as u64).collect(), ..window }]))
}

/// What a recording says of a function's calls.
struct Recorded {
    calls: u64,
    /// Per call, the probes' cost taken off.
    net_ns: f64,
    raw_ns: f64,
}

fn recorded(seen: &Seen, window: &Window, function: &Function) -> Result<Recorded> {
    let header = &seen.recording.header;
    let stage = header.stages.iter().position(|row| row.name == function.stage);
    let stage = stage.with_context(|| format!("there is no stage {}", function.stage))? as u8;
    let is_queue =
        |step: &Segment| header.stages.get(usize::from(step.stage())).is_some_and(|row| row.kind == "wait");
    let mut collector = Collector::new(header, &seen.recording.hops, By::Stage);
    seen.recording.for_each_record(|record| {
        if is_in(window, &record) {
            for part in parts(record.way, stage, function.ends, is_queue) {
                let mut header = record.header;
                header.end_ns = header.start_ns + part.iter().map(|step| step.ns()).sum::<u64>();
                collector.add(&RecordView { header, way: part });
            }
        }
    })?;
    let analysis: Analysis = collector.finish(&seen.recording.names);
    let net_ns =
        analysis.net_mean().context("the function was not seen, or the probes' cost is not known")?;
    Ok(Recorded { calls: analysis.packets(), net_ns, raw_ns: analysis.end_to_end.mean() })
}

/// The function's calls in a way. Segments that no probe begins belong to the call before them.
fn parts(way: &[Segment], stage: u8, ends: Ends, is_queue: impl Fn(&Segment) -> bool) -> Vec<&[Segment]> {
    let mut parts = Vec::new();
    let mut at = 0;
    while at < way.len() {
        if way[at].stage() != stage {
            at += 1;
            continue;
        }
        let is_over = |step: &Segment| match ends {
            Ends::AtNextEntry => !step.is_resumed() && !step.is_wait(),
            Ends::InQueue => is_queue(step),
        };
        let length = 1 + way[at + 1..].iter().take_while(|step| !is_over(step)).count();
        parts.push(&way[at..at + length]);
        at += length;
    }
    parts
}

fn agree(seen: &Seen, windows: &[Window], function: &Function) -> Outcome {
    let [window, measured] = windows else { anyhow::bail!("there are {} windows", windows.len()) };
    let recorded = recorded(seen, window, function)?;
    let calls = measured.times_ns.len() as u64;
    ensure!(
        recorded.calls == calls,
        "{} was called {calls} times, and recorded {} times",
        function.name,
        recorded.calls
    );
    let with_own = measured.times_ns.iter().sum::<u64>() as f64 / calls as f64;
    let theirs = with_own - measured.size;
    let figures = format!(
        "{calls} calls: {:.0} ns recorded ({:.0} with the probes), {theirs:.0} ns by function_graph ({with_own:.0} with its own)",
        recorded.net_ns, recorded.raw_ns
    );
    ensure!((recorded.net_ns / theirs - 1.0).abs() <= TOLERANCE, "{figures}");
    Ok(Verdict::With(figures))
}
