use std::process::ExitCode;

use clap::Parser;
use overlay_trace::cli::Cli;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("overlay-trace: {error:#}");
            ExitCode::FAILURE
        }
    }
}
