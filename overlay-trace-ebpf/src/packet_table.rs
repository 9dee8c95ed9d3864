//! The packet table: finding, claiming and releasing the state of a packet.
//!
//! The tags, four to a bucket, lie apart from the states, so that a search for an unknown packet touches one cache
//! line. `overlay_trace_common::slot` says who owns a slot.
//!
//! A run of a program holds the table ([`Table`]) or a packet of it ([`Packet`]), so that it never has two handles of
//! one state. Programs in interrupts and on other CPUs have handles of their own: the probes of a packet fire where the
//! kernel itself has the packet to itself, except for interruptions, which write through raw pointers
//! (`Packets::interrupt_current`), and for packets that have not been seen for [`STALE_NS`].

use core::{
    marker::PhantomData,
    ops::{Deref, DerefMut},
    ptr::NonNull,
};

use overlay_trace_common::{
    abi::{BUCKET_SLOTS, TrackingPhase},
    cpu::Context,
    edges::Fate,
    headers::IPPROTO_TCP,
    record::{Counter, Outcome},
    shared::Shared,
    slot::{Slot, Word},
    stage_map::RECEIVE,
};

use crate::{
    account::{conclude_left, conclude_sent, is_left},
    edges,
    insn::{low_half, opaque},
    maps::{Bucket, STATES, State, TAGS, count, setting, tracking_phase},
};

/// After this time without a probe hit a packet's slot is given to another packet that needs it.
const STALE_NS: u64 = 20_000_000_000;

/// The packet table, of which this run holds no packet.
pub struct Table(());

/// The handle of a packet's state. References to the state last as long as a borrow of the handle.
pub struct Packet<'t> {
    state: NonNull<State>,
    table: PhantomData<&'t mut Table>,
}

/// A packet of the table, or the table without one.
pub type Lookup = Result<Packet<'static>, Table>;

impl Deref for Packet<'_> {
    type Target = State;

    #[inline(always)]
    fn deref(&self) -> &State {
        // SAFETY: an entry of the map, which stays where it is. This run has no other handle of it (see `Table`), and
        // the fields are integers, so that any value that another program writes is valid.
        unsafe { self.state.as_ref() }
    }
}

impl DerefMut for Packet<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut State {
        // SAFETY: as above.
        unsafe { self.state.as_mut() }
    }
}

impl Table {
    /// The packet table.
    ///
    /// # Safety
    ///
    /// This run holds no other `Table` and no [`Packet`].
    #[inline(always)]
    pub unsafe fn open() -> Table {
        Table(())
    }

    /// A known packet.
    #[inline(always)]
    pub fn find(self, skb: u64) -> Lookup {
        find(skb).ok_or(self)
    }

    /// A known packet, if it is the CPU's current packet.
    #[inline(always)]
    pub fn find_current(self, skb: u64, context: Context) -> Lookup {
        let key = opaque(skb);
        if context.cpu.skb.get() != key {
            return Err(self);
        }
        match entry(context.cpu.packet.get()) {
            Some(packet) if packet.tracked.skb == key => Ok(packet),
            _ => Err(self),
        }
    }

    /// The packet with this number, whether or not its path is over.
    #[inline(always)]
    pub fn numbered(&self, number: u32) -> Option<Packet<'_>> {
        entry(number)
    }

    /// A slot for a packet that is not known.
    #[inline(always)]
    pub fn claim(self, skb: u64, now: u64) -> Lookup {
        claim(skb, now).ok_or(self)
    }
}

impl Packet<'static> {
    /// Gives the packet's handle back.
    #[inline(always)]
    pub fn into_table(self) -> Table {
        Table(())
    }
}

impl<'t> Packet<'t> {
    /// Another known packet.
    #[inline(always)]
    pub fn find_other(&self, skb: u64) -> Option<Packet<'_>> {
        // Different addresses are different tags, and so different slots.
        if opaque(skb) == self.tracked.skb { None } else { find(skb) }
    }

    /// Another packet by its number, whether or not its path is over.
    #[inline(always)]
    pub fn other(&self, number: u32) -> Option<Packet<'_>> {
        if number == self.tracked.number { None } else { entry(number) }
    }

    /// A slot for another packet, which is not known.
    #[inline(always)]
    pub fn claim_other(&self, skb: u64, now: u64) -> Option<Packet<'_>> {
        // Its slot is not this one, which is taken and not stale.
        claim(skb, now)
    }
}

/// The table, whatever a look-up has found.
#[inline(always)]
pub fn into_table(lookup: Lookup) -> Table {
    match lookup {
        Ok(packet) => packet.into_table(),
        Err(table) => table,
    }
}

#[inline(always)]
fn bucket_of(key: u64) -> u32 {
    // An sk_buff begins at a multiple of 64 bytes.
    (low_half(key) >> 6).wrapping_mul(0x9e37_79b1) >> 12 & setting!(bucket_mask)
}

/// The words of a bucket.
#[inline(always)]
fn words_of(bucket: u32) -> Option<&'static Bucket> {
    // SAFETY: an entry of the map, which stays where it is; it consists of shared cells.
    TAGS.get_ptr(bucket).map(|words| unsafe { &*words })
}

/// The handle of a table entry. Private: the callers see to it that a run has one handle of it.
#[inline(always)]
fn entry<'t>(number: u32) -> Option<Packet<'t>> {
    let state = NonNull::new(STATES.get_ptr_mut(number)?)?;
    Some(Packet { state, table: PhantomData })
}

/// The words that say who owns a slot.
#[inline(always)]
fn slot<'s>(words: &'s Bucket, index: usize, state: NonNull<State>) -> Slot<'s, Shared<u64>> {
    let state = state.as_ptr();
    // SAFETY: an entry of the map, which stays where it is. The caller uses no reference to the state meanwhile.
    let (transfer, last_ns) =
        unsafe { (&(*state).transfer, Shared::at(&raw mut (*state).tracked.account.last_ns)) };
    // SAFETY: the callers' index is less than BUCKET_SLOTS; a check would leave a panic in the program.
    let (tag, holder) = unsafe { (words.tags.get_unchecked(index), words.holders.get_unchecked(index)) };
    Slot { tag, holder, transfer, last_ns }
}

#[inline(always)]
fn find<'t>(skb: u64) -> Option<Packet<'t>> {
    let key = opaque(skb);
    let bucket = bucket_of(key);
    let words = words_of(bucket)?;
    let mut index = 0;
    while index < BUCKET_SLOTS {
        if words.tags[index].load() == key {
            return entry(bucket * BUCKET_SLOTS as u32 + index as u32);
        }
        index += 1;
    }
    None
}

#[inline(always)]
fn claim<'t>(skb: u64, now: u64) -> Option<Packet<'t>> {
    let key = opaque(skb);
    let bucket = bucket_of(key);
    let words = words_of(bucket)?;
    let mut index = 0;
    while index < BUCKET_SLOTS {
        if words.tags[index].load() == 0 {
            let number = bucket * BUCKET_SLOTS as u32 + index as u32;
            let mut packet = entry(number)?;
            if slot(words, index, packet.state).claim(key, now) {
                packet.tracked.number = number;
                packet.tracked.skb = key;
                return Some(packet);
            }
        }
        index += 1;
    }
    reclaim(key, bucket, words, now)
}

/// The slot of a packet that has not been seen for long.
#[inline(always)]
fn reclaim<'t>(key: u64, bucket: u32, words: &Bucket, now: u64) -> Option<Packet<'t>> {
    let mut index = 0;
    while index < BUCKET_SLOTS {
        let mut packet = entry(bucket * BUCKET_SLOTS as u32 + index as u32)?;
        if slot(words, index, packet.state).reclaim(key, now, STALE_NS) {
            // 0: its path is over, but its slot could not be released.
            if packet.tracked.skb != 0 {
                missed_end(&mut packet);
            }
            packet.tracked.skb = key;
            return Some(packet);
        }
        index += 1;
    }
    count(Counter::PacketTableFull, 1);
    None
}

/// A key that no packet has: an `sk_buff` begins at a multiple of 64 bytes.
const TAKEN: u64 = 1;

/// The packet of a table entry, if it has not been seen for `idle_ns`. Nobody else finds it any more; the caller
/// releases it. `number` is taken modulo the table's size. The run holds no other packet.
#[inline(always)]
pub fn take_stale<'t>(number: u32, now: u64, idle_ns: u64) -> Option<Packet<'t>> {
    let bucket = (number / BUCKET_SLOTS as u32) & setting!(bucket_mask);
    let index = number as usize % BUCKET_SLOTS;
    let words = words_of(bucket)?;
    let mut packet = entry(bucket * BUCKET_SLOTS as u32 + index as u32)?;
    let last_ns = packet.tracked.account.last_ns;
    if !slot(words, index, packet.state).reclaim(TAKEN, now, idle_ns) {
        return None;
    }
    // 0: its path is over, but its slot could not be released.
    let is_over = packet.tracked.skb == 0;
    packet.tracked.skb = TAKEN;
    packet.tracked.account.last_ns = last_ns;
    if is_over {
        release(&mut packet);
        return None;
    }
    Some(packet)
}

/// The words that say who owns the state's slot. The caller uses no reference to the state meanwhile.
#[inline(always)]
fn slot_of<'s>(state: &mut State) -> Option<Slot<'s, Shared<u64>>> {
    let number = state.tracked.number;
    let words = words_of(number / BUCKET_SLOTS as u32)?;
    Some(slot(words, number as usize % BUCKET_SLOTS, NonNull::from(state)))
}

/// Hides a packet that this CPU does not work on, before its path is ended: a packet whose end is not seen can be ended by
/// the CPU that finds out, and at the same time by another one that gets a new packet at its address. False if another
/// CPU ends it already.
#[inline(always)]
pub fn hide(state: &mut State) -> bool {
    let key = state.tracked.skb;
    key != 0 && slot_of(state).is_some_and(|slot| slot.hide(key, TAKEN))
}

/// Lets a hidden packet be found again.
#[inline(always)]
pub fn show(state: &mut State) {
    let key = state.tracked.skb;
    if let Some(slot) = slot_of(state) {
        slot.tag.store(key);
    }
}

/// Releases the slot of a hidden packet.
#[inline(always)]
pub fn release_hidden(state: &mut State) {
    state.tracked.skb = TAKEN;
    release(state);
}

/// The state's packet is gone, and its end was missed; or that the driver has freed it, after its end. A TCP segment that
/// its softirq has left was joined to the one before it in its socket's backlog: nothing else frees one unseen. False if
/// another CPU ends it already: then the state is not to be used.
#[inline(always)]
pub fn missed_end(state: &mut State) -> bool {
    if state.handed_ns.get() != 0 {
        conclude_sent(state, 0);
        return true;
    }
    // Only such a packet is ended by other CPUs too (`unseen_ends`).
    let is_shared =
        state.record.header.flow.protocol == IPPROTO_TCP && state.tracked.account.stage == RECEIVE;
    if is_shared && !hide(state) {
        return false;
    }
    if is_shared && is_left(state) {
        conclude_left(state, Outcome::Merged as u8);
    } else if state.is_counted() && !is_over() {
        count(Counter::MissedEnd, 1);
        edges::ended(state, Fate::MissedEnd);
    }
    if is_shared {
        show(state);
    }
    true
}

/// Whether no more paths start. The programs are then detached one after the other: packets whose end is not seen any
/// more were in flight when the recording ended.
#[inline(always)]
pub fn is_over() -> bool {
    tracking_phase() == TrackingPhase::Off as u64
}

/// Releases the packet's slot; once, even if the packet's end is seen twice.
#[inline(always)]
pub fn release(state: &mut State) {
    let key = state.tracked.skb;
    state.tracked.skb = 0;
    if let Some(slot) = slot_of(state) {
        slot.release(key);
    }
}
