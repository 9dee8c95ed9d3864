//! The injection suite: causes of bad tails, each produced on purpose under traffic at a constant rate, and
//! whether `tail` names the right one first, at the right device and level.
//!
//! Each run of a cause is a [`Window`] of one recording, since beginning one takes long; the windows are then
//! made recordings of their own.
//!
//! [`Window`]: crate::truth::fixture::Window

mod article;
mod causes;
mod confusion;
mod conntrack;
pub mod cut;
mod datagrams;
mod disturb;
mod flood;
mod injection;
mod load;
mod means;
pub mod one_core;
mod sampled;
mod traffic;
mod waits;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use overlay_trace_format::Recording;
use overlay_trace_lab::traffic::Stop;

use crate::capture;
use crate::results::{Results, Verdict};
use crate::truth::fixture::{Fixture, Window};
use crate::truth::rules;
pub use confusion::Confusion;
use injection::Injection;
pub use injection::{REASONS, describe};
use load::Load;

/// Of a cause's runs at least this part must be right.
const ENOUGH: f64 = 0.95;

/// The article's experiment, and where it is made.
const ARTICLE: &str = "tail/article";
const ARTICLE_LAB: &str = "flannel-vxlan";

/// TCP's view where only slow packets are kept whole; in the same lab.
const SAMPLED: &str = "tail/sampled-tcp";

/// What is injected in which lab.
const LABS: &[(&str, &[&[Injection]])] = &[
    ("flannel-vxlan", &[causes::VXLAN, means::CAUSES, conntrack::CAUSES, flood::CAUSES, waits::CAUSES]),
    ("flannel-udp", &[causes::UDP]),
];

/// What was done in which window.
type Runs = Vec<(&'static Injection, Load, Window)>;

/// Injects each cause that is wanted `runs` times, and prints the confusion matrix.
pub fn run(runs: u32, place: (&Path, &Stop), results: &mut Results) {
    let mut confusion = Confusion::default();
    for &(lab, injections) in LABS {
        let injections = injections.iter().copied().flatten();
        let wanted: Vec<&'static Injection> =
            injections.filter(|injection| results.wants(&test(injection))).collect();
        if let Err(error) = in_lab(lab, &wanted, runs, place, &mut confusion, results) {
            results.add(&format!("tail/{lab}"), Err(error));
        }
        for injection in wanted {
            let (runs, right) = confusion.runs(injection.name);
            if runs > 0 {
                let enough = f64::from(right) >= ENOUGH * f64::from(runs);
                let said = format!("{right} of {runs} runs");
                let outcome = if enough { Ok(Verdict::With(said)) } else { Err(anyhow::anyhow!(said)) };
                results.add(&test(injection), outcome);
            }
        }
    }
    println!("{}", confusion.table());
}

fn test(injection: &Injection) -> String {
    format!("tail/{}", injection.name)
}

fn in_lab(
    name: &str,
    wanted: &[&'static Injection],
    runs: u32,
    (folder, stop): (&Path, &Stop),
    confusion: &mut Confusion,
    results: &mut Results,
) -> Result<()> {
    let wants = |test: &str| name == ARTICLE_LAB && results.wants(test);
    let (wants_article, wants_sampled) = (wants(ARTICLE), wants(SAMPLED));
    if wanted.is_empty() && !wants_article && !wants_sampled {
        return Ok(());
    }
    let running = capture::stand(name, stop)?;
    if wants_sampled {
        results.add(SAMPLED, sampled::check(&running, (folder, stop)));
    }
    if wanted.is_empty() && !wants_article {
        return running.down();
    }
    let fixture = Fixture::new(&running, folder, stop);
    fixture.settle()?;
    rules::prepare(&fixture)?;
    let path = folder.join(format!("{name}.otr"));
    let session = capture::begin(&running, &path)?;
    let done = inject(wanted, runs, &fixture, results);
    let article = wants_article.then(|| article::inject(&fixture));
    ensure!(!session.failed(), "the recording gave up before its end");
    session.stop().context("the recording could not be finished")?;
    let done = done?;
    let windows: Vec<Window> = done.iter().map(|run| run.2.clone()).collect();
    let recording = Recording::open(&path)?;
    let files = cut::cut(&recording, &windows, (folder, name))?;
    for ((injection, load, _), file) in done.iter().zip(files) {
        let judged = injection.judge(&Recording::open(&file)?, &running)?;
        let verdict = if judged.right { "right" } else { "WRONG" };
        println!("{}  {}  {load}  {verdict}: {}", results.kernel(), test(injection), judged.words);
        confusion.add(injection.name, &judged.causes, judged.right);
    }
    if let Some(article) = article {
        let outcome = match article {
            Ok(Ok(parts)) => article::check(&parts, &recording, &fixture, folder),
            Ok(Err(lack)) => Ok(Verdict::Skipped(lack)),
            Err(error) => Err(error),
        };
        results.add(ARTICLE, outcome);
    }
    running.down()
}

fn inject(
    wanted: &[&'static Injection],
    runs: u32,
    fixture: &Fixture,
    results: &mut Results,
) -> Result<Runs> {
    let mut done = Runs::new();
    for run in 0..runs {
        for (number, injection) in (0..).zip(wanted) {
            let load = Load::of(u64::from(run) << 16 | number);
            let begin = std::time::Instant::now();
            match injection.inject(fixture, &load) {
                Ok(Ok(window)) => done.push((injection, load, window)),
                Ok(Err(lack)) => results.add(&test(injection), Ok(Verdict::Skipped(lack))),
                Err(error) => {
                    let error = error.context(format!("{load}: the cause could not be injected"));
                    results.add(&test(injection), Err(error));
                }
            }
            eprintln!("{} took {:.1} s", test(injection), begin.elapsed().as_secs_f64());
            fixture.stop.check()?;
        }
    }
    Ok(done)
}
