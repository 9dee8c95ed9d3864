//! UDP ports of tunnels: the well-known ones, and those of this machine's tunnel devices in all network namespaces,
//! also of devices that are created during the recording.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use aya::{Ebpf, maps::Array};
use futures_util::TryStreamExt;
use nix::sched::{CloneFlags, setns};
use overlay_trace_common::{abi::PORTS_PER_WORD, headers::Tunnel};
use rtnetlink::packet_route::link::{InfoData, InfoGeneve, InfoVxlan, LinkAttribute, LinkInfo};

use crate::{sched_policy::run_idle, summary::Summary, sys::netns};

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

/// Writes the ports to the kernel side's table.
///
/// # Errors
///
/// The kernel object has no such table.
pub fn write_ports(maps: &mut Ebpf) -> Result<()> {
    let map = maps.map_mut("TUNNEL_PORTS").context("the map TUNNEL_PORTS is missing")?;
    let mut table: Array<_, u64> = Array::try_from(map)?;
    let mut words = BTreeMap::<u32, u64>::new();
    for (port, tunnel) in ports() {
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
    progress: Arc<Mutex<Summary>>,
    /// The number of device changes and of hops when the devices were last read.
    seen: (u64, u16),
    read_at: Instant,
    took: Duration,
}

impl TunnelWatcher {
    /// `progress` is what the recording has seen so far.
    pub fn new(progress: Arc<Mutex<Summary>>) -> TunnelWatcher {
        TunnelWatcher { progress, seen: (0, 0), read_at: Instant::now(), took: Duration::ZERO }
    }

    /// Writes the ports of the tunnels to the kernel side's table again, if devices have changed.
    pub fn update(&mut self, maps: &mut Ebpf) {
        let Ok(now) = self.progress.lock().map(|all| (all.counters.device_changes, all.hops)) else { return };
        if now == self.seen || self.read_at.elapsed() < self.took * SHARE {
            return;
        }
        self.seen = now;
        let begin = Instant::now();
        if let Err(error) = run_idle(|| write_ports(maps)) {
            tracing::warn!("devices have changed, but the ports of tunnels cannot be updated: {error:#}");
        }
        self.read_at = Instant::now();
        self.took = begin.elapsed();
    }
}

fn ports() -> Ports {
    let mut ports = Ports::new();
    // Entering namespaces takes a thread of its own.
    let own = std::thread::spawn(|| {
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
    });
    ports.extend(own.join().unwrap_or_default());
    ports.extend(WELL_KNOWN);
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
        let ports = ports();
        assert_eq!(ports.get(&8472), Some(&Tunnel::Vxlan));
        assert_eq!(ports.get(&6081), Some(&Tunnel::Geneve));
        assert_eq!(ports.get(&53), None);
    }
}
