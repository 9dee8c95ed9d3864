//! Names for the hops that the kernel side has numbered. A hop is a (network namespace, device).

use std::{
    collections::{HashMap, HashSet},
    sync::{atomic::Ordering, mpsc::Sender},
    time::{Duration, Instant},
};

use anyhow::Result;
use aya::maps::{Array, MapData};
use overlay_trace_common::record::Hop;
use overlay_trace_format::HopName;

use crate::{
    load::Loader,
    sys::{clock::monotonic_ns, netns::names_after_processes, netns_names::NetnsNames},
    worker::Worker,
    worker_message::WorkerMessage,
};

/// How often new hops are read: often enough to find a short-lived pod alive.
const INTERVAL: Duration = Duration::from_millis(50);
/// For this long after its first packet a namespace may get a better name, in ns.
const PENDING_NS: u64 = 5_000_000_000;
/// Reading all processes takes long: at most once in this time.
const PROCESSES_INTERVAL: Duration = Duration::from_millis(100);

/// [`Hop`] for aya's typed interface.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct RawHop(Hop);
// SAFETY: a repr(C) struct of plain integers and bytes.
unsafe impl aya::Pod for RawHop {}

/// What identifies a namespace: its inode number, and its cookie or `hash_mix`.
type NamespaceKey = (u32, u32);

/// The hops so far, and their names.
pub struct HopNames {
    count: Array<MapData, u64>,
    map: Array<MapData, RawHop>,
    /// The hops that have been read, in the order of their numbers from 1 on.
    hops: Vec<Hop>,
    namespaces: HashMap<NamespaceKey, Namespace>,
    /// Namespaces for which a better name may still be found.
    pending: Vec<NamespaceKey>,
    names: NetnsNames,
    /// When all processes were read last.
    processes_read: Option<Instant>,
}

/// The name of a namespace.
struct Namespace {
    name: String,
    /// The name is only the inode number.
    is_number: bool,
    /// When its first hop was seen, in ns of CLOCK_MONOTONIC.
    since_ns: u64,
}

impl HopNames {
    /// Takes the maps of hops over from the loader.
    ///
    /// # Errors
    ///
    /// The kernel object has no such maps.
    pub fn new(loader: &mut Loader) -> Result<HopNames> {
        Ok(HopNames {
            count: loader.take_map("HOP_COUNT")?,
            map: loader.take_map("HOPS")?,
            hops: Vec::new(),
            namespaces: HashMap::new(),
            pending: Vec::new(),
            names: NetnsNames::now(),
            processes_read: None,
        })
    }

    /// Starts a thread that reports the names of hops. It is to be stopped when no packet is tracked any more.
    ///
    /// # Errors
    ///
    /// The thread cannot be created.
    pub fn start(mut self, messages: Sender<WorkerMessage>) -> Result<Worker> {
        Worker::start("hop-names", move |stop| {
            loop {
                let is_last = stop.load(Ordering::Relaxed);
                let new = match self.update() {
                    Ok(new) => new,
                    Err(error) => return tracing::warn!("the names of devices cannot be read: {error:#}"),
                };
                let is_received = new.is_empty() || messages.send(WorkerMessage::Hops(new)).is_ok();
                if is_last || !is_received {
                    return;
                }
                self.names.wait(INTERVAL);
            }
        })
    }

    /// The names of the hops that are new since the last call, and of those that now have a better name.
    fn update(&mut self) -> Result<Vec<(u16, HopName)>> {
        let before = self.hops.len();
        self.read_hops()?;
        let renamed = self.find_names();
        let is_new = |&(index, hop): &(usize, &Hop)| index >= before || renamed.contains(&key(hop));
        let new = self.hops.iter().enumerate().filter(is_new);
        Ok(new.map(|(index, hop)| (index as u16 + 1, self.name(hop))).collect())
    }

    /// Reads the hops that are new.
    fn read_hops(&mut self) -> Result<()> {
        let end = (self.count.get(&0, 0)? as usize).min(self.map.len() as usize - 1);
        while self.hops.len() < end {
            let RawHop(hop) = self.map.get(&(self.hops.len() as u32 + 1), 0)?;
            if hop.since_ns == 0 {
                // The kernel side is still writing it.
                break;
            }
            if !self.namespaces.contains_key(&key(&hop)) {
                let name = self.numbered(hop.netns);
                let namespace = Namespace { name, is_number: true, since_ns: hop.since_ns };
                self.namespaces.insert(key(&hop), namespace);
                self.pending.push(key(&hop));
            }
            self.hops.push(hop);
        }
        Ok(())
    }

    /// The name of a namespace of which only the inode number is known.
    fn numbered(&self, inode: u32) -> String {
        match self.namespaces.keys().filter(|(known, _)| *known == inode).count() {
            0 => format!("netns:{inode}"),
            others => format!("netns:{inode}#{}", others + 1),
        }
    }

    /// Looks for better names, and returns the namespaces that got one.
    fn find_names(&mut self) -> HashSet<NamespaceKey> {
        let mut renamed = HashSet::new();
        if self.pending.is_empty() {
            return renamed;
        }
        let now = monotonic_ns();
        let processes = self.processes();
        let HopNames { pending, namespaces, names, .. } = self;
        pending.retain(|key| {
            let (inode, _) = *key;
            let Some(namespace) = namespaces.get_mut(key) else { return false };
            let waits = now < namespace.since_ns.saturating_add(PENDING_NS);
            let certain = names.at(inode, key.1, namespace.since_ns);
            let after_process = || processes.get(&inode).map(String::as_str);
            // Its name may have been removed before its first packet was seen.
            let removed = || if waits { None } else { names.last(inode) };
            let found = match certain {
                None if namespace.is_number => after_process().or_else(removed),
                certain => certain,
            };
            if let Some(name) = found {
                name.clone_into(&mut namespace.name);
                namespace.is_number = false;
                renamed.insert(*key);
            }
            waits && certain.is_none()
        });
        renamed
    }

    /// Names after processes, if a namespace needs one and the processes have not just been read.
    fn processes(&mut self) -> HashMap<u32, String> {
        let needs_name = |key: &NamespaceKey| {
            self.namespaces.get(key).is_some_and(|namespace| {
                namespace.is_number && self.names.at(key.0, key.1, namespace.since_ns).is_none()
            })
        };
        let is_time = self.processes_read.is_none_or(|at| at.elapsed() >= PROCESSES_INTERVAL);
        if !is_time || !self.pending.iter().any(needs_name) {
            return HashMap::new();
        }
        self.processes_read = Some(Instant::now());
        names_after_processes()
    }

    fn name(&self, hop: &Hop) -> HopName {
        HopName {
            netns_inode: hop.netns,
            netns: self.namespaces.get(&key(hop)).map(|namespace| namespace.name.clone()).unwrap_or_default(),
            ifindex: hop.ifindex,
            device: text(&hop.device),
            kind: text(&hop.kind),
        }
    }
}

fn key(hop: &Hop) -> NamespaceKey {
    (hop.netns, hop.netns_mix)
}

/// The text before the first NUL.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
