//! NOTRACK for the outer packets: connection tracking at level 1 has nothing to do any more.

use anyhow::{Result, ensure};
use overlay_trace::analysis::Key;

use super::compare::{self, Profile, TOLERANCE};
use super::flow::Flow;
use super::ground::{Change, Ground, Window};
use super::{Brought, Cause};
use crate::results::{Outcome, Verdict};
use crate::seen::{Seen, is_layer};

pub const CAUSES: &[Cause] = &[Cause { name: "untracked/underlay", bring_about: untracked, check: vanishes }];

/// The outer packets' rules of the table `raw`, with this target: in both windows they match the same.
fn rules(target: &str) -> [Change; 2] {
    let rule = |netns, chain| {
        let command =
            |verb| format!("iptables-legacy -t raw -{verb} {chain} -p udp --dport 8472 -j {target}");
        Change::new(netns, &[&command("A")], &[&command("D")])
    };
    [rule("node1", "OUTPUT"), rule("node2", "PREROUTING")]
}

fn untracked(ground: &Ground) -> Result<Brought> {
    let mut windows = Vec::new();
    for target in ["ACCEPT", "CT --notrack"] {
        match ground.with(&rules(target), || ground.send(&Flow::PLAIN, 0.0))? {
            Ok(window) => windows.push(window),
            Err(lack) => return Ok(Err(lack)),
        }
    }
    Ok(Ok(windows))
}

fn vanishes(seen: &Seen, windows: &[Window]) -> Outcome {
    let [before, after] = [Profile::of(seen, &windows[0])?, Profile::of(seen, &windows[1])?];
    let tracking = |key: &Key| is_layer(key, "conntrack") && key.level == Some(1);
    // Without a connection there is nothing to translate either.
    let change = compare::Change::between(&before, &after, |key| {
        key.level == Some(1) && (is_layer(key, "conntrack") || is_layer(key, "nat"))
    });
    let [raw_before, raw_after] = [before.sum(tracking), after.sum(tracking)];
    let figures = format!(
        "conntrack at level 1: {:.0} ns, then {:.0} ns (raw {raw_before:.0} {raw_after:.0}); change {:.0} ns, {:.0} ns elsewhere, {}",
        before.net(tracking)?,
        after.net(tracking)?,
        change.there,
        change.elsewhere,
        change.largest
    );
    ensure!(after.net(tracking)? <= before.net(tracking)? * TOLERANCE, "{figures}");
    Ok(Verdict::With(figures))
}
