//! What the second recording adds to the first, in a few lines.

use std::{collections::BTreeMap, fmt::Write};

use anyhow::{Context, Result};
use serde::Deserialize;

/// So many layers are named.
const LAYERS: usize = 8;
/// Additions below this are not worth a word, in ns.
const NEGLIGIBLE: f64 = 5.0;

/// What is read of `overlay-trace report --format json`.
#[derive(Deserialize)]
struct Report {
    packets: Packets,
    end_to_end_ns: Sum,
    stages: Vec<Stage>,
}

#[derive(Deserialize)]
struct Packets {
    finished: u64,
}

#[derive(Deserialize)]
struct Sum {
    sum: u64,
}

#[derive(Deserialize)]
struct Stage {
    layer: String,
    level: u8,
    self_ns_net: Sum,
}

/// A recording's times per packet, in ns, without the tool's own cost.
struct Times {
    packets: u64,
    /// The whole way, with the tool's own cost.
    raw: f64,
    /// By layer, and whether it is above level 0.
    layers: BTreeMap<(String, bool), f64>,
}

impl Times {
    fn read(json: &str) -> Result<Self> {
        let report: Report = serde_json::from_str(json)
            .context("`overlay-trace report --format json` printed something else")?;
        let packets = report.packets.finished;
        let per_packet = |sum: u64| sum as f64 / packets.max(1) as f64;
        let mut layers = BTreeMap::new();
        for stage in report.stages {
            *layers.entry((stage.layer, stage.level > 0)).or_default() += per_packet(stage.self_ns_net.sum);
        }
        Ok(Self { packets, raw: per_packet(report.end_to_end_ns.sum), layers })
    }

    fn net(&self) -> f64 {
        self.layers.values().sum()
    }

    fn of(&self, layer: &str, above: bool) -> f64 {
        self.layers.get(&(layer.to_owned(), above)).copied().unwrap_or_default()
    }
}

/// A recording's name and its report as JSON.
pub type Named<'a> = (&'a str, &'a str);

/// What the second recording adds.
///
/// # Errors
///
/// The JSON is not that of a report.
pub fn of(first: Named<'_>, second: Named<'_>) -> Result<String> {
    let (before, after) = (Times::read(first.1)?, Times::read(second.1)?);
    let width = first.0.len().max(second.0.len());
    let mut text = String::from("A packet's way from socket to socket, without the cost of watching:\n");
    for (name, times) in [(first.0, &before), (second.0, &after)] {
        let (net, raw) = (time(times.net()), time(times.raw));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {name:width$} {net:>9}   ({raw} while watched, {} packets)", times.packets);
    }
    let (added, ratio) = (after.net() - before.net(), after.net() / before.net());
    let _ =
        writeln!(text, "  {:width$} {:>9}   {ratio:.2} times as long; where it is added:", "", signed(added));
    for (layer, inner, outer) in additions(&before, &after).into_iter().take(LAYERS) {
        let _ = writeln!(text, "    {layer:12} {:>11}{}", signed(inner + outer), split(inner, outer));
    }
    let outer: f64 = additions(&before, &after).iter().map(|(_, _, outer)| outer).sum();
    let _ = writeln!(
        text,
        "  {} of it is level 1: the encapsulation and the work on the outer packet.",
        time(outer)
    );
    Ok(text)
}

/// Layers and what is added to the pods' packet and to the outer one, the largest addition first.
fn additions<'a>(before: &'a Times, after: &'a Times) -> Vec<(&'a str, f64, f64)> {
    let mut names: Vec<&str> =
        before.layers.keys().chain(after.layers.keys()).map(|(layer, _)| layer.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let added = |layer: &str, above| after.of(layer, above) - before.of(layer, above);
    let mut rows: Vec<_> =
        names.into_iter().map(|layer| (layer, added(layer, false), added(layer, true))).collect();
    rows.sort_by(|left, right| (right.1 + right.2).total_cmp(&(left.1 + left.2)));
    rows
}

/// How a layer's addition divides, if both packets have a part of it.
fn split(inner: f64, outer: f64) -> String {
    if inner.abs() < NEGLIGIBLE || outer.abs() < NEGLIGIBLE {
        return String::new();
    }
    format!("   ({} for the pods' packet, {} for the outer one)", signed(inner), signed(outer))
}

fn time(nanoseconds: f64) -> String {
    format!("{:.2} µs", nanoseconds / 1000.0)
}

fn signed(nanoseconds: f64) -> String {
    format!("{:+.2} µs", nanoseconds / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &str = r#"{"packets": {"finished": 10}, "end_to_end_ns": {"sum": 250000}, "stages": [
        {"layer": "conntrack", "level": 0, "self_ns_net": {"sum": 200000}}]}"#;
    const TUNNEL: &str = r#"{"packets": {"finished": 10}, "end_to_end_ns": {"sum": 350000}, "stages": [
        {"layer": "conntrack", "level": 0, "self_ns_net": {"sum": 210000}},
        {"layer": "conntrack", "level": 1, "self_ns_net": {"sum": 20000}},
        {"layer": "vxlan", "level": 1, "self_ns_net": {"sum": 70000}}]}"#;

    #[test]
    fn the_largest_addition_comes_first_and_the_levels_are_told_apart() -> Result<()> {
        let text = of(("routes", ROUTES), ("tunnel", TUNNEL))?;
        assert!(text.contains("tunnel  30.00 µs   (35.00 µs while watched, 10 packets)"), "{text}");
        assert!(text.contains("+10.00 µs   1.50 times as long"), "{text}");
        assert!(text.find("vxlan") < text.find("conntrack"), "{text}");
        assert!(text.contains("(+1.00 µs for the pods' packet, +2.00 µs for the outer one)"), "{text}");
        assert!(text.contains("  9.00 µs of it is level 1"), "{text}");
        Ok(())
    }
}
