//! A link-layer address that nobody knows any more: the packet waits until it has been asked for.

use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use overlay_trace_lab::dataplanes::Netns;

use super::compare::{self, Place, Profile};
use super::fixture::{Change, Fixture};
use super::flow::Flow;
use super::{Cause, Injected};

/// How long the answer takes.
const DELAY: Duration = Duration::from_millis(2);
/// The pod's gateway.
const GATEWAY: [u8; 4] = [10, 244, 1, 1];
/// In `arpreq.arp_flags`: the entry has a link-layer address (`ATF_COM`).
const ATF_COM: libc::c_int = 2;

/// The device is still to come.
const PLACE: Place = Place { stage: "neighbour-wait", netns: "pod1", device: "eth0", level: 0 };

pub const CAUSES: &[Cause] = &[Cause {
    name: "neighbour/forgotten",
    inject,
    untraced: None,
    check: |recorded, windows| {
        let [before, after] = [Profile::of(recorded, &windows[0])?, Profile::of(recorded, &windows[1])?];
        compare::Change::between(&before, &after, |key| PLACE.is(recorded, key)).is(windows[1].size)
    },
}];

/// The queue holds back what goes to the pod, and that is only the answer to the question who the gateway is.
fn inject(fixture: &Fixture) -> Result<Injected> {
    let make = format!("tc qdisc replace dev veth-pod1 root netem delay {}us", DELAY.as_micros());
    let slow_answers = Change::new("node1", &[&make], &["tc qdisc del dev veth-pod1 root"]);
    let flow = Flow { count: 40, ..Flow::PLAIN };
    let gateway = Entry::of_gateway(fixture.running.netns("pod1")?)?;
    fixture
        .with(&[slow_answers], || {
            let known = fixture.send(&flow, 0.0)?;
            let forgotten = fixture.send_each(&flow, DELAY.as_nanos() as f64, || gateway.forget())?;
            Ok(vec![known, forgotten])
        })
        .and_then(|injected| fixture.settle().map(|()| injected))
}

/// A namespace's entry for a neighbour: by `ioctl`, because a program would have to be started for every datagram.
pub struct Entry {
    socket: UdpSocket,
    address: [u8; 4],
    device: &'static str,
}

impl Entry {
    pub fn new(netns: &Netns, address: [u8; 4], device: &'static str) -> Result<Entry> {
        let socket = netns.run(|| UdpSocket::bind("0.0.0.0:0"))?.context("cannot open a socket")?;
        Ok(Entry { socket, address, device })
    }

    /// A pod's entry for its gateway.
    pub fn of_gateway(pod: &Netns) -> Result<Entry> {
        Entry::new(pod, GATEWAY, "eth0")
    }

    /// Nobody knows the neighbour any more.
    pub fn forget(&self) -> Result<()> {
        self.request(libc::SIOCDARP, None).context("the neighbour cannot be forgotten")
    }

    /// The neighbour's link-layer address is known from now on, and what has waited for it goes on.
    pub fn learn(&self, address: [u8; 6]) -> Result<()> {
        self.request(libc::SIOCSARP, Some(address)).context("the neighbour cannot be made known")
    }

    fn request(&self, request: libc::Ioctl, link_layer: Option<[u8; 6]>) -> Result<()> {
        // SAFETY: plain integers.
        let mut entry: libc::arpreq = unsafe { std::mem::zeroed() };
        entry.arp_pa.sa_family = libc::AF_INET as u16;
        write(&mut entry.arp_pa.sa_data[2..6], &self.address);
        write(&mut entry.arp_dev, self.device.as_bytes());
        if let Some(link_layer) = link_layer {
            entry.arp_ha.sa_family = libc::ARPHRD_ETHER;
            write(&mut entry.arp_ha.sa_data, &link_layer);
            entry.arp_flags = ATF_COM;
        }
        // SAFETY: the request reads the entry, which outlives the call.
        let done = unsafe { libc::ioctl(self.socket.as_raw_fd(), request, &raw mut entry) };
        ensure!(done == 0, std::io::Error::last_os_error());
        Ok(())
    }
}

fn write(to: &mut [libc::c_char], from: &[u8]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from as libc::c_char);
}
