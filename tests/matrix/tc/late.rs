//! Devices that come and go during a recording: packets are seen there too, and a pod that is deleted is gone.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use overlay_trace_format::Recording;
use overlay_trace_lab::dataplanes::Netns;
use overlay_trace_probe::{ProbeSet, Session};

use super::left::{AtSide, DeviceSide, state};
use super::network::{self, DATAGRAMS};
use super::{for_each_datagram, options, places};
use crate::counters;
use crate::own::{Network, is_exact, no_losses};
use crate::results::{Outcome, Verdict};

/// A device that comes late, in both pods.
const DEVICE: &str = "late0";
const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);

/// Runs the test in a network, of which a pod is deleted.
pub fn followed(folder: &Path, clsact: bool, network: &Network) -> Outcome {
    let options = options(folder, "tc-late", Some(ProbeSet::Tc), clsact);
    let file = options.output.clone();
    let session = Session::start(options)?;
    let done = come_and_go(network);
    session.stop()?;
    done?;
    let recording = Recording::open(&file)?;
    is_exact(&recording)?;
    no_losses(&recording)?;
    let expected = [("pod1", "tc-egress"), ("pod2", "tc-ingress")]
        .map(|(netns, stage)| (netns.to_owned(), DEVICE.to_owned(), stage.to_owned(), 0));
    let mut wrong = None;
    for_each_datagram(&recording, |record| {
        let found = places(&recording, record);
        if found != expected {
            wrong = Some(found);
        }
    })?;
    ensure!(wrong.is_none(), "a datagram was seen at {wrong:?}");
    Ok(Verdict::With(format!("{DATAGRAMS} datagrams at a device that came later")))
}

fn come_and_go(network: &Network) -> Result<()> {
    network.ip(&format!("link add {DEVICE} netns @pod1 type veth peer name {DEVICE} netns @pod2"))?;
    for own in [1, 2] {
        network.ip_in(
            &format!("pod{own}"),
            &format!("addr add 198.51.100.{own}/24 dev {DEVICE}\nlink set {DEVICE} up"),
        )?;
    }
    let pods: Vec<Netns> = ["pod1", "pod2"].iter().map(|pod| network.netns(pod)).collect::<Result<_>>()?;
    let has_hook = |((_, device, _), at): (&DeviceSide, &AtSide)| device != DEVICE || at.has_hook();
    until("the new device has no hooks", || Ok(state(&pods)?.iter().all(has_hook)))?;
    drop(pods);
    network::datagrams_between(network, "198.51.100.1", "198.51.100.2")?;
    network.ip("netns delete @pod2")?;
    // The other end of its device goes when the kernel takes the namespace apart.
    let node = network.netns("node2")?;
    until("the recorder keeps a pod that was deleted", || {
        Ok(counters::of_devices(&node)?.into_iter().all(|(device, _)| device != "veth2"))
    })
}

fn until(or_else: &'static str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let begin = Instant::now();
    while !is_so()? {
        ensure!(begin.elapsed() < PATIENCE, or_else);
        thread::sleep(POLL);
    }
    Ok(())
}
