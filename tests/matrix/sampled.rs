//! Sampling by packet, beside a recording of every packet: the sample has just those that are to be chosen.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use overlay_trace_common::packet_sampling::is_sampled;
use overlay_trace_format::Recording;
use overlay_trace_probe::{FilterOptions, PacketSampling, ProbeSet, Session, SessionOptions};

use crate::own::{self, Network, is_exact, no_losses, pair};
use crate::results::{Outcome, Results, Verdict};

const CHOSEN: &str = "sampling/chosen";
const WEIGHTS: &str = "sampling/weights";

const ONE_IN: u32 = 8;
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 2);
const PORT: u16 = 7743;
const DATAGRAMS: u64 = 4000;
const PACE: Duration = Duration::from_micros(100);
/// Blocks of the numbers by which packets of TCP are chosen: some hundred.
const STREAM_BYTES: usize = 4 << 20;

/// Runs the tests.
pub fn run(set: ProbeSet, folder: &Path, results: &mut Results) {
    own::add(&[CHOSEN, WEIGHTS], results, |results| sampled(set, folder, results));
}

fn sampled(set: ProbeSet, folder: &Path, results: &mut Results) -> Result<()> {
    let network = pair()?;
    let start = |name: &str, sample: u32| {
        Session::start(SessionOptions {
            set: Some(set),
            filter: FilterOptions { netns: vec![network.name("a")], ..FilterOptions::default() },
            output: folder.join(format!("sampled-{name}.otr")),
            force: true,
            sample: Some(PacketSampling(sample)),
            ..SessionOptions::default()
        })
    };
    let (every, sample) = (start("every", 1)?, start("sample", ONE_IN)?);
    traffic(&network)?;
    sample.stop().context("the sample could not be finished")?;
    every.stop().context("the recording could not be finished")?;
    let open = |name: &str| Recording::open(folder.join(format!("sampled-{name}.otr")));
    let (every, sample) = (open("every")?, open("sample")?);
    for recording in [&every, &sample] {
        is_exact(recording)?;
        no_losses(recording)?;
    }
    results.add(CHOSEN, are_chosen(&every, &sample));
    results.add(WEIGHTS, weigh(&every, &sample));
    Ok(())
}

/// Numbered datagrams, and a stream.
fn traffic(network: &Network) -> Result<()> {
    let to = SocketAddr::from((SERVER, PORT));
    let (listener, _receiver) =
        network.netns("b")?.run(|| anyhow::Ok((TcpListener::bind(to)?, UdpSocket::bind(to)?)))??;
    let reader = thread::spawn(move || listener.accept()?.0.read_to_end(&mut Vec::new()));
    network.netns("a")?.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        for number in 0..DATAGRAMS {
            socket.send_to(&number.to_be_bytes(), to)?;
            thread::sleep(PACE);
        }
        anyhow::Ok(TcpStream::connect(to)?.write_all(&vec![7; STREAM_BYTES])?)
    })??;
    let read = reader.join().ok().context("the reader panicked")??;
    ensure!(read == STREAM_BYTES, "{read} bytes of {STREAM_BYTES} were read");
    Ok(())
}

/// What tells a packet of the traffic apart: protocol, ports, and the numbers by which it is chosen.
type Mark = (u8, u16, u16, u32, u64);

/// How often each packet is there, as far as it is no part of another one, and whether it is to be chosen.
fn marks(recording: &Recording) -> Result<BTreeMap<Mark, (usize, bool)>> {
    let mut marks = BTreeMap::new();
    recording.for_each_record(|record| {
        let (header, flow) = (record.header, record.header.flow);
        if header.parent == 0 && (flow.source_port == PORT || flow.destination_port == PORT) {
            let mark =
                (flow.protocol, flow.source_port, flow.destination_port, flow.sequence, header.witness);
            marks.entry(mark).or_insert((0, is_sampled(&header, ONE_IN))).0 += 1;
        }
    })?;
    Ok(marks)
}

/// Of all packets those are in the sample that are to be, and no others.
fn are_chosen(every: &Recording, sample: &Recording) -> Outcome {
    let (every, sample) = (marks(every)?, marks(sample)?);
    let wanted: BTreeMap<_, _> = every.iter().filter(|(_, (_, is_chosen))| *is_chosen).collect();
    let missing = wanted.iter().filter(|(mark, found)| sample.get(**mark) != Some(**found)).count();
    let others = sample.keys().filter(|mark| !wanted.contains_key(*mark)).count();
    ensure!(
        (missing, others) == (0, 0) && wanted.len() > 100,
        "of {} packets {} are to be chosen; {missing} of them are missing, and {others} others are there",
        every.len(),
        wanted.len()
    );
    Ok(Verdict::With(format!("{} of {}", wanted.len(), every.len())))
}

/// Each record stands for as many packets as one was chosen of, and all others were counted.
fn weigh(every: &Recording, sample: &Recording) -> Outcome {
    let mut records = 0;
    let mut wrong = 0;
    sample.for_each_record(|record| {
        records += 1;
        wrong += usize::from(record.header.times() != u64::from(ONE_IN));
    })?;
    let (all, left_out) = (every.last.counters.finished, sample.last.counters.unsampled);
    ensure!(wrong == 0, "{wrong} of {records} records have another weight than {ONE_IN}");
    // What is a part of another packet was not left out by itself.
    ensure!(
        (all * 8 / 10..=all).contains(&(records + left_out)),
        "{all} packets were recorded; of them {records} are in the sample, {left_out} were left out"
    );
    Ok(Verdict::With(format!("{records} records, {left_out} left out, of {all}")))
}
