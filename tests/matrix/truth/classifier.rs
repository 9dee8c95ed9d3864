//! A program of tc that counts to a number: what it costs the kernel itself tells (BPF_PROG_TEST_RUN).

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};
use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_insn, bpf_prog_type};

use super::compare::{self, Place, Profile};
use super::flow::Flow;
use super::ground::{Change, Ground};
use super::{Brought, Cause};

/// The rounds of the loop in the two windows.
const ROUNDS: [i32; 2] = [1, 5000];
/// Where the program is pinned for tc to find it.
const PIN: &str = "/sys/fs/bpf/overlay-trace-truth";

const PLACE: Place = Place { stage: "tc-classify", netns: "node2", device: "eth0", level: 1 };

pub const CAUSES: &[Cause] = &[Cause {
    name: "classifier/underlay",
    bring_about,
    untraced: None,
    check: |recorded, windows| {
        let [before, after] = [Profile::of(recorded, &windows[0])?, Profile::of(recorded, &windows[1])?];
        let known = windows[1].size - windows[0].size;
        compare::Change::between(&before, &after, |key| PLACE.is(recorded, key)).is(known)
    },
}];

fn bring_about(ground: &Ground) -> Result<Brought> {
    let mut windows = Vec::new();
    for rounds in ROUNDS {
        let program = load(rounds).context("the classifier could not be loaded")?;
        let size = duration_ns(&program).context("the classifier could not be run")?;
        pin(&program).with_context(|| format!("cannot pin {PIN}"))?;
        let filter = format!("tc filter add dev eth0 ingress bpf direct-action object-pinned {PIN}");
        let change = Change::new(
            "node2",
            &["tc qdisc add dev eth0 clsact", &filter],
            &["tc qdisc del dev eth0 clsact"],
        );
        let sent = ground.with(&[change], || ground.send(&Flow::PLAIN, size));
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

fn load(rounds: i32) -> io::Result<OwnedFd> {
    let instructions = instructions(rounds);
    let mut attributes = zeroed();
    // SAFETY: the union's member for BPF_PROG_LOAD is the only one that is used.
    let load = unsafe { &mut attributes.__bindgen_anon_3 };
    load.prog_type = bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS as u32;
    load.insns = instructions.as_ptr() as u64;
    load.insn_cnt = instructions.len() as u32;
    load.license = c"Dual MIT/GPL".as_ptr() as u64;
    let fd = call(bpf_cmd::BPF_PROG_LOAD, &mut attributes)?;
    // SAFETY: the kernel has just given us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn pin(program: &OwnedFd) -> io::Result<()> {
    let path = CString::new(PIN)?;
    let mut attributes = zeroed();
    // SAFETY: the member for BPF_OBJ_PIN.
    let object = unsafe { &mut attributes.__bindgen_anon_4 };
    object.bpf_fd = program.as_raw_fd() as u32;
    object.pathname = path.as_ptr() as u64;
    call(bpf_cmd::BPF_OBJ_PIN, &mut attributes).map(drop)
}

/// What one run takes: the least of several measurements, since another task may get the CPU in between.
fn duration_ns(program: &OwnedFd) -> io::Result<f64> {
    const MEASUREMENTS: usize = 10;
    let mut least = f64::INFINITY;
    for _ in 0..MEASUREMENTS {
        least = least.min(mean_ns(program)?);
    }
    Ok(least)
}

fn mean_ns(program: &OwnedFd) -> io::Result<f64> {
    let packet = [0u8; 64];
    let mut attributes = zeroed();
    // SAFETY: the member for BPF_PROG_TEST_RUN.
    let test = unsafe { &mut attributes.test };
    test.prog_fd = program.as_raw_fd() as u32;
    test.data_in = packet.as_ptr() as u64;
    test.data_size_in = packet.len() as u32;
    test.repeat = 20;
    call(bpf_cmd::BPF_PROG_TEST_RUN, &mut attributes)?;
    // SAFETY: as above; the kernel has filled it in.
    Ok(f64::from(unsafe { attributes.test.duration }))
}

fn zeroed() -> bpf_attr {
    // SAFETY: a union of plain integers; all zero is what the kernel wants in unused fields.
    unsafe { std::mem::zeroed() }
}

fn call(command: bpf_cmd, attributes: &mut bpf_attr) -> io::Result<i64> {
    // SAFETY: the pointers in `attributes` outlive the call, which is synchronous.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command as i64, attributes as *mut bpf_attr, size_of::<bpf_attr>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
