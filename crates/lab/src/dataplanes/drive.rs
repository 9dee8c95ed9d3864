//! Traffic through a lab.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Running;
use crate::traffic::{self, Kind, PORT, Protocol, Server, Spec, Stop, TrafficReport};

/// How often a running command is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How long a command may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(3);

/// UDP and TCP requests, then a short bulk transfer: what `lab run` sends when nothing else is asked for.
/// `defaults` makes each run.
pub fn default_plan(defaults: impl Fn(Kind, Protocol) -> Spec) -> Vec<Spec> {
    let bulk = defaults(Kind::Bulk, Protocol::Tcp);
    let short = bulk.duration.min(Duration::from_secs(2));
    vec![
        defaults(Kind::Rr, Protocol::Udp),
        defaults(Kind::Rr, Protocol::Tcp),
        Spec { duration: short, ..bulk },
    ]
}

/// Sends the traffic of the plan, one run after the other, from the lab's client to its server.
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
            // A Service translates TCP and UDP alone.
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
    let address = running.listens()?;
    server.netns.run(|| Server::start(address))?
}

/// Runs a command in the lab's client namespace, with a traffic server in the server's. The command finds
/// that server's address and port in `OVERLAY_TRACE_SERVER`, and the address alone in
/// `OVERLAY_TRACE_SERVER_ADDRESS`. A `stop` ends it.
///
/// # Errors
///
/// When the command cannot be started.
pub fn command(running: &Running, words: &[String], stop: &Stop) -> Result<ExitStatus> {
    let _server = serve(running)?;
    let (program, arguments) = words.split_first().context("say which command to run")?;
    let target = running.target()?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("OVERLAY_TRACE_SERVER", target.to_string())
        .env("OVERLAY_TRACE_SERVER_ADDRESS", target.ip().to_string());
    let parent = nix::unistd::getpid();
    // SAFETY: between fork and exec only system calls are made.
    unsafe {
        command.pre_exec(move || {
            // Not left behind in the lab when this process is killed.
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            if nix::unistd::getppid() == parent { Ok(()) } else { Err(nix::Error::ESRCH.into()) }
        });
    }
    // The death signal is tied to the thread that starts the command, so that thread also waits for it.
    running.client()?.netns.run(|| {
        let mut child = command.spawn().with_context(|| format!("cannot start '{program}'"))?;
        let mut waited = None;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            match waited {
                None if stop.is_set() => {
                    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM)?;
                    waited = Some(Duration::ZERO);
                }
                Some(time) if time > GRACE => child.kill()?,
                Some(time) => waited = Some(time + LOOK),
                None => {}
            }
            thread::sleep(LOOK);
        }
    })?
}
