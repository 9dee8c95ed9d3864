//! A user-space link between two nodes: it copies frames between their TAP devices.

use std::fs::File;
use std::io::{Read, Write};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Result;

use super::netns::Netns;
use super::tap::{self, Kind};
use crate::traffic::{Stop, is_readable};

/// The name of the TAP devices, which are the nodes' NICs.
const DEVICE: &str = "eth0";
/// The size of the frame buffer, bytes: larger than any frame with offloads.
const FRAME_BUFFER: usize = 1 << 17;
/// The interval at which a waiting thread checks its stop flag.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Copies frames in both directions until this value is dropped.
#[derive(Debug)]
pub struct TapLink {
    stop: Stop,
    threads: Vec<JoinHandle<()>>,
}

impl TapLink {
    /// Attaches to the TAP devices, which must exist.
    pub fn between(one: &Netns, other: &Netns) -> Result<TapLink> {
        let attach = |netns| tap::attach(netns, DEVICE, Kind::TapNapi);
        let (one, other) = (attach(one)?, attach(other)?);
        let stop = Stop::new();
        let mut link = TapLink { stop: stop.clone(), threads: Vec::new() };
        for (from, to) in [(one.try_clone()?, other.try_clone()?), (other, one)] {
            let stop = stop.clone();
            let copy = move || copy_frames(&from, &to, &stop);
            link.threads.push(thread::Builder::new().name("tap-link".into()).spawn(copy)?);
        }
        Ok(link)
    }
}

impl Drop for TapLink {
    fn drop(&mut self) {
        self.stop.set();
        for thread in self.threads.drain(..) {
            // A panic has already been reported on standard error.
            let _ = thread.join();
        }
    }
}

fn copy_frames(mut from: &File, mut to: &File, stop: &Stop) {
    let mut frame = vec![0; FRAME_BUFFER];
    while !stop.is_set() {
        if !is_readable(from, POLL_INTERVAL) {
            continue;
        }
        if let Ok(bytes) = from.read(&mut frame) {
            // A device that is down rejects the frame: it is lost, as on a real link.
            let _ = to.write(&frame[..bytes]);
        }
    }
}
