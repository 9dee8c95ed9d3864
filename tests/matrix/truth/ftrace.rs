//! The kernel's own function_graph tracer: how long a function takes, from call to return. It shares neither
//! probes nor accounting with overlay-trace.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};

const TRACING: &str = "/sys/kernel/tracing";
/// A function that does nothing at all: the time that the tracer gives for it is the tracer's own.
const EMPTY: &str = "read_null";
const EMPTY_FILE: &str = "/dev/null";
const EMPTY_CALLS: usize = 200;

/// The tracer, tracing functions of which none calls another; as it was before when dropped.
pub struct Graph {
    functions: &'static [&'static str],
}

impl Graph {
    /// Why there is no such tracer here, if there is none.
    pub fn lack() -> Option<String> {
        let tracers = fs::read_to_string(Path::new(TRACING).join("available_tracers")).unwrap_or_default();
        (!tracers.split_whitespace().any(|tracer| tracer == "function_graph"))
            .then(|| format!("there is no tracer function_graph in {TRACING}"))
    }

    /// Begins to trace those of the functions that this kernel has.
    pub fn of(functions: &'static [&'static str]) -> Result<Graph> {
        let graph = Graph { functions };
        write("tracing_on", "0")?;
        let mut filter = fs::File::create(Path::new(TRACING).join("set_ftrace_filter"))?;
        let known = functions.iter().filter(|function| writeln!(filter, "{function}").is_ok()).count();
        drop(filter);
        ensure!(known > 0, "the kernel cannot trace {}", functions.join(", "));
        write("current_tracer", "function_graph")?;
        write("tracing_on", "1")?;
        Ok(graph)
    }

    /// Forgets the calls so far.
    pub fn forget(&self) -> Result<()> {
        write("trace", "")
    }

    /// How long each call took, ns, the tracer's own time included.
    pub fn calls(&self) -> Result<Vec<f64>> {
        write("tracing_on", "0")?;
        let text = fs::read_to_string(Path::new(TRACING).join("trace")).context("cannot read the trace")?;
        let calls: Vec<f64> = text.lines().filter_map(|line| duration_ns(line, self.functions)).collect();
        ensure!(!calls.is_empty(), "{} was not called", self.functions.join(", "));
        Ok(calls)
    }

    /// What the tracer adds to the time of each call, ns.
    pub fn own_cost_ns() -> Result<f64> {
        let graph = Graph::of(&[EMPTY])?;
        let mut file = fs::File::open(EMPTY_FILE).with_context(|| format!("cannot open {EMPTY_FILE}"))?;
        for _ in 0..EMPTY_CALLS {
            ensure!(file.read(&mut [0])? == 0, "{EMPTY_FILE} is not empty");
        }
        let mut calls = graph.calls()?;
        calls.sort_by(f64::total_cmp);
        Ok(calls[calls.len() / 2])
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        for (file, text) in [("current_tracer", "nop"), ("set_ftrace_filter", ""), ("tracing_on", "1")] {
            if let Err(error) = write(file, text) {
                eprintln!("matrix: {error:#}");
            }
        }
    }
}

fn write(file: &str, text: &str) -> Result<()> {
    let path = Path::new(TRACING).join(file);
    fs::write(&path, text).with_context(|| format!("cannot write \"{text}\" to {}", path.display()))
}

/// The time of a line as ` 0) + 12.345 us   |  vxlan_xmit [vxlan]();`, if it is of a call of one of the functions.
fn duration_ns(line: &str, functions: &[&str]) -> Option<f64> {
    let (left, right) = line.split_once('|')?;
    let called = right.trim().split(['(', ' ']).next()?;
    let mut words = left.split_whitespace().rev();
    let (unit, number) = (words.next()?, words.next()?);
    (functions.contains(&called) && unit == "us").then(|| number.parse::<f64>().ok().map(|us| us * 1000.0))?
}

#[cfg(test)]
mod tests {
    use super::duration_ns;

    #[test]
    fn a_call_is_read() {
        let line = " 0) + 12.345 us   |  vxlan_xmit [vxlan]();";
        assert_eq!(duration_ns(line, &["x", "vxlan_xmit"]), Some(12345.0));
        assert_eq!(duration_ns(" 0)   0.250 us    |  nf_conntrack_in();", &["nf_conntrack_in"]), Some(250.0));
        assert_eq!(duration_ns(line, &["vxlan"]), None);
        assert_eq!(duration_ns(" 0)  idle-0  =>  matrix-1", &["vxlan_xmit"]), None);
    }
}
