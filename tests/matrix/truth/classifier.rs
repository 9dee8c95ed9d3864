//! A program of tc that counts to a number: what it costs the kernel itself tells (BPF_PROG_TEST_RUN).

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_insn};
use overlay_trace_probe::sys::bpf::{self, Kind};

use super::compare::{self, Place, Profile};
use super::fixture::{Change, Fixture};
use super::flow::Flow;
use super::{Cause, Injected};

/// The rounds of the loop in the two windows.
const ROUNDS: [i32; 2] = [1, 5000];
/// How often what one takes is measured, and over how many runs each.
const MEASUREMENTS: u32 = 10;
const RUNS: u32 = 20;
/// Where the program is pinned for tc to find it.
const PIN: &str = "/sys/fs/bpf/overlay-trace-truth";

const PLACE: Place = Place { stage: "tc-classify", netns: "node2", device: "eth0", level: 1 };

pub const CAUSES: &[Cause] = &[Cause {
    name: "classifier/underlay",
    inject,
    untraced: None,
    check: |recorded, windows| {
        let [before, after] = [Profile::of(recorded, &windows[0])?, Profile::of(recorded, &windows[1])?];
        let known = windows[1].size - windows[0].size;
        compare::Change::between(&before, &after, |key| PLACE.is(recorded, key)).is(known)
    },
}];

fn inject(fixture: &Fixture) -> Result<Injected> {
    let mut windows = Vec::new();
    for rounds in ROUNDS {
        let program = load(rounds).context("the classifier could not be loaded")?;
        let size = bpf::run_ns(program.as_fd(), &[0; 64], MEASUREMENTS, RUNS);
        let size = f64::from(size.context("the classifier could not be run")?);
        pin(&program).with_context(|| format!("cannot pin {PIN}"))?;
        let filter = format!("tc filter add dev eth0 ingress bpf direct-action object-pinned {PIN}");
        let change = Change::new(
            "node2",
            &["tc qdisc add dev eth0 clsact", &filter],
            &["tc qdisc del dev eth0 clsact"],
        );
        let sent = fixture.with(&[change], || fixture.send(&Flow::PLAIN, size));
        fs::remove_file(PIN)?;
        match sent? {
            Ok(window) => windows.push(window),
            Err(lack) => return Ok(Err(lack)),
        }
    }
    Ok(Ok(windows))
}

/// Counts down, then lets the packet pass.
fn instructions(rounds: i32) -> [bpf_insn; 5] {
    const MOVE: u8 = 0xb7;
    const ADD: u8 = 0x07;
    const JUMP_IF_NOT: u8 = 0x55;
    const EXIT: u8 = 0x95;
    let instruction = |code, register, off, imm| {
        let mut instruction =
            bpf_insn { code, _bitfield_align_1: [], _bitfield_1: Default::default(), off, imm };
        instruction.set_dst_reg(register);
        instruction
    };
    [
        instruction(MOVE, 0, 0, 0),
        instruction(MOVE, 1, 0, rounds),
        instruction(ADD, 1, 0, -1),
        instruction(JUMP_IF_NOT, 1, -2, 0),
        instruction(EXIT, 0, 0, 0),
    ]
}

fn load(rounds: i32) -> Result<OwnedFd> {
    bpf::load("overlay_trace", "Dual MIT/GPL", instructions(rounds)[..].into(), Kind::Classifier)
}

fn pin(program: &OwnedFd) -> io::Result<()> {
    let path = CString::new(PIN)?;
    // SAFETY: a union of plain integers; all zero is what the kernel wants in unused fields.
    let mut attributes: bpf_attr = unsafe { std::mem::zeroed() };
    // SAFETY: the member for BPF_OBJ_PIN.
    let object = unsafe { &mut attributes.__bindgen_anon_4 };
    object.bpf_fd = program.as_raw_fd() as u32;
    object.pathname = path.as_ptr() as u64;
    let (command, size) = (bpf_cmd::BPF_OBJ_PIN as i64, size_of::<bpf_attr>());
    // SAFETY: the path outlives the call, which is synchronous.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut attributes, size) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
