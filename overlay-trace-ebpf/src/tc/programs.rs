//! The programs of the probe set `tc`: one small one for each hook, and those that they share.

use aya_ebpf::{bindings::__sk_buff, macros::map, maps::Array, programs::TcContext};
use overlay_trace_common::{flags::ProbeFlags, record::Outcome, shared::Shared, slot::Word, tc::SWEPT};

use crate::{
    account::here,
    insn::{opaque, packet_argument, spec},
    packet_table::{Table, release, take_stale},
    read::now,
    tc, word,
};

/// TC_ACT_UNSPEC, which is also TCX_NEXT: the next filter or program decides what becomes of the packet.
const GO_ON: i32 = -1;

/// Notes the number of the hook and goes on in the program that all hooks share.
#[inline(always)]
fn select(packet: *mut __sk_buff, hook: u32) -> i32 {
    if let Some(scratch) = tc::TC_SCRATCH.get_ptr_mut(0) {
        // SAFETY: an entry of the map; see `Scratch`. The tail call passes the context on and does not return.
        unsafe {
            (&raw mut (*scratch).hook).write_volatile(hook);
            tc::TC_PASSED.tail_call(&TcContext::new(packet), 0);
        }
    }
    GO_ON
}

/// A program for each hook. A classifier cannot be told by its attachment where it is.
macro_rules! hook_programs {
    ($($hook:literal $name:ident $section:literal;)*) => {$(
        #[unsafe(no_mangle)]
        #[unsafe(link_section = $section)]
        extern "C" fn $name(packet: *mut __sk_buff) -> i32 {
            select(packet, $hook)
        }
    )*};
}

// Written by build.rs.
include!(concat!(env!("OUT_DIR"), "/hooks.rs"));

/// A packet passes a hook.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier/tc_passed")]
extern "C" fn tc_passed(packet: *mut __sk_buff) -> i32 {
    // SAFETY: nothing else of this run holds the table or a packet.
    tc::passed(unsafe { Table::open() }, packet);
    GO_ON
}

/// The end of a packet, at a tracepoint whose argument it is.
#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry/tc_end")]
extern "C" fn tc_end(context: *const u64) -> i32 {
    // SAFETY: as above.
    tc::ended(unsafe { Table::open() }, packet_argument(context), spec(), 0, 0);
    0
}

/// `skb:kfree_skb`: the packet, the location, and from 5.17 on the reason.
#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry/tc_drop")]
extern "C" fn tc_drop(context: *const u64) -> i32 {
    let spec = spec();
    // SAFETY: the tracepoint has two arguments.
    let (packet, location) = unsafe { (word(context, 0), word(context, 1)) };
    // SAFETY: with this flag it has three.
    let reason = if spec.has(ProbeFlags::DROP_REASON) { unsafe { word(context, 2) as u32 } } else { 0 };
    // SAFETY: as above.
    tc::ended(unsafe { Table::open() }, packet, spec, opaque(location), reason);
    0
}

/// Where the next run of [`tc_sweep`] begins in the packet table.
#[unsafe(no_mangle)]
pub static TC_SWEEP_NEXT: Shared<u64> = Shared::new(0);
/// A path is over if no hook has seen the packet for so long, in ns; set by the reader.
#[map]
pub static TC_SWEEP_IDLE_NS: Array<u64> = Array::with_max_entries(1, 0);

/// Ends the paths of packets that no hook has seen for long, in the next entries of the packet table. Run by the reader
/// (BPF_PROG_TEST_RUN).
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier/tc_sweep")]
extern "C" fn tc_sweep(_packet: *mut __sk_buff) -> i32 {
    let Some(idle_ns) = TC_SWEEP_IDLE_NS.get(0).copied() else { return 0 };
    let first = TC_SWEEP_NEXT.load() as u32;
    TC_SWEEP_NEXT.store((first + SWEPT) as u64);
    let context = here();
    let now = now();
    let mut number = 0;
    while number < SWEPT {
        if let Some(mut packet) = take_stale(first + number, now, idle_ns) {
            tc::end_where_last_seen(&mut packet, context, Outcome::Freed);
            release(&mut packet);
        }
        number += 1;
    }
    0
}
