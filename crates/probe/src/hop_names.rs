//! Names for the hops that the kernel side has numbered. A hop is a (network namespace, device).

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use anyhow::Result;
use aya::maps::{Array, MapData};
use overlay_trace_common::record::Hop;
use overlay_trace_format::{HopName, Pod, printable, printable_bytes};

use crate::{
    filter_watch::FilterWatch,
    kernel_counters::{CountersSince, NamedNetns},
    load::Loader,
    pods::{Places, PodNetns, Pods},
    sys::{
        clock::monotonic_ns,
        driver_counts::Device,
        lookup::{self, Lookup},
        netns::{Identity, names_after_processes},
        netns_names::{HOST, NetnsNames},
    },
    worker_message::WorkerMessage,
};

/// For this long after its first packet a namespace may get a better name, in ns.
const PENDING_NS: u64 = 5_000_000_000;
/// Reading all processes takes long: at most once in this time.
const PROCESSES_INTERVAL: Duration = Duration::from_millis(100);

/// How long the result of reading them is waited for, while packets are recorded.
const PROCESSES_WAIT: Duration = Duration::from_millis(10);

/// [`Hop`] for aya's typed interface.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct RawHop(pub Hop);
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
    /// By inode number: how many namespaces have had it.
    of_number: HashMap<u32, u32>,
    /// Namespaces for which a better name may still be found.
    pending: Vec<NamespaceKey>,
    names: NetnsNames,
    /// When all processes were read last.
    processes_read: Option<Instant>,
    /// The processes are being read.
    lookup: Option<Lookup<HashMap<u32, String>>>,
    pods: PodNames,
    filter: FilterWatch,
    counters: CountersSince,
}

/// The pods of the machine, looked for while there are namespaces that may belong to one.
struct PodNames {
    places: Places,
    /// When they were looked for last.
    read: Option<Instant>,
    lookup: Option<Lookup<(Pods, Vec<PodNetns>)>>,
    /// What is known from before.
    pods: Option<Pods>,
}

impl PodNames {
    fn new() -> PodNames {
        PodNames { places: Places::of_machine(), read: None, lookup: None, pods: None }
    }

    /// The pods' namespaces, if they have not just been read. Where reading them takes long, they come at a later call.
    fn look(&mut self, is_last: bool) -> Vec<PodNetns> {
        let is_time = self.read.is_none_or(|at| at.elapsed() >= PROCESSES_INTERVAL);
        if self.lookup.is_none() && is_time && Pods::has_runtime(&self.places) {
            self.read = Some(Instant::now());
            // Those of a look-up that was left behind are read anew.
            let mut pods = self.pods.take().unwrap_or_else(|| Pods::new(self.places.clone()));
            self.lookup = Lookup::start(move || {
                let found = pods.read();
                (pods, found)
            });
        }
        let limit = if is_last { lookup::LIMIT } else { PROCESSES_WAIT };
        let Some((pods, found)) = lookup::poll(&mut self.lookup, limit) else { return Vec::new() };
        self.pods = Some(pods);
        found
    }
}

/// The name of a namespace.
struct Namespace {
    name: String,
    /// The name is only the inode number.
    is_number: bool,
    /// The pod that it belongs to, whose name goes before the other one.
    pod: Option<Pod>,
    /// When its first hop was seen, in ns of CLOCK_MONOTONIC.
    since_ns: u64,
}

impl Namespace {
    /// What people call it.
    fn shown(&self) -> String {
        let name = self.pod.as_ref().map_or_else(|| self.name.clone(), Pod::shown);
        printable(&name).into_owned()
    }
}

impl HopNames {
    /// Takes the maps of hops over from the loader. `names` are those since before the first hop, `counters` since the start
    /// of the recording.
    ///
    /// # Errors
    ///
    /// The kernel object has no such maps.
    pub fn new(
        loader: &mut Loader,
        names: NetnsNames,
        filter: FilterWatch,
        counters: CountersSince,
    ) -> Result<HopNames> {
        Ok(HopNames {
            count: loader.take_map("HOP_COUNT")?,
            map: loader.take_map("HOPS")?,
            hops: Vec::new(),
            namespaces: HashMap::new(),
            of_number: HashMap::new(),
            pending: Vec::new(),
            names,
            processes_read: None,
            lookup: None,
            pods: PodNames::new(),
            filter,
            counters,
        })
    }

    /// Waits for this time or until names of namespaces change.
    pub fn wait(&mut self, time: Duration) {
        self.names.wait(time);
    }

    /// The devices of these hops, as far as they have been read.
    pub fn devices(&self, numbers: &[u16]) -> Vec<Device> {
        let hops = numbers.iter().filter_map(|number| self.hops.get(usize::from(*number).checked_sub(1)?));
        hops.map(|hop| (hop.netns, text(&hop.device))).collect()
    }

    /// What became of what the filter names.
    pub fn notes(&self) -> Vec<String> {
        self.filter.notes(&self.hops)
    }

    /// What the kernel's counters of the hops' namespaces grew by since the start of the recording.
    pub fn kernel_counters(&self) -> WorkerMessage {
        let named = self.namespaces.iter().map(|(&(inode, cookie), namespace)| NamedNetns {
            inode,
            cookie,
            name: namespace.shown(),
        });
        let mut named: Vec<NamedNetns> = named.collect();
        named.sort_by(|a, b| (&a.name, a.inode, a.cookie).cmp(&(&b.name, b.inode, b.cookie)));
        match self.counters.grown(&named) {
            Some(counters) => WorkerMessage::KernelCounters(counters),
            None => WorkerMessage::Notes(vec![
                "the kernel's own counters are missing: reading those of all namespaces took too long".into(),
            ]),
        }
    }

    /// The names of the hops that are new since the last call, and of those that now have a better name.
    ///
    /// # Errors
    ///
    /// The maps of hops cannot be read.
    pub fn update(&mut self, is_last: bool) -> Result<Vec<(u16, HopName)>> {
        let before = self.hops.len();
        self.read_hops()?;
        let renamed = self.find_names(is_last);
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
                let namespace = Namespace { name, is_number: true, pod: None, since_ns: hop.since_ns };
                self.namespaces.insert(key(&hop), namespace);
                self.pending.push(key(&hop));
            }
            self.hops.push(hop);
        }
        Ok(())
    }

    /// The name of a new namespace of which only the inode number is known.
    fn numbered(&mut self, inode: u32) -> String {
        let of_this_number = self.of_number.entry(inode).or_default();
        *of_this_number += 1;
        match *of_this_number {
            1 => format!("netns:{inode}"),
            number => format!("netns:{inode}#{number}"),
        }
    }

    /// Looks for better names, and returns the namespaces that got one.
    fn find_names(&mut self, is_last: bool) -> HashSet<NamespaceKey> {
        let mut renamed = HashSet::new();
        if self.pending.is_empty() {
            return renamed;
        }
        let now = monotonic_ns();
        let processes = self.processes(is_last);
        let pods = self.pods.look(is_last);
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
            let pod = pods.iter().find(|found| is_of(&found.identity, *key)).map(|found| &found.pod);
            if pod.is_some() && namespace.pod.as_ref() != pod {
                namespace.pod = pod.cloned();
                renamed.insert(*key);
            }
            // A pod's first packets pass before its containers are there.
            waits && (certain != Some(HOST) && namespace.pod.is_none() || certain.is_none())
        });
        renamed
    }

    /// Names after processes, if a namespace needs one and the processes have not just been read. Where reading them
    /// takes long, the names come at a later call.
    fn processes(&mut self, is_last: bool) -> HashMap<u32, String> {
        let needs_name = |key: &NamespaceKey| {
            self.namespaces.get(key).is_some_and(|namespace| {
                namespace.is_number && self.names.at(key.0, key.1, namespace.since_ns).is_none()
            })
        };
        let is_time = self.processes_read.is_none_or(|at| at.elapsed() >= PROCESSES_INTERVAL);
        if self.lookup.is_none() && is_time && self.pending.iter().any(needs_name) {
            self.processes_read = Some(Instant::now());
            self.lookup = Lookup::start(names_after_processes);
        }
        let limit = if is_last { lookup::LIMIT } else { PROCESSES_WAIT };
        lookup::poll(&mut self.lookup, limit).unwrap_or_default()
    }

    fn name(&self, hop: &Hop) -> HopName {
        HopName {
            netns_inode: hop.netns,
            netns: self.namespaces.get(&key(hop)).map(Namespace::shown).unwrap_or_default(),
            ifindex: hop.ifindex,
            device: text(&hop.device),
            kind: text(&hop.kind),
            pod: self.namespaces.get(&key(hop)).and_then(|namespace| namespace.pod.clone()),
        }
    }
}

/// Whether a pod's namespace is the one of this key; before Linux 5.14 the inode number has to do.
fn is_of(identity: &Identity, (inode, cookie): NamespaceKey) -> bool {
    identity.inode == inode && identity.cookie.is_none_or(|of_pod| of_pod == cookie)
}

fn key(hop: &Hop) -> NamespaceKey {
    (hop.netns, hop.netns_mix)
}

/// The text before the first NUL.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    printable_bytes(&bytes[..end])
}
