//! On which CPUs packets pass.

use std::process::Command;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::node::{COUNT, Of, for_each_of, send_all};
use crate::own::{is_exact, no_losses, pair};
use crate::results::{Results, Verdict};

pub const WAYS: &str = "cpus/ways";

/// The sender and the reader are on this CPU, and what is received on the other one.
const OF_PROGRAMS: u16 = 0;
const OF_SOFTIRQS: u16 = 1;
const FIRST: u16 = 7724;
const PORT: u16 = 7725;

/// Why nothing can be said of several CPUs, if there is one.
pub fn lack() -> Option<String> {
    let are_several = thread::available_parallelism().is_ok_and(|processors| processors.get() > 1);
    (!are_several).then(|| "needs two processors".to_owned())
}

/// The calling thread, and those that it begins, run on this CPU alone.
pub fn stay_on(cpu: u16) -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu.into())?;
    sched_setaffinity(Pid::from_raw(0), &cpus).with_context(|| format!("cannot run on CPU {cpu} alone"))
}

/// Receive packet steering (RPS): what comes in by the device, in the namespace of this full name, goes to one of the
/// CPUs whose bits are set.
pub fn steer(netns: &str, device: &str, cpus: u32) -> Result<()> {
    // The files of a namespace's devices are seen in it alone.
    let write = format!("echo {cpus:x} > /sys/class/net/{device}/queues/rx-0/rps_cpus");
    let output = Command::new("ip").args(["netns", "exec", netns, "sh", "-c", &write]).output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{device} of {netns} cannot be steered: {}", complaint.trim());
    Ok(())
}

/// A datagram is on its sender's CPU until it lies in the backlog of the one that it is steered to, on that one until it
/// lies in its socket, and then on its reader's.
pub fn ways(of: Of, results: &mut Results) -> Result<()> {
    if let Some(lack) = lack() {
        results.add(WAYS, Ok(Verdict::Skipped(lack)));
        return Ok(());
    }
    let network = pair()?;
    steer(&network.name("b"), "eth0", 1 << OF_SOFTIRQS)?;
    let plan = of("cpus", &[network.name("a"), network.name("b")]);
    let (recording, ()) = plan.record(|_| {
        let send = || {
            stay_on(OF_PROGRAMS)?;
            // The first one waits for its neighbour, whose answer comes on another CPU.
            send_all(&network, "10.98.0.2", FIRST)?;
            send_all(&network, "10.98.0.2", PORT)
        };
        thread::scope(|scope| scope.spawn(send).join()).map_err(|_| anyhow!("the sender failed"))?
    })?;
    is_exact(&recording)?;
    no_losses(&recording)?;
    let stage = |name: &str| {
        let number = recording.header.stages.iter().position(|stage| stage.name == name);
        number.map(|number| number as u8).with_context(|| format!("there is no stage {name}"))
    };
    let (queued, in_socket) = (stage("backlog-wait")?, stage("socket-wait")?);
    let mut wrong = Vec::new();
    for_each_of(&recording, PORT, |record| {
        let mut expected = OF_PROGRAMS;
        for segment in record.spans() {
            if segment.stage == queued {
                expected = OF_SOFTIRQS;
            } else if segment.stage == in_socket {
                expected = OF_PROGRAMS;
            }
            if segment.cpu != Some(expected) {
                let name = &recording.header.stages[usize::from(segment.stage)].name;
                wrong.push(format!("{name} on {:?} instead of {expected}", segment.cpu));
            }
        }
        if !record.spans().any(|segment| segment.stage == queued) {
            wrong.push("no backlog".to_owned());
        }
    })?;
    ensure!(
        wrong.is_empty(),
        "{} segments of {COUNT} ways: {}",
        wrong.len(),
        wrong[..wrong.len().min(5)].join(", ")
    );
    results.add(WAYS, Ok(Verdict::Passed));
    Ok(())
}
