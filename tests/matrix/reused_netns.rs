//! A namespace that a filter names is deleted during the recording, and another one gets its inode number: the packets of
//! that one are not the first one's.

use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use overlay_trace_probe::sys::netns;

use crate::inode_numbers::InodeNumbers;
use crate::node::{COUNT, Of};
use crate::own::{Network, send};
use crate::results::{Results, Verdict};

pub const NAME: &str = "node/netns-number-reused";

/// The numbers are free when the kernel has taken the namespaces apart.
const ATTEMPTS: usize = 500;
const ATTEMPT: Duration = Duration::from_millis(20);
/// How many numbers the kernel takes for other things before the one of a new network namespace: depends on its version.
const TAKEN_BEFORE: [usize; 4] = [0, 1, 2, 3];
/// Several: something else on the machine may take a number.
const WANTED: [&str; 4] = ["wanted1", "wanted2", "wanted3", "wanted4"];
/// The number of the link of the other one.
const OTHER_LINK: u8 = 9;
/// Before and after.
const PORTS: [u16; 2] = [7731, 7732];

pub fn run(of: Of, results: &mut Results) -> Result<()> {
    // Lower than those of the network.
    let mut held = InodeNumbers::default();
    for _ in TAKEN_BEFORE {
        held.take()?;
    }
    let network = Network::up("ot-reused-", &[&["hub"], &WANTED[..]].concat(), "")?;
    let names = WANTED.map(|wanted| network.name(wanted));
    let (recording, ()) = of("netns-number-reused", &names).record(|_| {
        let mut numbers = Vec::new();
        for (link, wanted) in (1..).zip(WANTED) {
            send_to_hub(&network, wanted, link, PORTS[0])?;
            numbers.push(netns::inode(&network.name(wanted))?);
        }
        for wanted in WANTED {
            network.ip(&format!("netns delete @{wanted}"))?;
        }
        let other = take_number(&network, &mut held, &numbers)?;
        send_to_hub(&network, &other, OTHER_LINK, PORTS[1])
    })?;
    let mut counts = [0; 2];
    recording.for_each_record(|record| {
        for (count, port) in counts.iter_mut().zip(PORTS) {
            *count += usize::from(record.header.flow.destination_port == port);
        }
    })?;
    ensure!(
        counts[0] >= WANTED.len() * COUNT && counts[1] == 0,
        "{} of {} datagrams of the namespaces are recorded, and {} of another one",
        counts[0],
        WANTED.len() * COUNT,
        counts[1]
    );
    let device = format!("dev{OTHER_LINK}");
    let foreign = recording.hops.values().any(|hop| names.contains(&hop.netns) && hop.device == device);
    ensure!(!foreign, "a device of the other namespace is said to be in a wanted one");
    results.add(NAME, Ok(Verdict::Passed));
    Ok(())
}

/// Makes a namespace with one of these inode numbers, and returns its short name. The kernel gives the lowest free number:
/// all lower ones are held but those that it takes first.
fn take_number(network: &Network, held: &mut InodeNumbers, numbers: &[u32]) -> Result<String> {
    let mut taken_before = TAKEN_BEFORE.into_iter().cycle().zip(1..);
    for _ in 0..ATTEMPTS {
        let Some(number) = held.take_up_to(numbers)? else {
            thread::sleep(ATTEMPT);
            continue;
        };
        let Some((before, trial)) = taken_before.next() else { break };
        let other = format!("other{trial}");
        held.free(number, before);
        network.ip(&format!("netns add @{other}"))?;
        if numbers.contains(&netns::inode(&network.name(&other))?) {
            return Ok(other);
        }
        network.ip(&format!("netns delete @{other}"))?;
    }
    bail!("in {ATTEMPTS} attempts no other namespace got one of the inode numbers {numbers:?}")
}

/// Joins a namespace with the hub, and sends datagrams there that are read.
fn send_to_hub(network: &Network, from: &str, link: u8, port: u16) -> Result<()> {
    network.ip(&format!("link add dev{link} netns @{from} type veth peer name hub{link} netns @hub"))?;
    for (place, device, number) in [(from, format!("dev{link}"), 1), ("hub", format!("hub{link}"), 2)] {
        network.ip_in(
            place,
            &format!("addr add 10.96.{link}.{number}/24 dev {device}\nlink set {device} up\nlink set lo up"),
        )?;
    }
    let to = SocketAddr::from(([10, 96, link, 2], port));
    let socket = network.netns("hub")?.run(|| UdpSocket::bind(to))??;
    network.netns(from)?.run(|| send(to, COUNT))??;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    for number in 0..COUNT {
        ensure!(socket.recv(&mut [0; 200]).is_ok(), "only {number} of {COUNT} datagrams arrived");
    }
    Ok(())
}
