//! XDP programs of a few instructions, and the maps that they redirect by.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_insn, bpf_map_type, bpf_prog_type};

const MOVE: u8 = 0xb7;
const LOAD_64: u8 = 0x18;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const XDP_PASS: i32 = 2;
/// `BPF_PSEUDO_MAP_FD`: the constant is the descriptor of a map.
const MAP_FD: u8 = 1;
/// The helper `bpf_redirect_map`.
const REDIRECT_MAP: i32 = 51;

fn instruction(code: u8, register: u8, source: u8, imm: i32) -> bpf_insn {
    bpf_insn {
        code,
        _bitfield_align_1: [],
        _bitfield_1: bpf_insn::new_bitfield_1(register, source),
        off: 0,
        imm,
    }
}

/// A program that lets everything pass.
///
/// # Errors
///
/// When the kernel rejects it.
pub fn pass() -> io::Result<OwnedFd> {
    load(&[instruction(MOVE, 0, 0, XDP_PASS), instruction(EXIT, 0, 0, 0)])
}

/// A program that redirects everything to the first entry of a map, and lets pass what cannot be.
///
/// # Errors
///
/// When the kernel rejects it.
pub fn redirect(map: &OwnedFd) -> io::Result<OwnedFd> {
    load(&[
        instruction(LOAD_64, 1, MAP_FD, map.as_raw_fd()),
        instruction(0, 0, 0, 0),
        instruction(MOVE, 2, 0, 0),
        instruction(MOVE, 3, 0, XDP_PASS),
        instruction(CALL, 0, 0, REDIRECT_MAP),
        instruction(EXIT, 0, 0, 0),
    ])
}

/// A map of processors, the first of which takes up to so many packets at once.
///
/// # Errors
///
/// When the kernel has no such maps.
pub fn to_cpu(packets: u32) -> io::Result<OwnedFd> {
    map_of_one(bpf_map_type::BPF_MAP_TYPE_CPUMAP, packets)
}

/// A map of devices, the first of which is this one of the current namespace.
///
/// # Errors
///
/// When the kernel has no such maps, or there is no such device.
pub fn to_device(name: &str) -> io::Result<OwnedFd> {
    map_of_one(bpf_map_type::BPF_MAP_TYPE_DEVMAP, nix::net::if_::if_nametoindex(name)?)
}

fn map_of_one(kind: bpf_map_type, value: u32) -> io::Result<OwnedFd> {
    // SAFETY: plain integers.
    let mut attributes: bpf_attr = unsafe { std::mem::zeroed() };
    // SAFETY: the member for BPF_MAP_CREATE is the only one that is used.
    let create = unsafe { &mut attributes.__bindgen_anon_1 };
    create.map_type = kind as u32;
    create.key_size = 4;
    create.value_size = 4;
    create.max_entries = 1;
    let map = call(bpf_cmd::BPF_MAP_CREATE, &mut attributes)?;
    let key = 0u32;
    // SAFETY: plain integers.
    let mut attributes: bpf_attr = unsafe { std::mem::zeroed() };
    // SAFETY: the member for BPF_MAP_UPDATE_ELEM is the only one that is used.
    let update = unsafe { &mut attributes.__bindgen_anon_2 };
    update.map_fd = map.as_raw_fd() as u32;
    update.key = &raw const key as u64;
    update.__bindgen_anon_1.value = &raw const value as u64;
    // SAFETY: the pointers in `attributes` outlive the call.
    if unsafe { system_call(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attributes) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(map)
}

fn load(instructions: &[bpf_insn]) -> io::Result<OwnedFd> {
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

/// Attaches the program to a device of this thread's namespace, until the descriptor is closed: in the driver where
/// that can do it.
///
/// # Errors
///
/// When there is no such device, or it takes no program.
pub fn attach(program: &OwnedFd, device: &str) -> io::Result<OwnedFd> {
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
        let fd = system_call(command, attributes);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd as i32)) }
    }
}

/// # Safety
///
/// The pointers in `attributes` outlive the call.
unsafe fn system_call(command: bpf_cmd, attributes: &mut bpf_attr) -> i64 {
    // SAFETY: the kernel reads and writes one `bpf_attr`, and what it points to.
    unsafe {
        libc::syscall(libc::SYS_bpf, command as i64, attributes as *mut bpf_attr, size_of::<bpf_attr>())
    }
}
