//! `lab compare` as a user runs it: two labs, the quick plan, and once more.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::interrupted::program;
use crate::results::{Outcome, Results, Verdict};

const MEASURED: &str = "comparison/measured";
const EXACT: &str = "comparison/exact";
const ORDER: &str = "comparison/order";
const FILES: &str = "comparison/files";
const RESUMED: &str = "comparison/resumed";
const LABS: [&str; 2] = ["host", "flannel-vxlan"];
/// What no stage claims may be at most so much of the packets' time.
const OTHER: f64 = 0.05;

/// Runs the comparison if a test of it is wanted.
pub fn run(folder: &Path, results: &mut Results) {
    let names = [MEASURED, EXACT, ORDER, FILES, RESUMED];
    if !names.iter().any(|name| results.wants(name)) {
        return;
    }
    if let Err(error) = compare(&folder.join("comparison"), results) {
        results.add(MEASURED, Err(error));
    }
}

fn compare(folder: &Path, results: &mut Results) -> Result<()> {
    let output = overlay_trace(folder)?;
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "it ended with {}: {complaint}", output.status);
    let read = |name: &str| -> Result<String> {
        fs::read_to_string(folder.join("quick").join(name)).with_context(|| format!("{name} is missing"))
    };
    let json: Value = serde_json::from_str(&read("compare.json")?)?;
    results.add(MEASURED, measured(&json));
    results.add(EXACT, exact(&json));
    results.add(ORDER, order(&json));
    results.add(FILES, read("compare.csv").and_then(|csv| files(&csv, &read("compare.html")?)));
    let again = overlay_trace(folder)?;
    let told = String::from_utf8_lossy(&again.stderr).into_owned();
    results.add(
        RESUMED,
        serde_json::from_str(&read("compare.json")?).map_err(Into::into).and_then(|same: Value| {
            ensure!(again.status.success() && told.contains("were measured before"), "it says: {told}");
            ensure!(same == json, "the second run has other results, though nothing was to be measured");
            Ok(Verdict::Passed)
        }),
    );
    Ok(())
}

fn overlay_trace(folder: &Path) -> Result<Output> {
    let mut command = Command::new(program()?);
    command.args(["lab", "compare"]).args(LABS).args(["--plan", "quick", "--output"]).arg(folder);
    command.output().context("cannot start overlay-trace")
}

fn labs(json: &Value) -> Result<Vec<&Value>> {
    let labs: Vec<&Value> = json["labs"].as_array().context("there are no labs")?.iter().collect();
    let names: Vec<_> = labs.iter().filter_map(|lab| lab["lab"].as_str()).collect();
    ensure!(names == LABS, "the labs are {names:?} instead of {LABS:?}");
    Ok(labs)
}

/// Both labs were measured: each run arrived, and something came through.
fn measured(json: &Value) -> Outcome {
    let absent = json["absent"].as_array().context("it does not say what is absent")?;
    ensure!(absent.is_empty(), "absent: {absent:?}");
    let mut took = 0.0;
    for lab in labs(json)? {
        for run in lab["runs"].as_array().context("there are no runs")? {
            ensure!(
                run["throughput_bits_per_s"].as_f64() > Some(0.0),
                "{}: nothing came through",
                run["name"]
            );
            let is_answered = run["kind"] != "rr" || run["lost"] == 0;
            ensure!(is_answered, "{}: {} of {} requests were lost", run["name"], run["lost"], run["sent"]);
        }
        took += lab["took_s"].as_f64().unwrap_or_default();
    }
    Ok(Verdict::With(format!("{:.0} s for each lab", took / LABS.len() as f64)))
}

/// The stages add up to the nanosecond, and nearly all time is claimed.
fn exact(json: &Value) -> Outcome {
    for lab in labs(json)? {
        let stages = lab["stages"].as_array().context("there are no stages")?;
        let sum: u64 = stages.iter().filter_map(|stage| stage["raw_ns"].as_u64()).sum();
        ensure!(lab["sum_ns"] == sum, "{}: the stages add up to {sum} ns, not {}", lab["lab"], lab["sum_ns"]);
        let other = lab["other_share"].as_f64().context("other_share is missing")?;
        ensure!(other <= OTHER, "{}: no stage claims {:.1} % of the time", lab["lab"], other * 100.0);
    }
    Ok(Verdict::Passed)
}

/// The overlay costs more than none, and has a level of its own.
fn order(json: &Value) -> Outcome {
    let labs = labs(json)?;
    let levels: Vec<usize> = labs.iter().map(|lab| lab["levels_ns"].as_array().map_or(0, Vec::len)).collect();
    ensure!(levels == [1, 2], "there are {levels:?} levels");
    let vxlan = |lab: &Value| lab["layers_ns"]["vxlan"].as_f64().unwrap_or_default();
    ensure!(vxlan(labs[0]) == 0.0 && vxlan(labs[1]) > 0.0, "VXLAN is at the wrong lab");
    let time = |lab: &Value| {
        lab["per_packet_ns"].as_f64().unwrap_or_default() - lab["socket_wait_ns"].as_f64().unwrap_or_default()
    };
    let ratio = time(labs[1]) / time(labs[0]);
    ensure!(ratio > 1.0, "a packet takes {ratio:.2} times as long over VXLAN as without");
    Ok(Verdict::With(format!("{ratio:.2} times the time per packet")))
}

/// The table is complete, and the page needs nothing from elsewhere.
fn files(csv: &str, page: &str) -> Outcome {
    for lab in LABS {
        ensure!(csv.contains(lab) && page.contains(lab), "{lab} is not in all files");
    }
    for reference in ["src=\"http", "href=\"http", "url(http", "@import"] {
        ensure!(!page.contains(reference), "the page needs {reference}…");
    }
    ensure!(page.contains("<svg"), "the page has no flame graph");
    Ok(Verdict::With(format!("{} bytes of page", page.len())))
}
