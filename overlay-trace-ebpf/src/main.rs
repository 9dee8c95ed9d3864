//! The kernel side of overlay-trace: a program for each class of rows of the stage map, and generic ones, one
//! per kind of probe and position of the packet among the arguments. The loader makes one copy per probe and
//! patches the probe's row of the stage map into it (see `overlay_trace_common::row`).
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod account;
mod atomic;
mod birth;
mod event;
mod family;
mod hop;
mod identify;
mod maps;
mod read;
mod state;
mod tail;

use overlay_trace_common::{row::*, stage::Action};

use crate::read::{Access, Copied, Direct, field};

/// This copy's row: an immediate that the loader replaces.
#[inline(always)]
fn row() -> Row {
    let row: u64;
    unsafe {
        core::arch::asm!("{0} = 0x0eae7ace0b5e55ed ll", out(reg) row, options(pure, nomem, nostack, preserves_flags))
    };
    Row(row)
}

/// What a function has returned lies behind its arguments, of which the loader knows the number: it
/// replaces the offset. (Kernels before 5.17 have no helper for this.)
#[inline(always)]
fn result(context: *const u64) -> u64 {
    let result: u64;
    unsafe {
        core::arch::asm!("{0} = *(u64 *)({1} + {offset})", out(reg) result, in(reg) context, offset = const RESULT_MARKER)
    };
    result
}

/// What a probe at an entry or a tracepoint does, as its row says.
#[inline(always)]
fn fired<A: Access>(packet: u64, row: Row) {
    if row.has(ROW_CALIBRATE) && row.action() == Action::Enter as u8 {
        event::calibrate(row);
    } else if row.action() == Action::Note as u8 {
        birth::note(packet, row);
    } else if row.action() == Action::End as u8 {
        if row.has(ROW_CURRENT) {
            event::queued::<Copied>(packet, row);
        } else {
            event::end(packet, row, 0, 0);
        }
    } else if row.action() == Action::Interrupt as u8 {
        event::interrupted(packet, row);
    } else if row.action() == Action::Change as u8 {
        hop::changed();
    } else if row.action() == Action::Resume as u8 {
        event::resumed(row);
    } else if row.is_step() {
        event::step(packet, row);
    } else if row.has(ROW_INDIRECT) {
        event::enter::<Copied>(read::copied(packet, 0), row);
    } else {
        event::enter::<A>(packet, row);
        if row.has(ROW_CALIBRATE) {
            event::forget(packet, row);
        }
    }
}

/// What a probe at a function's exit does, as its row says.
#[inline(always)]
fn returned(context: *const u64, packet: u64, row: Row) {
    if row.has(ROW_CALIBRATE) {
        return event::calibrate(row);
    }
    if row.action() == Action::Note as u8 {
        return birth::noted(packet, row);
    }
    let returned = if row.has(ROW_CHILDREN | ROW_IF_ZERO) { result(context) } else { 0 };
    if row.has(ROW_IF_ZERO) {
        if returned as u32 == 0 {
            family::merged(unsafe { context.read_volatile() }, packet);
            event::end(packet, row, 0, 0);
        }
    } else if row.action() == Action::Copy as u8 {
        family::cut_off(packet, returned);
    } else if row.action() == Action::Join as u8 {
        family::joined(packet);
    } else {
        event::leave(packet, row, returned);
    }
}

/// Programs for fentry and tp_btf: the context is the array of arguments.
macro_rules! typed_programs {
    ($($entry:ident $exit:ident $section:literal $exit_section:literal $argument:literal;)*) => {$(
        #[unsafe(no_mangle)]
        #[unsafe(link_section = $section)]
        pub extern "C" fn $entry(context: *const u64) -> i32 {
            fired::<Direct>(unsafe { context.add($argument).read_volatile() }, row());
            0
        }

        #[unsafe(no_mangle)]
        #[unsafe(link_section = $exit_section)]
        pub extern "C" fn $exit(context: *const u64) -> i32 {
            returned(context, unsafe { context.add($argument).read_volatile() }, row());
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

/// Programs for the classes of rows that the stage map has. The loader puts the argument's offset into the
/// load at [`ARGUMENT_MARKER`].
macro_rules! class_programs {
    ($($class:literal $typed:ident $typed_section:literal $kprobe:ident $kprobe_section:literal;)*) => {$(
        #[unsafe(no_mangle)]
        #[unsafe(link_section = $typed_section)]
        pub extern "C" fn $typed(context: *const u64) -> i32 {
            fired::<Direct>(marked_argument(context as u64), Row($class | row().stage() as u64));
            0
        }

        #[unsafe(no_mangle)]
        #[unsafe(link_section = $kprobe_section)]
        pub extern "C" fn $kprobe(context: *const u64) -> i32 {
            fired::<Copied>(marked_argument(context as u64), Row($class | row().stage() as u64));
            0
        }
    )*};
}

#[inline(always)]
fn marked_argument(context: u64) -> u64 {
    let argument: u64;
    unsafe {
        core::arch::asm!(
            "{0} = *(u64 *)({1} + 0x7f8)", out(reg) argument, in(reg) context, options(pure, readonly, nostack)
        )
    };
    argument
}

const _: () = assert!(ARGUMENT_MARKER == 0x7f8);

// Written by build.rs.
include!(concat!(env!("OUT_DIR"), "/classes.rs"));

/// `skb:kfree_skb`: the packet, where, and from 5.17 on why.
#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry/typed_drop")]
pub extern "C" fn typed_drop(context: *const u64) -> i32 {
    let row = row();
    let packet = unsafe { context.read_volatile() };
    let location = unsafe { context.add(1).read_volatile() };
    let reason = if row.has(ROW_REASON) { unsafe { context.add(2).read_volatile() as u32 } } else { 0 };
    event::end(packet, row, read::opaque(location), reason);
    0
}

/// `qdisc:qdisc_enqueue`: the qdisc, the device's queue, the packet. Where the packet says at which device it is,
/// a qdisc that keeps its packets in a tree has written something else by then.
#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry/typed_queued")]
pub extern "C" fn typed_queued(context: *const u64) -> i32 {
    let (queue, packet) = unsafe { (context.add(1).read_volatile(), context.add(2).read_volatile()) };
    if queue != 0 {
        event::enter_at::<Direct>(packet, Direct::word::<{ field!(queue_dev) }>(queue), row());
    }
    0
}

/// For functions that make one packet of another: the new one, and the old one.
#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry/typed_pair")]
pub extern "C" fn typed_pair(context: *const u64) -> i32 {
    let (new, old) = unsafe { (context.read_volatile(), context.add(1).read_volatile()) };
    family::made::<Direct>(new, old, row());
    0
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "kprobe/kprobe_pair")]
pub extern "C" fn kprobe_pair(context: *const u8) -> i32 {
    let argument =
        |number: usize| unsafe { context.add(KPROBE_ARGUMENTS[number]).cast::<u64>().read_volatile() };
    family::made::<Copied>(argument(0), argument(1), row());
    0
}

/// Programs for kprobes: the context is the registers.
macro_rules! kprobe_programs {
    ($($entry:ident $section:literal $argument:literal;)*) => {$(
        #[unsafe(no_mangle)]
        #[unsafe(link_section = $section)]
        pub extern "C" fn $entry(context: *const u8) -> i32 {
            let packet = unsafe { (context.add(KPROBE_ARGUMENTS[$argument]) as *const u64).read_volatile() };
            fired::<Copied>(packet, row());
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
