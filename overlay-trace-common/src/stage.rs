//! The stage map: the one table from which everything derives.
//!
//! A [`Stage`] is a row: a place in the kernel where a packet spends time. A packet is in exactly one
//! stage at any moment: it enters a stage when one of the stage's points fires, and it leaves it when
//! the next stage's point fires. That is what makes every nanosecond have one owner, and it is why most
//! stages need no exit probe: the next entry is the end. A row asks for the exit ([`Point::exit`]) only where what
//! follows would otherwise be charged to it wrongly.
//!
//! A [`Point`] is one place where the stage is entered; its probes are alternatives, the first that the
//! running kernel offers is attached.

use crate::{behaviour::Behaviour, record::Outcome};

pub use crate::layer::Layer;

/// Whether a stage's time is work of the CPU on this packet or waiting in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Work,
    Wait,
}

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Work => "work",
            Kind::Wait => "wait",
        }
    }
}

/// What can be probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The entry of a kernel function, by fentry where the kernel and its BTF allow it, else by kprobe.
    Function(&'static str),
    /// A kernel tracepoint, by tp_btf.
    Tracepoint(&'static str),
    /// The tracepoint `net_dev_start_xmit`, when the device's link kind (`rtnl_link_ops.kind`) is this;
    /// the empty name stands for a device without a link kind: a NIC, real or virtual.
    Transmit(&'static str),
}

/// One alternative of a point.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    pub target: Target,
    /// Which argument (from 0) is the packet or, for [`Action::Note`], the socket. Where the kernel has BTF
    /// of the function, the position of the argument of that type is read from it instead.
    pub argument: u8,
    /// Where there is no BTF of the function: before this kernel version (major, minor) the packet was at
    /// this position.
    pub before: Option<((u32, u32), u8)>,
    /// Where there is no BTF of the function: the argument is the address of the packet's address.
    pub indirect: bool,
}

/// What happens when a point fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Action {
    /// A packet that is known enters the stage; an unknown one is ignored.
    Enter = 0,
    /// As `Enter`; the path of a packet that is not known yet starts here.
    Start = 1,
    /// As `Enter`; a packet that is not known yet is picked up mid-path: no sending socket was seen, because it came
    /// from a device, or because it was in flight when the recording began.
    PickUp = 2,
    /// No packet exists yet: remembers the time for the packet that this task will send from this
    /// socket. The time from here to the next note or to the start of the path belongs to this stage.
    Note = 3,
    /// The packet's path ends: how, says [`Stage::outcome`].
    End = 4,
    /// `net_dev_start_xmit`: enters the stage of the device's link kind.
    Transmit = 5,
    /// The function makes a packet (argument 0) of another one (argument 1), which is tracked too, as its
    /// child; at the exit: it returns a part of the packet that is known and now has its data.
    Copy = 6,
    /// Something takes the CPU from its current packet: the packet waits in the stage.
    Interrupt = 7,
    /// What was interrupted has the CPU again.
    Resume = 8,
    /// A device, somewhere, has come, gone, or got another name or namespace. There is no packet.
    Change = 9,
    /// At the function's exit the packet has been put together of all its fragments.
    Join = 10,
    /// The device has the packet that [`Transmit`](Action::Transmit) saw last on this CPU: its path ends there. Or the
    /// device is busy, and the packet is queued again.
    HandOver = 11,
    /// A connection's state changes: the segment that TCP is processing is taken up.
    SocketState = 12,
    /// A softirq is raised.
    Raise = 13,
    /// A NAPI instance has been polled.
    Poll = 14,
}

/// Whether the packet's headers can be read at a point, for its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Headers {
    /// Not there yet, or known from before.
    No,
    /// At egress: at the packet's network header.
    Out,
    /// At ingress: at the beginning of the packet's data.
    In,
}

/// A place where a stage is entered: alternatives, the best first.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    pub action: Action,
    /// The packet's device may have changed: read it anew.
    pub hop: bool,
    /// The function makes the route's device that of the packet.
    pub routed: bool,
    /// The function's exit is probed too: the packet is then back in the stage that it came from (or a
    /// note is dropped).
    pub exit: bool,
    /// A packet that comes here is always a new one: what is known under its address is out of date.
    pub first: bool,
    /// The same, if its device is an edge of the machine: GRO takes packets from a NIC before anything else does.
    pub new_at_edge: bool,
    /// The argument is what GRO says of the packet that entered it last on this CPU.
    pub gro_result: bool,
    /// The packet's socket is known: segments that it joined to this one in its backlog end with it.
    pub in_tcp: bool,
    /// The interrupt is a timer's.
    pub timer: bool,
    /// A packet comes out of a qdisc.
    pub dequeued: bool,
    pub headers: Headers,
    /// The function returns the list of packets that this one was cut into.
    pub split: bool,
    /// The argument is a socket, the packet the one that the CPU is busy with.
    pub current: bool,
    /// Fires after the packet may have become visible to another CPU.
    pub after: bool,
    /// Only for a packet that is in a socket: the reader of a tap takes packets that have left.
    pub in_socket: bool,
    /// The routing decision of this namespace has been made.
    pub forwards: bool,
    /// Not after the routing decision: there the packet serves to look up the route of an ICMP error.
    pub unless_forwarded: bool,
    /// Only if the function returns 0, so only its exit is probed.
    pub if_zero: bool,
    /// A softirq empties the queue.
    pub deferred: bool,
    /// The argument is the number of a softirq.
    pub softirq: bool,
    /// What is interrupted here goes on when the same point fires again.
    pub resumes: bool,
    /// Only where the kernel lacks this tracepoint, which would see more.
    pub without: Option<&'static str>,
    pub probes: &'static [Probe],
}

/// How a stage changes the number of encapsulation headers around the innermost packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LevelChange {
    Keep,
    /// Encapsulation: one more, from the entry of this stage on.
    Up,
    /// Decapsulation: one less, from the entry of this stage on.
    Down,
}

/// The probe sets, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sets(pub u8);

impl Sets {
    pub const FULL: Sets = Sets(1);
    pub const LIGHT: Sets = Sets(2);
    pub const DEVICE: Sets = Sets(4);
    pub const NOT_DEVICE: Sets = Sets(3);
    pub const NOT_LIGHT: Sets = Sets(5);
    /// Those that follow packets by functions and tracepoints.
    pub const NOT_TC: Sets = Sets(7);
    pub const TC: Sets = Sets(8);
    pub const DEVICE_AND_TC: Sets = Sets(12);
    pub const ALL: Sets = Sets(15);

    pub const fn contains(self, other: Sets) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A row of the stage map.
#[derive(Clone, Copy, Debug)]
pub struct Stage {
    /// The stage's name in every output; unique.
    pub name: &'static str,
    pub layer: Layer,
    pub kind: Kind,
    pub level: LevelChange,
    pub sets: Sets,
    pub points: &'static [Point],
    /// For rows whose points end a packet's path ([`Action::End`]): how it ended. Such a row has no time
    /// of its own.
    pub outcome: Option<Outcome>,
    /// What the stage means for the analysis of a recording.
    pub behaviour: Behaviour,
    /// One sentence for people.
    pub about: &'static str,
}
