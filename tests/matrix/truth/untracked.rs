//! NOTRACK for the outer packets: connection tracking at level 1 has nothing to do any more.

use anyhow::{Result, ensure};
use overlay_trace_analysis::breakdown::Key;

use super::compare::{self, Profile, Recorded};
use super::fixture::{Change, Fixture, Window};
use super::flow::Flow;
use super::{Cause, Injected};
use crate::results::{Outcome, Verdict};
use crate::seen::is_layer;

pub const CAUSES: &[Cause] =
    &[Cause { name: "untracked/underlay", inject: untracked, untraced: None, check: vanishes }];

/// The outer packets' rules of the table `raw`, with this target: in both windows they match the same.
fn rules(target: &str) -> [Change; 2] {
    let rule = |netns, chain| {
        let command =
            |verb| format!("iptables-legacy -t raw -{verb} {chain} -p udp --dport 8472 -j {target}");
        Change::new(netns, &[&command("A")], &[&command("D")])
    };
    [rule("node1", "OUTPUT"), rule("node2", "PREROUTING")]
}

fn untracked(fixture: &Fixture) -> Result<Injected> {
    let mut windows = Vec::new();
    for target in ["ACCEPT", "CT --notrack"] {
        match fixture.with(&rules(target), || fixture.send(&Flow::PLAIN, 0.0))? {
            Ok(window) => windows.push(window),
            Err(lack) => return Ok(Err(lack)),
        }
    }
    Ok(Ok(windows))
}

/// What may be left of connection tracking's time: its hooks are called all the same and return at once, and
/// what the caller does until it calls the next hook is counted as theirs.
const LEFT: f64 = 0.2;

fn vanishes(recorded: &Recorded, windows: &[Window]) -> Outcome {
    let [before, after] = [Profile::of(recorded, &windows[0])?, Profile::of(recorded, &windows[1])?];
    let tracking = |key: &Key| is_layer(key, "conntrack") && key.level == Some(1);
    // Without a connection there is nothing to translate either, and rules that are for new connections alone
    // are passed by.
    let follows = |key: &Key| key.level == Some(1) && (is_layer(key, "nat") || is_layer(key, "iptables"));
    let change = compare::Change::between(&before, &after, |key| tracking(key) || follows(key));
    let [was, is] = [before.net(tracking)?, after.net(tracking)?];
    let figures = format!(
        "conntrack at level 1 takes {is:.0} ns instead of {was:.0}; {:.0} ns elsewhere",
        change.elsewhere
    );
    ensure!(is <= was * LEFT, "{figures}");
    ensure!(change.is_nowhere_else(was), "{figures}: {}", change.largest);
    Ok(Verdict::With(figures))
}
