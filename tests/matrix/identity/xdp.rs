//! A veth with an XDP program copies each packet into another `sk_buff` before the program sees it.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_insn, bpf_prog_type};
use overlay_trace_lab::dataplanes::{Running, drive as run};
use overlay_trace_lab::traffic::{Kind, Protocol, Size, Spec, Stop, TrafficReport};

use super::packets::Packets;
use crate::networks::moderate;
use crate::results::{Outcome, Verdict};
use crate::scene::{Check, check};
use crate::seen::Seen;

pub const CHECKS: &[Check] = &[check("whole", whole)];

const DEVICES: &[(&str, &str)] =
    &[("node1", "veth-pod1"), ("node1", "eth0"), ("node2", "eth0"), ("pod1", "eth0"), ("pod2", "eth0")];

pub fn drive(running: &Running, stop: &Stop) -> Result<Vec<TrafficReport>> {
    let pass = pass().context("cannot load a program for XDP")?;
    let attach = |(namespace, device): &(&str, &str)| -> Result<OwnedFd> {
        let link = running.netns(namespace)?.run(|| attach(&pass, device))?;
        link.with_context(|| format!("cannot attach a program for XDP to {device} in {namespace}"))
    };
    let links: Vec<OwnedFd> = DEVICES.iter().map(attach).collect::<Result<_>>()?;
    let large = Size { request: 100, answer: 5000 };
    let plan = [
        moderate(Kind::Rr, Protocol::Udp),
        moderate(Kind::Rr, Protocol::Tcp),
        Spec { size: large, rate: 100.0, ..moderate(Kind::Rr, Protocol::Tcp) },
    ];
    let reports = run(running, &plan, stop);
    super::settle();
    drop(links);
    reports
}

/// Each packet that is not cut remains one packet from its sender to its receiver.
fn whole(seen: &Seen, _: &[Seen]) -> Outcome {
    let packets = Packets::of(seen)?;
    let mut delivered = 0u32;
    for packet in packets.sent().filter(|packet| packet.is_udp()) {
        let name = packet.name();
        ensure!(packets.is_delivered(packet), "{name} was not delivered");
        ensure!(packets.children(packet).next().is_none(), "{name} has children");
        ensure!(packets.namespaces(packet).len() == 4, "{name} did not go all the way");
        delivered += 1;
    }
    ensure!(delivered > 0, "no datagrams were sent");
    Ok(Verdict::With(format!("{delivered} datagrams")))
}

/// A program that lets everything pass.
fn pass() -> io::Result<OwnedFd> {
    const MOVE: u8 = 0xb7;
    const EXIT: u8 = 0x95;
    const XDP_PASS: i32 = 2;
    let instruction = |code, imm| bpf_insn {
        code,
        _bitfield_align_1: [],
        _bitfield_1: bpf_insn::new_bitfield_1(0, 0),
        off: 0,
        imm,
    };
    let instructions = [instruction(MOVE, XDP_PASS), instruction(EXIT, 0)];
    let license = c"Dual MIT/GPL";
    // SAFETY: plain integers.
    let mut attributes: bpf_attr = unsafe { std::mem::zeroed() };
    // SAFETY: the member for BPF_PROG_LOAD is the only one that is used.
    let load = unsafe { &mut attributes.__bindgen_anon_3 };
    load.prog_type = bpf_prog_type::BPF_PROG_TYPE_XDP as u32;
    load.insns = instructions.as_ptr() as u64;
    load.insn_cnt = instructions.len() as u32;
    load.license = license.as_ptr() as u64;
    call(bpf_cmd::BPF_PROG_LOAD, &mut attributes)
}

/// Attaches the program to a device of this thread's namespace, until the descriptor is closed.
fn attach(program: &OwnedFd, device: &str) -> io::Result<OwnedFd> {
    let index = nix::net::if_::if_nametoindex(device)?;
    // SAFETY: plain integers.
    let mut attributes: bpf_attr = unsafe { std::mem::zeroed() };
    // SAFETY: the member for BPF_LINK_CREATE is the only one that is used.
    let link = unsafe { &mut attributes.link_create };
    link.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
    link.__bindgen_anon_2.target_ifindex = index;
    link.attach_type = bpf_attach_type::BPF_XDP as u32;
    call(bpf_cmd::BPF_LINK_CREATE, &mut attributes)
}

fn call(command: bpf_cmd, attributes: &mut bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: the pointers in `attributes` outlive the call, and what it returns is a new descriptor.
    unsafe {
        let fd =
            libc::syscall(libc::SYS_bpf, command as i64, attributes as *mut bpf_attr, size_of::<bpf_attr>());
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd as i32)) }
    }
}
