//! Networks of a test's own, for what no lab is made for.

use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use overlay_trace_analysis::breakdown::{Analysis, By};
use overlay_trace_format::{RecordView, Recording};
use overlay_trace_lab::dataplanes::Netns;
use overlay_trace_probe::load::Sizes;
use overlay_trace_probe::{FilterOptions, ProbeSet, Session, SessionOptions};

use crate::machine;
use crate::results::Results;

/// Between two datagrams of a test, so that nothing but what is tested overflows.
const PACE: Duration = Duration::from_millis(2);

/// Namespaces whose names begin alike; removed when this is dropped.
pub struct Network {
    prefix: String,
}

impl Network {
    /// Creates namespaces of these short names, and carries out lines for `ip`, in which `@NAME` stands for
    /// the full name of a namespace. What an earlier run left behind is removed first.
    pub fn up(prefix: impl Into<String>, namespaces: &[&str], lines: &str) -> Result<Network> {
        let network = Network { prefix: prefix.into() };
        network.remove_all();
        let added: String = namespaces.iter().map(|name| format!("netns add @{name}\n")).collect();
        network.ip(&(added + lines))?;
        Ok(network)
    }

    /// The full name of a namespace.
    pub fn name(&self, short: &str) -> String {
        format!("{}{short}", self.prefix)
    }

    pub fn netns(&self, short: &str) -> Result<Netns> {
        Netns::named(&self.name(short))
    }

    /// Carries out lines for `ip`.
    pub fn ip(&self, lines: &str) -> Result<()> {
        self.tool(Command::new("ip").args(["-batch", "-"]), lines)
    }

    /// Carries out lines for `ip` in a namespace.
    pub fn ip_in(&self, short: &str, lines: &str) -> Result<()> {
        self.tool(Command::new("ip").args(["-n", &self.name(short), "-batch", "-"]), lines)
    }

    fn tool(&self, command: &mut Command, lines: &str) -> Result<()> {
        let lines = lines.replace('@', &self.prefix);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot run ip")?;
        child.stdin.take().context("no standard input")?.write_all(lines.as_bytes())?;
        let output = child.wait_with_output()?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ip: {} ({})", complaint.trim(), lines.replace('\n', "; "));
        Ok(())
    }

    fn remove_all(&self) {
        for name in machine::namespaces(&self.prefix) {
            let _ = Command::new("ip").args(["netns", "delete", &name]).status();
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.remove_all();
    }
}

/// Two namespaces with a link between them, 10.98.0.1 and 10.98.0.2; both devices are called `eth0`.
pub fn pair() -> Result<Network> {
    let network =
        Network::up("ot-pair-", &["a", "b"], "link add eth0 netns @a type veth peer name eth0 netns @b")?;
    for (name, number) in [("a", 1), ("b", 2)] {
        network.ip_in(
            name,
            &format!("addr add 10.98.0.{number}/24 dev eth0\nlink set eth0 up\nlink set lo up"),
        )?;
    }
    Ok(network)
}

/// What is recorded, and how.
pub struct Plan<'a> {
    pub set: ProbeSet,
    pub folder: &'a Path,
    pub name: &'a str,
    pub filter: FilterOptions,
    pub sizes: Sizes,
}

impl Plan<'_> {
    pub fn file(&self) -> PathBuf {
        self.folder.join(format!("{}.otr", self.name))
    }

    /// Records while something is done; gives the recording and what came of that.
    pub fn record<T>(&self, work: impl FnOnce(&Session) -> Result<T>) -> Result<(Recording, T)> {
        let session = Session::start(SessionOptions {
            set: Some(self.set),
            filter: self.filter.clone(),
            output: self.file(),
            force: true,
            sizes: self.sizes,
            ..SessionOptions::default()
        })?;
        let done = work(&session);
        ensure!(!session.failed(), "the recording gave up before its end");
        session.stop().context("the recording could not be finished")?;
        Ok((Recording::open(self.file())?, done?))
    }
}

/// Adds the results of a test that has several, or its failure to the first of them.
pub fn add(names: &[&str], results: &mut Results, test: impl FnOnce(&mut Results) -> Result<()>) {
    if names.iter().any(|name| results.wants(name))
        && let Err(error) = test(results)
    {
        results.add(names[0], Err(error));
    }
}

/// Sends datagrams one after the other from where it is called.
pub fn send(to: SocketAddr, count: usize) -> Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    for _ in 0..count {
        // Where nobody listens the socket is told so; that is no failure of sending.
        let _ = socket.send_to(&[7; 100], to);
        thread::sleep(PACE);
    }
    Ok(())
}

/// Every record's times add up, and all stages' times are the end-to-end time.
pub fn is_exact(recording: &Recording) -> Result<()> {
    let analysis = Analysis::of(recording, By::Stage)?;
    let parts: u128 = analysis.rows.iter().map(|row| row.raw.sum()).sum();
    ensure!(analysis.inconsistent == 0, "{} records do not add up", analysis.inconsistent);
    let total = analysis.end_to_end.sum();
    ensure!(parts == total, "the stages add up to {parts} ns, the packets took {total} ns");
    Ok(())
}

/// Nothing was lost, except for what the kernel did not show: it skips a probe that an interrupt
/// finds busy, says so, and the packet's beginning or end may be missing then.
pub fn no_losses(recording: &Recording) -> Result<()> {
    let counters = &recording.last.counters;
    let skipped = counters.probe_misses.unwrap_or(0);
    let allowed = |what: &str| match what {
        "probe misses" => u64::MAX,
        "unknown starts" | "missed ends" | "unmatched exits" => skipped,
        _ => 0,
    };
    let lost: Vec<String> = counters
        .losses()
        .iter()
        .filter(|(number, what)| *number > allowed(what))
        .map(|(number, what)| format!("{number} {what}"))
        .collect();
    ensure!(lost.is_empty(), "lost: {} ({skipped} probes skipped)", lost.join(", "));
    Ok(())
}

/// The full names of namespace and device of each span of a path, where they are known.
pub fn places<'a>(recording: &'a Recording, record: &RecordView<'_>) -> Vec<(&'a str, &'a str)> {
    let hop = |hop| recording.hops.get(&hop).map(|hop| (hop.netns.as_str(), hop.device.as_str()));
    record.spans().filter_map(|step| hop(step.hop)).collect()
}
