//! What is done once on a packet's way, or at some of its stages, besides the accounting of a hit: measured
//! on a packet that nobody sends.
//!
//! A classifier that asks for the packet's data (`bpf_skb_pull_data`) is given to the kernel for a test run: it
//! makes a packet for that, and the helper passes it to a function that is probed. There the packet is taken up
//! and forgotten again, each time.

use anyhow::{Context, Result};
use aya::maps::{MapData, RingBuf};
use aya_obj::generated::bpf_func_id::BPF_FUNC_skb_pull_data;
use overlay_trace_common::{flags::ProbeFlags, probe_spec::ProbeSpec, record::Outcome, stage::Action};
use std::os::fd::{AsFd, OwnedFd};

use super::{
    calibrate::{BATCHES, attachment},
    load::Loader,
    patch::{CALL, MOVE, instruction, return_zero},
    plan::ProbeKind,
};
use crate::sys::{
    bpf::{self, Kind},
    kernel::Kernel,
};
use overlay_trace_format::ProbeCost;

/// The function that the helper calls with the packet.
pub const FUNCTION: &str = "skb_ensure_writable";
const RUNS: u32 = 1000;

/// The same cost, with what more is done than the accounting of a hit at a function's `entry`. What cannot be
/// measured is left out: the kernel may not allow test runs.
pub fn measure(kernel: &Kernel, loader: &mut Loader, entry: Option<ProbeKind>, cost: ProbeCost) -> ProbeCost {
    let more = entry.and_then(|kind| differences(kernel, loader, kind, cost.entry?).ok());
    // The records of the packets that were none.
    if let Some(Ok(mut records)) = loader.maps.map_mut("RECORDS").map(RingBuf::<&mut MapData>::try_from) {
        while records.next().is_some() {}
    }
    let Some([birth, headers, hop, record]) = more else { return cost };
    ProbeCost { birth: Some(birth), headers: Some(headers), hop: Some(hop), record: Some(record), ..cost }
}

/// What these cost, in ns: the beginning of a way, reading the headers, coming to a device, the record.
fn differences(kernel: &Kernel, loader: &Loader, kind: ProbeKind, entry: f64) -> Result<[f64; 4]> {
    let classifier = load().context("the kernel allows no test runs")?;
    let with = |outcome: u8, flags: ProbeFlags| {
        let row = ProbeSpec::new(0, Action::Birth as u8, outcome, ProbeFlags::CALIBRATE | flags);
        let probe = loader.attach(kernel, &attachment(kernel, kind, FUNCTION, row)?)?;
        let ns = run_ns(&classifier);
        drop(probe);
        ns
    };
    let without = run_ns(&classifier)?;
    let birth = with(0, ProbeFlags::NONE)?;
    let more = |all: f64, than: f64| (all - than).max(0.0);
    Ok([
        more(birth, without + entry),
        more(with(0, ProbeFlags::PARSE_HEADERS)?, birth),
        more(with(0, ProbeFlags::DEVICE)?, birth),
        more(with(Outcome::Delivered as u8, ProbeFlags::NONE)?, birth),
    ])
}

/// Nanoseconds of one run.
fn run_ns(classifier: &OwnedFd) -> Result<f64> {
    Ok(bpf::run_ns(classifier.as_fd(), &datagram(), BATCHES, RUNS)?.into())
}

/// Asks for the packet's data, and lets it pass.
fn load() -> Result<OwnedFd> {
    let [zero, exit] = return_zero();
    let pull_data = instruction(CALL, 0, BPF_FUNC_skb_pull_data as i32);
    let program = [instruction(MOVE, 2, 0), pull_data, zero, exit];
    bpf::load("overlay_trace", "Dual MIT/GPL", &program, Kind::Classifier)
}

/// A frame with an empty UDP datagram from 198.51.100.1 to 198.51.100.2, addresses for documentation.
fn datagram() -> [u8; 60] {
    let mut frame = [0; 60];
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame[14..42].copy_from_slice(&[
        0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0, 198, 51, 100, 1, 198, 51, 100, 2, 0x30, 0x39, 0x30, 0x39,
        0, 8, 0, 0,
    ]);
    frame
}
