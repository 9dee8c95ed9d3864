//! A program between two nodes: it reads the frames that one sends to its tap and writes them to the other's.

use std::fs::File;
use std::io::{Read, Write};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Result;

use super::Netns;
use super::tap::{self, Kind};
use crate::traffic::{Stop, is_readable};

/// The taps' name: the nodes' NICs.
const DEVICE: &str = "eth0";
/// A frame is shorter than this, bytes.
const LARGEST: usize = 1 << 17;
/// How often a waiting thread looks whether it shall stop.
const LOOK: Duration = Duration::from_millis(50);

/// Carries frames both ways until this is dropped.
#[derive(Debug)]
pub struct Wire {
    stop: Stop,
    threads: Vec<JoinHandle<()>>,
}

impl Wire {
    /// Between the taps, which are there already.
    pub fn between(one: &Netns, other: &Netns) -> Result<Wire> {
        let attach = |netns| tap::attach(netns, DEVICE, Kind::Nic);
        let (one, other) = (attach(one)?, attach(other)?);
        let stop = Stop::new();
        let mut wire = Wire { stop: stop.clone(), threads: Vec::new() };
        for (from, to) in [(one.try_clone()?, other.try_clone()?), (other, one)] {
            let stop = stop.clone();
            let carry = move || carry(&from, &to, &stop);
            wire.threads.push(thread::Builder::new().name("wire".into()).spawn(carry)?);
        }
        Ok(wire)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.set();
        for thread in self.threads.drain(..) {
            // A thread that panicked has already said so.
            let _ = thread.join();
        }
    }
}

fn carry(mut from: &File, mut to: &File, stop: &Stop) {
    let mut frame = vec![0; LARGEST];
    while !stop.is_set() {
        if !is_readable(from, LOOK) {
            continue;
        }
        if let Ok(bytes) = from.read(&mut frame) {
            // What a device that is not up refuses is lost on the wire.
            let _ = to.write(&frame[..bytes]);
        }
    }
}
