//! Sends traffic through a lab.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::running::Running;
use super::tools;
use crate::traffic::{self, Kind, PORT, Protocol, Server, Spec, Stop, TrafficReport};

/// The interval at which a running command is checked.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// The time between the signal and SIGKILL.
const GRACE_PERIOD: Duration = Duration::from_secs(3);

/// The default traffic of `lab run`: UDP and TCP request/response, then a short bulk transfer. `defaults` creates
/// each run.
pub fn default_plan(defaults: impl Fn(Kind, Protocol) -> Spec) -> Vec<Spec> {
    let bulk = defaults(Kind::Bulk, Protocol::Tcp);
    let short = bulk.duration.min(Duration::from_secs(2));
    vec![
        defaults(Kind::Rr, Protocol::Udp),
        defaults(Kind::Rr, Protocol::Tcp),
        Spec { duration: short, ..bulk },
    ]
}

/// Sends the runs of the plan, one after the other, from the lab's client to its server.
///
/// # Errors
///
/// When a run is not possible, or a `stop` interrupted it.
pub fn drive(running: &Running, plan: &[Spec], stop: &Stop) -> Result<Vec<TrafficReport>> {
    let _server = serve(running)?;
    let client = running.client()?.netns;
    let mut reports = Vec::new();
    for spec in plan {
        let target = match spec.kind {
            // A Service translates only TCP and UDP.
            Kind::Ping => SocketAddr::new(running.server()?.address, PORT),
            _ => running.target()?,
        };
        reports.push(client.run(|| traffic::run(spec, target, stop))??);
        stop.check()?;
    }
    Ok(reports)
}

fn serve(running: &Running) -> Result<Server> {
    let server = running.server()?;
    let address = running.listen_address()?;
    server.netns.run(|| Server::start(address))?
}

/// Runs a command in the lab's client namespace, with a traffic server in the server namespace. The variable
/// `OVERLAY_TRACE_SERVER` holds the server's address and port, `OVERLAY_TRACE_SERVER_ADDRESS` the address.
/// A `stop` ends the command by the signal that set it.
///
/// # Errors
///
/// When the command cannot be started.
pub fn command(running: &Running, words: &[OsString], stop: &Stop) -> Result<ExitStatus> {
    let _server = serve(running)?;
    let (program, arguments) = words.split_first().context("no command is given")?;
    let target = running.target()?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("OVERLAY_TRACE_SERVER", target.to_string())
        .env("OVERLAY_TRACE_SERVER_ADDRESS", target.ip().to_string());
    // The death signal is tied to the thread that spawns the command, so that thread also waits for it.
    tools::kill_with_parent(&mut command);
    running.client()?.netns.run(|| {
        let mut child = command.spawn().with_context(|| format!("cannot start '{}'", program.display()))?;
        let mut waited = None;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            match waited {
                None => {
                    if let Some(signal) = stop.signal() {
                        kill(Pid::from_raw(child.id() as i32), signal)?;
                        waited = Some(Duration::ZERO);
                    }
                }
                Some(time) if time > GRACE_PERIOD => child.kill()?,
                Some(time) => waited = Some(time + POLL_INTERVAL),
            }
            thread::sleep(POLL_INTERVAL);
        }
    })?
}
