//! What is said on the standard error.

use std::io::{Write, stderr};

use overlay_trace_format::printable;

/// Prints a line on the standard error; there may be names of strangers in it, of files too. Nobody may read it any
/// more: then it is lost, and the work goes on.
pub fn say(text: &str) {
    let _ = writeln!(stderr(), "{}", printable(text));
}
