//! The command line of overlay-trace: one file per command, each a short pipeline over the libraries.
//!
//! `record` ([`overlay_trace_probe`]) writes a recording ([`overlay_trace_format`]). Everything after that is a pure
//! function of the file ([`overlay_trace_analysis`]). [`overlay_trace_lab`] builds the dataplanes of well-known container
//! networks, drives and compares them.

// Printing to a closed pipe or a full disk with these would panic.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod cli;
pub mod cmd;
