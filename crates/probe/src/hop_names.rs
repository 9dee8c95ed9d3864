//! Names for the hops that the kernel side has numbered.

use std::{
    collections::{HashMap, HashSet},
    sync::{atomic::Ordering, mpsc::Sender},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use aya::maps::{Array, MapData};
use overlay_trace_common::record::Hop;

use super::{
    load::Loader,
    news::{News, Working},
};
use crate::sys::{clock::monotonic_ns, netns::names_after_processes, netns_names::NetnsNames};
use overlay_trace_format::HopName;

/// How often it is looked for new hops: a pod that lives for a moment is still there then.
const LOOK: Duration = Duration::from_millis(50);
/// For how long a namespace may get a better name, in ns.
const OPEN_NS: u64 = 5_000_000_000;
/// Looking through all processes takes a while: no more often than this.
const PROCESSES: Duration = Duration::from_millis(100);

/// A hop as the kernel side describes it.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct RawHop(Hop);
// SAFETY: a repr(C) struct of plain integers and bytes.
unsafe impl aya::Pod for RawHop {}

/// What a namespace is known by: its inode number, and its cookie or random number.
type Key = (u32, u32);

/// The hops so far, and their names.
pub struct Hops {
    count: Array<MapData, u64>,
    map: Array<MapData, RawHop>,
    /// Those that have been named, in the order of their numbers from 1 on.
    known: Vec<Hop>,
    namespaces: HashMap<Key, Namespace>,
    /// Those for which a better name may yet be found.
    open: Vec<Key>,
    names: NetnsNames,
    /// When all processes were last looked through.
    looked: Option<Instant>,
}

/// What a namespace is called.
struct Namespace {
    name: String,
    /// Nothing better than its number is known.
    nameless: bool,
    /// When its first hop was seen, in ns of CLOCK_MONOTONIC.
    since_ns: u64,
}

impl Hops {
    /// Takes the maps of hops over from the loader.
    ///
    /// # Errors
    ///
    /// If there are none.
    pub fn new(loader: &mut Loader) -> Result<Hops> {
        let mut take =
            |name: &str| loader.maps.take_map(name).with_context(|| format!("the map {name} is missing"));
        Ok(Hops {
            count: Array::try_from(take("HOP_COUNT")?)?,
            map: Array::try_from(take("HOPS")?)?,
            known: Vec::new(),
            namespaces: HashMap::new(),
            open: Vec::new(),
            names: NetnsNames::now(),
            looked: None,
        })
    }

    /// Goes to work on a thread of its own, and tells the names of hops. To be stopped when there are no more
    /// packets.
    ///
    /// # Errors
    ///
    /// If there can be no more threads.
    pub fn start(mut self, tell: Sender<News>) -> Result<Working> {
        Working::start("names", move |is_over| {
            loop {
                let last = is_over.load(Ordering::Relaxed);
                let news = match self.news() {
                    Ok(news) => news,
                    Err(error) => return tracing::warn!("the names of devices cannot be read: {error:#}"),
                };
                let is_read = news.is_empty() || tell.send(News::Hops(news)).is_ok();
                if last || !is_read {
                    return;
                }
                self.names.wait(LOOK);
            }
        })
    }

    /// The names of the hops that have come up since the last time, and of those that now have a better one.
    fn news(&mut self) -> Result<Vec<(u16, HopName)>> {
        let before = self.known.len();
        self.read()?;
        let better = self.find_names();
        let is_news = |&(at, hop): &(usize, &Hop)| at >= before || better.contains(&key(hop));
        let news = self.known.iter().enumerate().filter(is_news);
        Ok(news.map(|(at, hop)| (at as u16 + 1, self.name(hop))).collect())
    }

    /// Reads the hops that are new.
    fn read(&mut self) -> Result<()> {
        let end = (self.count.get(&0, 0)? as usize).min(self.map.len() as usize - 1);
        while self.known.len() < end {
            let RawHop(hop) = self.map.get(&(self.known.len() as u32 + 1), 0)?;
            if hop.since_ns == 0 {
                // It is just being written.
                break;
            }
            if !self.namespaces.contains_key(&key(&hop)) {
                let name = self.numbered(hop.netns);
                self.namespaces.insert(key(&hop), Namespace { name, nameless: true, since_ns: hop.since_ns });
                self.open.push(key(&hop));
            }
            self.known.push(hop);
        }
        Ok(())
    }

    /// What to call a namespace of which only the number is known.
    fn numbered(&self, inode: u32) -> String {
        match self.namespaces.keys().filter(|(known, _)| *known == inode).count() {
            0 => format!("netns:{inode}"),
            others => format!("netns:{inode}#{}", others + 1),
        }
    }

    /// Looks for names of namespaces that have none, and returns those that got a better one.
    fn find_names(&mut self) -> HashSet<Key> {
        let mut better = HashSet::new();
        if self.open.is_empty() {
            return better;
        }
        let now = monotonic_ns();
        let processes = self.processes();
        let Hops { open, namespaces, names, .. } = self;
        open.retain(|key| {
            let (inode, _) = *key;
            let Some(namespace) = namespaces.get_mut(key) else { return false };
            let waits = now < namespace.since_ns.saturating_add(OPEN_NS);
            let certain = names.at(inode, key.1, namespace.since_ns);
            let after_process = || processes.get(&inode).map(String::as_str);
            // Perhaps its name was removed before its first packet came by.
            let removed = || if waits { None } else { names.last(inode) };
            let found = match certain {
                None if namespace.nameless => after_process().or_else(removed),
                certain => certain,
            };
            if let Some(name) = found {
                name.clone_into(&mut namespace.name);
                namespace.nameless = false;
                better.insert(*key);
            }
            waits && certain.is_none()
        });
        better
    }

    /// Names after processes, if it is time to look and there is something to name.
    fn processes(&mut self) -> HashMap<u32, String> {
        let nameless = |key: &Key| {
            self.namespaces.get(key).is_some_and(|namespace| {
                namespace.nameless && self.names.at(key.0, key.1, namespace.since_ns).is_none()
            })
        };
        let is_time = self.looked.is_none_or(|at| at.elapsed() >= PROCESSES);
        if !is_time || !self.open.iter().any(nameless) {
            return HashMap::new();
        }
        self.looked = Some(Instant::now());
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

fn key(hop: &Hop) -> Key {
    (hop.netns, hop.netns_mix)
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
