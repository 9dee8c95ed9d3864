//! The kernel matrix: on the running kernel, builds labs, drives real traffic through them, records it, and
//! checks what the recordings say. `cargo xtask test` runs it under each kernel of the matrix.
//!
//! A [`scene::Setting`] is a lab with something changed about it; a [`scene::Scene`] is one recording in it;
//! each recording serves many checks. One line per check is printed as soon as its result is known.

mod absent;
mod attached;
mod capture;
mod comparison;
mod counters;
mod cpus;
mod describe;
mod drops;
mod expected_skips;
mod filters;
mod identity;
mod in_flight;
mod interrupted;
mod invariants;
mod labs;
mod late_tunnel;
mod layers;
mod levels;
mod machine;
mod networks;
mod node;
mod overload;
mod own;
mod pods;
mod results;
mod rows;
mod run;
mod scene;
mod seen;
mod settings;
mod shapes;
mod since;
mod special;
mod tail;
mod truth;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use overlay_trace_lab::traffic::Stop;
use overlay_trace_probe::ProbeSet;

use results::Results;

/// Tests overlay-trace on the running kernel.
#[derive(Parser)]
#[command(name = "matrix")]
struct Options {
    /// The probe sets to test: full, light, device
    #[arg(long, value_enum, value_delimiter = ',', required_unless_present = "describe_kernel")]
    set: Vec<ProbeSet>,
    /// Instead of the other tests those that compare times; they want a machine whose clock counts instructions
    #[arg(long)]
    truth: bool,
    /// Instead of the other tests the injection suite: causes of bad tails, which `tail` must name
    #[arg(long, conflicts_with = "truth")]
    tail: bool,
    /// How often the injection suite injects each cause
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// Only the tests whose name contains one of these
    #[arg(long, value_name = "SUBSTRING", value_delimiter = ',')]
    only: Vec<String>,
    /// Keep the recordings in this folder
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
    /// Instead of testing, write into this folder what unit tests need to know of the running kernel
    #[arg(long, value_name = "FOLDER", hide = true)]
    describe_kernel: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("matrix: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// True if nothing failed.
fn run(options: &Options) -> Result<bool> {
    if let Some(folder) = &options.describe_kernel {
        describe::write(folder)?;
        return Ok(true);
    }
    let stop = Stop::on_signals()?;
    let temporary = tempfile::tempdir().context("cannot create a folder for the recordings")?;
    let folder = options.keep.as_deref().unwrap_or(temporary.path());
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut results = Results::new(options.only.clone())?;
    let place = (folder, &stop);
    let outcome = if options.tail {
        tail::run(options.runs, place, &mut results);
        Ok(())
    } else {
        run::all(&options.set, options.truth, place, &mut results)
    };
    results.print_sum();
    outcome?;
    Ok(results.good())
}
