//! Published figures beside those of this machine, with a verdict.

use std::collections::BTreeMap;

use super::claims::{CLAIMS, Claim, Measure, Side};
use super::{Comparison, Row};
use overlay_trace_analysis::report::table::lines;
use overlay_trace_analysis::report::units::{bit_rate, signed_time, time};

/// Two figures that differ by less than this part cannot be told apart.
const NOISE: f64 = 0.05;
/// Networks are as good as each other up to this difference.
const EQUAL: f64 = 0.15;
/// Stages that are named where a claim does not hold.
const EXPLAINING: usize = 4;

/// Whether this machine says what the article says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Agrees,
    /// Too close to each other to say.
    NotToldApart,
    Disagrees,
    /// A lab of the two was not measured here.
    NotMeasured,
}

impl Verdict {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Agrees => "agrees",
            Verdict::NotToldApart => "not told apart",
            Verdict::Disagrees => "DISAGREES",
            Verdict::NotMeasured => "not measured",
        }
    }

    fn of(lead: &Lead, equal: bool) -> Verdict {
        let near = |by: f64| lead.most > 1.0 / (1.0 + by) && lead.least < 1.0 + by;
        match equal {
            true if near(EQUAL) => Verdict::Agrees,
            true => Verdict::Disagrees,
            false if near(NOISE) => Verdict::NotToldApart,
            false if lead.least > 1.0 => Verdict::Agrees,
            false => Verdict::Disagrees,
        }
    }
}

/// By what factor the better one is ahead here: at its worst against the other's best, and the other way round.
struct Lead {
    least: f64,
    most: f64,
}

impl Lead {
    fn new(measure: Measure, better: &Figure, worse: &Figure) -> Lead {
        match measure {
            Measure::Throughput => Lead { least: better.least / worse.most, most: better.most / worse.least },
            Measure::Latency => Lead { least: worse.least / better.most, most: worse.most / better.least },
        }
    }
}

/// What was measured here, bits per second or ns: the median, and from where to where it went.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

/// A claim and what this machine says to it.
pub struct Checked {
    pub claim: &'static Claim,
    /// The better one's and the worse one's figure here.
    pub here: Option<(Figure, Figure)>,
    pub verdict: Verdict,
    /// Where it disagrees: the stages in which the two differ most.
    pub because: Option<String>,
}

/// Checks all claims: `quick` has the labs, `mtu` those with other MTUs.
pub fn check(quick: &Comparison, mtu: &Comparison) -> Vec<Checked> {
    CLAIMS.iter().map(|claim| check_one(claim, quick, mtu)).collect()
}

fn check_one(claim: &'static Claim, quick: &Comparison, mtu: &Comparison) -> Checked {
    let row = |side: &Side| {
        let comparison = if side.mtu.is_some() { mtu } else { quick };
        comparison.rows.iter().find(|row| row.lab == side.lab)
    };
    let figure = |side: &Side| row(side).and_then(|row| figure(row, claim.measure, side.mtu));
    let here = figure(&claim.better).zip(figure(&claim.worse));
    let lead = here.as_ref().map(|(better, worse)| Lead::new(claim.measure, better, worse));
    let verdict = lead.map_or(Verdict::NotMeasured, |lead| Verdict::of(&lead, claim.equal));
    let rows = row(&claim.better).zip(row(&claim.worse)).filter(|_| claim.better.mtu.is_none());
    let because = rows
        .filter(|_| matches!(verdict, Verdict::Disagrees | Verdict::NotToldApart))
        .map(|(better, worse)| because(better, worse));
    Checked { claim, here, verdict, because }
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

/// What the network's own time says of the two, and where they differ most.
fn because(better: &Row, worse: &Row) -> String {
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
        .take(EXPLAINING)
        .map(|((stage, level), ns)| format!("{stage} (level {level}) {}", signed_time(*ns)))
        .collect();
    let whole = worse.per_packet.network_ns() - better.per_packet.network_ns();
    let than = if whole < 0.0 { "less" } else { "more" };
    let (worse, better) = (&worse.lab, &better.lab);
    format!("{worse} takes {} {than} per packet than {better}: {}", time(whole.abs()), parts.join(", "))
}

/// The claims, row by row.
pub fn reproduced(checked: &[Checked]) -> String {
    let heading = ["what was published", "there", "here", "verdict"];
    let rows: Vec<Vec<String>> = checked.iter().map(cells).collect();
    let mut out = lines(&heading, &rows, 4).join("\n");
    out.push('\n');
    for checked in checked {
        if let Some(because) = &checked.because {
            out += &format!("\n{}: {because}", said(checked.claim));
        }
    }
    let mut sources: Vec<&str> = checked.iter().map(|checked| checked.claim.source).collect();
    sources.dedup();
    out += &format!(
        "\n\nPublished in: {}. Their figures are of real clusters; only order and direction can be compared. Within {:.0} % \
         two networks are not told apart, nor where the throughputs of their transfers overlap; as good as each other means within {:.0} %.\n",
        sources.join("; "),
        NOISE * 100.0,
        EQUAL * 100.0
    );
    out
}

fn said(claim: &Claim) -> String {
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

fn cells(checked: &Checked) -> Vec<String> {
    let Checked { claim, here, verdict, .. } = checked;
    let Claim { better, worse, .. } = claim;
    let shown = |figure: &Figure| match claim.measure {
        Measure::Throughput => bit_rate(figure.median),
        Measure::Latency => time(figure.median),
    };
    vec![
        said(claim),
        format!("{}{}, {}{}", better.published, better.unit, worse.published, worse.unit),
        here.as_ref().map_or("-".to_owned(), |(one, other)| format!("{}, {}", shown(one), shown(other))),
        verdict.name().to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_follows_from_the_lead() {
        let verdict = |least, most, equal| Verdict::of(&Lead { least, most }, equal);
        let ahead: Vec<Verdict> = [2.0, 1.02, 0.98, 0.5].map(|lead| verdict(lead, lead, false)).to_vec();
        assert_eq!(verdict(0.7, 1.6, false), Verdict::NotToldApart);
        assert_eq!(verdict(1.2, 1.6, false), Verdict::Agrees);
        assert_eq!(
            ahead,
            [Verdict::Agrees, Verdict::NotToldApart, Verdict::NotToldApart, Verdict::Disagrees]
        );
        let equal: Vec<Verdict> = [1.3, 1.1, 0.9, 0.7].map(|lead| verdict(lead, lead, true)).to_vec();
        assert_eq!(equal, [Verdict::Disagrees, Verdict::Agrees, Verdict::Agrees, Verdict::Disagrees]);
    }
}
