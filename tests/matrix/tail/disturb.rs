//! What disturbs the traffic from aside.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use overlay_trace_lab::dataplanes::Netns;
use socket2::{Domain, Socket, Type};

use crate::machine;
use crate::truth::flow::{now_ns, take_priority};

/// How often the hog looks whether it is done.
const LOOK: Duration = Duration::from_millis(50);
/// The hog's real-time priority: more than any reader's.
const PRIORITY: i32 = 10;

/// Does something while something else runs again and again, until that is done.
pub fn meanwhile<T>(
    aside: impl FnMut() -> Result<()> + Send,
    every: Duration,
    then: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let disturbing = scope.spawn(|| disturb(aside, every, &done));
        let outcome = then();
        done.store(true, Ordering::Relaxed);
        disturbing.join().map_err(|_| anyhow!("what disturbs has failed"))??;
        outcome
    })
}

fn disturb(mut aside: impl FnMut() -> Result<()>, every: Duration, done: &AtomicBool) -> Result<()> {
    while !done.load(Ordering::Relaxed) {
        thread::sleep(every);
        aside()?;
    }
    Ok(())
}

/// Whenever so many packets have been at a device of the namespace, something takes the processor away for a while.
pub fn hogged<T>(
    netns: &Netns,
    (packets, busy): (u64, Duration),
    then: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let listener = || Socket::new(Domain::PACKET, Type::DGRAM, Some(machine::all_protocols()));
    let socket = netns.run(listener)?.context("cannot listen to packets")?;
    socket.set_read_timeout(Some(LOOK))?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let hog = scope.spawn(|| hog(&socket, packets, busy, &done));
        let outcome = then();
        done.store(true, Ordering::Relaxed);
        hog.join().map_err(|_| anyhow!("the hog failed"))??;
        outcome
    })
}

fn hog(socket: &Socket, packets: u64, busy: Duration, done: &AtomicBool) -> Result<()> {
    take_priority(PRIORITY)?;
    let mut buffer = [std::mem::MaybeUninit::uninit(); 64];
    let mut seen = 0u64;
    while !done.load(Ordering::Relaxed) {
        if socket.recv(&mut buffer).is_ok() {
            seen += 1;
            if seen.is_multiple_of(packets) {
                let until = now_ns()? + busy.as_nanos() as u64;
                while now_ns()? < until {}
            }
        }
    }
    Ok(())
}
