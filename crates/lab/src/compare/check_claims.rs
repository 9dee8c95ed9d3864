//! Checks published results against the measurements of this machine.

use std::collections::BTreeMap;

use super::published_claims::{CLAIMS, Claim, Measure, Side};
use super::summary::{Comparison, Row};
use overlay_trace_analysis::report::table::lines;
use overlay_trace_analysis::report::units::{bit_rate, signed_time, time};

/// Two figures that differ by less than this share are indistinguishable.
const NOISE: f64 = 0.05;
/// Networks are equally good up to this difference.
const EQUAL: f64 = 0.15;
/// The number of stages that an explanation lists.
const EXPLAINING_STAGES: usize = 4;

/// Whether the measurements of this machine agree with the article.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Agrees,
    /// The difference is within the noise.
    Indistinguishable,
    Disagrees,
    /// One of the two labs was not measured here.
    NotMeasured,
}

impl Verdict {
    /// The verdict as text.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Agrees => "agrees",
            Verdict::Indistinguishable => "indistinguishable",
            Verdict::Disagrees => "DISAGREES",
            Verdict::NotMeasured => "not measured",
        }
    }

    fn of(advantage: &Advantage, equal: bool) -> Verdict {
        let near = |by: f64| advantage.most > 1.0 / (1.0 + by) && advantage.least < 1.0 + by;
        match equal {
            true if near(EQUAL) => Verdict::Agrees,
            true => Verdict::Disagrees,
            false if near(NOISE) => Verdict::Indistinguishable,
            false if advantage.least > 1.0 => Verdict::Agrees,
            false => Verdict::Disagrees,
        }
    }
}

/// The factor by which the better one is better here: its worst figure against the other's best, and vice versa.
struct Advantage {
    least: f64,
    most: f64,
}

impl Advantage {
    fn new(measure: Measure, better: &Figure, worse: &Figure) -> Advantage {
        match measure {
            Measure::Throughput => {
                Advantage { least: better.least / worse.most, most: better.most / worse.least }
            }
            Measure::Latency => {
                Advantage { least: worse.least / better.most, most: worse.most / better.least }
            }
        }
    }
}

/// A measurement of this machine, bits per second or ns: median and range.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

/// A claim, with the measurements of this machine.
pub struct CheckedClaim {
    pub claim: &'static Claim,
    /// The figures measured here: of the better one, and of the worse one.
    pub here: Option<(Figure, Figure)>,
    pub verdict: Verdict,
    /// Where it does not agree: the stages in which the two differ most.
    pub explanation: Option<String>,
}

/// Checks all claims. `quick` has the measurements at the default MTU, `mtu` those at others.
pub fn check(quick: &Comparison, mtu: &Comparison) -> Vec<CheckedClaim> {
    CLAIMS.iter().map(|claim| check_one(claim, quick, mtu)).collect()
}

fn check_one(claim: &'static Claim, quick: &Comparison, mtu: &Comparison) -> CheckedClaim {
    let row = |side: &Side| {
        let comparison = if side.mtu.is_some() { mtu } else { quick };
        comparison.rows.iter().find(|row| row.lab == side.lab)
    };
    let figure = |side: &Side| row(side).and_then(|row| figure(row, claim.measure, side.mtu));
    let here = figure(&claim.better).zip(figure(&claim.worse));
    let advantage = here.as_ref().map(|(better, worse)| Advantage::new(claim.measure, better, worse));
    let verdict = advantage.map_or(Verdict::NotMeasured, |advantage| Verdict::of(&advantage, claim.equal));
    let rows = row(&claim.better).zip(row(&claim.worse)).filter(|_| claim.better.mtu.is_none());
    let explanation = rows
        .filter(|_| matches!(verdict, Verdict::Disagrees | Verdict::Indistinguishable))
        .map(|(better, worse)| explain(better, worse));
    CheckedClaim { claim, here, verdict, explanation }
}

fn figure(row: &Row, measure: Measure, mtu: Option<u32>) -> Option<Figure> {
    let kind = if measure == Measure::Throughput { "tcp-bulk" } else { "tcp-rr" };
    let of_mtu = mtu.map(|mtu| format!(" MTU {mtu}"));
    let fits =
        |name: &str| name.starts_with(kind) && of_mtu.as_ref().is_none_or(|of_mtu| name.ends_with(of_mtu));
    let run = row.measured.runs.iter().find(|run| fits(&run.name))?;
    let median = match measure {
        Measure::Throughput => run.traffic.throughput_bits_per_s,
        Measure::Latency => run.traffic.latency.as_ref()?.p99 as f64,
    };
    let (least, most) = match (measure, &run.throughputs[..]) {
        (Measure::Throughput, &[least, .., most]) => (least, most),
        _ => (median, median),
    };
    (least > 0.0).then_some(Figure { median, least, most })
}

/// The difference of the two networks' time per packet, and the stages in which they differ most.
fn explain(better: &Row, worse: &Row) -> String {
    let mut differences: BTreeMap<(String, u8), f64> = BTreeMap::new();
    for (row, sign) in [(worse, 1.0), (better, -1.0)] {
        let stages = &row.measured.stages;
        for time in stages.rows.iter().filter(|time| !time.is_socket_wait()) {
            *differences.entry((time.stage.clone(), time.level)).or_default() +=
                sign * stages.per_packet(time);
        }
    }
    let mut largest: Vec<_> = differences.into_iter().collect();
    largest.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
    let parts: Vec<String> = largest
        .iter()
        .take(EXPLAINING_STAGES)
        .map(|((stage, level), ns)| format!("{stage} (level {level}) {}", signed_time(*ns)))
        .collect();
    let whole = worse.per_packet.network_ns() - better.per_packet.network_ns();
    let than = if whole < 0.0 { "less" } else { "more" };
    let (worse, better) = (&worse.lab, &better.lab);
    format!("{worse} takes {} {than} per packet than {better}: {}", time(whole.abs()), parts.join(", "))
}

/// The checked claims as a table, with explanations.
pub fn checked_claims_text(checked: &[CheckedClaim]) -> String {
    let heading = ["published claim", "published", "measured here", "verdict"];
    let rows: Vec<Vec<String>> = checked.iter().map(cells).collect();
    let mut out = lines(&heading, &rows, 4).join("\n");
    out.push('\n');
    for checked in checked {
        if let Some(explanation) = &checked.explanation {
            out += &format!("\n{}: {explanation}", claim_text(checked.claim));
        }
    }
    let mut sources: Vec<&str> = checked.iter().map(|checked| checked.claim.source).collect();
    sources.dedup();
    out += &format!(
        "\n\nPublished in: {}. The published figures are of real clusters; only the order can be compared. Two networks are \
         indistinguishable within {:.0} %, or where the throughputs of their transfers overlap; \"as good as\" means within {:.0} %.\n",
        sources.join("; "),
        NOISE * 100.0,
        EQUAL * 100.0
    );
    out
}

fn claim_text(claim: &Claim) -> String {
    let name = |side: &Side| match side.mtu {
        Some(mtu) => format!("{} at MTU {mtu}", side.lab),
        None => side.lab.to_owned(),
    };
    let (how, of) = match (claim.equal, claim.measure) {
        (true, Measure::Throughput) => ("as good as", "throughput"),
        (true, Measure::Latency) => ("as good as", "p99"),
        (false, Measure::Throughput) => ("above", "throughput"),
        (false, Measure::Latency) => ("below", "p99"),
    };
    format!("{of}: {} {how} {}", name(&claim.better), name(&claim.worse))
}

fn cells(checked: &CheckedClaim) -> Vec<String> {
    let CheckedClaim { claim, here, verdict, .. } = checked;
    let Claim { better, worse, .. } = claim;
    let shown = |figure: &Figure| match claim.measure {
        Measure::Throughput => bit_rate(figure.median),
        Measure::Latency => time(figure.median),
    };
    vec![
        claim_text(claim),
        format!("{}{}, {}{}", better.published, better.unit, worse.published, worse.unit),
        here.as_ref().map_or("-".to_owned(), |(one, other)| format!("{}, {}", shown(one), shown(other))),
        verdict.name().to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_follows_from_the_advantage() {
        let verdict = |least, most, equal| Verdict::of(&Advantage { least, most }, equal);
        let ahead: Vec<Verdict> =
            [2.0, 1.02, 0.98, 0.5].map(|factor| verdict(factor, factor, false)).to_vec();
        assert_eq!(verdict(0.7, 1.6, false), Verdict::Indistinguishable);
        assert_eq!(verdict(1.2, 1.6, false), Verdict::Agrees);
        assert_eq!(
            ahead,
            [Verdict::Agrees, Verdict::Indistinguishable, Verdict::Indistinguishable, Verdict::Disagrees]
        );
        let equal: Vec<Verdict> = [1.3, 1.1, 0.9, 0.7].map(|factor| verdict(factor, factor, true)).to_vec();
        assert_eq!(equal, [Verdict::Disagrees, Verdict::Agrees, Verdict::Agrees, Verdict::Disagrees]);
    }
}
