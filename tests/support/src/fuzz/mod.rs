//! Tries of mutated recordings, for some time, each with a time limit; an input that fails is kept.
//!
//! `OVERLAY_TRACE_FUZZ_SECONDS` says for how long each target is tried (20), `OVERLAY_TRACE_FUZZ_SEED` where the generator
//! begins; the first cases of a seed are always the same. An input that fails is kept in `target/tmp/fuzz`: move it to
//! `tests/corpus` with the fix.

mod mutate;

use std::{
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::Path,
    sync::mpsc::channel,
    thread,
    time::{Duration, Instant},
};

pub use mutate::{Random, Target, mutate};

use crate::workspace;

const SECONDS: u64 = 20;
/// So many cases at least, however slow the machine is.
const CASES_MIN: u64 = 10;
/// A case that takes this long hangs.
const HANGS: Duration = Duration::from_secs(120);

fn number(name: &str, default: u64) -> u64 {
    match env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text}")),
        Err(_) => default,
    }
}

/// Tries cases until the time is up; gives their number. Each gets numbers of its own, and a name.
pub fn try_cases(target: &str, mut case: impl FnMut(Random, &str)) -> u64 {
    let seed = number("OVERLAY_TRACE_FUZZ_SEED", 1);
    let time = Duration::from_secs(number("OVERLAY_TRACE_FUZZ_SECONDS", SECONDS));
    let begin = Instant::now();
    let mut cases = 0;
    while begin.elapsed() < time || cases < CASES_MIN {
        case(Random::new(seed, cases), &format!("{target} {seed} {cases}"));
        cases += 1;
    }
    eprintln!("{target}: {cases} cases from seed {seed}");
    cases
}

/// Runs a case on a thread of its own; keeps the input if it fails.
///
/// # Panics
///
/// The case panics or hangs.
pub fn run_case(input: &Path, what: &str, case: impl FnOnce() + Send + 'static) {
    let (send, done) = channel();
    let name = thread::Builder::new().name(what.to_owned());
    let started = name.spawn(move || send.send(catch_unwind(AssertUnwindSafe(case))));
    drop(started.expect("a thread can be made"));
    let result = done.recv_timeout(HANGS);
    if let Ok(Ok(())) = result {
        return;
    }
    let folder = workspace().join("target/tmp/fuzz");
    fs::create_dir_all(&folder).expect("the folder for inputs can be made");
    let kept = folder.join(format!("{}.otr", what.replace(' ', "-")));
    fs::copy(input, &kept).expect("the input can be kept");
    eprintln!("{what}: the input is kept in {}", kept.display());
    match result {
        Ok(Err(panic)) => resume_unwind(panic),
        _ => panic!("{what} hangs"),
    }
}
