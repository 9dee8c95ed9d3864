//! Whether stages own only what is theirs. A stage ends with the next entry, so that hardly anything can be left
//! for `other`; but then what a function's caller does after its return is the function's stage's. How much
//! that is, the kernel's own tracer tells: of functions that call no other stage, it knows the time.

use anyhow::{Context, Result, ensure};

use super::compare::Recorded;
use super::fixture::{Fixture, Window};
use super::flow::Flow;
use super::ftrace::Graph;
use super::inclusive::{Ends, Function, calls_of, traced_by_the_kernel};
use super::{Cause, Injected};
use crate::results::{Outcome, Verdict};

/// The part of the packets' time that may be in such a stage and not in its function: what takes less than a
/// probe costs has none of its own, and counts to the stage before it. (6.2 to 6.9 % under 6.1 to 7.2.)
const TOLERANCE: f64 = 0.08;

/// One call in so many may be for another packet.
const STRAY: u64 = 50;

/// Functions that are all of what their stage is said to be.
const LEAVES: &[Function] = &[
    leaf("conntrack-in", &["nf_conntrack_in"]),
    leaf(
        "nat",
        &[
            "nf_nat_ipv4_pre_routing",
            "nf_nat_ipv4_in",
            "nf_nat_ipv4_local_in",
            "nf_nat_ipv4_local_fn",
            "nf_nat_ipv4_out",
            // Of a connection that is known it does next to nothing, which the map leaves to the stage before.
            "nf_confirm",
            "ipv4_confirm",
        ],
    ),
    leaf("iptables", &["ipt_do_table"]),
    leaf("route-input", &["ip_route_input_noref"]),
];

const fn leaf(stage: &'static str, names: &'static [&'static str]) -> Function {
    Function { names, stage, after: None, ends: Ends::AtNextEntry, rules: 0 }
}

pub const CAUSES: &[Cause] =
    &[Cause { name: "inclusive/leaves", inject: plain, untraced: Some(each), check: own_only_theirs }];

fn plain(fixture: &Fixture) -> Result<Injected> {
    Ok(Ok(vec![fixture.send(&Flow::PLAIN, 0.0)?]))
}

/// A window for each of the functions.
fn each(fixture: &Fixture) -> Result<Injected> {
    match Graph::lack() {
        Some(lack) => Ok(Err(lack)),
        None => LEAVES.iter().map(|leaf| traced_by_the_kernel(fixture, leaf)).collect::<Result<_>>().map(Ok),
    }
}

fn own_only_theirs(recorded: &Recorded, windows: &[Window]) -> Outcome {
    let (plain, measured) = windows.split_first().context("there are no windows")?;
    let all = recorded.analysis(recorded.datagrams(plain));
    let total = all.net_mean().context("the probes' cost was not measured")? * all.packets() as f64;
    let (mut beyond, mut figures) = (0.0, Vec::new());
    for (leaf, measured) in LEAVES.iter().zip(measured) {
        let calls = calls_of(recorded, plain, leaf)?;
        let (ours, theirs) = (calls.count, measured.times_ns.len() as u64);
        // A stage can have more than one function; and the tracer sees other packets too, ARP's for instance.
        let packets = plain.times_ns.len() as u64;
        ensure!(
            ours > 0 && ours <= theirs && (theirs - ours) % packets <= packets / STRAY,
            "{} was called {theirs} times, and recorded {ours} times",
            leaf.names[0]
        );
        let stage = calls.net_ns()?;
        let all = measured.times_ns.iter().sum::<u64>() as f64 - measured.size * theirs as f64;
        let function = all / ours as f64;
        beyond += (stage - function) * ours as f64;
        figures.push(format!("{} {stage:.0} for {function:.0}", leaf.stage));
    }
    let share = beyond / total;
    let figures = format!("{:.1} % of the time: {} ns", share * 100.0, figures.join(", "));
    ensure!(share.abs() <= TOLERANCE, "{figures}");
    Ok(Verdict::With(figures))
}
