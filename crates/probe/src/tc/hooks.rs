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
use overlay_trace_common::{
    record::Hop,
    tc::{HOOK_NAME, HOOKS_MAX, Hook, PASSED_NAME, Side},
};
use overlay_trace_format::printable;

use super::{
    clean::clean,
    clsact,
    devices::{self, Device, InNamespace, enter},
    note::{FOLDER, Made, Note},
};
use crate::{
    filter::FilterOptions,
    hop_names::RawHop,
    load::Loader,
    sys::{
        clock::monotonic_ns,
        netns::{self, Namespace},
        traffic_control,
    },
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
    namespaces: Vec<HooksOfNamespace>,
    /// Why packets cannot be seen at some sides of devices: `eth0 of pod1, egress: …`.
    pub unseen: Vec<String>,
    /// With clsact only: without a note the hooks are tcx programs. Dropped last, when everything in it has been undone.
    note: Option<Note>,
}

/// The hooks of a network namespace.
struct HooksOfNamespace {
    namespace: Namespace,
    links: Vec<SchedClassifierLink>,
    /// Devices whose `clsact` was made here.
    made: Vec<Made>,
}

/// A side of a device, and the program for it.
struct Planned {
    device: Device,
    side: Side,
    /// The number of the hook.
    number: usize,
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
        let found = devices::of_interest(filter.device.as_deref())?;
        connect(loader)?;
        let mut hooks = Hooks { namespaces: Vec::new(), unseen: Vec::new(), note: None };
        let planned = hooks.describe(loader, filter, found)?;
        if clsact_only || !has_tcx(loader, &planned)? {
            hooks.note = Some(Note::create(Path::new(FOLDER))?);
        }
        for (namespace, sides) in planned {
            hooks.attach_in(loader, namespace, sides);
        }
        if hooks.namespaces.iter().all(|one| one.links.is_empty()) {
            bail!("no TC program can be attached to a device: {}", hooks.unseen.join("; "));
        }
        Ok(hooks)
    }

    /// How many hooks are attached.
    pub fn count(&self) -> usize {
        self.namespaces.iter().map(|one| one.links.len()).sum()
    }

    /// Describes the hooks and their hops to the kernel side, and loads their programs.
    fn describe(
        &mut self,
        loader: &mut Loader,
        filter: &FilterOptions,
        found: Vec<InNamespace>,
    ) -> Result<Vec<(Namespace, Vec<Planned>)>> {
        let selected: Vec<u32> =
            filter.netns.iter().map(|given| netns::inode(given)).collect::<Result<_>>()?;
        let mut planned = Vec::new();
        let (mut number, mut hop) = (0, 0);
        for InNamespace { namespace, devices } in found {
            let cookie = cookie_of(&namespace);
            let is_selected = selected.is_empty() || selected.contains(&namespace.inode);
            let mut sides = Vec::new();
            for device in devices {
                if number + Side::ALL.len() > CALIBRATION_HOOK {
                    self.unseen.push(format!(
                        "{} of {}: there are more than {} devices",
                        printable(&device.name),
                        namespace.name,
                        CALIBRATION_HOOK / 2
                    ));
                    continue;
                }
                hop += 1;
                write_hop(loader, hop, &namespace, cookie, &device)?;
                let is_filtered = filter.device.as_ref().is_some_and(|name| *name != device.name);
                for side in Side::ALL {
                    let hook = Hook {
                        hop,
                        stage: side.stage(),
                        matched: (is_selected && !is_filtered).into(),
                        is_edge: device.is_edge().into(),
                        // With a device in the filter, the devices in between are not looked at.
                        starts: (device.is_edge() && side == Side::Ingress || filter.device.is_some()).into(),
                        has_ethernet: device.has_ethernet.into(),
                        calibrates: 0,
                    };
                    write_hook(loader, number, hook)?;
                    load(loader, &format!("{HOOK_NAME}{number}"))?;
                    sides.push(Planned { device: device.clone(), side, number });
                    number += 1;
                }
            }
            planned.push((namespace, sides));
        }
        Ok(planned)
    }

    /// Attaches the hooks of a namespace. What fails is noted in `unseen`.
    fn attach_in(&mut self, loader: &mut Loader, namespace: Namespace, sides: Vec<Planned>) {
        let Hooks { unseen, note, .. } = self;
        let attached = std::thread::scope(|scope| {
            let work = || {
                let mut attached = HooksOfNamespace { namespace, links: Vec::new(), made: Vec::new() };
                if let Err(error) = enter(&attached.namespace) {
                    unseen.push(format!("{error:#}"));
                    return attached;
                }
                for Planned { device, side, number } in sides {
                    let place = format!(
                        "{} of {}, {}",
                        printable(&device.name),
                        attached.namespace.name,
                        side.name()
                    );
                    let link = match note {
                        None => attach_tcx(loader, &device, side, number),
                        Some(note) => attached
                            .prepare(&device, note)
                            .and_then(|()| clsact::attach(hook(loader, number)?, &device, side)),
                    };
                    match link {
                        Ok(link) => attached.links.push(link),
                        Err(error) => unseen.push(format!("{place}: {error:#}")),
                    }
                }
                attached
            };
            scope.spawn(work).join()
        });
        match attached {
            Ok(attached) => self.namespaces.push(attached),
            Err(_) => self.unseen.push("the thread that attaches the hooks has failed".to_owned()),
        }
    }
}

impl HooksOfNamespace {
    /// Makes sure, once per device, that it has a `clsact`.
    fn prepare(&mut self, device: &Device, note: &mut Note) -> Result<()> {
        if self.made.iter().any(|made| made.ifindex == device.ifindex) {
            return Ok(());
        }
        let made = Made {
            netns: self.namespace.inode,
            netns_cookie: cookie_of(&self.namespace),
            ifindex: device.ifindex,
            device: device.name.clone(),
            clsact: !traffic_control::has_clsact(device.ifindex)?,
            handle: clsact::own_handle(),
        };
        note.add(made.clone())?;
        clsact::prepare(device, &made)?;
        self.made.push(made);
        Ok(())
    }

    /// Detaches the hooks, in their namespace: a filter is named by its device's number, which another device in
    /// another namespace has too.
    fn detach(&mut self) {
        let links = std::mem::take(&mut self.links);
        if let Err(error) = enter(&self.namespace) {
            tracing::warn!("{error:#}: its filters stay");
            return std::mem::forget(links);
        }
        drop(links);
        for made in self.made.iter().filter(|made| made.clsact) {
            // The device may be gone.
            if traffic_control::is_empty(made.ifindex).unwrap_or(false)
                && let Err(error) = traffic_control::delete_clsact(made.ifindex)
            {
                tracing::warn!("the qdisc clsact of {} cannot be removed: {error}", printable(&made.device));
            }
        }
    }
}

impl Drop for Hooks {
    fn drop(&mut self) {
        let namespaces = &mut self.namespaces;
        // Entering namespaces takes a thread of its own.
        std::thread::scope(|scope| {
            scope.spawn(|| namespaces.iter_mut().for_each(HooksOfNamespace::detach));
        });
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

/// Whether the kernel has tcx: tried at the first device of the calling thread's namespace or of another.
fn has_tcx(loader: &mut Loader, planned: &[(Namespace, Vec<Planned>)]) -> Result<bool> {
    let first = planned.iter().find_map(|(namespace, sides)| Some((namespace, sides.first()?)));
    let (namespace, Planned { device, side, number }) = first.context("no device is to be looked at")?;
    let tried = std::thread::scope(|scope| {
        scope.spawn(|| enter(namespace).and_then(|()| attach_tcx(loader, device, *side, *number))).join()
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

/// The namespace's cookie, 0 where there are none.
fn cookie_of(namespace: &Namespace) -> u64 {
    let read = || enter(namespace).and_then(|()| Ok(netns::own_cookie()?));
    std::thread::scope(|scope| scope.spawn(read).join()).ok().and_then(Result::ok).unwrap_or_default()
}

/// Describes a hop to the kernel side's table, from which its name is read.
fn write_hop(
    loader: &mut Loader,
    number: u16,
    namespace: &Namespace,
    cookie: u64,
    device: &Device,
) -> Result<()> {
    let mut hop = Hop {
        netns: namespace.inode,
        ifindex: device.ifindex,
        netns_mix: cookie as u32,
        since_ns: monotonic_ns(),
        ..Hop::default()
    };
    put(&mut hop.device, &device.name);
    put(&mut hop.kind, &device.kind);
    let map = loader.maps.map_mut("HOPS").context("the kernel object has no map HOPS")?;
    Array::<_, RawHop>::try_from(map)?.set(number.into(), RawHop(hop), 0)?;
    let map = loader.maps.map_mut("HOP_COUNT").context("the kernel object has no map HOP_COUNT")?;
    Ok(Array::<_, u64>::try_from(map)?.set(0, u64::from(number), 0)?)
}

/// A text, cut if need be so that it ends with a NUL.
fn put(target: &mut [u8; 16], text: &str) {
    let length = text.len().min(target.len() - 1);
    target[..length].copy_from_slice(&text.as_bytes()[..length]);
}

/// Describes a hook to the kernel side.
pub fn write_hook(loader: &mut Loader, number: usize, hook: Hook) -> Result<()> {
    let map = loader.maps.map_mut("TC_HOOKS").context("the kernel object has no map TC_HOOKS")?;
    Ok(Array::<_, RawHook>::try_from(map)?.set(number as u32, RawHook(hook), 0)?)
}
