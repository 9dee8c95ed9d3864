use std::process::ExitCode;

use clap::Parser;
use overlay_trace::cli::Cli;

fn main() -> ExitCode {
    // Details for debugging: OVERLAY_TRACE_LOG=debug.
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("OVERLAY_TRACE_LOG"))
        .with_writer(std::io::stderr)
        .init();
    match Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("overlay-trace: {error:#}");
            ExitCode::FAILURE
        }
    }
}
