//! A link-layer address that nobody knows any more: the packet waits until it has been asked for.

use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use overlay_trace::lab::Netns;

use super::compare::{self, Place, Profile};
use super::flow::Flow;
use super::ground::{Change, Ground};
use super::{Brought, Cause};

/// How long the answer takes.
const DELAY: Duration = Duration::from_millis(2);
/// The pod's gateway.
const GATEWAY: [u8; 4] = [10, 244, 1, 1];

/// The device is still to come.
const PLACE: Place = Place { stage: "neighbour-wait", netns: "pod1", device: "", level: 0 };

pub const CAUSES: &[Cause] = &[Cause {
    name: "neighbour/forgotten",
    bring_about,
    untraced: None,
    check: |recorded, windows| {
        let [before, after] = [Profile::of(recorded, &windows[0])?, Profile::of(recorded, &windows[1])?];
        compare::Change::between(&before, &after, |key| PLACE.is(recorded, key)).is(windows[1].size)
    },
}];

/// The queue holds back what goes to the pod, and that is only the answer to the question who the gateway is.
fn bring_about(ground: &Ground) -> Result<Brought> {
    let make = format!("tc qdisc replace dev veth-pod1 root netem delay {}us", DELAY.as_micros());
    let slow_answers = Change::new("node1", &[&make], &["tc qdisc del dev veth-pod1 root"]);
    let flow = Flow { count: 40, ..Flow::PLAIN };
    let forget = Forget::new(ground.running.netns("pod1")?)?;
    ground
        .with(&[slow_answers], || {
            let known = ground.send(&flow, 0.0)?;
            let forgotten = ground.send_each(&flow, DELAY.as_nanos() as f64, || forget.gateway())?;
            Ok(vec![known, forgotten])
        })
        .and_then(|brought| ground.settle().map(|()| brought))
}

/// Deletes a namespace's entry for the gateway: by `ioctl`, because a program would have to be started for
/// every datagram.
pub struct Forget(UdpSocket);

impl Forget {
    pub fn new(netns: &Netns) -> Result<Forget> {
        Ok(Forget(netns.run(|| UdpSocket::bind("0.0.0.0:0"))?.context("cannot open a socket")?))
    }

    pub fn gateway(&self) -> Result<()> {
        // SAFETY: plain integers.
        let mut entry: libc::arpreq = unsafe { std::mem::zeroed() };
        entry.arp_pa.sa_family = libc::AF_INET as u16;
        for (to, from) in entry.arp_pa.sa_data[2..6].iter_mut().zip(GATEWAY) {
            *to = from as libc::c_char;
        }
        for (to, from) in entry.arp_dev.iter_mut().zip(*b"eth0") {
            *to = from as libc::c_char;
        }
        // SAFETY: the request reads the entry, which outlives the call.
        let deleted = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SIOCDARP, &raw mut entry) };
        ensure!(deleted == 0, "the neighbour cannot be deleted: {}", std::io::Error::last_os_error());
        Ok(())
    }
}
