//! The results for people, and what is wrong with them.

use super::{AFTER, BEFORE, Figures, baseline::Baseline};

/// The two untraced figures may differ by this part; more means that the boot drifted.
const DRIFT: f64 = 0.02;

/// Prints the table; gives a sentence for everything that is not as it must be.
pub fn print(kernel: &str, figures: &[Figures], rounds: u32, baseline: Option<&Baseline>) -> Vec<String> {
    println!("\nWhat tracing costs: 100-byte UDP from pod to pod over flannel-vxlan, kernel {kernel}\n");
    println!(
        "{:<17} {:>12}  {:>10}  {:>6}  {:>8}  {:>10}  {:>12}  {:>5}  {:>5}",
        "", "instructions", "× untraced", "limit", "baseline", "probe hits", "instructions", "TCP ×", "lost"
    );
    println!(
        "{:<17} {:>12}  {:>10}  {:>6}  {:>8}  {:>10}  {:>12}",
        "", "per packet", "", "", "", "per packet", "per hit"
    );
    let untraced = figures.first().map_or(0.0, |first| first.instructions / first.ratio);
    for row in figures {
        println!("{}", line(row, untraced, baseline));
    }
    for row in figures.iter().filter(|row| row.lost.sum() > 0) {
        println!("{:<17} lost: {}", row.case.name, row.lost);
    }
    println!("\n{}", method(rounds));
    if let Some(baseline) = baseline {
        println!("The baseline was measured under {}.", baseline.kernel);
    }
    println!();
    failures(figures, baseline)
}

fn line(row: &Figures, untraced: f64, baseline: Option<&Baseline>) -> String {
    let shown = |value: Option<f64>, digits: usize| {
        value.map_or("–".to_owned(), |value| format!("{value:.digits$}"))
    };
    let per_hit = row.hits.map(|hits| (row.instructions - untraced) / hits);
    let line = format!(
        "{:<17} {:>12.0}  {:>10.3}  {:>6}  {:>8}  {:>10}  {:>12}  {:>5.2}  {:>5}",
        row.case.name,
        row.instructions,
        row.ratio,
        shown(row.limit, 2),
        shown(baseline.and_then(|baseline| baseline.ratio(row.case.name)), 3),
        shown(row.hits, 1),
        shown(per_hit, 0),
        row.tcp,
        format!("{}{}", if row.all_counted { "" } else { "≥ " }, row.lost.sum())
    );
    if is_too_dear(row) { line + "  ABOVE ITS LIMIT" } else { line }
}

fn method(rounds: u32) -> String {
    format!(
        "How: one boot of a virtual machine whose clock counts instructions (1 guest ns = 1 instruction), one\n\
         processor that a sender keeps busy, so that the kernel's work on both nodes, the traffic's two ends, the\n\
         probes and the reader of their records are all in the figure. Median of {rounds}; TCP: bulk throughput over\n\
         untraced, once. Instructions per hit: all that tracing adds, by the number of hits. Lost: records, hits\n\
         and packets, in all runs (≥: this kernel does not count the hits that it skips). Cache\n\
         misses and traps are no part of any figure."
    )
}

fn is_too_dear(row: &Figures) -> bool {
    row.limit.is_some_and(|limit| row.ratio > limit)
}

fn failures(figures: &[Figures], baseline: Option<&Baseline>) -> Vec<String> {
    let mut failures = Vec::new();
    for row in figures {
        let name = row.case.name;
        if let Some(limit) = row.limit.filter(|_| is_too_dear(row)) {
            failures.push(format!("{name} costs {:.3} times untraced; the limit is {limit:.2}", row.ratio));
        }
        if row.lost.is_grave() {
            failures.push(format!("{name} lost {}", row.lost));
        }
        failures.extend(baseline.and_then(|baseline| baseline.judge(row)));
    }
    let ratio = |name: &str| figures.iter().find(|row| row.case.name == name).map_or(1.0, |row| row.ratio);
    if (ratio(BEFORE) - ratio(AFTER)).abs() > DRIFT {
        failures.push("the untraced runs before and after differ: the ratios mean little".to_owned());
    }
    failures
}

#[cfg(test)]
mod tests {
    use super::{
        super::{CASES, Case, lost::Lost},
        *,
    };

    fn figures(ratio: impl Fn(&str) -> f64) -> Vec<Figures> {
        let row = |case: &'static Case| {
            let ratio = ratio(case.name);
            Figures {
                case,
                limit: case.limit,
                instructions: 1000.0 * ratio,
                ratio,
                hits: Some(10.0),
                tcp: 1.0,
                lost: Lost::default(),
                all_counted: true,
            }
        };
        CASES.iter().map(row).collect()
    }

    #[test]
    fn a_limit_a_loss_and_a_drift_are_failures() {
        assert!(failures(&figures(|_| 1.0), None).is_empty());
        let dear = failures(&figures(|name| if name == "light" { 1.21 } else { 1.0 }), None);
        assert_eq!(dear, ["light costs 1.210 times untraced; the limit is 1.15"]);
        assert_eq!(failures(&figures(|name| if name == AFTER { 1.03 } else { 1.0 }), None).len(), 1);
        let mut lossy = figures(|_| 1.0);
        lossy[1].lost.count("records", 2);
        assert_eq!(failures(&lossy, None).len(), 1);
    }
}
