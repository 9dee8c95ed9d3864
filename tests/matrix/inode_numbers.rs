//! Inode numbers of namespaces: the kernel gives the lowest that is free, also to each file below `/proc/net`.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::thread;

use anyhow::{Result, anyhow};
use nix::sched::{CloneFlags, setns, unshare};

const UTS: &str = "/proc/thread-self/ns/uts";

/// Numbers that nothing else gets: each is that of a UTS namespace, which is open. Such a namespace takes one number and
/// gives it back at once, where a network namespace takes some seventy.
#[derive(Default)]
pub struct InodeNumbers(BTreeMap<u32, File>);

impl InodeNumbers {
    /// Takes the lowest number that is free.
    pub fn take(&mut self) -> Result<u32> {
        let (number, namespace) = take()?;
        self.0.insert(number, namespace);
        Ok(number)
    }

    /// Takes the free numbers up to the first of these, and returns that; `None` if none of them is free.
    pub fn take_up_to(&mut self, wanted: &[u32]) -> Result<Option<u32>> {
        let highest = wanted.iter().max().copied().unwrap_or_default();
        loop {
            let (number, namespace) = take()?;
            if number > highest {
                return Ok(None);
            }
            self.0.insert(number, namespace);
            if wanted.contains(&number) {
                return Ok(Some(number));
            }
        }
    }

    /// Gives this number back, and so many of those below it.
    pub fn free(&mut self, number: u32, below: usize) {
        let lower: Vec<u32> = self.0.range(..number).map(|(lower, _)| *lower).take(below).collect();
        for number in lower.into_iter().chain([number]) {
            self.0.remove(&number);
        }
    }
}

/// A new UTS namespace, open, and its number. No thread stays in it.
fn take() -> Result<(u32, File)> {
    let make = || {
        let before = File::open(UTS)?;
        unshare(CloneFlags::CLONE_NEWUTS)?;
        let namespace = File::open(UTS)?;
        setns(&before, CloneFlags::CLONE_NEWUTS)?;
        Ok((namespace.metadata()?.ino() as u32, namespace))
    };
    thread::spawn(make).join().map_err(|_| anyhow!("the thread that makes a namespace has failed"))?
}
