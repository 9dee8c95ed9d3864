//! A path ends where a device takes the packet over. What follows until its driver frees the packet is its completion,
//! which is kept beside the path.

use overlay_trace_common::{cpu::Context, stage_map::TX_RING_WAIT};

use crate::{
    account::{self, close, cpu_of, here},
    insn::opaque,
    maps::{HANDED_OVER, STATES, State, setting},
    packet_table::Table,
    read::now,
};

/// From this result of `ndo_start_xmit` on (NET_XMIT_MASK; NETDEV_TX_BUSY is 16) the device has not taken the packet.
const NOT_TAKEN: i32 = 15;

/// A driver gets the packet: `net_dev_start_xmit`. Until `net_dev_xmit`, which may come after the packet has been freed,
/// the CPU runs nothing else that transmits, but for devices below this one.
#[inline(always)]
pub fn begin(state: &State, context: Context) {
    let cpu = context.cpu;
    cpu.transmit_skb.set(opaque(state.tracked.skb));
    cpu.transmit_id.set(state.record.header.id);
    cpu.transmit_packet.set(state.tracked.number);
}

/// A driver gets the packet, and when it returns is not probed: the path ends here.
#[inline(always)]
pub fn at_once(state: &mut State, context: Context) {
    state.rejected = HANDED_OVER;
    state.handed_ns.set(context.now);
    context.queue(&mut state.tracked, &account::Table);
}

/// The driver has returned: `net_dev_xmit`, with the driver's result.
#[inline(always)]
pub fn finish(table: Table, skb: u64, result: i32) {
    let mut context = here();
    let cpu = context.cpu;
    let key = opaque(skb);
    if key == 0 || cpu.transmit_skb.get() != key {
        return;
    }
    cpu.transmit_skb.set(0);
    let Some(state) = STATES.get_ptr_mut(cpu.transmit_packet.get()) else { return };
    // SAFETY: an entry of the map. Another CPU may be ending the packet at this moment, so nothing is written but for
    // numbers of one word, and no reference is made.
    unsafe {
        let is_there = (*state).tracked.skb == key && (*state).record.header.id == cpu.transmit_id.get();
        // What is no more in its driver's stage has gone on through a device below, or came back (loopback).
        if !is_there || (*state).tracked.account.stage as u32 != setting!(transmit_default) {
            return;
        }
        context.now = now();
        if result < NOT_TAKEN {
            (*state).resumed_ns.set(cpu.last_ns.get());
            (*state).rejected = HANDED_OVER;
            (*state).handed_ns.set(context.now);
            cpu.drop_current(key);
            return cpu.last_ns.set(context.now);
        }
    }
    requeue(table, skb, context);
}

/// Another CPU than the one that transmits frees the packet, and `ndo_start_xmit` has not returned: the device had taken the
/// packet over, or its driver would not complete it. What the driver throws away by itself it frees on the same CPU.
#[inline(never)]
pub fn is_completed(state: &mut State, context: Context) -> bool {
    let number = state.tracked.account.cpu as u32;
    let is_with_driver = state.tracked.account.stage as u32 == setting!(transmit_default)
        && state.device_role.is_edge()
        && number != context.number;
    if is_with_driver {
        let cpu = cpu_of(number);
        state.resumed_ns.set(cpu.last_ns.get());
        state.handed_ns.set(now());
        cpu.drop_current(state.tracked.skb);
    }
    is_with_driver
}

/// The device is busy: the packet is queued again, and this CPU still has it.
#[inline(never)]
fn requeue(table: Table, skb: u64, context: Context) {
    let Ok(mut packet) = table.find(skb) else { return };
    close(&mut packet, context);
    packet.tracked.account.stage = TX_RING_WAIT;
    context.queue(&mut packet.tracked, &account::Table);
}
