//! Which packet a CPU is busy with, and what that says of the others: pure, as [`way`](crate::way) is.
//!
//! A packet is at work while the CPU that it was last seen on is busy with it. When that CPU turns to
//! something else, the packet waits, until a probe sees it again.

use crate::{
    stage_map::{BATCH_WAIT, KSOFTIRQD_WAIT, SCHEDULING_WAIT, SOFTIRQ_WAIT},
    way::{Account, Words, opaque},
};

/// A packet that is followed.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Followed {
    /// Address of its `sk_buff`; 0 when the place in the table is free.
    pub skb: u64,
    pub account: Account,
    /// Its own number in the table of packets.
    pub number: u32,
    /// 1: the CPU that it is on was busy with it, and has not left it in a queue since; it may still hold it for
    /// its own.
    pub is_held: u32,
}

impl Followed {
    /// The packet turns up on a CPU that was not busy with it.
    #[inline(always)]
    pub fn turn_up(&mut self, number: u32, words: &mut Words, packets: &impl Packets) {
        if self.account.cpu as u32 != number {
            self.change(number, words, packets);
        }
    }

    /// The packet is on another CPU than before.
    #[cfg_attr(target_arch = "bpf", inline(never))]
    fn change(&mut self, number: u32, words: &mut Words, packets: &impl Packets) {
        if self.is_held != 0 {
            packets.let_go(self.account.cpu, self.skb);
        }
        // Of a sender that was interrupted a part was still there: `close` tells the two apart.
        if self.account.interrupted_ns == 0 {
            self.account.run_on(words, number);
        }
    }
}

/// What a CPU is doing.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Cpu {
    /// Address of the packet that it is busy with, 0 if none.
    pub skb: u64,
    /// When the last probe fired here.
    pub last_ns: u64,
    /// Number of the packet in the table of packets.
    pub packet: u32,
    /// That of the packet that a softirq came upon.
    pub outer_packet: u32,
    /// When the last network receive softirq began here; 0 if that is not watched.
    pub softirq_ns: u64,
    /// Address of the packet that a softirq came upon.
    pub outer_skb: u64,
    /// The stage of packets that waited for that softirq.
    pub deferred_by: u8,
    pub _pad: [u8; 7],
    /// The task on which that softirq ran.
    pub softirq_task: u64,
    /// When a task last got the CPU; 0 if that is not watched.
    pub switched_ns: u64,
}

const _: () = assert!(size_of::<Cpu>() == 64, "it is to fill a cache line");

/// The table of packets.
pub trait Packets {
    /// The packet of a number, if there is one, and the words of its way.
    ///
    /// # Safety
    ///
    /// What is returned may be used until the next call.
    fn get(&self, number: u32) -> Option<(*mut Followed, *mut Words)>;

    /// See to it that this CPU, which is another one, does not hold the packet of this address for the one that it is
    /// busy with.
    fn let_go(&self, cpu: u16, skb: u64);
}

impl Cpu {
    /// Gives the time of a packet up to `now` to its open stage. `number` is this CPU's.
    #[inline(always)]
    pub fn close(&self, number: u32, packet: &mut Followed, words: &mut Words, now: u64) {
        if packet.account.close_plainly(words, now) {
            return;
        }
        let is_interrupted = packet.account.interrupted_ns != 0;
        let resumed_ns = if is_interrupted { self.resumed_ns(number, packet) } else { 0 };
        packet.account.close(words, now, resumed_ns, number);
    }

    /// When the packet, which was interrupted, went on.
    #[inline(always)]
    fn resumed_ns(&self, number: u32, packet: &mut Followed) -> u64 {
        match packet.account.interrupted_by {
            // It lay in a queue that a softirq empties: once that has begun, it waits for its turn.
            SOFTIRQ_WAIT => {
                packet.account.interrupted_by = self.left_to(number, &packet.account);
                self.softirq_ns
            }
            // The last thing that happened on the CPU that its task now runs on is that it got it.
            SCHEDULING_WAIT => self.last_ns,
            // A sender that has been moved to another CPU was not interrupted by what happens on this one.
            _ if packet.account.cpu as u32 != number => 0,
            // The CPU was busy with another packet until now.
            _ if self.skb != 0 && self.skb != packet.skb => u64::MAX,
            // Until the last that was heard of what had interrupted it.
            _ => self.last_ns,
        }
    }

    /// The stage in which a packet waited for the last network receive softirq. A CPU on which softirqs are pending
    /// gives no task its turn unless they are left to ksoftirqd; then they waited for that, also if an interrupt came
    /// first and did them. Of a packet from another CPU it is not known since when its softirq was pending here.
    #[inline(always)]
    fn left_to(&self, number: u32, account: &Account) -> u8 {
        let is_left = account.interrupted_ns < self.switched_ns && self.switched_ns < self.softirq_ns;
        if is_left && account.cpu as u32 == number { KSOFTIRQD_WAIT } else { self.deferred_by }
    }

    /// The CPU is busy with the packet from `now` on; another one with which it was busy waits.
    #[inline(always)]
    pub fn take(&mut self, number: u32, packet: &mut Followed, now: u64, packets: &impl Packets) {
        let skb = opaque(packet.skb);
        if self.skb != skb {
            if self.skb != 0 {
                self.interrupt(number, BATCH_WAIT, now, packets);
            }
            self.skb = skb;
            self.packet = packet.number;
            packet.is_held = 1;
        }
        self.keep(now);
    }

    /// The CPU goes on with the packet that it is busy with.
    #[inline(always)]
    pub fn keep(&mut self, now: u64) {
        self.last_ns = now;
    }

    /// The CPU leaves the packet in a queue.
    #[inline(always)]
    pub fn leave(&mut self, number: u32, packet: &mut Followed, now: u64, packets: &impl Packets) {
        self.release(number, opaque(packet.skb), now, packets);
        packet.is_held = 0;
    }

    /// The CPU does not hold the packet at the address `skb` any longer for the one that it is busy with, or was
    /// when a softirq came.
    #[inline(always)]
    pub fn let_go(&mut self, skb: u64) {
        if self.skb == skb {
            self.skb = 0;
        }
        if self.outer_skb == skb {
            self.outer_skb = 0;
        }
    }

    /// The CPU has nothing more to do with the packet at the address `skb` for now.
    #[inline(always)]
    pub fn release(&mut self, number: u32, skb: u64, now: u64, packets: &impl Packets) {
        if self.skb != skb && self.skb != 0 {
            self.interrupt(number, BATCH_WAIT, now, packets);
        }
        self.skb = 0;
        if self.outer_skb == skb {
            self.outer_skb = 0;
        }
        self.last_ns = now;
    }

    /// The packet that the CPU is busy with, if any, waits from `now` on in the stage `by`.
    #[inline(always)]
    pub fn interrupt(&self, number: u32, by: u8, now: u64, packets: &impl Packets) {
        if let Some((packet, _)) = self.packet(number, packets) {
            packet.account.interrupt(now, by);
        }
    }

    /// A softirq begins: the packet that the CPU is busy with, if any, waits in the stage `by`.
    #[inline(always)]
    pub fn begin_softirq(&mut self, number: u32, by: u8, now: u64, packets: &impl Packets) {
        if self.skb != 0 {
            self.interrupt(number, by, now, packets);
        }
        self.outer_skb = self.skb;
        self.outer_packet = self.packet;
        self.skb = 0;
    }

    /// The softirq is over: what it left off at is done, and the CPU goes on where it was.
    #[inline(always)]
    pub fn end_softirq(&mut self, now: u64) {
        self.skb = self.outer_skb;
        self.packet = self.outer_packet;
        self.resume(now);
    }

    /// What had interrupted the CPU is over. The packet that it is busy with is left alone: an interrupt can
    /// come in the middle of its accounting. Of several interruptions of one segment, what lies between them
    /// counts to them.
    #[inline(always)]
    pub fn resume(&mut self, now: u64) {
        self.last_ns = now;
    }

    /// Another task has got the CPU.
    #[inline(always)]
    pub fn switched(&mut self, now: u64) {
        self.last_ns = now;
        self.switched_ns = now;
    }

    /// The packet that the CPU is busy with. A sender that has been moved to another CPU is not.
    #[allow(clippy::mut_from_ref)] // What is in the table belongs to nobody.
    #[inline(always)]
    fn packet<'a>(
        &self,
        number: u32,
        packets: &'a impl Packets,
    ) -> Option<(&'a mut Followed, &'a mut Words)> {
        let (packet, words) = packets.get(self.packet)?;
        // SAFETY: they are of different parts of one entry of the table, and nothing else is taken out of
        // it while they are in use.
        let (packet, words) = unsafe { (&mut *packet, &mut *words) };
        (packet.skb == self.skb && packet.account.cpu as u32 == number).then_some((packet, words))
    }
}
