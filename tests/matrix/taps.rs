//! Taps that a test holds itself: a queue whose reader comes late, and what enters GRO as pages without an `sk_buff`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use overlay_trace_format::Recording;
use overlay_trace_lab::dataplanes::tap::{self, Kind};
use overlay_trace_probe::load::Sizes;
use overlay_trace_probe::{FilterOptions, ProbeSet};

use crate::own::{self, Network, Plan, is_exact, no_losses, send};
use crate::reasons::checksum;
use crate::results::{Outcome, Results, Verdict};

const QUEUE: &str = "taps/queue";
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
    let mut tap = tap::attach(&netns, DEVICE, Kind::Tap)?;
    let (recording, ()) = plan(set, folder, "tap-queue", &network).record(|_| {
        netns.run(|| send(SocketAddr::from((OTHER, PORT)), COUNT))??;
        thread::sleep(LATE);
        let mut frame = [0; 2048];
        let mut read = 0;
        while read < COUNT {
            let bytes = tap.read(&mut frame).context("the tap cannot be read")?;
            // Others of the namespace may send too: an IPv4 packet of UDP.
            read += usize::from(bytes > 23 && frame[12..14] == [8, 0] && frame[23] == 17);
        }
        Ok(())
    })?;
    is_exact(&recording)?;
    no_losses(&recording)?;
    let stages = &recording.header.stages;
    let is_queue = |number: u8| stages.get(usize::from(number)).is_some_and(|row| row.name == "tun-wait");
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
    results.add(QUEUE, Ok(Verdict::Passed));
    Ok(())
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
        .record(|_| (0..COUNT).try_for_each(|number| write_segment(&tap, number)))?;
    is_exact(&recording)?;
    no_losses(&recording)?;
    results.add(FRAGMENTS, each_is_there(&recording));
    Ok(())
}

fn write_segment(mut tap: &File, number: usize) -> Result<()> {
    let headers = headers((number * DATA) as u32);
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
