//! The summary for people.

use std::fmt::Write;

use super::{
    ClockSummary, CrossingSummary, EpochSummary, JoinedSummary, LostSummary, MachineSummary, Summary, Total,
};

/// Nanoseconds of a millisecond.
const MS: f64 = 1e6;

fn ms(ns: Option<u64>) -> f64 {
    ns.unwrap_or(0) as f64 / MS
}

impl Summary {
    /// The summary as the first lines of a report.
    pub fn text(&self) -> String {
        let mut out = self.answer() + "\n\n";
        let machines: Vec<String> = self.machines.iter().map(MachineSummary::text).collect();
        let _ = writeln!(out, "machines   {}", machines.join("\n           "));
        let clocks: Vec<String> = self.clocks.iter().map(ClockSummary::text).collect();
        let _ = writeln!(out, "clocks     {}", clocks.join("\n           "));
        let JoinedSummary { paths, whole, counts } = &self.joined;
        let _ = writeln!(
            out,
            "joined     {} of {} exits to {} of {} entries: {paths} paths with a crossing, {whole} of them whole \
             (from creation to delivery); {} parts, {} across NAT",
            counts.joined_exits,
            counts.exits,
            counts.joined_entries,
            counts.entries,
            counts.parts,
            counts.across_nat
        );
        let _ = writeln!(
            out,
            "not joined {} ambiguous exits and {} entries, {} lost between, {} perhaps lost, {} out of the \
             recordings, {} foreign entries, {} across an epoch, {} undone",
            counts.ambiguous,
            counts.ambiguous_entries,
            counts.lost_between,
            counts.perhaps_lost,
            counts.out_of_recording,
            counts.foreign,
            counts.across_epoch,
            counts.negative
        );
        for crossing in &self.crossings {
            let _ = writeln!(out, "crossing   {}", crossing.text());
        }
        for lost in &self.lost {
            let LostSummary { from, to, lost, exits, .. } = lost;
            let _ = writeln!(out, "lost       between {from} and {to}: {lost} of {exits}");
        }
        let Total { sum, count, difference, .. } = self.end_to_end_ns;
        let _ = writeln!(
            out,
            "sum        legs and crossings of {count} paths are {sum} ns: difference to end to end {difference} ns"
        );
        out
    }
}

impl Summary {
    /// What came of it, in one sentence.
    fn answer(&self) -> String {
        let JoinedSummary { paths, whole, counts } = &self.joined;
        let lost: u64 = self.lost.iter().map(|lost| lost.lost).sum();
        let lost = match lost {
            0 => "none was lost between two recordings".to_owned(),
            1 => "1 packet was lost between two recordings".to_owned(),
            lost => format!("{lost} packets were lost between two recordings"),
        };
        let share = 100.0 * counts.joined_exits as f64 / counts.exits.max(1) as f64;
        format!(
            "{paths} paths lead through several of {} machines, {whole} of them from creation to delivery: {share:.1}% of \
             what left a machine was found on another, and {lost}.",
            self.machines.len()
        )
    }
}

impl MachineSummary {
    fn text(&self) -> String {
        let kind = match &self.hypervisor {
            Some(hypervisor) => format!("guest of {hypervisor}"),
            None if self.taps > 0 => format!("{} taps", self.taps),
            None => "no hypervisor seen".to_owned(),
        };
        format!(
            "{} ({}, {}, {kind}): {} records, {:.1} s",
            self.node,
            self.kernel,
            self.probe_set,
            self.records,
            self.duration_ns as f64 / 1e9
        )
    }
}

impl ClockSummary {
    fn text(&self) -> String {
        match self.method {
            "reference" => return format!("{}: the reference", self.node),
            "unknown" => return format!("{}: packets do not bound it from both sides", self.node),
            _ => {}
        }
        let of_epoch = |epoch: &EpochSummary| {
            let width = (epoch.offset_high_ns - epoch.offset_low_ns) as f64;
            format!("{:+.1} ppm, known to ±{:.1} µs", epoch.drift_ppm, width / 2e3)
        };
        let epochs: Vec<String> = self.epochs.iter().map(of_epoch).collect();
        let by = match self.method {
            "realtime" => {
                format!("by both wall clocks, which err by {:.3} ms at most", ms(self.wall_error_ns))
            }
            _ => format!("bounds of {} packets, {} contradictions", self.packets, self.contradictions),
        };
        format!(
            "{}: {} ({by}; with {}){}",
            self.node,
            epochs.join("; then "),
            self.compared_with,
            self.wall()
        )
    }

    /// What the wall clocks say, where packets say more.
    fn wall(&self) -> String {
        let (Some(wall), Some(last), "packets") = (self.wall_offset_ns, self.epochs.last(), self.method)
        else {
            return String::new();
        };
        let off = (wall - (last.offset_low_ns + last.offset_high_ns) / 2) as f64 / MS;
        match (self.wall_error_ns, self.wall_agrees) {
            (None, _) => format!("; wall clocks that nobody keeps, {off:.3} ms off"),
            (Some(_), Some(true)) => "; the wall clocks agree".to_owned(),
            (Some(error), _) => {
                format!("; wall clocks refused ({off:.3} ms off, where they say {:.3} ms)", error as f64 / MS)
            }
        }
    }
}

impl CrossingSummary {
    fn text(&self) -> String {
        let us = |ns: i128| ns as f64 / 1e3;
        let both = self.both_ways_ns.map_or_else(String::new, |ns| {
            format!("; with the way back {:.1} µs, exact", us(i128::from(ns)))
        });
        format!(
            "{} {} > {}: {} packets, mean {:.1} µs (from {:.1} to {:.1}){both}",
            self.stage,
            self.from,
            self.to,
            self.count,
            us(i128::from(self.mean_ns)),
            us(self.low_ns),
            us(self.high_ns)
        )
    }
}
