//! At which UDP ports packets carry other packets: the usual ones, and those of this machine's own tunnel
//! devices, in whatever network namespace they are, also if they come during the recording.

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

use super::{manners::giving_way, reader::Summary};
use crate::sys::netns;

/// What carries packets wherever it is met: flannel's and the kernel's own VXLAN port, the registered one,
/// Weave's, VXLAN-GPE, Geneve, flannel's `udp`.
const USUAL: [(u16, Tunnel); 6] = [
    (8472, Tunnel::Vxlan),
    (4789, Tunnel::Vxlan),
    (6784, Tunnel::Vxlan),
    (4790, Tunnel::Vxlan),
    (6081, Tunnel::Geneve),
    (8285, Tunnel::Ip),
];

/// Looking through all namespaces may take up one part in so many of the time.
const LOOKING: u32 = 20;

type Ports = BTreeMap<u16, Tunnel>;

/// Tells the kernel side.
///
/// # Errors
///
/// If it does not have the table.
pub fn announce(maps: &mut Ebpf) -> Result<()> {
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

/// Looks for tunnel devices that have come during the recording.
pub struct Watch {
    progress: Arc<Mutex<Summary>>,
    /// How often devices had changed, and how many had been seen, when it was last looked.
    seen: (u64, u16),
    looked: Instant,
    took: Duration,
}

impl Watch {
    /// `progress` is what the recording has seen so far.
    pub fn new(progress: Arc<Mutex<Summary>>) -> Watch {
        Watch { progress, seen: (0, 0), looked: Instant::now(), took: Duration::ZERO }
    }

    /// Tells the kernel side of the tunnels that there are now, if devices have changed.
    pub fn look(&mut self, maps: &mut Ebpf) {
        let Ok(now) = self.progress.lock().map(|all| (all.counters.device_changes, all.hops)) else { return };
        if now == self.seen || self.looked.elapsed() < self.took * LOOKING {
            return;
        }
        self.seen = now;
        let begin = Instant::now();
        if let Err(error) = giving_way(|| announce(maps)) {
            tracing::warn!("devices have changed, but what tunnels there are cannot be told: {error:#}");
        }
        self.looked = Instant::now();
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
            match entered.and_then(|()| ports_of_here()) {
                Ok(here) => ports.extend(here),
                // What goes away meanwhile has no tunnels.
                Err(error) => tracing::debug!("a network namespace's tunnels are not known: {error:#}"),
            }
        }
        ports
    });
    ports.extend(own.join().unwrap_or_default());
    ports.extend(USUAL);
    ports
}

/// The ports of the devices of the namespace that this thread is in.
fn ports_of_here() -> Result<Ports> {
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
    fn the_usual_ports_are_known_whatever_the_machine_has() {
        let ports = ports();
        assert_eq!(ports.get(&8472), Some(&Tunnel::Vxlan));
        assert_eq!(ports.get(&6081), Some(&Tunnel::Geneve));
        assert_eq!(ports.get(&53), None);
    }
}
