//! The kernel side of overlay-trace: a program for each class of probe specs, and generic programs, one per kind of
//! probe and position of the packet among the arguments. The loader makes one copy per probe and patches the probe's
//! spec into it (see `overlay_trace_common::probe_spec`).
//!
//! The modules, each of which uses only those before it: `insn`, `maps`, `read`; `edges`; `hop_numbers`, `hop`;
//! `tail_sampling`, `account`; `packet_table`; `track_start`, `parse_headers`; `clone_tracking`, `fragment_tracking`,
//! `path_end`; `unseen_ends`, `hand_over`, `napi`; `enter_stage`, `handlers`; and `tc`, the probe set that does without the
//! last two.
#![no_std]
#![no_main]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

mod account;
mod clone_tracking;
mod edges;
mod enter_stage;
mod fragment_tracking;
mod hand_over;
mod handlers;
mod hop;
mod hop_numbers;
mod insn;
mod maps;
mod napi;
mod packet_table;
mod parse_headers;
mod path_end;
mod read;
mod tail_sampling;
mod tc;
mod track_start;
mod unseen_ends;

use overlay_trace_common::{
    flags::ProbeFlags,
    probe_spec::{KPROBE_ARGUMENTS, ProbeSpec},
    stage::Action,
    stage_map::{BQL_WAIT, TX_RING_WAIT},
};

use crate::{
    insn::{opaque, packet_argument, result, spec},
    packet_table::Table,
    read::{Access, Copied, Direct, field},
};

/// A word of a program's context.
///
/// # Safety
///
/// The program's context has so many words. (The verifier refuses a program that reads beyond its context.)
#[inline(always)]
unsafe fn word(context: *const u64, index: usize) -> u64 {
    // SAFETY: the word is part of the context, says the caller.
    unsafe { context.add(index).read_volatile() }
}

/// An argument of a function that is probed by a kprobe, whose context is the registers.
///
/// # Safety
///
/// The context is that of a kprobe.
#[inline(always)]
unsafe fn register(context: *const u8, argument: usize) -> u64 {
    // SAFETY: `KPROBE_ARGUMENTS` has the offsets of registers in `struct pt_regs`.
    unsafe { context.add(KPROBE_ARGUMENTS[argument]).cast::<u64>().read_volatile() }
}

/// The packet table of this run.
///
/// # Safety
///
/// As that of [`Table::open`]. Each program below opens it once, or once more when the first is not used any more.
macro_rules! table {
    () => {
        // SAFETY: nothing else of this run holds the table or a packet.
        unsafe { Table::open() }
    };
}

/// What a probe at an entry or a tracepoint does, as its spec says.
#[inline(always)]
fn fired<A: Access>(packet: u64, spec: ProbeSpec) {
    let action = spec.action();
    if action == Action::Note as u8 {
        track_start::note(packet, spec);
    } else if action == Action::End as u8 {
        if spec.has(ProbeFlags::CURRENT_PACKET) {
            handlers::queued::<Copied>(table!(), packet, spec);
        } else {
            handlers::end(table!(), packet, spec, 0, 0);
        }
    } else if action == Action::Interrupt as u8 {
        handlers::interrupted(packet, spec);
    } else if action == Action::Raise as u8 {
        napi::raised(packet as u32);
    } else if action == Action::Poll as u8 {
        napi::polled();
    } else if action == Action::Change as u8 {
        hop::changed();
    } else if action == Action::Resume as u8 {
        handlers::resumed(packet, spec);
    } else if spec.is_step() {
        enter_stage::step::<A>(table!(), packet, spec);
    } else if spec.has(ProbeFlags::ROUTED) {
        enter_stage::enter_routed(table!(), packet, spec);
    } else if spec.has(ProbeFlags::INDIRECT) {
        enter_stage::enter::<Copied>(table!(), read::copied(packet, 0), spec);
    } else {
        enter_stage::enter::<A>(table!(), packet, spec);
        if spec.has(ProbeFlags::CALIBRATE) {
            handlers::end_calibration(table!(), packet, spec);
        }
    }
}

/// What a probe at a function's exit does, as its spec says.
///
/// # Safety
///
/// The context is that of fexit.
#[inline(always)]
unsafe fn returned(context: *const u64, packet: u64, spec: ProbeSpec) {
    if spec.action() == Action::Note as u8 {
        return track_start::note_end(packet, spec);
    }
    let returned =
        if spec.has(ProbeFlags::RETURNS_PACKETS | ProbeFlags::IF_ZERO) { result(context) } else { 0 };
    if spec.has(ProbeFlags::IF_ZERO) {
        if returned as u32 == 0 {
            // SAFETY: such functions have the packet that keeps the other one as their first argument.
            let keeper = unsafe { word(context, 0) };
            let table = fragment_tracking::merged(table!(), keeper, packet);
            handlers::end(table, packet, spec, 0, 0);
        }
    } else if spec.action() == Action::Copy as u8 {
        fragment_tracking::cut_off(table!(), packet, returned);
    } else if spec.action() == Action::Join as u8 {
        fragment_tracking::joined(table!(), packet);
    } else {
        handlers::leave(table!(), packet, spec, returned);
    }
}

/// Programs for fentry and tp_btf: the context is the array of arguments.
macro_rules! typed_programs {
    ($($entry:ident $exit:ident $section:literal $exit_section:literal $argument:literal;)*) => {$(
        #[unsafe(no_mangle)]
        #[unsafe(link_section = $section)]
        extern "C" fn $entry(context: *const u64) -> i32 {
            // SAFETY: the loader attaches the program to functions with such an argument.
            fired::<Direct>(unsafe { word(context, $argument) }, spec());
            0
        }

        #[unsafe(no_mangle)]
        #[unsafe(link_section = $exit_section)]
        extern "C" fn $exit(context: *const u64) -> i32 {
            // SAFETY: the loader attaches the program to the exits of functions with such an argument.
            unsafe { returned(context, word(context, $argument), spec()) };
            0
        }
    )*};
}

typed_programs! {
    typed_0 typed_exit_0 "fentry/typed_0" "fexit/typed_exit_0" 0;
    typed_1 typed_exit_1 "fentry/typed_1" "fexit/typed_exit_1" 1;
    typed_2 typed_exit_2 "fentry/typed_2" "fexit/typed_exit_2" 2;
    typed_3 typed_exit_3 "fentry/typed_3" "fexit/typed_exit_3" 3;
}

/// Programs for the classes of the stage map's probe specs. The loader writes the argument's offset into the load of
/// [`packet_argument`].
macro_rules! class_programs {
    ($($class:literal $typed:ident $typed_section:literal $kprobe:ident $kprobe_section:literal;)*) => {$(
        #[unsafe(no_mangle)]
        #[unsafe(link_section = $typed_section)]
        extern "C" fn $typed(context: *const u64) -> i32 {
            fired::<Direct>(packet_argument(context), ProbeSpec($class | spec().stage() as u64));
            0
        }

        #[unsafe(no_mangle)]
        #[unsafe(link_section = $kprobe_section)]
        extern "C" fn $kprobe(context: *const u64) -> i32 {
            fired::<Copied>(packet_argument(context), ProbeSpec($class | spec().stage() as u64));
            0
        }
    )*};
}

/// Programs for the exits of such probe specs.
macro_rules! exit_programs {
    ($($class:literal $exit:ident $section:literal;)*) => {$(
        #[unsafe(no_mangle)]
        #[unsafe(link_section = $section)]
        extern "C" fn $exit(context: *const u64) -> i32 {
            let spec = ProbeSpec($class | spec().stage() as u64);
            // SAFETY: the loader attaches the program to the exits of functions.
            unsafe { returned(context, packet_argument(context), spec) };
            0
        }
    )*};
}

// Written by build.rs.
include!(concat!(env!("OUT_DIR"), "/classes.rs"));

/// What a probe of a calibration does, at an entry, a tracepoint or an exit.
#[inline(always)]
fn calibrated(spec: ProbeSpec) -> i32 {
    if spec.has(ProbeFlags::CALIBRATE) && spec.action() == Action::Enter as u8 {
        handlers::calibrate(table!(), spec);
    }
    0
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry/typed_calibrate")]
extern "C" fn typed_calibrate(context: *const u64) -> i32 {
    packet_argument(context);
    calibrated(spec())
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "kprobe/kprobe_calibrate")]
extern "C" fn kprobe_calibrate(context: *const u64) -> i32 {
    // The function that is probed has no packet: what is read is some word of the task.
    let (task, spec) = (packet_argument(context), spec());
    if spec.has(ProbeFlags::DEVICE) {
        Copied::word::<{ field!(skb_dev) }>(task);
    }
    calibrated(spec)
}

/// `skb:kfree_skb`: the packet, the location, and from 5.17 on the reason.
#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry/typed_drop")]
extern "C" fn typed_drop(context: *const u64) -> i32 {
    let spec = spec();
    // SAFETY: the tracepoint has two arguments.
    let (packet, location) = unsafe { (word(context, 0), word(context, 1)) };
    // SAFETY: with this flag it has three.
    let reason = if spec.has(ProbeFlags::DROP_REASON) { unsafe { word(context, 2) as u32 } } else { 0 };
    handlers::end(table!(), packet, spec, opaque(location), reason);
    0
}

/// `tcp:tcp_probe`: the socket, the packet.
#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry/typed_taken_up")]
extern "C" fn typed_taken_up(context: *const u64) -> i32 {
    // SAFETY: the tracepoint has two arguments.
    let (sock, packet) = unsafe { (word(context, 0), word(context, 1)) };
    if packet != 0 {
        handlers::taken_up(table!(), opaque(sock), packet, spec());
    }
    0
}

/// `sock:inet_sock_set_state`: the socket, its old and its new state.
#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry/typed_socket_state")]
extern "C" fn typed_socket_state(context: *const u64) -> i32 {
    // SAFETY: the tracepoint has three arguments.
    let (sock, state) = unsafe { (word(context, 0), word(context, 2) as u32) };
    if sock != 0 {
        let protocol = Direct::quarter::<{ field!(sock_protocol) }>(sock);
        unseen_ends::state_changed(table!(), opaque(sock), protocol, state);
    }
    0
}

/// `net:net_dev_xmit`: the packet, which may have been freed, and the driver's result.
#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry/typed_hand_over")]
extern "C" fn typed_hand_over(context: *const u64) -> i32 {
    // SAFETY: the tracepoint has four arguments.
    let (packet, result) = unsafe { (word(context, 0), word(context, 1) as i32) };
    hand_over::finish(table!(), packet, result);
    0
}

/// `net:napi_gro_receive_exit`, `net:napi_gro_frags_exit`: GRO's result.
#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry/typed_gro_result")]
extern "C" fn typed_gro_result(context: *const u64) -> i32 {
    // SAFETY: the tracepoints have one argument.
    handlers::gro_result(table!(), unsafe { word(context, 0) as u32 }, spec());
    0
}

/// `qdisc:qdisc_enqueue`: the qdisc, the device's queue, the packet. `skb->dev` is not the device here: a qdisc that
/// keeps its packets in a tree has overwritten it.
#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry/typed_queued")]
extern "C" fn typed_queued(context: *const u64) -> i32 {
    // SAFETY: the tracepoint has three arguments.
    let (queue, packet) = unsafe { (word(context, 1), word(context, 2)) };
    if queue != 0 {
        let device = Direct::word::<{ field!(queue_dev) }>(queue);
        let stopped = Direct::word::<{ field!(queue_state) }>(queue);
        enter_stage::enter_at::<Direct>(table!(), packet, device, waiting_for(stopped, spec()));
    }
    0
}

/// The spec of a packet that is queued while its device's queue is stopped: what it waits for.
#[inline(always)]
fn waiting_for(stopped: u64, spec: ProbeSpec) -> ProbeSpec {
    // `enum netdev_queue_state_t`: bit 0 is the driver's, bit 1 that of BQL.
    let stage = match stopped & 3 {
        0 => spec.stage(),
        1 => TX_RING_WAIT,
        _ => BQL_WAIT,
    };
    ProbeSpec(spec.class() | stage as u64)
}

/// For functions that make one packet of another: the new one, and the old one.
#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry/typed_pair")]
extern "C" fn typed_pair(context: *const u64) -> i32 {
    // SAFETY: such functions have two arguments.
    let (new, old) = unsafe { (word(context, 0), word(context, 1)) };
    fragment_tracking::made::<Direct>(table!(), new, old, spec());
    0
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "kprobe/kprobe_pair")]
extern "C" fn kprobe_pair(context: *const u8) -> i32 {
    // SAFETY: the program is attached as a kprobe.
    let (new, old) = unsafe { (register(context, 0), register(context, 1)) };
    fragment_tracking::made::<Copied>(table!(), new, old, spec());
    0
}

/// Programs for kprobes: the context is the registers.
macro_rules! kprobe_programs {
    ($($entry:ident $section:literal $argument:literal;)*) => {$(
        #[unsafe(no_mangle)]
        #[unsafe(link_section = $section)]
        extern "C" fn $entry(context: *const u8) -> i32 {
            // SAFETY: the program is attached as a kprobe.
            fired::<Copied>(unsafe { register(context, $argument) }, spec());
            0
        }
    )*};
}

kprobe_programs! {
    kprobe_0 "kprobe/kprobe_0" 0;
    kprobe_1 "kprobe/kprobe_1" 1;
    kprobe_2 "kprobe/kprobe_2" 2;
    kprobe_3 "kprobe/kprobe_3" 3;
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
