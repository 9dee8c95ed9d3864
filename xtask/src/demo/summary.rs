//! The difference of two recordings in a few lines.

use std::{collections::BTreeMap, fmt::Write};

use anyhow::{Context, Result};
use serde::Deserialize;

/// So many layers are named.
const LAYERS: usize = 8;

/// What is read of `overlay-trace diff --format json`.
#[derive(Deserialize)]
struct Difference {
    total: Pair,
    stages: Vec<Stage>,
}

#[derive(Deserialize)]
struct Pair {
    first: Side,
    second: Side,
    added_ns_per_packet: f64,
}

#[derive(Deserialize)]
struct Side {
    packets: u64,
    ns_per_packet: f64,
}

#[derive(Deserialize)]
struct Stage {
    layer: String,
    level: u8,
    added_ns_per_packet: f64,
}

/// What the second recording adds, from the JSON of `overlay-trace diff`.
///
/// # Errors
///
/// The JSON is not that of a difference.
pub fn of(json: &str, first: &str, second: &str) -> Result<String> {
    let difference: Difference =
        serde_json::from_str(json).context("`overlay-trace diff --format json` printed something else")?;
    Ok(text(&difference, first, second))
}

fn text(difference: &Difference, first: &str, second: &str) -> String {
    let Pair { first: before, second: after, added_ns_per_packet: added } = &difference.total;
    let ratio = after.ns_per_packet / before.ns_per_packet;
    let mut text = String::new();
    let width = first.len().max(second.len());
    for (name, side) in [(first, before), (second, after)] {
        let mean = time(side.ns_per_packet);
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{name:width$} {mean:>9} for a packet from socket to socket ({} packets)",
            side.packets
        );
    }
    let _ = writeln!(
        text,
        "{:width$} {:>9} more, {ratio:.2} times as long. Where it is added:",
        "",
        time(*added)
    );
    let (layers, tunnel) = sums(&difference.stages);
    for (layer, (level0, level1)) in layers.iter().take(LAYERS) {
        let _ =
            writeln!(text, "  {layer:12} {:>+9.2} µs{}", (level0 + level1) / 1000.0, split(*level0, *level1));
    }
    let share = 100.0 * tunnel / added;
    let _ =
        writeln!(text, "Level 1, the work on the outer packet, is {} of it ({share:.0} %).", time(tunnel));
    text
}

/// How a layer's addition divides, if both levels have a part of it.
fn split(level0: f64, level1: f64) -> String {
    if level1 == 0.0 || level0.abs() < 1.0 {
        return String::new();
    }
    format!("   ({:+.2} on the pods' packet, {:+.2} on the outer one)", level0 / 1000.0, level1 / 1000.0)
}

/// A layer and what is added at level 0 and above, in ns per packet.
type Layer<'a> = (&'a str, (f64, f64));

/// The layers to which most is added first, and the sum above level 0, in ns per packet.
fn sums(stages: &[Stage]) -> (Vec<Layer<'_>>, f64) {
    let mut layers: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    let mut tunnel = 0.0;
    for stage in stages {
        let (level0, level1) = layers.entry(&stage.layer).or_default();
        if stage.level == 0 {
            *level0 += stage.added_ns_per_packet;
        } else {
            *level1 += stage.added_ns_per_packet;
            tunnel += stage.added_ns_per_packet;
        }
    }
    let mut layers: Vec<Layer<'_>> = layers.into_iter().collect();
    let added = |(_, (level0, level1)): &Layer<'_>| level0 + level1;
    layers.sort_by(|left, right| added(right).total_cmp(&added(left)));
    (layers, tunnel)
}

fn time(nanoseconds: f64) -> String {
    format!("{:.1} µs", nanoseconds / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"{"schema": 1,
        "total": {"first": {"packets": 10, "ns_per_packet": 20000.0},
                  "second": {"packets": 10, "ns_per_packet": 30000.0}, "added_ns_per_packet": 10000.0},
        "stages": [
            {"layer": "conntrack", "level": 0, "added_ns_per_packet": 1000.0},
            {"layer": "conntrack", "level": 1, "added_ns_per_packet": 2000.0},
            {"layer": "vxlan", "level": 1, "added_ns_per_packet": 7000.0}]}"#;

    #[test]
    fn the_largest_addition_comes_first_and_the_levels_are_told_apart() -> Result<()> {
        let text = of(JSON, "routes", "tunnel")?;
        assert!(text.contains("10.0 µs more, 1.50 times as long"), "{text}");
        assert!(text.find("vxlan") < text.find("conntrack"), "{text}");
        assert!(text.contains("+3.00 µs   (+1.00 on the pods' packet, +2.00 on the outer one)"), "{text}");
        assert!(text.contains("9.0 µs of it (90 %)"), "{text}");
        Ok(())
    }
}
