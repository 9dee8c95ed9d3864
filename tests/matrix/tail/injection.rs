//! A cause that is injected on purpose, and what `tail` must say of it.

use anyhow::Result;
use overlay_trace_analysis::tail::{Finding, Of, Tail, Threshold};
use overlay_trace_format::Recording;
use overlay_trace_lab::dataplanes::Running;
use overlay_trace_lab::traffic::TrafficReport;
use overlay_trace_probe::sys::kernel::at_least;

use super::load::Load;
use super::traffic::Sent;
use crate::since::{self, Since};
use crate::truth::fixture::{Change, Fixture, Window};
use crate::truth::flow::now_ns;

/// How long packets in flight have until the next window begins.
pub const REST: std::time::Duration = std::time::Duration::from_millis(300);

/// In this time each connection has its first request, ns.
const WARM_UP_NS: u64 = 700_000_000;

/// Commands, the words of each separated by spaces, and those that undo them. `host` stands for the machine
/// itself, outside the lab's namespaces.
#[derive(Clone, Copy)]
pub struct Step {
    pub on: &'static str,
    pub make: &'static [&'static str],
    pub undo: &'static [&'static str],
}

/// As a namespace or a device: whichever is named is right. What has no device has no level either.
pub const ANYWHERE: &str = "*";

/// Since then kernels give reasons for drops.
pub const REASONS: (u32, u32) = (5, 17);

/// What a finding must say.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// The rule's id.
    pub cause: &'static str,
    /// The id of the rule that says as much as can be said where the kernel gives no reasons for drops.
    pub unsaid: &'static str,
    /// Short name.
    pub netns: &'static str,
    pub device: &'static str,
    pub level: u8,
}

/// A cause that can be injected, or none.
pub struct Injection {
    /// The name of its test, after `tail/`.
    pub name: &'static str,
    /// Nothing, one cause, or two at once.
    pub expected: &'static [Expected],
    pub steps: &'static [Step],
    /// Sends what is recorded, while the steps hold.
    pub traffic: fn(&Fixture, &Load) -> Sent,
    /// What is compared.
    pub of: Of,
    /// From which percentile on it is slow: lower where two causes are to have a part of the slow ones.
    pub above: f64,
    /// Which kernels can be made to do it.
    pub since: Since,
}

/// What came of one run.
pub struct Judged {
    /// The causes that were found, the gravest first.
    pub causes: Vec<&'static str>,
    /// Whether they are the expected ones.
    pub right: bool,
    /// What was found, for people.
    pub words: String,
}

impl Injection {
    /// Sends the traffic with the cause at work; or says what this machine lacks for it.
    pub fn inject(&self, fixture: &Fixture, load: &Load) -> Result<Result<Window, String>> {
        if let Some(lack) = since::lack(self.since) {
            return Ok(Err(lack));
        }
        let changes: Vec<Change> =
            self.steps.iter().map(|step| Change::new(step.on, step.make, step.undo)).collect();
        let begun = fixture.with(&changes, || {
            let before_ns = now_ns()?;
            let reports = (self.traffic)(fixture, load)?;
            window(before_ns, &reports)
        });
        std::thread::sleep(REST);
        begun
    }

    /// Whether `tail` names the right cause first, at its place, and if there are two, both before all others.
    pub fn judge(&self, recording: &Recording, running: &Running) -> Result<Judged> {
        let tail = Tail::of(recording, self.of, Threshold::Quantile(self.above), 0)?;
        let found = &tail.findings;
        let first = &found[..found.len().min(self.expected.len())];
        let all =
            self.expected.iter().all(|expected| first.iter().any(|finding| expected.is(finding, running)));
        let right = if self.expected.is_empty() { found.is_empty() } else { all };
        let words: Vec<String> = found.iter().map(describe).collect();
        Ok(Judged {
            causes: found.iter().map(|finding| finding.rule.id).collect(),
            right,
            words: if words.is_empty() { "nothing".into() } else { words.join("; ") },
        })
    }
}

/// From when each connection has had its first request, which is slower than others, to the last answer; or if there
/// is no report of them, from `before_ns` until now.
pub fn window(before_ns: u64, reports: &[TrafficReport]) -> Result<Window> {
    let begin_ns = reports.first().map_or(before_ns, |report| report.start_ns + WARM_UP_NS);
    let end_ns = match reports.last() {
        Some(report) => report.start_ns + report.duration_ns,
        None => now_ns()?,
    };
    Ok(Window { begin_ns, end_ns, size: 0.0, times_ns: Vec::new() })
}

impl Expected {
    pub fn is(&self, finding: &Finding, running: &Running) -> bool {
        let key = &finding.key;
        let netns = running.netns(self.netns).map(|netns| netns.name().to_string()).ok();
        let is_there = |expected: &str, is: bool| expected == ANYWHERE || is;
        let cause = if at_least(REASONS) { self.cause } else { self.unsaid };
        finding.rule.id == cause
            && is_there(self.netns, key.netns == netns)
            && is_there(self.device, key.device.as_deref().unwrap_or_default() == self.device)
            && is_there(self.device, key.level == Some(self.level))
    }
}

pub fn describe(finding: &Finding) -> String {
    let key = &finding.key;
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    let drop = finding.drop.as_ref().map_or(String::new(), |(reason, place)| format!(" ({reason} {place})"));
    let share = finding.share.map_or(String::new(), |share| format!(" {:.0}%", share * 100.0));
    format!(
        "{} {}{share} x{} in {} L{} {} {}{drop}",
        finding.severity.name(),
        finding.rule.id,
        finding.packets,
        text(&key.stage),
        key.level.unwrap_or(0),
        text(&key.netns),
        text(&key.device)
    )
}
