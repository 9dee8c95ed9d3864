//! Lists of rules that match nothing: what they cost grows with their number.

use anyhow::{Result, ensure};
use overlay_trace_analysis::breakdown::Key;

use super::compare::{self, Place, Profile, Recorded, TOLERANCE};
use super::fixture::{Change, Fixture, Window};
use super::flow::Flow;
use super::{Cause, Injected};
use crate::results::{Outcome, Verdict};

/// How many rules; the first is what the others are compared with.
const LISTS: [usize; 5] = [0, 10, 100, 1_000, 10_000];
/// A source address of a documentation network that no lab uses.
const NOBODY: &str = "198.51.100.1";

const IPTABLES: Place = Place { stage: "iptables", netns: "node1", device: "cni0", level: 0 };
const NFTABLES: Place = Place { stage: "nftables", ..IPTABLES };

pub const CAUSES: &[Cause] = &[
    Cause {
        name: "rules/iptables",
        inject: |fixture| lists(fixture, iptables),
        untraced: None,
        check: |recorded, windows| is_linear(recorded, windows, &IPTABLES),
    },
    Cause {
        name: "rules/nftables",
        inject: |fixture| lists(fixture, nftables),
        untraced: None,
        check: |recorded, windows| is_linear(recorded, windows, &NFTABLES),
    },
];

/// A table of nftables, so that its module is there when the recording begins.
pub fn prepare(fixture: &Fixture) -> Result<()> {
    let table = ["nft add table inet truth"];
    // What is lacking will be said when rules are to be added.
    fixture.with(&[Change::new("node1", &table, &[])], || Ok(())).map(drop)
}

/// A list of so many rules at the head of node1's FORWARD.
pub fn iptables(fixture: &Fixture, rules: usize) -> Result<Change> {
    let list = format!("-A TRUTH -s {NOBODY} -j DROP\n").repeat(rules);
    let text = format!("*filter\n:TRUTH - [0:0]\n-I FORWARD -j TRUTH\n{list}COMMIT\n");
    let file = fixture.file("rules", &text)?;
    let undo = ["-D FORWARD -j TRUTH", "-F TRUTH", "-X TRUTH"].map(|rest| format!("iptables-legacy {rest}"));
    let undo: Vec<&str> = undo.iter().map(String::as_str).collect();
    Ok(Change::new("node1", &[&format!("iptables-legacy-restore --noflush {file}")], &undo))
}

/// A list of so many rules in a chain of node1's at the same place.
pub fn nftables(fixture: &Fixture, rules: usize) -> Result<Change> {
    let list = format!("ip saddr {NOBODY} drop\n").repeat(rules);
    let hook = "type filter hook forward priority 10; policy accept;";
    let text = format!("table inet truth {{\nchain forward {{\n{hook}\n{list}}}\n}}\n");
    let file = fixture.file("rules", &text)?;
    Ok(Change::new("node1", &[&format!("nft -f {file}")], &["nft delete chain inet truth forward"]))
}

fn lists(fixture: &Fixture, change: fn(&Fixture, usize) -> Result<Change>) -> Result<Injected> {
    let mut windows = Vec::new();
    for rules in LISTS {
        let change = change(fixture, rules)?;
        match fixture.with(&[change], || fixture.send(&Flow::PLAIN, rules as f64))? {
            Ok(window) => windows.push(window),
            Err(lack) => return Ok(Err(lack)),
        }
    }
    Ok(Ok(windows))
}

/// Each list costs its number of rules times what one rule costs in the longest list.
fn is_linear(recorded: &Recorded, windows: &[Window], place: &Place) -> Outcome {
    let profiles = windows.iter().map(|window| Profile::of(recorded, window)).collect::<Result<Vec<_>>>()?;
    let is_there = |key: &Key| place.is(recorded, key);
    let changes: Vec<compare::Change> = profiles[1..]
        .iter()
        .map(|profile| compare::Change::between(&profiles[0], profile, is_there))
        .collect();
    let per_rule: Vec<f64> =
        changes.iter().zip(&windows[1..]).map(|(change, window)| change.there / window.size).collect();
    let slope = per_rule.last().copied().unwrap_or_default();
    let figures: Vec<String> = windows[1..]
        .iter()
        .zip(&changes)
        .map(|(window, change)| {
            format!("{}: {:.0} ns and {:.0} ns elsewhere", window.size, change.there, change.elsewhere)
        })
        .collect();
    let figures = figures.join(", ");
    ensure!(slope > 0.0, "the rules cost nothing: {figures}");
    for (change, per_rule) in changes.iter().zip(&per_rule) {
        ensure!((per_rule / slope - 1.0).abs() <= TOLERANCE, "not linear: {figures}");
        ensure!(change.is_nowhere_else(change.there), "{figures}; {}", change.largest);
    }
    Ok(Verdict::With(format!("{slope:.1} ns per rule; {figures}")))
}
