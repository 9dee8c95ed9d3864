//! Which packet a CPU works on, and what that says about the others. Pure, as [`path`](crate::path) is.
//!
//! A packet is being worked on while the CPU that it was last seen on works on it. When that CPU turns to something
//! else, the packet waits until a probe sees it again.

use crate::{
    path::{Account, Words, opaque},
    shared::Shared,
    stage_map::{BATCH_WAIT, KSOFTIRQD_WAIT, SCHEDULING_WAIT, SOFTIRQ_WAIT, TCP_BACKLOG_WAIT, UNSEEN_WAIT},
};

/// A tracked packet.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Tracked {
    /// Address of its `sk_buff`; 0 once its path is over.
    pub skb: u64,
    pub account: Account,
    /// The packet's number in the packet table.
    pub number: u32,
    /// 1: the CPU that it is on has worked on it and has not queued it since; that CPU may still hold it as its
    /// current packet.
    pub is_held: u32,
}

impl Tracked {
    /// A CPU that did not work on the packet sees it.
    #[inline(always)]
    pub fn seen_by(&mut self, number: u32, words: &mut Words, packets: &impl Packets) {
        if self.account.cpu as u32 != number {
            self.migrate(number, words, packets);
        }
    }

    /// The packet is on another CPU than before.
    #[cfg_attr(target_arch = "bpf", inline(never))]
    fn migrate(&mut self, number: u32, words: &mut Words, packets: &impl Packets) {
        if self.is_held != 0 {
            packets.drop_current(self.account.cpu, self.skb);
        }
        // Part of an interrupted sender's time belongs to the former CPU: `close` splits it.
        if self.account.interrupted_ns == 0 {
            self.account.move_to_cpu(words, number);
        }
    }

    /// The packet waits from the context's time on in the stage `by`, if it is the current packet of the context's CPU
    /// and was last seen there. A sender whose task has migrated was not.
    ///
    /// # Safety
    ///
    /// The pointer is valid, and no reference to what it points at is used meanwhile.
    #[inline(always)]
    pub unsafe fn interrupt(packet: *mut Tracked, context: Context, by: u8) {
        // SAFETY: the caller's promise.
        unsafe {
            if (*packet).skb != context.cpu.skb.get() || (*packet).account.cpu as u32 != context.number {
                return;
            }
            (*packet).account.interrupt(context.now, by);
        }
    }
}

/// The state of a CPU. Programs in interrupts change it in the middle of the programs that they interrupt.
#[derive(Default)]
#[repr(C)]
pub struct Cpu {
    /// Address of the current packet, the one that the CPU works on; 0 if none.
    pub skb: Shared<u64>,
    /// When the last probe fired here.
    pub last_ns: Shared<u64>,
    /// Number of the current packet in the packet table.
    pub packet: Shared<u32>,
    /// Number of the packet that a softirq interrupted.
    pub outer_packet: Shared<u32>,
    /// When the last NET_RX softirq began here; 0 if softirqs are not probed.
    pub softirq_ns: Shared<u64>,
    /// Address of the packet that a softirq interrupted.
    pub outer_skb: Shared<u64>,
    /// The stage of packets that waited for that softirq.
    pub deferred_by: Shared<u8>,
    /// 1: a softirq runs here.
    pub in_softirq: Shared<u8>,
    /// 1: packets from a NIC were seen in the poll that runs here.
    pub polls_nic: Shared<u8>,
    /// The stage of a packet that waits for the poll: whether an interrupt or a timer asked for it.
    pub polled_by: Shared<u8>,
    /// The same of the hard interrupt that runs here.
    pub asked_by: Shared<u8>,
    pub _pad: [u8; 3],
    /// The task on which that softirq ran.
    pub softirq_task: Shared<u64>,
    /// When a task was last scheduled in; 0 if that is not probed.
    pub switched_ns: Shared<u64>,
    /// Address of the packet that is being handed to a device here, its id, and its number in the packet table.
    pub transmit_skb: Shared<u64>,
    pub transmit_id: Shared<u64>,
    pub transmit_packet: Shared<u32>,
    pub _pad_transmit: u32,
    /// Address of the packet that entered GRO last, until GRO tells what it did with it; 0 if it has. Meanwhile GRO may
    /// hand on other packets.
    pub gro_skb: Shared<u64>,
    /// When the hard interrupt began that runs here; 0 if none does.
    pub irq_ns: Shared<u64>,
    /// When the hard interrupt began that raised the softirq which polls NICs; 0 if none did, [`SEVERAL`] if it is not
    /// known which one it was.
    pub raised_ns: Shared<u64>,
    /// When the last poll of a NAPI instance ended here.
    pub polled_ns: Shared<u64>,
    pub _pad_line: u64,
}

const _: () = assert!(size_of::<Cpu>() == 128, "two cache lines; the first one has what most probes use");

/// In [`Cpu::raised_ns`]: several interrupts did.
pub const SEVERAL: u64 = u64::MAX;

/// The packet table, as far as the accounting needs it.
pub trait Packets {
    /// Interrupts the context's CPU's current packet, if the table has it: see [`Tracked::interrupt`].
    fn interrupt_current(&self, context: Context, by: u8);

    /// Makes another CPU forget that the packet at this address is its current one: see [`Cpu::drop_current`].
    fn drop_current(&self, cpu: u16, skb: u64);
}

/// Where and when a probe fires.
#[derive(Clone, Copy)]
pub struct Context<'c> {
    pub cpu: &'c Cpu,
    /// The CPU's number.
    pub number: u32,
    /// The time in ns of the records' clock; 0 until the clock has been read.
    pub now: u64,
}

impl Context<'_> {
    /// Assigns the packet's time up to now to its open stage.
    #[inline(always)]
    pub fn close(self, packet: &mut Tracked, words: &mut Words) {
        if packet.account.close_fast(words, self.now) {
            return;
        }
        let is_interrupted = packet.account.interrupted_ns != 0;
        let resumed_ns = if is_interrupted { self.resumed_ns(packet) } else { 0 };
        packet.account.close(words, self.now, resumed_ns, self.number);
    }

    /// When the packet, which was interrupted, resumed.
    #[inline(always)]
    fn resumed_ns(self, packet: &mut Tracked) -> u64 {
        match packet.account.interrupted_by {
            // It lay in a queue that a softirq empties: once that has begun, it waits for its turn.
            SOFTIRQ_WAIT => {
                packet.account.interrupted_by = self.softirq_wait(&packet.account);
                self.cpu.softirq_ns.get()
            }
            // It was in a queue until now, whoever put it there.
            UNSEEN_WAIT | TCP_BACKLOG_WAIT => u64::MAX,
            // The last event on the CPU that its task now runs on is that the task was scheduled in.
            SCHEDULING_WAIT => self.cpu.last_ns.get(),
            // A sender that has migrated to this CPU was not interrupted by what happens here.
            _ if packet.account.cpu as u32 != self.number => 0,
            // The CPU worked on another packet until now.
            _ if self.cpu.skb.get() != 0 && self.cpu.skb.get() != packet.skb => u64::MAX,
            // Until the last event of what had interrupted it.
            _ => self.cpu.last_ns.get(),
        }
    }

    /// The stage in which a packet waited for the last NET_RX softirq. A CPU with pending softirqs schedules no task
    /// unless they are left to ksoftirqd. Then packets waited for ksoftirqd, even if an interrupt came first and ran
    /// them. For a packet from another CPU it is unknown since when its softirq was pending here.
    #[inline(always)]
    fn softirq_wait(self, account: &Account) -> u8 {
        let (switched_ns, softirq_ns) = (self.cpu.switched_ns.get(), self.cpu.softirq_ns.get());
        let is_left = account.interrupted_ns < switched_ns && switched_ns < softirq_ns;
        if is_left && account.cpu as u32 == self.number { KSOFTIRQD_WAIT } else { self.cpu.deferred_by.get() }
    }

    /// The CPU works on the packet from now on; its former current packet waits.
    #[inline(always)]
    pub fn work_on(self, packet: &mut Tracked, packets: &impl Packets) {
        let skb = opaque(packet.skb);
        if self.cpu.skb.get() != skb {
            // The table entry of the former one can have been given to this packet: then nobody waits.
            if self.cpu.skb.get() != 0 && self.cpu.packet.get() != packet.number {
                packets.interrupt_current(self, BATCH_WAIT);
            }
            self.cpu.skb.set(skb);
            self.cpu.packet.set(packet.number);
            packet.is_held = 1;
        }
        self.cpu.last_ns.set(self.now);
    }

    /// The CPU queues the packet.
    #[inline(always)]
    pub fn queue(self, packet: &mut Tracked, packets: &impl Packets) {
        self.release(packet, packets);
        packet.is_held = 0;
    }

    /// The CPU has nothing more to do with the packet for now.
    #[inline(always)]
    pub fn release(self, packet: &Tracked, packets: &impl Packets) {
        let (skb, current) = (opaque(packet.skb), self.cpu.skb.get());
        if current != skb && current != 0 && self.cpu.packet.get() != packet.number {
            packets.interrupt_current(self, BATCH_WAIT);
        }
        self.cpu.skb.set(0);
        if self.cpu.outer_skb.get() == skb {
            self.cpu.outer_skb.set(0);
        }
        self.cpu.last_ns.set(self.now);
    }

    /// A softirq begins: the current packet, if any, waits in the stage `by`.
    #[inline(always)]
    pub fn begin_softirq(self, by: u8, packets: &impl Packets) {
        let current = self.cpu.skb.get();
        if current != 0 {
            packets.interrupt_current(self, by);
        }
        self.cpu.outer_skb.set(current);
        self.cpu.outer_packet.set(self.cpu.packet.get());
        self.cpu.skb.set(0);
        self.cpu.in_softirq.set(1);
    }

    /// The softirq is over: the CPU resumes what the softirq interrupted. A packet that the softirq was busy with, and
    /// whose end was not seen, lies in some queue now.
    #[inline(always)]
    pub fn end_softirq(self, packets: &impl Packets) {
        if self.cpu.skb.get() != 0 {
            packets.interrupt_current(self, UNSEEN_WAIT);
        }
        self.cpu.in_softirq.set(0);
        self.cpu.skb.set(self.cpu.outer_skb.get());
        self.cpu.packet.set(self.cpu.outer_packet.get());
        self.resume();
    }

    /// An interruption is over. The current packet is not touched: the interrupt may have come in the middle of its
    /// accounting. If one span has several interruptions, the time between them counts as interruption.
    #[inline(always)]
    pub fn resume(self) {
        self.cpu.last_ns.set(self.now);
    }

    /// Another task has been scheduled in.
    #[inline(always)]
    pub fn switch_task(self) {
        self.cpu.last_ns.set(self.now);
        self.cpu.switched_ns.set(self.now);
    }
}

impl Cpu {
    /// The packet at the address `skb` is not the current packet any more, nor the one that a softirq interrupted.
    #[inline(always)]
    pub fn drop_current(&self, skb: u64) {
        if self.skb.get() == skb {
            self.skb.set(0);
        }
        if self.outer_skb.get() == skb {
            self.outer_skb.set(0);
        }
    }
}
