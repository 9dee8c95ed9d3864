//! Where packets wait at a NIC: in the qdisc, since its queue is stopped or its ring is full, and for its poll.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use overlay_trace_lab::dataplanes::Running;
use overlay_trace_lab::traffic::{Stop, TrafficReport};

use super::at_nic::NODES;
use super::{DEVICE_SET, FULL_SET, SENT_AND_SEEN, plain, setting, traffic};
use crate::invariants::EXACT;
use crate::results::{Outcome, Verdict};
use crate::scene::{Check, Scene, Setting, check};
use crate::seen::Seen;

/// So many packets must have waited: a few may do so without being made to.
const ENOUGH: u64 = 50;

/// With several queues.
pub const NAPI: Setting = Setting { scenes: BY_POLLS, ..setting("nic2/napi", "host", plain) };
/// With a driver that has byte queue limits, and stops its queue before the ring is full.
pub const E1000E: Setting = Setting { scenes: BEFORE_THE_RING, ..setting("nic-e1000e/queue", "host", plain) };
/// With a driver that finds its ring full (NETDEV_TX_BUSY).
pub const VMXNET3: Setting = Setting { scenes: BUSY, ..setting("nic-vmxnet3/queue", "host", plain) };

const BY_POLLS: &[Scene] = &[
    Scene { name: "threaded", drive: threaded, checks: THREADED, ..DEVICE_SET },
    Scene { name: "deferred", drive: deferred, checks: DEFERRED, ..DEVICE_SET },
    Scene { name: "busy-poll", drive: busy_poll, checks: BUSY_POLL, ..DEVICE_SET },
];
const BEFORE_THE_RING: &[Scene] = &[
    Scene { name: "bql", drive: bql, checks: BQL, ..DEVICE_SET },
    Scene { name: "ring", drive: small_ring, checks: RING, ..DEVICE_SET },
];
const BUSY: &[Scene] = &[
    Scene { name: "busy-device", drive: smallest_ring, checks: RING, ..DEVICE_SET },
    Scene { name: "busy-full", drive: smallest_ring, checks: RING, ..FULL_SET },
];

const THREADED: &[&[Check]] = &[EXACT, SENT_AND_SEEN, &[check("napi-thread-wait", in_threads)]];
const DEFERRED: &[&[Check]] = &[EXACT, SENT_AND_SEEN, &[check("napi-timer-wait", by_timer)]];
const BUSY_POLL: &[&[Check]] = &[EXACT, SENT_AND_SEEN, &[check("busy-poll-wait", by_sockets)]];
const BQL: &[&[Check]] = &[EXACT, SENT_AND_SEEN, &[check("bql-wait", held_back)]];
const RING: &[&[Check]] = &[EXACT, SENT_AND_SEEN, &[check("tx-ring-wait", ring_full)]];

fn in_threads(seen: &Seen, _: &[Seen]) -> Outcome {
    waited(seen, "napi-thread-wait")
}

fn by_timer(seen: &Seen, _: &[Seen]) -> Outcome {
    waited(seen, "napi-timer-wait")
}

fn by_sockets(seen: &Seen, _: &[Seen]) -> Outcome {
    waited(seen, "busy-poll-wait")
}

fn held_back(seen: &Seen, _: &[Seen]) -> Outcome {
    waited(seen, "bql-wait")
}

fn ring_full(seen: &Seen, _: &[Seen]) -> Outcome {
    waited(seen, "tx-ring-wait")
}

fn waited(seen: &Seen, stage: &str) -> Outcome {
    let stages = &seen.recording.header.stages;
    let is_it = |number: u8| stages.get(usize::from(number)).is_some_and(|row| row.name == stage);
    let count = seen.count(|record| record.spans().any(|span| is_it(span.stage)))?;
    let words = format!("{count} of {} packets", seen.analysis.packets());
    ensure!(count >= ENOUGH, "{words} have {stage}");
    Ok(Verdict::With(words))
}

/// NAPI polls in threads of the NIC's.
fn threaded(running: &Running, stop: &Stop) -> Result<Vec<TrafficReport>> {
    let (on, off) = ("echo 1 >/sys/class/net/eth0/threaded", "echo 0 >/sys/class/net/eth0/threaded");
    between(running, on, off, || traffic::both_ways(running, stop))
}

/// A timer polls in the interrupt's place.
fn deferred(running: &Running, stop: &Stop) -> Result<Vec<TrafficReport>> {
    let set = |times: u32, nanoseconds: u32| {
        format!(
            "cd /sys/class/net/eth0; echo {times} >napi_defer_hard_irqs; echo {nanoseconds} >gro_flush_timeout"
        )
    };
    between(running, &set(100, 200_000), &set(0, 0), || traffic::both_ways(running, stop))
}

/// How long a socket polls its NIC before it sleeps, microseconds, on the whole machine.
const BUSY_READ: &str = "/proc/sys/net/core/busy_read";

/// Sockets that wait poll the NIC themselves.
fn busy_poll(running: &Running, stop: &Stop) -> Result<Vec<TrafficReport>> {
    with_file(BUSY_READ, "1000", || traffic::both_ways(running, stop))
}

/// Byte queue limits let the driver have little.
fn bql(running: &Running, stop: &Stop) -> Result<Vec<TrafficReport>> {
    let limit = |bytes| {
        format!(
            "for queue in /sys/class/net/eth0/queues/tx-*; do echo {bytes} >$queue/byte_queue_limits/limit_max; done"
        )
    };
    between(running, &limit("3000"), &limit("max"), || traffic::both_ways(running, stop))
}

/// Byte queue limits let the driver have as much as it takes; its ring is small, and its interrupts are few.
fn small_ring(running: &Running, stop: &Stop) -> Result<Vec<TrafficReport>> {
    let set = |ring: u32, interval: u32, bytes: u32| {
        format!(
            "ethtool -G eth0 tx {ring}
            ethtool -C eth0 rx-usecs {interval}
            for queue in /sys/class/net/eth0/queues/tx-*; do echo {bytes} >$queue/byte_queue_limits/limit_min; done"
        )
    };
    between(running, &set(64, 10_000, 100_000_000), &set(256, 3, 0), || traffic::fast(running, stop))
}

/// The ring is as small as can be.
fn smallest_ring(running: &Running, stop: &Stop) -> Result<Vec<TrafficReport>> {
    let (on, off) = ("ethtool -G eth0 tx 32", "ethtool -G eth0 tx 512");
    between(running, on, off, || traffic::fast(running, stop))
}

/// Does the work between two scripts, which run on both nodes.
fn between<T>(running: &Running, before: &str, after: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let done = on_nodes(running, before).and_then(|()| work());
    on_nodes(running, after)?;
    done
}

/// Runs a script on both nodes, each with the `/sys` of its network namespace.
pub fn on_nodes(running: &Running, script: &str) -> Result<()> {
    for node in NODES {
        let name = running.netns(node)?.name().to_owned();
        let output = Command::new("ip").args(["netns", "exec", &name, "sh", "-ec", script]).output()?;
        let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        ensure!(output.status.success(), "a setting of {node}'s NIC cannot be made: {complaint}");
    }
    Ok(())
}

/// Does the work while a file of the kernel's has this content.
pub fn with_file<T>(file: &str, text: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = fs::read(file).with_context(|| file.to_owned())?;
    fs::write(file, text).with_context(|| file.to_owned())?;
    let done = work();
    fs::write(file, before).with_context(|| file.to_owned())?;
    done
}
