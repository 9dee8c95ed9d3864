//! The accounting of the kernel side, driven by synthetic packets, CPUs and clocks: in whatever order events come, and
//! whatever is missed, every nanosecond of every packet has one owner.

use std::{cell::RefCell, rc::Rc};

use overlay_trace_common::{
    cpu::{Context, Cpu, Packets, Tracked},
    path::{self, PATH_WORDS, Span, Words, position},
    stage_map::{
        BATCH_WAIT, KSOFTIRQD_WAIT, OTHER, SCHEDULING_WAIT, SOFTIRQ_INTERRUPTION, SOFTIRQ_WAIT, UNSEEN_WAIT,
    },
};
use proptest::prelude::*;

const CPUS: usize = 3;
const PACKETS: usize = 5;
const EPOCH: u64 = 1 << 40;
/// Stages from here on interrupt others.
const INTERRUPTS: u8 = 61;

/// The table of packets, and when each of them began.
struct Table {
    packets: RefCell<Vec<(Tracked, Words)>>,
    cpus: Rc<[Cpu; CPUS]>,
    begun: Vec<u64>,
}

impl Table {
    /// Takes a packet out of the table and puts it back afterwards: an event may interrupt another one.
    fn with<T>(&self, number: usize, apply: impl FnOnce(&mut Tracked, &mut Words) -> T) -> T {
        let (mut packet, mut words) = self.packets.borrow()[number];
        let result = apply(&mut packet, &mut words);
        self.packets.borrow_mut()[number] = (packet, words);
        result
    }
}

impl Packets for Table {
    fn interrupt_current(&self, context: Context, by: u8) {
        if let Some((packet, _)) = self.packets.borrow_mut().get_mut(context.cpu.packet.get() as usize) {
            // SAFETY: the pointer comes from a reference that is not used any more.
            unsafe { Tracked::interrupt(packet, context, by) };
        }
    }

    fn drop_current(&self, cpu: u16, skb: u64) {
        self.cpus[usize::from(cpu)].drop_current(skb);
    }
}

/// What happens: to which packet, on which CPU.
#[derive(Clone, Debug)]
enum Event {
    Begin,
    /// A probe of a stage of work; with an exit that is watched or without.
    Work(u8, bool),
    /// A probe of a queue, which a softirq empties or not.
    Wait(u8, bool),
    /// The exit of the open stage.
    Leave,
    /// The CPU is taken away, and given back.
    Interrupt(u8),
    Resume,
    Softirq(bool),
    SoftirqEnds,
    /// Another device, or one encapsulation more.
    Go(u16, u8),
    /// The packet is a copy or a part of another one, and begins where that is.
    Child(usize),
    /// The path is over.
    Finish,
    /// The packet's end was missed: its place is taken by another one.
    Lost,
}

fn event() -> impl Strategy<Value = Event> {
    let stage = 1..60u8;
    prop_oneof![
        2 => Just(Event::Begin),
        8 => (stage.clone(), any::<bool>()).prop_map(|(stage, exit)| Event::Work(stage, exit)),
        4 => (stage, any::<bool>()).prop_map(|(stage, deferred)| Event::Wait(stage, deferred)),
        2 => Just(Event::Leave),
        2 => prop_oneof![Just(SCHEDULING_WAIT), 61..70u8].prop_map(Event::Interrupt),
        2 => Just(Event::Resume),
        1 => any::<bool>().prop_map(Event::Softirq),
        1 => Just(Event::SoftirqEnds),
        2 => (any::<u16>(), 0..16u8).prop_map(|(hop, level)| Event::Go(hop, level)),
        1 => (0..PACKETS).prop_map(Event::Child),
        1 => Just(Event::Finish),
        1 => Just(Event::Lost),
    ]
}

/// The clock's step: mostly short, at times very long, at times backwards as between the clocks of CPUs.
fn step() -> impl Strategy<Value = i64> {
    prop_oneof![10 => 0..5_000i64, 1 => -300..0i64, 1 => 0..1i64 << 40]
}

struct World {
    table: Table,
    /// By packet: the CPU that it was last seen on, and those of its spans.
    on: Vec<(u16, Vec<u16>)>,
    now: u64,
}

impl World {
    fn new() -> World {
        let packets = (0..PACKETS).map(|number| {
            let tracked = Tracked { number: number as u32, ..Tracked::default() };
            (tracked, [0; PATH_WORDS])
        });
        let table =
            Table { packets: RefCell::new(packets.collect()), cpus: Rc::default(), begun: vec![0; PACKETS] };
        World { table, on: vec![(0, Vec::new()); PACKETS], now: EPOCH }
    }

    fn begin(&mut self, number: usize, on: usize, at: Option<Tracked>) {
        let mut packets = self.table.packets.borrow_mut();
        let (packet, words) = &mut packets[number];
        packet.skb = 64 * (1 + number as u64);
        packet.account.start(words, self.now, OTHER, on as u32);
        if let Some(parent) = at {
            packet.account.stage = parent.account.stage;
            packet.account.move_to(words, parent.account.position);
        }
        self.table.begun[number] = self.now;
        self.on[number] = (on as u16, Vec::new());
    }

    /// Something was seen of a packet on a CPU. Its spans since then are of that CPU; of an interrupted one the part
    /// before is of the CPU where it was.
    fn on(&mut self, number: usize, on: usize) {
        let (spans, _) = self.path(number);
        let (before, cpus) = &mut self.on[number];
        let new = spans.get(cpus.len()..).unwrap_or_default();
        if let [part, by, ..] = new
            && part.ns > 0
            && by.stage >= INTERRUPTS
        {
            cpus.push(*before);
        }
        cpus.resize(spans.len(), on as u16);
        *before = on as u16;
    }

    /// A packet's path so far, and the time that it covers.
    fn path(&self, number: usize) -> (Vec<Span>, u64) {
        let packets = self.table.packets.borrow();
        let (packet, words) = &packets[number];
        let spans = path::spans(&words[..packet.account.length as usize]).collect();
        (spans, packet.account.last_ns - self.table.begun[number])
    }

    fn check(&self, number: usize) -> Result<(), TestCaseError> {
        let (spans, covered) = self.path(number);
        let overflow = self.table.packets.borrow()[number].0.account.overflow_ns;
        let sum: u64 = spans.iter().map(|span| span.ns).sum();
        prop_assert_eq!(sum + overflow, covered);
        let cpus: Vec<u16> = spans.iter().filter_map(|span| span.cpu).collect();
        prop_assert_eq!(&cpus, &self.on[number].1);
        Ok(())
    }

    fn is_tracked(&self, number: usize) -> bool {
        self.table.packets.borrow()[number].0.skb != 0
    }

    /// Applies an event as the kernel side does.
    fn apply(&mut self, event: &Event, number: usize, on: usize) -> Result<(), TestCaseError> {
        let cpus = Rc::clone(&self.table.cpus);
        let context = Context { cpu: &cpus[on], number: on as u32, now: self.now };
        let table = &self.table;
        match *event {
            Event::Interrupt(by) => {
                table.interrupt_current(context, by);
                if by == SCHEDULING_WAIT {
                    context.switch_task();
                }
            }
            Event::Resume => context.resume(),
            Event::Softirq(thread) => {
                context.cpu.softirq_ns.set(self.now);
                context.cpu.deferred_by.set(if thread { KSOFTIRQD_WAIT } else { SOFTIRQ_WAIT });
                context.begin_softirq(SOFTIRQ_INTERRUPTION, table);
            }
            Event::SoftirqEnds => context.end_softirq(table),
            Event::Begin => {
                self.seen_by(number, context);
                self.begin(number, on, None);
            }
            Event::Child(parent) => {
                self.seen_by(number, context);
                let at = self.table.packets.borrow()[parent].0;
                self.begin(number, on, Some(at));
            }
            // All others are of packets that are known.
            _ if !self.is_tracked(number) => {}
            Event::Lost => {
                self.seen_by(number, context);
                let packet = &mut self.table.packets.borrow_mut()[number].0;
                context.cpu.drop_current(packet.skb);
                packet.skb = 0;
            }
            _ => {
                self.seen_by(number, context);
                self.seen(event, number, context)?;
                self.on(number, on);
            }
        }
        Ok(())
    }

    /// A packet is found on a CPU.
    fn seen_by(&self, number: usize, context: Context) {
        self.table.with(number, |packet, words| {
            if packet.skb != 0 && packet.skb != context.cpu.skb.get() {
                packet.seen_by(context.number, words, &self.table);
            }
        });
    }

    fn seen(&self, event: &Event, number: usize, context: Context) -> Result<(), TestCaseError> {
        self.table.with(number, |packet, words| self.seen_packet(event, (packet, words), context))
    }

    fn seen_packet(
        &self,
        event: &Event,
        (packet, words): (&mut Tracked, &mut Words),
        context: Context,
    ) -> Result<(), TestCaseError> {
        let table = &self.table;
        let goes_on = |stage| context.cpu.skb.get() == packet.skb && packet.account.stage == stage;
        if matches!(*event, Event::Work(stage, false) if goes_on(stage)) && packet.account.repeat(words) {
            return Ok(());
        }
        context.close(packet, words);
        match *event {
            Event::Work(stage, true) => packet.account.enter(stage),
            Event::Work(stage, false) | Event::Wait(stage, _) => packet.account.stage = stage,
            Event::Leave => packet.account.stage = packet.account.before,
            Event::Go(hop, level) => packet.account.move_to(words, position(level.into(), hop.into())),
            _ => {}
        }
        match *event {
            Event::Wait(_, deferred) => {
                context.queue(packet, table);
                if deferred {
                    packet.account.interrupt(context.now, SOFTIRQ_WAIT);
                }
            }
            Event::Finish => {
                context.release(packet, table);
                let (length, _) = packet.account.finish(words, OTHER);
                prop_assert!(length as usize <= PATH_WORDS);
                let sum: u64 = path::spans(&words[..length as usize]).map(|span| span.ns).sum();
                prop_assert_eq!(sum, packet.account.last_ns - table.begun[packet.number as usize]);
                packet.skb = 0;
            }
            _ => context.work_on(packet, table),
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_every_nanosecond_has_one_owner(
        events in prop::collection::vec((event(), 0..PACKETS, 0..CPUS, step()), 1..800),
    ) {
        let mut world = World::new();
        for (event, number, on, step) in events {
            world.now = world.now.saturating_add_signed(step).max(EPOCH);
            world.apply(&event, number, on)?;
            for number in 0..PACKETS {
                world.check(number)?;
            }
        }
    }
}

/// A world in which the times of steps are told by hand: (ns, event, packet, CPU).
fn play(events: &[(u64, Event, usize, usize)]) -> World {
    let mut world = World::new();
    for (ns, event, number, on) in events {
        world.now = EPOCH + ns;
        world.apply(event, *number, *on).expect("the sums are exact");
    }
    world
}

fn steps(world: &World, number: usize) -> Vec<(u8, u64)> {
    world.path(number).0.iter().map(|span| (span.stage, span.ns)).collect()
}

fn cpus(world: &World, number: usize) -> Vec<u16> {
    world.path(number).0.iter().filter_map(|span| span.cpu).collect()
}

#[test]
fn behind_another_packet_of_its_batch_a_packet_waits() {
    use Event::*;
    let world = play(&[
        (0, Begin, 0, 0),
        (0, Work(1, false), 0, 0),
        (10, Begin, 1, 0),
        (10, Work(1, false), 1, 0),
        (30, Work(2, false), 1, 0),
        (35, Work(2, false), 0, 0),
        (42, Work(3, false), 1, 0),
    ]);
    // Until the other came it was at work; then the CPU was busy with the other until it was its turn again.
    assert_eq!(steps(&world, 0), [(OTHER, 0), (1, 10), (BATCH_WAIT, 25)]);
    assert_eq!(steps(&world, 1), [(OTHER, 0), (1, 20), (2, 5), (BATCH_WAIT, 7)]);
}

#[test]
fn calls_of_one_stage_that_follow_each_other_are_counted_and_their_time_is_told_once() {
    use Event::*;
    let world = play(&[
        (0, Begin, 0, 0),
        (0, Work(1, false), 0, 0),
        (10, Work(2, false), 0, 0),
        (15, Work(2, false), 0, 0),
        (30, Work(3, false), 0, 0),
    ]);
    assert_eq!(steps(&world, 0), [(OTHER, 0), (1, 10), (2, 0), (2, 20)]);
}

#[test]
fn once_the_other_packet_lies_in_a_queue_a_packet_goes_on() {
    use Event::*;
    let world = play(&[
        (0, Begin, 0, 0),
        (0, Work(1, false), 0, 0),
        (10, Begin, 1, 0),
        (10, Work(1, false), 1, 0),
        (30, Wait(9, false), 1, 0),
        (35, Work(2, false), 0, 0),
    ]);
    assert_eq!(steps(&world, 0), [(OTHER, 0), (1, 10), (BATCH_WAIT, 20), (1, 5)]);
}

#[test]
fn receive_work_on_top_of_a_sender_is_not_the_sender_s() {
    use Event::*;
    let world = play(&[
        (0, Begin, 0, 0),
        (0, Work(1, false), 0, 0),
        (10, Softirq(false), 0, 0),
        (12, Begin, 1, 0),
        (12, Work(7, false), 1, 0),
        (30, SoftirqEnds, 0, 0),
        (37, Work(2, false), 0, 0),
    ]);
    assert_eq!(steps(&world, 0), [(OTHER, 0), (1, 10), (SOFTIRQ_INTERRUPTION, 20), (1, 7)]);
}

#[test]
fn what_another_cpu_does_is_no_wait() {
    use Event::*;
    let world = play(&[
        (0, Begin, 0, 0),
        (0, Work(1, false), 0, 0),
        (10, Begin, 1, 1),
        (10, Work(1, false), 1, 1),
        (35, Work(2, false), 0, 0),
    ]);
    assert_eq!(steps(&world, 0), [(OTHER, 0), (1, 35)]);
}

#[test]
fn interrupts_are_taken_out_from_the_first_to_the_last() {
    use Event::*;
    let world = play(&[
        (0, Begin, 0, 0),
        (0, Work(1, false), 0, 0),
        (10, Interrupt(62), 0, 0),
        (14, Resume, 0, 0),
        (20, Interrupt(62), 0, 0),
        (26, Resume, 0, 0),
        (30, Work(2, false), 0, 0),
    ]);
    assert_eq!(steps(&world, 0), [(OTHER, 0), (1, 10), (62, 16), (1, 4)]);
}

#[test]
fn a_sender_that_loses_its_cpu_waits_until_it_has_one_again() {
    use Event::*;
    let world = play(&[
        (0, Begin, 0, 0),
        (0, Work(1, false), 0, 0),
        (10, Interrupt(SCHEDULING_WAIT), 0, 0),
        (50, Interrupt(SCHEDULING_WAIT), 0, 1),
        (60, Work(2, false), 0, 1),
    ]);
    assert_eq!(steps(&world, 0), [(OTHER, 0), (1, 10), (SCHEDULING_WAIT, 40), (1, 10)]);
    assert_eq!(cpus(&world, 0), [0, 0, 1, 1]);
}

#[test]
fn what_lay_in_a_queue_is_of_the_cpu_that_took_it_out() {
    use Event::*;
    let world = play(&[
        (0, Begin, 0, 0),
        (0, Work(1, false), 0, 0),
        (10, Wait(5, false), 0, 0),
        (30, Work(2, false), 0, 2),
        (35, Work(3, false), 0, 2),
        (40, Wait(6, false), 0, 2),
        (60, Work(4, false), 0, 0),
    ]);
    assert_eq!(steps(&world, 0), [(OTHER, 0), (1, 10), (5, 20), (2, 5), (3, 5), (6, 20)]);
    assert_eq!(cpus(&world, 0), [0, 0, 2, 2, 2, 0]);
}

#[test]
fn a_packet_that_comes_back_is_on_its_first_cpu_again() {
    use Event::*;
    // No probe saw the queues between.
    let world = play(&[
        (0, Begin, 0, 0),
        (0, Work(1, false), 0, 0),
        (10, Work(2, false), 0, 1),
        (20, Work(3, false), 0, 0),
        (30, Work(4, false), 0, 0),
    ]);
    assert_eq!(steps(&world, 0), [(OTHER, 0), (1, 10), (2, 10), (3, 10)]);
    assert_eq!(cpus(&world, 0), [0, 1, 0, 0]);
}

#[test]
fn what_is_left_to_ksoftirqd_has_waited_for_it_whoever_does_it() {
    use Event::*;
    let taken_up = |between: &[(u64, Event, usize, usize)]| {
        let before = [(0, Begin, 0, 0), (0, Work(1, false), 0, 0), (10, Wait(5, true), 0, 0)];
        let after = [(40, Softirq(false), 0, 0), (45, Work(2, false), 0, 0)];
        steps(&play(&[&before, between, &after].concat()), 0)
    };
    // A task got the CPU though the softirq was pending; a tick then did it.
    let left = taken_up(&[(20, Interrupt(SCHEDULING_WAIT), 0, 0)]);
    assert_eq!(left, [(OTHER, 0), (1, 10), (5, 0), (KSOFTIRQD_WAIT, 30), (5, 5)]);
    let late = taken_up(&[]);
    assert_eq!(late, [(OTHER, 0), (1, 10), (5, 0), (SOFTIRQ_WAIT, 30), (5, 5)]);
    let elsewhere = taken_up(&[(20, Interrupt(SCHEDULING_WAIT), 0, 1)]);
    assert_eq!(elsewhere, late);
}

#[test]
fn a_queue_s_wait_is_first_for_the_softirq_and_then_for_the_turn() {
    use Event::*;
    let queued = |softirq| [(0, Begin, 0, 0), (0, Wait(5, true), 0, 0), softirq, (90, Work(2, false), 0, 1)];
    let world = play(&queued((40, Softirq(false), 0, 1)));
    assert_eq!(steps(&world, 0), [(OTHER, 0), (5, 0), (SOFTIRQ_WAIT, 40), (5, 50)]);
    let world = play(&queued((40, Softirq(true), 0, 1)));
    assert_eq!(steps(&world, 0), [(OTHER, 0), (5, 0), (KSOFTIRQD_WAIT, 40), (5, 50)]);
    // The softirq was already at it, on the CPU that emptied the queue.
    let world = play(&queued((40, Softirq(true), 0, 0)));
    assert_eq!(steps(&world, 0), [(OTHER, 0), (5, 90)]);
}

#[test]
fn a_long_path_and_a_long_time_are_kept_whole() {
    let mut events = vec![(0, Event::Begin, 0, 0), (0, Event::Work(1, false), 0, 0)];
    for step in 1..=1000u64 {
        events.push((step * 100_000_000, Event::Work((2 + step % 50) as u8, false), 0, 0));
    }
    let world = play(&events);
    let (spans, covered) = world.path(0);
    assert_eq!(covered, 100_000_000_000);
    assert_eq!(spans[1], Span { ns: 100_000_000, hop: 0, level: 0, stage: 1, cpu: Some(0) });
    let mut packets = world.table.packets.borrow_mut();
    let (packet, words) = &mut packets[0];
    let (length, is_full) = packet.account.finish(words, OTHER);
    let last = path::spans(&words[..length as usize]).last().expect("a path");
    assert!(is_full && last.stage == OTHER && last.ns > covered / 2);
}

#[test]
fn what_a_softirq_leaves_behind_waits_until_it_is_seen_again() {
    use Event::*;
    let begin = [(0, Softirq(false), 0, 0), (5, Begin, 0, 0), (5, Work(1, false), 0, 0)];
    let end = [(20, SoftirqEnds, 0, 0), (90, Work(2, false), 0, 1)];
    let world = play(&[&begin[..], &end].concat());
    assert_eq!(steps(&world, 0), [(OTHER, 0), (1, 15), (UNSEEN_WAIT, 70)]);
    // A packet that has ended, or was queued, is not the softirq's any more.
    let queued = [(10, Wait(3, false), 0, 0)];
    let world = play(&[&begin[..], &queued, &end].concat());
    assert_eq!(steps(&world, 0), [(OTHER, 0), (1, 5), (3, 80)]);
}

#[test]
fn levels_are_raised_where_they_were_counted_from_another_one() {
    let mut account = path::Account::default();
    let mut words: Words = [0; PATH_WORDS];
    account.start(&mut words, EPOCH, OTHER, 0);
    // Two encapsulations, of which one is taken off; the headers are read then.
    for (level, hop, stage) in [(8, 3, 10), (8, 4, 11), (7, 5, 12)] {
        account.move_to(&mut words, position(level, hop));
        account.stage = stage;
        assert!(account.close_fast(&mut words, account.last_ns + 5));
    }
    account.shift_levels(&mut words, 1u32.wrapping_sub(7));
    assert_eq!(account.position, position(1, 5));
    let (length, _) = account.finish(&mut words, OTHER);
    let spans: Vec<Span> = path::spans(&words[..length as usize]).collect();
    let places: Vec<_> = spans.iter().map(|span| (span.level, span.hop, span.stage, span.ns)).collect();
    assert_eq!(places, [(2, 3, 10, 5), (2, 4, 11, 5), (1, 5, 12, 5)]);
}
