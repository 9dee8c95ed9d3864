//! From a NIC's interrupt to GRO: what a packet waited for before anything saw it.
//!
//! When a packet came to the NIC only the NIC knows. A packet that is polled first after an interrupt was there when the
//! interrupt began; of those behind it these waits are the longest that they can have been.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_get_current_comm;
use overlay_trace_common::{
    cpu::{Context, SEVERAL},
    flags::ProbeFlags,
    path::{earlier, later},
    probe_spec::ProbeSpec,
    stage_map::{BUSY_POLL_WAIT, NAPI_IRQ_WAIT, NAPI_POLL_WAIT, NAPI_THREAD_WAIT, NAPI_TIMER_WAIT},
};

use crate::{account::here, maps::State, read::now};

pub const NET_RX_SOFTIRQ: u32 = 3;

/// A hard interrupt begins.
#[inline(always)]
pub fn interrupt(context: Context, spec: ProbeSpec) {
    context.cpu.irq_ns.set(context.now);
    context.cpu.asked_by.set(if spec.has(ProbeFlags::TIMER) { NAPI_TIMER_WAIT } else { NAPI_IRQ_WAIT });
}

/// A softirq is raised: by the hard interrupt that runs, if one does.
#[inline(always)]
pub fn raised(softirq: u32) {
    let cpu = here().cpu;
    let irq_ns = cpu.irq_ns.get();
    if softirq != NET_RX_SOFTIRQ || irq_ns == 0 || cpu.raised_ns.get() == irq_ns {
        return;
    }
    if cpu.raised_ns.get() == 0 {
        cpu.raised_ns.set(irq_ns);
        cpu.polled_by.set(cpu.asked_by.get());
    } else {
        cpu.raised_ns.set(SEVERAL);
    }
}

/// A poll is over: what is polled next was not asked for by the same interrupt, if packets from a NIC were polled.
#[inline(always)]
pub fn polled() {
    let cpu = here().cpu;
    cpu.polled_ns.set(now());
    if cpu.polls_nic.get() != 0 {
        cpu.polls_nic.set(0);
        cpu.raised_ns.set(0);
    }
}

/// A packet has come from a NIC: its path begins with what it waited for.
#[inline(always)]
pub fn arrive(state: &mut State, context: Context) {
    let cpu = context.cpu;
    cpu.polls_nic.set(1);
    let in_softirq = cpu.in_softirq.get() != 0;
    let since = if in_softirq { cpu.softirq_ns.get() } else { cpu.switched_ns.get() };
    let began = later(since, cpu.polled_ns.get());
    // Nothing has been seen yet since the recording began.
    if began == 0 {
        return;
    }
    let began = earlier(began, context.now);
    let raised = cpu.raised_ns.get();
    let start = if in_softirq && raised != 0 && raised < began { raised } else { began };
    state.record.header.start_ns = start;
    if start < began {
        state.push(cpu.polled_by.get(), began - start);
    }
    state.push(if in_softirq { NAPI_POLL_WAIT } else { poller() }, context.now - began);
}

/// In what a NIC is polled outside of a softirq: a thread of NAPI's is called `napi/DEVICE-ID`.
#[inline(never)]
fn poller() -> u8 {
    let mut name = [0u64; 2];
    // SAFETY: the helper writes at most 16 bytes, which the variable has.
    unsafe { bpf_get_current_comm(&raw mut name as *mut c_void, 16) };
    const LENGTH: u32 = 8 * "napi/".len() as u32;
    let is_thread = name[0] << (64 - LENGTH) == u64::from_le_bytes(*b"napi/\0\0\0") << (64 - LENGTH);
    if is_thread { NAPI_THREAD_WAIT } else { BUSY_POLL_WAIT }
}
