//! The hooks at a device, and how they are given up.

use anyhow::Result;
use aya::programs::tc::SchedClassifierLink;

use super::{
    clsact,
    devices::{Device, InNamespace, enter},
    note::{Made, Note},
};
use crate::sys::traffic_control;

/// A device, and the hooks at it. Its namespace is not held open: it would outlive its pod.
pub struct AtDevice {
    pub netns: u32,
    pub netns_cookie: u64,
    pub ifindex: u32,
    /// The number of the first of its hooks, which there are [`Side::ALL`] of. `None`: all numbers are in use.
    pub first: Option<usize>,
    pub links: Vec<SchedClassifierLink>,
    /// With clsact.
    pub made: Option<Made>,
}

impl AtDevice {
    /// Whether it is the device with this number.
    pub fn is(&self, netns: u32, netns_cookie: u64, ifindex: u32) -> bool {
        (self.netns, self.netns_cookie, self.ifindex) == (netns, netns_cookie, ifindex)
    }

    fn is_in(&self, one: &InNamespace) -> bool {
        (self.netns, self.netns_cookie) == (one.namespace.inode, one.cookie)
    }

    /// Whether the device is there and of interest.
    pub fn is_among(&self, found: &[InNamespace]) -> bool {
        let has = |one: &InNamespace| one.devices.iter().any(|device| device.ifindex == self.ifindex);
        found.iter().any(|one| self.is_in(one) && has(one))
    }

    /// Makes sure, where the hooks are filters, that the device has a `clsact`.
    ///
    /// # Errors
    ///
    /// The note cannot be written, or the kernel's error.
    pub fn prepare(&mut self, device: &Device, note: &mut Option<Note>) -> Result<()> {
        let Some(note) = note else { return Ok(()) };
        let made = Made {
            netns: self.netns,
            netns_cookie: self.netns_cookie,
            ifindex: device.ifindex,
            device: device.name.clone(),
            clsact: !traffic_control::has_clsact(device.ifindex)?,
            handle: clsact::own_handle(),
        };
        note.add(made.clone())?;
        clsact::prepare(device, &made)?;
        self.made = Some(made);
        Ok(())
    }

    /// Detaches the hooks, in the namespace that this thread is in. The device may be gone.
    fn detach_here(self) {
        drop(self.links);
        if self.made.is_some_and(|made| made.clsact)
            && traffic_control::is_empty(self.ifindex).unwrap_or(false)
            && let Err(error) = traffic_control::delete_clsact(self.ifindex)
        {
            tracing::warn!("a qdisc clsact cannot be removed: {error}");
        }
    }
}

/// Detaches hooks. tcx links end with their descriptors; a filter is named by its device's number, which another device
/// in another namespace has too, so that its namespace must be found. With a namespace that is gone, all in it is gone.
pub fn detach(mut all: Vec<AtDevice>, namespaces: &[InNamespace]) {
    let work = || {
        for one in namespaces {
            let (here, elsewhere) = std::mem::take(&mut all).into_iter().partition(|at| at.is_in(one));
            all = elsewhere;
            let here: Vec<AtDevice> = here;
            if here.is_empty() {
                continue;
            }
            match enter(&one.namespace) {
                Ok(()) => here.into_iter().for_each(AtDevice::detach_here),
                Err(_) => all.extend(here),
            }
        }
        for at in all {
            if at.made.is_some() {
                std::mem::forget(at.links);
            }
        }
    };
    // Entering namespaces takes a thread of its own.
    std::thread::scope(|scope| {
        scope.spawn(work);
    });
}
