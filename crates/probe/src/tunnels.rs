//! UDP ports of tunnels: the well-known ones, and those of this machine's tunnel devices in all network namespaces,
//! also of devices that are created during the recording.

use std::{
    borrow::BorrowMut,
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use aya::{
    Ebpf,
    maps::{Array, MapData},
};
use futures_util::TryStreamExt;
use nix::sched::{CloneFlags, setns};
use overlay_trace_common::{abi::PORTS_PER_WORD, headers::Tunnel};
use rtnetlink::packet_route::link::{InfoData, InfoGeneve, InfoVxlan, LinkAttribute, LinkInfo};

use crate::{
    load::Loader,
    sched_policy::become_idle,
    summary::Summary,
    sys::{
        lookup::{self, Lookup, within_limit},
        netns,
    },
};

/// VXLAN of flannel and the kernel's default, the registered VXLAN port, Weave's VXLAN, VXLAN-GPE, Geneve, flannel's
/// `udp` backend.
const WELL_KNOWN: [(u16, Tunnel); 6] = [
    (8472, Tunnel::Vxlan),
    (4789, Tunnel::Vxlan),
    (6784, Tunnel::Vxlan),
    (4790, Tunnel::Vxlan),
    (6081, Tunnel::Geneve),
    (8285, Tunnel::Ip),
];

/// Reading the devices of all namespaces may take at most one part in this many of the time.
const SHARE: u32 = 20;

type Ports = BTreeMap<u16, Tunnel>;

const TABLE: &str = "TUNNEL_PORTS";

/// Writes the ports to the kernel side's table.
///
/// # Errors
///
/// The kernel object has no such table.
pub fn write_ports(maps: &mut Ebpf) -> Result<()> {
    let map = maps.map_mut(TABLE).with_context(|| format!("the map {TABLE} is missing"))?;
    let own = within_limit(own_ports);
    if own.is_none() {
        warn_too_long();
    }
    write(&mut Array::try_from(map)?, own.unwrap_or_default())
}

fn warn_too_long() {
    tracing::warn!(
        "reading the devices of all network namespaces takes too long: tunnels are known by well-known ports"
    );
}

/// Writes these ports and the well-known ones to the table.
fn write<M: BorrowMut<MapData>>(table: &mut Array<M, u64>, own: Ports) -> Result<()> {
    let mut words = BTreeMap::<u32, u64>::new();
    for (port, tunnel) in with_well_known(own) {
        let port = u32::from(port);
        *words.entry(port / PORTS_PER_WORD).or_default() |= (tunnel as u64) << (port % PORTS_PER_WORD * 2);
    }
    for (index, word) in words {
        table.set(index, word, 0)?;
    }
    Ok(())
}

/// Finds tunnel devices that are created during the recording.
pub struct TunnelWatcher {
    table: Array<MapData, u64>,
    progress: Arc<Mutex<Summary>>,
    /// The number of device changes and of hops when the devices were last read.
    seen: (u64, u16),
    read_at: Instant,
    took: Duration,
    /// The devices are being read; it gives for how long, too.
    lookup: Option<Lookup<(Ports, Duration)>>,
    /// It was said that this takes too long.
    is_slow: bool,
}

impl TunnelWatcher {
    /// Takes the table over from the loader. `progress` is what the recording has seen so far.
    ///
    /// # Errors
    ///
    /// The kernel object has no such table.
    pub fn new(loader: &mut Loader, progress: Arc<Mutex<Summary>>) -> Result<TunnelWatcher> {
        Ok(TunnelWatcher {
            table: loader.take_map(TABLE)?,
            progress,
            seen: (0, 0),
            read_at: Instant::now(),
            took: Duration::ZERO,
            lookup: None,
            is_slow: false,
        })
    }

    /// Has the devices read again if they have changed, and writes the ports of the tunnels to the kernel side's table when
    /// that is done. This does not wait.
    pub fn update(&mut self) {
        if let Some((own, took)) = lookup::poll(&mut self.lookup, Duration::ZERO) {
            (self.read_at, self.took) = (Instant::now(), took);
            if let Err(error) = write(&mut self.table, own) {
                tracing::warn!("devices have changed, but the ports of tunnels cannot be updated: {error:#}");
            }
        }
        if self.lookup.is_some() {
            if self.read_at.elapsed() > lookup::LIMIT && !self.is_slow {
                self.is_slow = true;
                warn_too_long();
            }
            return;
        }
        let Ok(now) = self.progress.lock().map(|all| (all.counters.device_changes, all.hops)) else { return };
        if now == self.seen || self.read_at.elapsed() < self.took * SHARE {
            return;
        }
        self.seen = now;
        self.read_at = Instant::now();
        self.lookup = Lookup::start(|| {
            become_idle();
            let begin = Instant::now();
            (own_ports(), begin.elapsed())
        });
    }
}

fn with_well_known(mut ports: Ports) -> Ports {
    ports.extend(WELL_KNOWN);
    ports
}

/// The ports of this machine's tunnel devices. The calling thread stays in the last namespace.
fn own_ports() -> Ports {
    let mut ports = Ports::new();
    for namespace in netns::all() {
        let entered = setns(&namespace.file, CloneFlags::CLONE_NEWNET).map_err(anyhow::Error::from);
        match entered.and_then(|()| ports_of_current_namespace()) {
            Ok(found) => ports.extend(found),
            // The namespace may have been deleted meanwhile.
            Err(error) => tracing::debug!("the tunnels of a network namespace cannot be read: {error:#}"),
        }
    }
    ports
}

/// The ports of the devices of the namespace that this thread is in.
fn ports_of_current_namespace() -> Result<Ports> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        let mut links = handle.link().get().execute();
        let mut ports = Ports::new();
        while let Some(link) = links.try_next().await? {
            for attribute in link.attributes {
                if let LinkAttribute::LinkInfo(information) = attribute {
                    ports.extend(information.iter().filter_map(port_of));
                }
            }
        }
        Ok(ports)
    })
}

fn port_of(information: &LinkInfo) -> Option<(u16, Tunnel)> {
    let LinkInfo::Data(data) = information else { return None };
    match data {
        InfoData::Vxlan(all) => all.iter().find_map(|one| match one {
            InfoVxlan::Port(port) => Some((*port, Tunnel::Vxlan)),
            _ => None,
        }),
        InfoData::Geneve(all) => all.iter().find_map(|one| match one {
            InfoGeneve::Port(port) => Some((*port, Tunnel::Geneve)),
            _ => None,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_well_known_ports_are_there_whatever_the_machine_has() {
        let ports = with_well_known(within_limit(own_ports).unwrap_or_default());
        assert_eq!(ports.get(&8472), Some(&Tunnel::Vxlan));
        assert_eq!(ports.get(&6081), Some(&Tunnel::Geneve));
        assert_eq!(ports.get(&53), None);
    }
}
