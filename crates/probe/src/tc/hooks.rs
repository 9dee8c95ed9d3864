//! Attaching the hooks, and detaching them.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use aya::{
    maps::{Array, ProgramArray},
    programs::{
        LinkOrder, ProgramError, SchedClassifier,
        tc::{SchedClassifierLink, TcAttachOptions},
    },
};
use overlay_trace_common::tc::{HOOK_NAME, HOOKS_MAX, Hook, PASSED_NAME, Side};
use overlay_trace_format::printable;

use super::{
    at_device::{AtDevice, detach},
    clean::clean,
    clsact,
    devices::{self, Device, InNamespace, enter},
    hop_table::HopTable,
    note::{FOLDER, Note},
};
use crate::{
    filter::FilterOptions,
    load::Loader,
    sys::netns::{self, Namespace},
};

/// The last hook is for measuring the cost; see [`measure`](super::measure).
pub const CALIBRATION_HOOK: usize = HOOKS_MAX - 1;

/// [`Hook`] for aya's typed interface.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct RawHook(pub Hook);
// SAFETY: a repr(C) struct of plain integers.
unsafe impl aya::Pod for RawHook {}

/// The attached hooks. Dropped, they are detached; a `clsact` that was made for them goes too, if it is empty.
pub struct Hooks {
    at: Vec<AtDevice>,
    /// Why packets cannot be seen at some sides of devices: `eth0 of pod1, egress: …`.
    pub unseen: Vec<String>,
    /// With clsact only: without a note the hooks are tcx programs. Dropped last, when everything in it has been undone.
    note: Option<Note>,
    /// The device of the filter.
    device: Option<String>,
    /// Inode numbers of the filter's namespaces.
    namespaces: Vec<u32>,
    hops: HopTable,
}

/// Loads the program that sees the packets of all hooks; nothing is attached.
///
/// # Errors
///
/// Why the kernel does not allow it.
pub fn works(loader: &mut Loader) -> Result<()> {
    load(loader, PASSED_NAME).map(drop)
}

/// Loads one of the classifiers, unless it is loaded.
pub fn load<'l>(loader: &'l mut Loader, name: &str) -> Result<&'l mut SchedClassifier> {
    let program =
        loader.maps.program_mut(name).with_context(|| format!("the kernel object has no {name}"))?;
    let program: &mut SchedClassifier = program.try_into()?;
    if program.fd().is_err() {
        program.load().map_err(|error| refusal(name, error))?;
    }
    Ok(program)
}

/// Why the kernel does not load a classifier, without the verifier's log, which has thousands of lines.
fn refusal(name: &str, error: ProgramError) -> anyhow::Error {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            tracing::debug!("verifier's log of {name}:\n{verifier_log}");
            anyhow!("the kernel refuses the classifier {name}: {io_error}")
        }
        other => anyhow::Error::from(other).context(format!("cannot load the classifier {name}")),
    }
}

/// Puts the program that sees the packets of all hooks where the hooks find it.
pub fn connect(loader: &mut Loader) -> Result<()> {
    let passed = load(loader, PASSED_NAME)?.fd()?.try_clone()?;
    let map = loader.maps.map_mut("TC_PASSED").context("the kernel object has no map TC_PASSED")?;
    Ok(ProgramArray::try_from(map)?.set(0, &passed, 0)?)
}

impl Hooks {
    /// Attaches hooks to both sides of the devices that are of interest for the filter: all that packets pass, or with a
    /// device in the filter those of its name and the edges of the machine. Before that, what killed recorders have left
    /// behind is removed.
    ///
    /// # Errors
    ///
    /// Not one hook can be attached.
    pub fn attach(loader: &mut Loader, filter: &FilterOptions, clsact_only: bool) -> Result<Hooks> {
        // Also what a note tells nothing of.
        clean(Path::new(FOLDER));
        let namespaces = filter.netns.iter().map(|given| netns::inode(given)).collect::<Result<_>>()?;
        let device = filter.device.clone();
        let hops = HopTable::new(loader)?;
        let mut hooks = Hooks { at: Vec::new(), unseen: Vec::new(), note: None, device, namespaces, hops };
        let found = devices::of_interest(hooks.device.as_deref());
        if found.iter().all(|one| one.devices.is_empty()) {
            bail!("there is no device at which packets could be seen: no NIC, veth, bridge or tunnel is up");
        }
        connect(loader)?;
        if clsact_only || !has_tcx(loader, &found)? {
            hooks.note = Some(Note::create(Path::new(FOLDER))?);
        }
        hooks.attach_to(loader, found);
        if hooks.count() == 0 {
            bail!("no TC program can be attached to a device: {}", hooks.unseen.join("; "));
        }
        Ok(hooks)
    }

    /// How many hooks are attached.
    pub fn count(&self) -> usize {
        self.at.iter().map(|at| at.links.len()).sum()
    }

    /// Attaches hooks to the devices that have come since, and gives up those of devices that are gone or down.
    pub fn follow(&mut self, loader: &mut Loader) {
        let found = devices::of_interest(self.device.as_deref());
        let (stay, gone) = std::mem::take(&mut self.at).into_iter().partition(|at| at.is_among(&found));
        self.at = stay;
        detach(gone, &found);
        let known = self.unseen.len();
        self.attach_to(loader, found);
        for unseen in self.unseen.drain(known..) {
            tracing::warn!("packets cannot be seen at {unseen}");
        }
    }

    /// Attaches hooks to those of these devices that have none.
    fn attach_to(&mut self, loader: &mut Loader, found: Vec<InNamespace>) {
        for InNamespace { namespace, cookie, mut devices } in found {
            devices.retain(|device| !self.at.iter().any(|at| at.is(namespace.inode, cookie, device.ifindex)));
            if devices.is_empty() {
                continue;
            }
            let attached = std::thread::scope(|scope| {
                let work = || {
                    if let Err(error) = enter(&namespace) {
                        return self.unseen.push(format!("{error:#}"));
                    }
                    for device in &devices {
                        let at = self.attach_at(loader, &namespace, cookie, device);
                        self.at.push(at);
                    }
                };
                // Entering namespaces takes a thread of its own.
                scope.spawn(work).join()
            });
            if attached.is_err() {
                self.unseen.push("the thread that attaches the hooks has failed".to_owned());
            }
        }
    }

    /// Attaches hooks to a device of the namespace that this thread is in. What fails is noted in `unseen`.
    fn attach_at(
        &mut self,
        loader: &mut Loader,
        namespace: &Namespace,
        cookie: u64,
        device: &Device,
    ) -> AtDevice {
        let mut at = AtDevice {
            netns: namespace.inode,
            netns_cookie: cookie,
            ifindex: device.ifindex,
            first: self.free_number(),
            links: Vec::new(),
            made: None,
        };
        let place = format!("{} of {}", printable(&device.name), namespace.name);
        let Some(first) = at.first else {
            self.unseen.push(format!("{place}: there are more than {} devices", CALIBRATION_HOOK / 2));
            return at;
        };
        if let Err(error) =
            self.describe(loader, &at, device).and_then(|()| at.prepare(device, &mut self.note))
        {
            self.unseen.push(format!("{place}: {error:#}"));
            return at;
        }
        for (side, number) in Side::ALL.into_iter().zip(first..) {
            let link = match at.made {
                None => attach_tcx(loader, device, side, number),
                Some(_) => hook(loader, number).and_then(|program| clsact::attach(program, device, side)),
            };
            match link {
                Ok(link) => at.links.push(link),
                Err(error) => self.unseen.push(format!("{place}, {}: {error:#}", side.name())),
            }
        }
        at
    }

    /// The first of the numbers of hooks for a device that no other has.
    fn free_number(&self) -> Option<usize> {
        let sides = Side::ALL.len();
        (0..CALIBRATION_HOOK / sides)
            .map(|device| device * sides)
            .find(|first| !self.at.iter().any(|at| at.first == Some(*first)))
    }

    /// Describes the hooks of a device and their hop to the kernel side.
    fn describe(&mut self, loader: &mut Loader, at: &AtDevice, device: &Device) -> Result<()> {
        let hop = self.hops.add(at, device)?;
        let is_selected = self.namespaces.is_empty() || self.namespaces.contains(&at.netns);
        let is_filtered = self.device.as_ref().is_some_and(|name| *name != device.name);
        for (side, number) in Side::ALL.into_iter().zip(at.first.unwrap_or_default()..) {
            let hook = Hook {
                hop,
                stage: side.stage(),
                matched: (is_selected && !is_filtered).into(),
                is_edge: device.is_edge().into(),
                // With a device in the filter, the devices in between are not looked at.
                starts: (device.is_edge() && side == Side::Ingress || self.device.is_some()).into(),
                has_ethernet: device.has_ethernet.into(),
                calibrates: 0,
            };
            write_hook(loader, number, hook)?;
        }
        Ok(())
    }
}

impl Drop for Hooks {
    fn drop(&mut self) {
        let all = std::mem::take(&mut self.at);
        let namespaces = if self.note.is_some() { devices::of_interest(None) } else { Vec::new() };
        detach(all, &namespaces);
    }
}

fn hook(loader: &mut Loader, number: usize) -> Result<&mut SchedClassifier> {
    load(loader, &format!("{HOOK_NAME}{number}"))
}

/// Attaches a program before all tcx programs of the side. What those of others decide does not hide packets from it.
fn attach_tcx(
    loader: &mut Loader,
    device: &Device,
    side: Side,
    number: usize,
) -> Result<SchedClassifierLink> {
    let program = hook(loader, number)?;
    let options = TcAttachOptions::TcxOrder(LinkOrder::first());
    let link = program.attach_with_options(&device.name, clsact::attach_type(side), options)?;
    Ok(program.take_link(link)?)
}

/// Whether the kernel has tcx: tried at the first device.
fn has_tcx(loader: &mut Loader, found: &[InNamespace]) -> Result<bool> {
    let first = found.iter().find_map(|one| Some((&one.namespace, one.devices.first()?)));
    let (namespace, device) = first.context("no device is to be looked at")?;
    let tried = std::thread::scope(|scope| {
        let work = || enter(namespace).and_then(|()| attach_tcx(loader, device, Side::Ingress, 0));
        scope.spawn(work).join()
    });
    match tried {
        Ok(Ok(link)) => {
            drop(link);
            Ok(true)
        }
        Ok(Err(error)) => {
            tracing::debug!("no tcx: {error:#}");
            Ok(false)
        }
        Err(_) => bail!("the thread that attaches the hooks has failed"),
    }
}

/// Describes a hook to the kernel side.
pub fn write_hook(loader: &mut Loader, number: usize, hook: Hook) -> Result<()> {
    let map = loader.maps.map_mut("TC_HOOKS").context("the kernel object has no map TC_HOOKS")?;
    Ok(Array::<_, RawHook>::try_from(map)?.set(number as u32, RawHook(hook), 0)?)
}
