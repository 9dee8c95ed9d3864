//! The kernel matrix: on the running kernel, builds labs, drives real traffic through them, records it, and
//! checks what the recordings say. `cargo xtask test` runs it under each kernel of the matrix.
//!
//! A [`scene::Setting`] is a lab with something changed about it; a [`scene::Scene`] is one recording in it;
//! each recording serves many checks. One line per check is printed as soon as its result is known.

mod absent;
mod attached;
mod capture;
mod cases;
mod client_clock;
mod comparison;
mod counters;
mod cpus;
mod describe;
mod drops;
mod ends;
mod expected_skips;
mod filters;
mod identity;
mod in_flight;
mod inode_numbers;
mod interrupted;
mod invariants;
mod labs;
mod late_tunnel;
mod layers;
mod levels;
mod machine;
mod networks;
mod nic;
mod node;
mod overload;
mod own;
mod ownership;
mod pods;
mod possible;
mod privileges;
mod raw_xdp;
mod reasons;
mod results;
mod reused_netns;
mod routed;
mod rows;
mod run;
mod sampled;
mod scarce;
mod scene;
mod seen;
mod settings;
mod shapes;
mod since;
mod snapshot;
mod special;
mod tail;
mod taps;
mod tc;
mod truth;
mod two_guests;
mod untouched;
mod witness;

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
    /// The probe sets to test: full, light, device, tc
    #[arg(long, value_enum, value_delimiter = ',', required_unless_present_any = ["describe_kernel", "serve"])]
    set: Vec<ProbeSet>,
    /// Instead of the other tests those that compare times; they want a machine whose clock counts instructions
    #[arg(long)]
    truth: bool,
    /// Instead of the other tests the injection suite: causes of bad tails, which `tail` must name
    #[arg(long, conflicts_with = "truth")]
    tail: bool,
    /// Instead of the other tests those over NICs: labs whose nodes have two of this machine's own, which are connected
    /// outside of it
    #[arg(long, conflicts_with_all = ["truth", "tail"])]
    nic: bool,
    /// Instead of the other tests the cases: faults that people reported in public, which `tail` must name
    #[arg(long, conflicts_with_all = ["truth", "tail", "nic"])]
    cases: bool,
    /// Instead of the other tests those of `merge` with two guests, which this program of xtask's starts; as root, under the
    /// machine's own kernel
    #[arg(long, value_name = "XTASK", conflicts_with_all = ["truth", "tail", "nic", "cases"])]
    two_guests: Option<PathBuf>,
    /// The guests' kernel
    #[arg(long, value_name = "VERSION", default_value = "6.12")]
    guest_kernel: String,
    /// Instead of testing, be this one of the two guests; they meet in the folder of --keep
    #[arg(long, hide = true, requires = "keep", value_parser = clap::value_parser!(u8).range(1..=2))]
    guest: Option<u8>,
    /// Instead of testing, answer requests: PORT,BYTES,MICROSECONDS of work
    #[arg(long, hide = true)]
    serve: Option<String>,
    /// How often the injection suite injects each cause, or a case is brought about
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
    if let Some(what) = &options.serve {
        cases::serve_here(what)?;
        return Ok(true);
    }
    let stop = Stop::on_signals()?;
    if let (Some(number), Some(folder), [set, ..]) = (options.guest, &options.keep, &options.set[..]) {
        two_guests::run_guest(number, *set, folder, &stop)?;
        return Ok(true);
    }
    let temporary = tempfile::tempdir().context("cannot create a folder for the recordings")?;
    let folder = options.keep.as_deref().unwrap_or(temporary.path());
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut results = Results::new(options.only.clone())?;
    let place = (folder, &stop);
    let outcome = if options.tail {
        tail::run(options.runs, place, &mut results);
        Ok(())
    } else if options.cases {
        options.set.iter().for_each(|set| cases::run(*set, options.runs, place, &mut results));
        Ok(())
    } else if let Some(xtask) = &options.two_guests {
        let vms = two_guests::Vms { xtask, kernel: &options.guest_kernel };
        options.set.iter().for_each(|set| two_guests::run(*set, vms, place, &mut results));
        Ok(())
    } else if options.nic {
        run::over_nics(&options.set, place, &mut results)
    } else {
        run::all(&options.set, options.truth, place, &mut results)
    };
    results.print_sum();
    outcome?;
    Ok(results.good())
}
