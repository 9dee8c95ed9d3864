//! Taps that a test holds itself: queues whose readers come late, what a program sends through a macvtap, and what enters
//! GRO as pages without an `sk_buff`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::net::if_::if_nametoindex;
use overlay_trace_format::Recording;
use overlay_trace_lab::dataplanes::Netns;
use overlay_trace_lab::dataplanes::tap::{self, Kind};
use overlay_trace_probe::load::Sizes;
use overlay_trace_probe::{FilterOptions, ProbeSet};

use crate::own::{self, Network, Plan, is_exact, no_losses, send};
use crate::reasons::checksum;
use crate::results::{Outcome, Results, Verdict};

const QUEUE: &str = "taps/queue";
const MACVTAP_QUEUE: &str = "taps/macvtap-queue";
const MACVTAP_SENDS: &str = "taps/macvtap-sends";
const FRAGMENTS: &str = "taps/gro-frags";

const DEVICE: &str = "tap0";
const MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 1];
const OWN: Ipv4Addr = Ipv4Addr::new(10, 98, 1, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 98, 1, 2);
const PORT: u16 = 7741;
const COUNT: usize = 20;

/// Runs the tests.
pub fn run(set: ProbeSet, folder: &Path, results: &mut Results) {
    own::add(&[QUEUE], results, |results| queue(set, folder, results));
    // No tracepoint shows when a packet comes into a macvtap's queue.
    if set != ProbeSet::Device {
        own::add(&[MACVTAP_QUEUE, MACVTAP_SENDS], results, |results| macvtap(set, folder, results));
    }
    // The set light sees what comes out of GRO.
    if set != ProbeSet::Light {
        own::add(&[FRAGMENTS], results, |results| fragments(set, folder, results));
    }
}

/// A namespace with a tap, behind which the neighbour is known.
fn network() -> Result<Network> {
    let network = Network::up("ot-tap-", &["a"], "")?;
    network.ip_in(
        "a",
        &format!(
            "link set lo up\ntuntap add dev {DEVICE} mode tap\n\
             link set dev {DEVICE} address 02:00:00:00:00:01 up\naddr add {OWN}/24 dev {DEVICE}\n\
             neigh add {OTHER} lladdr 02:00:00:00:00:02 dev {DEVICE}"
        ),
    )?;
    Ok(network)
}

fn plan<'a>(set: ProbeSet, folder: &'a Path, name: &'a str, network: &Network) -> Plan<'a> {
    let filter = FilterOptions { netns: vec![network.name("a")], ..FilterOptions::default() };
    Plan { set, folder, name, filter, sizes: Sizes::default() }
}

/// How long after the last packet was sent the queue is read.
const LATE: Duration = Duration::from_millis(50);

/// Packets wait in the queue until the program reads them.
fn queue(set: ProbeSet, folder: &Path, results: &mut Results) -> Result<()> {
    let network = network()?;
    let netns = network.netns("a")?;
    let tap = tap::attach(&netns, DEVICE, Kind::Tap)?;
    let (recording, ()) =
        plan(set, folder, "tap-queue", &network).record(|_| send_and_read_late(&network, &tap, 0))?;
    results.add(QUEUE, wait_in(&recording, "tun-wait").map(|()| Verdict::Passed));
    Ok(())
}

/// Sends datagrams to the neighbour, and reads them from its tap when they have waited; before each frame there are so many
/// bytes that are not the packet's.
fn send_and_read_late(network: &Network, mut tap: &File, before: usize) -> Result<()> {
    network.netns("a")?.run(|| send(SocketAddr::from((OTHER, PORT)), COUNT))??;
    thread::sleep(LATE);
    let mut buffer = [0; 2048];
    let mut read = 0;
    while read < COUNT {
        let bytes = tap.read(&mut buffer).context("the tap cannot be read")?;
        let frame = &buffer[before.min(bytes)..bytes];
        // Others of the namespace may send too: an IPv4 packet of UDP.
        read += usize::from(frame.len() > 23 && frame[12..14] == [8, 0] && frame[23] == 17);
    }
    Ok(())
}

/// Whether each datagram waited in this stage, for as long as nobody read.
fn wait_in(recording: &Recording, stage: &str) -> Result<()> {
    is_exact(recording)?;
    no_losses(recording)?;
    let stages = &recording.header.stages;
    let is_queue = |number: u8| stages.get(usize::from(number)).is_some_and(|row| row.name == stage);
    let (mut late, mut total) = (0, 0);
    recording.for_each_record(|record| {
        if record.header.flow.destination_port == PORT {
            total += 1;
            let waits = record.spans().filter(|span| is_queue(span.stage));
            late += usize::from(waits.map(|span| span.ns).sum::<u64>() >= LATE.as_nanos() as u64);
        }
    })?;
    ensure!(
        (late, total) == (COUNT, COUNT),
        "of {COUNT} packets {total} are recorded, {late} of them as waiting"
    );
    Ok(())
}

/// What a macvtap's program reads and writes begins with this many bytes, a `virtio_net_hdr`; zeros ask for nothing.
const VIRTIO_HEADER: usize = 10;
const MACVTAP: &str = "mvt0";

/// A macvtap over a veth, as of a virtual machine: what comes to it waits until it is read, and what its program writes goes
/// on through the veth as one packet.
fn macvtap(set: ProbeSet, folder: &Path, results: &mut Results) -> Result<()> {
    let network = macvtap_network()?;
    let tap = open_macvtap(&network.netns("b")?)?;
    let plan = |name| plan(set, folder, name, &network);
    let (recording, ()) =
        plan("macvtap-queue").record(|_| send_and_read_late(&network, &tap, VIRTIO_HEADER))?;
    results.add(MACVTAP_QUEUE, wait_in(&recording, "macvtap-wait").map(|()| Verdict::Passed));
    let (recording, ()) = plan("macvtap-sends")
        .record(|_| (0..COUNT).try_for_each(|number| write_segment(&tap, &[0; VIRTIO_HEADER], number)))?;
    results.add(MACVTAP_SENDS, goes_through_the_veth(&recording));
    Ok(())
}

/// A namespace whose neighbour is a macvtap over the other end of its link.
fn macvtap_network() -> Result<Network> {
    let network =
        Network::up("ot-macvtap-", &["a", "b"], "link add eth0 netns @a type veth peer name eth0 netns @b")?;
    network.ip_in(
        "a",
        &format!(
            "link set dev eth0 address 02:00:00:00:00:01 up\naddr add {OWN}/24 dev eth0\n\
             neigh add {OTHER} lladdr 02:00:00:00:00:02 dev eth0"
        ),
    )?;
    network.ip_in(
        "b",
        &format!(
            "link set dev eth0 up\nlink add link eth0 name {MACVTAP} type macvtap mode bridge\n\
             link set dev {MACVTAP} address 02:00:00:00:00:02 up"
        ),
    )?;
    Ok(network)
}

/// Opens the character device of the macvtap, which is named after its device's number.
fn open_macvtap(netns: &Netns) -> Result<File> {
    let index = netns.run(|| if_nametoindex(MACVTAP))??;
    let file = format!("/dev/tap{index}");
    File::options().read(true).write(true).open(&file).with_context(|| format!("cannot open {file}"))
}

/// Each packet is one record, from the macvtap to the other end of the link.
fn goes_through_the_veth(recording: &Recording) -> Outcome {
    is_exact(recording)?;
    let (mut total, mut whole) = (0, 0);
    recording.for_each_record(|record| {
        if record.header.flow.source == address(OTHER) {
            total += 1;
            let places = own::places(recording, &record);
            let ends = (places.first().map(|place| place.1), places.last().map(|place| place.1));
            whole += usize::from(ends == (Some(MACVTAP), Some("eth0")));
        }
    })?;
    ensure!(
        (whole, total) == (COUNT, COUNT),
        "{COUNT} segments were sent, {total} are recorded, {whole} of them whole"
    );
    Ok(Verdict::Passed)
}

/// The data of each segment.
const DATA: usize = 1000;

/// Packets enter GRO as pages, through `napi_gro_frags`, and each has a record. (A tap has GRO flushed after each packet,
/// so that nothing is merged.)
fn fragments(set: ProbeSet, folder: &Path, results: &mut Results) -> Result<()> {
    let network = network()?;
    let netns = network.netns("a")?;
    let tap = tap::attach(&netns, DEVICE, Kind::TapNapiFrags)?;
    let (recording, ()) = plan(set, folder, "tap-frags", &network)
        .record(|_| (0..COUNT).try_for_each(|number| write_segment(&tap, &[], number)))?;
    is_exact(&recording)?;
    no_losses(&recording)?;
    results.add(FRAGMENTS, each_is_there(&recording));
    Ok(())
}

/// Writes a segment, as a frame behind what the tap wants before it.
fn write_segment(mut tap: &File, before: &[u8], number: usize) -> Result<()> {
    let headers = [before, &headers((number * DATA) as u32)].concat();
    let data = [7; DATA];
    let written = tap.write_vectored(&[IoSlice::new(&headers), IoSlice::new(&data)]);
    ensure!(written.context("the tap cannot be written")? == headers.len() + DATA, "a frame was cut");
    Ok(())
}

/// The headers of a TCP segment to nobody: Ethernet, IPv4, TCP.
fn headers(sequence: u32) -> Vec<u8> {
    let (mut ip, mut tcp) = ([0u8; 20], [0u8; 20]);
    ip[..4].copy_from_slice(&[0x45, 0, 0, 0]);
    ip[2..4].copy_from_slice(&((40 + DATA) as u16).to_be_bytes());
    ip[6..10].copy_from_slice(&[0x40, 0, 64, 6]);
    ip[12..16].copy_from_slice(&OTHER.octets());
    ip[16..20].copy_from_slice(&OWN.octets());
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum);
    tcp[..2].copy_from_slice(&PORT.to_be_bytes());
    tcp[2..4].copy_from_slice(&PORT.to_be_bytes());
    tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
    // The header's length in words, ACK, and the window.
    tcp[12..16].copy_from_slice(&[0x50, 0x10, 0x10, 0]);
    let length = (20 + DATA) as u16;
    let pseudo = [&ip[12..20], &[0, 6], &length.to_be_bytes(), &tcp, &[7; DATA]].concat();
    let sum = checksum(&pseudo);
    tcp[16..18].copy_from_slice(&sum);
    [&MAC, &[0x02, 0, 0, 0, 0, 2][..], &[8, 0], &ip, &tcp].concat()
}

fn each_is_there(recording: &Recording) -> Outcome {
    let stages = &recording.header.stages;
    let is_gro = |number: u8| stages.get(usize::from(number)).is_some_and(|row| row.name == "gro");
    let (mut sequences, mut total, mut in_gro) = (BTreeSet::new(), 0, 0);
    recording.for_each_record(|record| {
        let flow = record.header.flow;
        if flow.destination_port == PORT && flow.source == address(OTHER) {
            total += 1;
            sequences.insert(flow.sequence);
            in_gro += usize::from(record.spans().any(|span| is_gro(span.stage)));
        }
    })?;
    let sent: BTreeSet<u32> = (0..COUNT).map(|number| (number * DATA) as u32).collect();
    ensure!(
        total == COUNT && sequences == sent,
        "{COUNT} segments were sent, {total} are recorded: {sequences:?}"
    );
    ensure!(in_gro == COUNT, "{in_gro} of {COUNT} segments were in GRO");
    Ok(Verdict::Passed)
}

fn address(address: Ipv4Addr) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&address.octets());
    bytes
}
