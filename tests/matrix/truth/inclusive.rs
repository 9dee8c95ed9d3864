//! The time of functions from call to return, once derived from a recording and once measured by the kernel's
//! own tracer, on the same traffic.
//!
//! A recording has entries, not returns. A function that calls nothing which is a stage of its own ends with
//! the next entry: what its caller does until then is in it. A function that hands the packet on ends, for
//! the packet, where that lies in another device's queue: what is left of the function by then, the returns
//! out of everything that it called, is not in it. Both are a few per cent of the functions here.

use anyhow::{Context, Result, ensure};
use overlay_trace_analysis::breakdown::Analysis;
use overlay_trace_common::flags::RecordFlags;
use overlay_trace_common::path::Span;
use overlay_trace_format::{RecordView, encode_path};

use super::compare::Recorded;
use super::fixture::{Fixture, Window};
use super::flow::{Flow, WARM_UP};
use super::ftrace::Graph;
use super::{Cause, Injected, rules};
use crate::results::{Outcome, Verdict};

/// How far the two may be apart.
const TOLERANCE: f64 = 0.10;

/// A function whose time both tools know.
pub struct Function {
    /// Its name, or those of several that share a stage.
    pub names: &'static [&'static str],
    /// The stage in whose segment it is entered.
    pub stage: &'static str,
    /// The stage before, where not every segment of the stage is of this function.
    pub after: Option<&'static str>,
    pub ends: Ends,
    /// Rules that each packet passes: a list makes a short function large compared to what its caller does until
    /// the next entry.
    pub rules: usize,
}

/// Where a function ends in a packet's path.
#[derive(Clone, Copy, PartialEq)]
pub enum Ends {
    /// At the next entry.
    AtNextEntry,
    /// Where the packet is queued.
    InQueue,
}

const VXLAN_XMIT: Function =
    Function { names: &["vxlan_xmit"], stage: "vxlan-encap", after: None, ends: Ends::InQueue, rules: 0 };
/// Its first stage is what it calls at once.
const BR_HANDLE_FRAME: Function = Function {
    names: &["br_handle_frame"],
    stage: "bridge-netfilter",
    after: Some("receive"),
    ends: Ends::InQueue,
    rules: 0,
};
const NF_CONNTRACK_IN: Function = Function {
    names: &["nf_conntrack_in"],
    stage: "conntrack-in",
    after: None,
    ends: Ends::AtNextEntry,
    rules: 0,
};
const IPT_DO_TABLE: Function = Function {
    names: &["ipt_do_table"],
    stage: "iptables",
    after: None,
    ends: Ends::AtNextEntry,
    rules: 1_000,
};

macro_rules! cause {
    ($name:literal, $function:expr) => {
        Cause {
            name: $name,
            inject: |fixture| with_rules(fixture, &$function, || fixture.send(&Flow::PLAIN, 0.0)),
            untraced: Some(|fixture| {
                with_rules(fixture, &$function, || traced_by_the_kernel(fixture, &$function))
            }),
            check: |recorded, windows| agree(recorded, windows, &$function),
        }
    };
}

pub const CAUSES: &[Cause] = &[
    cause!("inclusive/vxlan_xmit", VXLAN_XMIT),
    cause!("inclusive/br_handle_frame", BR_HANDLE_FRAME),
    cause!("inclusive/nf_conntrack_in", NF_CONNTRACK_IN),
    cause!("inclusive/ipt_do_table", IPT_DO_TABLE),
];

fn with_rules(
    fixture: &Fixture,
    function: &Function,
    then: impl FnOnce() -> Result<Window>,
) -> Result<Injected> {
    if let Some(lack) = Graph::lack() {
        return Ok(Err(lack));
    }
    let list = rules::iptables(fixture, function.rules)?;
    Ok(fixture.with(&[list], then)?.map(|window| vec![window]))
}

/// A window whose times are those of the function's calls, and whose size is what the tracer adds to each.
pub fn traced_by_the_kernel(fixture: &Fixture, function: &Function) -> Result<Window> {
    let own = Graph::own_cost_ns()?;
    let graph = Graph::of(function.names)?;
    let mut sent = 0;
    let forget_the_first = || {
        sent += 1;
        if sent == WARM_UP + 1 { graph.forget() } else { Ok(()) }
    };
    let window = fixture.send_each(&Flow::PLAIN, own, forget_the_first)?;
    let calls = graph.calls()?;
    Ok(Window { times_ns: calls.into_iter().map(|ns| ns as u64).collect(), ..window })
}

/// A function's calls.
pub struct Calls {
    pub count: u64,
    /// Each as if it were a whole path; those between which the clock was not read are one.
    analysis: Analysis,
}

impl Calls {
    /// ns per call, as recorded.
    pub fn raw_ns(&self) -> f64 {
        self.analysis.end_to_end.sum() as f64 / self.count as f64
    }

    /// The same, the probes' cost taken off.
    pub fn net_ns(&self) -> Result<f64> {
        let net = self.analysis.net.as_ref().context("the probes' cost was not measured")?;
        Ok(net.sum() as f64 / self.count as f64)
    }
}

/// The calls of a function in a window.
pub fn calls_of(recorded: &Recorded, window: &Window, function: &Function) -> Result<Calls> {
    let stages = &recorded.seen.recording.header.stages;
    let number = |name: &str| {
        let at = stages.iter().position(|row| row.name == name);
        at.map(|at| at as u8).with_context(|| format!("there is no stage {name}"))
    };
    let stage = number(function.stage)?;
    let after = function.after.map(number).transpose()?;
    let begins = |before: Option<&Span>, step: &Span| {
        step.stage == stage && after.is_none_or(|after| before.is_some_and(|before| before.stage == after))
    };
    let row = |step: &Span| stages.get(usize::from(step.stage));
    let interrupts = |step: &Span| row(step).is_some_and(|row| row.layer == "cpu");
    let is_over = |before: &Span, step: &Span| match function.ends {
        // Spans that no probe begins belong to the call before them. Where the clock was not read between
        // two calls, both are in the second one's time.
        Ends::AtNextEntry => {
            let is_read = before.ns > 0 || before.stage != step.stage;
            !interrupts(before) && !interrupts(step) && is_read
        }
        Ends::InQueue => row(step).is_some_and(|row| row.kind == "wait" && row.layer != "cpu"),
    };
    let (mut calls, mut count) = (Vec::new(), 0);
    for record in recorded.datagrams(window) {
        let way: Vec<Span> = record.spans().collect();
        for part in parts(&way, begins, is_over) {
            count += match function.ends {
                Ends::AtNextEntry => {
                    1 + part.iter().filter(|step| step.ns == 0 && step.stage == stage).count()
                }
                Ends::InQueue => 1,
            };
            let mut header = record.header;
            // What is done once per path is not done in each of its parts.
            header.flags |= RecordFlags::CHILD;
            header.end_ns = header.start_ns + part.iter().map(|step| step.ns).sum::<u64>();
            calls.push((header, encode_path(part)));
        }
    }
    let analysis =
        recorded.analysis(calls.iter().map(|(header, way)| RecordView { header: *header, path: way }));
    Ok(Calls { count: count as u64, analysis })
}

/// The parts of a path that begin and end so.
fn parts(
    way: &[Span],
    begins: impl Fn(Option<&Span>, &Span) -> bool,
    is_over: impl Fn(&Span, &Span) -> bool,
) -> Vec<&[Span]> {
    let mut parts = Vec::new();
    let mut at = 0usize;
    while at < way.len() {
        let mut length = 1;
        if begins(at.checked_sub(1).map(|before| &way[before]), &way[at]) {
            length += way[at..].windows(2).take_while(|steps| !is_over(&steps[0], &steps[1])).count();
            parts.push(&way[at..at + length]);
        }
        at += length;
    }
    parts
}

fn agree(recorded: &Recorded, windows: &[Window], function: &Function) -> Outcome {
    let [window, measured] = windows else { anyhow::bail!("there are {} windows", windows.len()) };
    let recorded = calls_of(recorded, window, function)?;
    let (ours, calls) = (recorded.count, measured.times_ns.len() as u64);
    ensure!(ours == calls, "{} was called {calls} times, and recorded {ours} times", function.names[0]);
    let (net, raw) = (recorded.net_ns()?, recorded.raw_ns());
    let with_own = measured.times_ns.iter().sum::<u64>() as f64 / calls as f64;
    let theirs = with_own - measured.size;
    let figures = format!(
        "{calls} calls: {net:.0} ns recorded ({raw:.0} with the probes), {theirs:.0} ns by function_graph ({with_own:.0} with its own)"
    );
    ensure!((net / theirs - 1.0).abs() <= TOLERANCE, "{figures}");
    Ok(Verdict::With(figures))
}
