//! The devices of a recording against the kernel's own `skb->dev`, as an independent tool reads it.
//!
//! Datagrams go in one direction only, so that a device of the way in cannot pass for one of the way out.

mod events;

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use overlay_trace_analysis::breakdown::Key;
use overlay_trace_lab::dataplanes::Running;
use overlay_trace_lab::traffic::{PORT, Stop};
use overlay_trace_probe::sys::kernel::Kernel;
use overlay_trace_probe::{ProbeSet, wanted_functions};

use crate::capture;
use crate::machine::run_in;
use crate::results::{Outcome, Results, Verdict};
use crate::routed;
use crate::seen::Seen;
use events::{Events, Sighting};

/// Routed through a tunnel; routed without; bridged, with br_netfilter.
const LABS: &[&str] = &["flannel-vxlan", "flannel-host-gw", "docker-bridge"];
/// Each from a port of its own, so that each is the first of a connection.
const SOCKETS: usize = 20;
const DATAGRAMS: usize = 10;

/// Runs the tests.
pub fn run((folder, stop): (&Path, &Stop), results: &mut Results) {
    for lab in LABS {
        let name = format!("witness/{lab}");
        if results.wants(&name) {
            results.add(&name, test(lab, folder, stop));
        }
    }
}

fn test(lab: &'static str, folder: &Path, stop: &Stop) -> Outcome {
    if let Some(lack) = Events::lack() {
        return Ok(Verdict::Skipped(lack));
    }
    let running = capture::stand(lab, stop)?;
    let path = folder.join(format!("witness-{lab}.otr"));
    let session = capture::begin(&running, &path)?;
    // The modules of the lab's functions are there now.
    let events = Events::begin(&Kernel::read(&wanted_functions())?.offsets()?)?;
    // Neighbours are looked for again.
    for netns in running.namespaces() {
        run_in(netns, "ip neigh flush all")?;
    }
    send(&running)?;
    session.stop().context("the recording could not be finished")?;
    let witnessed = events.seen()?;
    let seen = Seen::read(&path, lab, ProbeSet::Full, Vec::new(), Vec::new())?;
    let outcome = agree(&seen, &witnessed);
    running.down()?;
    routed::at_their_devices(&seen, &[])?;
    outcome
}

/// Datagrams from the client to the server, which does not answer.
fn send(running: &Running) -> Result<()> {
    let (server, client) = (running.server()?, running.client()?);
    let target = SocketAddr::new(server.address, PORT);
    let receiver = server.netns.run(|| UdpSocket::bind(target))??;
    receiver.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
    for _ in 0..SOCKETS {
        let sender = client.netns.run(|| UdpSocket::bind(SocketAddr::new(client.address, 0)))??;
        for _ in 0..DATAGRAMS {
            sender.send_to(&[0; 100], target)?;
            receiver.recv(&mut [0; 200]).context("a datagram was lost")?;
        }
    }
    Ok(())
}

/// Both have seen the same stages at the same devices.
fn agree(seen: &Seen, witnessed: &BTreeSet<Sighting>) -> Outcome {
    let inode = |key: &Key| {
        let of_hop = |hop: &&overlay_trace_format::HopName| Some(&hop.netns) == key.netns.as_ref();
        seen.recording.hops.values().find(of_hop).map_or(0, |hop| hop.netns_inode)
    };
    let stages: BTreeSet<&str> = witnessed.iter().map(|sighting| sighting.stage).collect();
    let inodes: BTreeSet<u32> = seen.own.rows.iter().map(|row| inode(&row.key)).collect();
    let recorded = seen.own.rows.iter().filter_map(|row| {
        let stage = *stages.get(row.key.stage.as_deref()?)?;
        let device = row.key.device.clone().unwrap_or_default();
        let netns_inode = if device.is_empty() { 0 } else { inode(&row.key) };
        Some(Sighting { stage, netns_inode, device })
    });
    let recorded: BTreeSet<Sighting> = recorded.collect();
    let is_of_lab =
        |sighting: &&Sighting| sighting.device.is_empty() || inodes.contains(&sighting.netns_inode);
    let witnessed: BTreeSet<Sighting> = witnessed.iter().filter(is_of_lab).cloned().collect();
    let differing: Vec<_> = recorded.symmetric_difference(&witnessed).collect();
    ensure!(
        differing.is_empty(),
        "{} recorded, {} seen by the kernel's own events; only one of them has {differing:?}",
        recorded.len(),
        witnessed.len()
    );
    ensure!(recorded.len() > 5, "only {} stages at devices were seen", recorded.len());
    Ok(Verdict::With(format!("{} stages at devices", recorded.len())))
}
