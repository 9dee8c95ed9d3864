//! One-time costs of a packet, beyond the accounting of a hit: measured on a synthetic skb (`BPF_PROG_TEST_RUN`).
//!
//! The kernel runs a classifier on a packet that it makes for the test run. The classifier calls
//! `bpf_skb_pull_data`, which passes the packet to [`FUNCTION`]. A probe there starts to track the packet and forgets
//! it again, in each run.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use aya::maps::{MapData, RingBuf};
use aya_obj::generated::bpf_func_id::BPF_FUNC_skb_pull_data;
use overlay_trace_common::probe_spec::{ProbeSpec, calibration};
use overlay_trace_format::ProbeCost;

use crate::{
    calibrate::{BATCHES, attachment},
    load::Loader,
    patch::{CALL, MOVE, instruction, return_zero},
    probe_kind::ProbeKind,
    sys::{
        bpf::{self, Kind},
        kernel::Kernel,
    },
};

/// The function that the helper passes the packet to.
pub const FUNCTION: &str = "skb_ensure_writable";
const RUNS: u32 = 1000;

/// Adds to `cost` what a packet costs once, beyond a hit at the `entry` of a function. What cannot be measured is left
/// out: the kernel may not allow test runs.
pub fn measure(kernel: &Kernel, loader: &mut Loader, entry: Option<ProbeKind>, cost: ProbeCost) -> ProbeCost {
    let differences = entry.and_then(|kind| differences(kernel, loader, kind, cost.entry?).ok());
    // The records of the synthetic packets are not to be written.
    if let Some(Ok(mut records)) = loader.maps.map_mut("RECORDS").map(RingBuf::<&mut MapData>::try_from) {
        while records.next().is_some() {}
    }
    let Some(OneTimeCosts { start, headers, device, record }) = differences else { return cost };
    ProbeCost { birth: Some(start), headers: Some(headers), hop: Some(device), record: Some(record), ..cost }
}

/// One-time costs in ns.
struct OneTimeCosts {
    /// The start of the packet's path.
    start: f64,
    /// Parsing the headers.
    headers: f64,
    /// Reading the packet's device.
    device: f64,
    /// Writing the record.
    record: f64,
}

fn differences(kernel: &Kernel, loader: &Loader, kind: ProbeKind, entry: f64) -> Result<OneTimeCosts> {
    let classifier = load_classifier().context("the kernel allows no test runs")?;
    let with = |spec: ProbeSpec| {
        let probe = loader.attach(kernel, &attachment(kernel, kind, FUNCTION, spec)?)?;
        let ns = run_ns(&classifier);
        drop(probe);
        ns
    };
    let without = run_ns(&classifier)?;
    let start = with(calibration::START)?;
    let more = |all: f64, than: f64| (all - than).max(0.0);
    Ok(OneTimeCosts {
        start: more(start, without + entry),
        headers: more(with(calibration::START_WITH_HEADERS)?, start),
        device: more(with(calibration::START_WITH_DEVICE)?, start),
        record: more(with(calibration::START_WITH_RECORD)?, start),
    })
}

/// Nanoseconds of one run.
fn run_ns(classifier: &OwnedFd) -> Result<f64> {
    Ok(bpf::run_ns(classifier.as_fd(), &datagram(), BATCHES, RUNS)?.into())
}

/// A classifier that calls `bpf_skb_pull_data` and lets the packet pass.
fn load_classifier() -> Result<OwnedFd> {
    let [zero, exit] = return_zero();
    let pull_data = instruction(CALL, 0, BPF_FUNC_skb_pull_data as i32);
    let program = [instruction(MOVE, 2, 0), pull_data, zero, exit];
    bpf::load("overlay_trace", "Dual MIT/GPL", program[..].into(), Kind::Classifier)
}

/// A frame with an empty UDP datagram from 198.51.100.1 to 198.51.100.2, addresses for documentation (RFC 5737).
pub fn datagram() -> [u8; 60] {
    let mut frame = [0; 60];
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame[14..42].copy_from_slice(&[
        0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0, 198, 51, 100, 1, 198, 51, 100, 2, 0x30, 0x39, 0x30, 0x39,
        0, 8, 0, 0,
    ]);
    frame
}
