//! The lab that causes are injected in.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use overlay_trace_lab::dataplanes::Running;
use overlay_trace_lab::traffic::Stop;

use super::flow::{Flow, Sent};
use crate::machine;

/// A lab that stands, and is being recorded.
pub struct Fixture<'a> {
    pub running: &'a Running,
    pub stop: &'a Stop,
    folder: &'a Path,
}

/// A stretch of the recording in which one thing was so.
#[derive(Clone, Debug)]
pub struct Window {
    /// ns of CLOCK_MONOTONIC, the records' clock.
    pub begin_ns: u64,
    pub end_ns: u64,
    /// The known size of what is compared, in a unit of the cause's own (ns, rules, bytes).
    pub size: f64,
    /// How long each datagram took from its sender to its reader, ns; or what else the cause has measured.
    pub times_ns: Vec<u64>,
}

/// Instead of a namespace of the lab: the machine itself.
pub const HOST: &str = "host";

/// Commands that change the lab, and those that undo it; all in one namespace, or on the [`HOST`].
pub struct Change {
    pub on: &'static str,
    pub make: Vec<String>,
    pub undo: Vec<String>,
}

impl Change {
    pub fn new(on: &'static str, make: &[&str], undo: &[&str]) -> Change {
        let owned = |lines: &[&str]| lines.iter().map(|line| line.to_string()).collect();
        Change { on, make: owned(make), undo: owned(undo) }
    }
}

impl<'a> Fixture<'a> {
    pub fn new(running: &'a Running, folder: &'a Path, stop: &'a Stop) -> Fixture<'a> {
        Fixture { running, stop, folder }
    }

    /// Makes all neighbour entries permanent: otherwise they are resolved again now and then, and a packet of that
    /// moment takes a longer path.
    pub fn settle(&self) -> Result<()> {
        self.send(&Flow { count: 1, ..Flow::PLAIN }, 0.0)?;
        for node in ["node1", "node2"] {
            let remember = "ip link set dev cni0 type bridge ageing_time 10000000";
            machine::run_in(self.running.netns(node)?, remember)?;
        }
        for netns in self.running.namespaces() {
            let output = netns.run(|| Command::new("ip").args(["-4", "neigh", "show"]).output())??;
            for line in String::from_utf8_lossy(&output.stdout).lines() {
                // `10.244.1.1 dev eth0 lladdr 0a:00:00:00:04:01 REACHABLE`
                if let [address, "dev", device, "lladdr", lladdr, ..] =
                    line.split_whitespace().collect::<Vec<_>>()[..]
                {
                    let neighbour = format!("{address} dev {device} lladdr {lladdr}");
                    machine::run_in(netns, &format!("ip neigh replace {neighbour} nud permanent"))?;
                }
            }
        }
        Ok(())
    }

    /// Sends datagrams; the window begins when the first few of them are through.
    pub fn send(&self, flow: &Flow, size: f64) -> Result<Window> {
        self.send_each(flow, size, || Ok(()))
    }

    /// The same, doing something before each datagram.
    pub fn send_each(&self, flow: &Flow, size: f64, before: impl FnMut() -> Result<()>) -> Result<Window> {
        let Sent { begin_ns, end_ns, one_way_ns } = flow.send(self.running, self.stop, before)?;
        Ok(Window { begin_ns, end_ns, size, times_ns: one_way_ns })
    }

    /// Does something while the changes hold; or says which of them this machine does not know. They are
    /// undone in any case.
    pub fn with<T>(&self, changes: &[Change], then: impl FnOnce() -> Result<T>) -> Result<Result<T, String>> {
        let outcome = match self.make(changes) {
            Ok(None) => then().map(Ok),
            Ok(Some(lack)) => Ok(Err(lack)),
            Err(error) => Err(error),
        };
        let undone: Vec<Result<()>> = changes.iter().rev().map(|change| self.undo(change)).collect();
        // What was not made cannot be undone.
        if matches!(outcome, Ok(Ok(_))) {
            undone.into_iter().collect::<Result<()>>()?;
        }
        outcome
    }

    /// Runs all the commands, also after one has failed.
    fn undo(&self, change: &Change) -> Result<()> {
        let run = |command: &String| match self.run(change.on, command)? {
            None => Ok(()),
            Some(complaint) => bail!("{complaint}"),
        };
        let outcomes: Vec<Result<()>> = change.undo.iter().map(run).collect();
        outcomes.into_iter().collect()
    }

    fn make(&self, changes: &[Change]) -> Result<Option<String>> {
        for change in changes {
            for command in &change.make {
                if let Some(lack) = self.run(change.on, command)? {
                    return Ok(Some(lack));
                }
            }
        }
        Ok(None)
    }

    fn run(&self, on: &str, command: &str) -> Result<Option<String>> {
        if on == HOST { machine::run(command) } else { machine::run_in(self.running.netns(on)?, command) }
    }

    /// Writes a file that commands can read, and gives its path.
    pub fn file(&self, name: &str, text: &str) -> Result<String> {
        let path = self.folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path.display().to_string())
    }
}
