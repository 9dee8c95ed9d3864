// Printing to a closed pipe or a full disk with these would panic.
#![warn(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use overlay_trace::cli::Cli;
use overlay_trace_lab::say;

fn main() -> ExitCode {
    // Details for debugging: OVERLAY_TRACE_LOG=debug.
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("OVERLAY_TRACE_LOG"))
        .with_writer(std::io::stderr)
        // What cannot be written there cannot be said there.
        .log_internal_errors(false)
        .init();
    Cli::run_arguments().unwrap_or_else(|error| {
        say(&format!("overlay-trace: {error:#}"));
        ExitCode::FAILURE
    })
}
