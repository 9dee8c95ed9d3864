//! Who reads late: because it sleeps, or because something else has the processor.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use overlay_trace_lab::dataplanes::Netns;
use socket2::{Domain, Socket, Type};

use super::compare::{self, Place, Profile, Recorded};
use super::fixture::{Change, Fixture, Window};
use super::flow::{Flow, now_ns, take_priority};
use super::{Cause, Injected};
use crate::machine;
use crate::results::Outcome;

const SLEEP: Duration = Duration::from_millis(3);
/// For how long the hog keeps the processor: less than a clock tick apart, since a tick does the softirqs that
/// wait.
const HOG: Duration = Duration::from_millis(1);
/// How often the hog looks whether it is done.
const LOOK: Duration = Duration::from_millis(50);
/// The hog's real-time priority: more than the reader's.
const PRIORITY: i32 = 10;

const SOCKET: Place = Place { stage: "socket-wait", netns: "pod2", device: "eth0", level: 0 };
const SOFTIRQ: Place = Place { stage: "ksoftirqd-wait", netns: "node1", device: "veth-pod1", level: 0 };

pub const CAUSES: &[Cause] = &[
    Cause {
        name: "reader/sleeps",
        inject: sleeps,
        untraced: None,
        check: |recorded, windows| is_at(recorded, windows, &SOCKET),
    },
    Cause {
        name: "hog/reader",
        inject: |fixture| hogged(fixture, "pod2", &[]),
        untraced: None,
        check: |recorded, windows| is_at(recorded, windows, &SOCKET),
    },
    // The queue is there so that the hog is woken inside of a softirq that then raises the next one: the
    // kernel leaves that to ksoftirqd, which has to wait for the hog.
    Cause {
        name: "hog/softirq",
        inject: |fixture| {
            let queue = "tc qdisc replace dev eth0 root netem delay 500us";
            hogged(fixture, "pod1", &[Change::new("pod1", &[queue], &["tc qdisc del dev eth0 root"])])
        },
        untraced: None,
        check: |recorded, windows| is_at(recorded, windows, &SOFTIRQ),
    },
];

fn sleeps(fixture: &Fixture) -> Result<Injected> {
    let slow = Flow { sleep: SLEEP, ..Flow::PLAIN };
    Ok(Ok(vec![fixture.send(&Flow::PLAIN, 0.0)?, fixture.send(&slow, SLEEP.as_nanos() as f64)?]))
}

fn is_at(recorded: &Recorded, windows: &[Window], place: &Place) -> Outcome {
    let [before, after] = [Profile::of(recorded, &windows[0])?, Profile::of(recorded, &windows[1])?];
    compare::Change::between(&before, &after, |key| place.is(recorded, key)).is(windows[1].size)
}

/// Whenever a packet is at a device of the namespace, something takes the processor away for a while.
fn hogged(fixture: &Fixture, netns: &str, changes: &[Change]) -> Result<Injected> {
    if thread::available_parallelism()?.get() > 1 {
        return Ok(Err("a second processor would do what the first one cannot".into()));
    }
    let netns = fixture.running.netns(netns)?;
    fixture.with(changes, || {
        [Duration::ZERO, HOG]
            .into_iter()
            .map(|busy| with_hog(netns, busy, || fixture.send(&Flow::PLAIN, busy.as_nanos() as f64)))
            .collect()
    })
}

fn with_hog<T>(netns: &Netns, busy: Duration, then: impl FnOnce() -> Result<T>) -> Result<T> {
    let listener = || Socket::new(Domain::PACKET, Type::DGRAM, Some(machine::all_protocols()));
    let packets = netns.run(listener)?.context("cannot listen to packets")?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let hog = scope.spawn(|| hog(&packets, busy, &done));
        let outcome = then();
        done.store(true, Ordering::Relaxed);
        hog.join().map_err(|_| anyhow::anyhow!("the hog failed"))??;
        outcome
    })
}

/// Is woken by each packet, and then does nothing for so long, with all its might.
fn hog(packets: &Socket, busy: Duration, done: &AtomicBool) -> Result<()> {
    take_priority(PRIORITY)?;
    packets.set_read_timeout(Some(LOOK))?;
    let mut buffer = [std::mem::MaybeUninit::uninit(); 64];
    while !done.load(Ordering::Relaxed) {
        // Not `poll`: that locks the socket's queue, and where the kernel lets go of such a lock it does the
        // softirqs that wait, instead of the hog.
        if packets.recv(&mut buffer).is_ok() {
            let until = now_ns()? + busy.as_nanos() as u64;
            while now_ns()? < until {}
        }
    }
    Ok(())
}
