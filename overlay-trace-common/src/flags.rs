//! Sets of flags: a type for each set, its flags as constants of the type.

/// Declares a set of flags: a transparent wrapper of an integer with one constant per flag.
macro_rules! flags {
    (
        $(#[$set:meta])*
        $name:ident: $integer:ty;
        $($(#[$flag:meta])* $flag_name:ident = $bits:expr;)*
    ) => {
        $(#[$set])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        #[repr(transparent)]
        pub struct $name($integer);

        impl $name {
            $($(#[$flag])* pub const $flag_name: $name = $name($bits);)*
            /// The set without any flag.
            pub const NONE: $name = $name(0);

            /// The set of these bits; bits without a name are kept.
            #[inline(always)]
            pub const fn from_bits(bits: $integer) -> $name {
                $name(bits)
            }

            /// The set as an integer.
            #[inline(always)]
            pub const fn bits(self) -> $integer {
                self.0
            }

            /// Whether at least one of these flags is set.
            #[inline(always)]
            pub const fn has(self, flags: $name) -> bool {
                self.0 & flags.0 != 0
            }

            /// Whether no flag is set.
            #[inline(always)]
            pub const fn is_empty(self) -> bool {
                self.0 == 0
            }

            /// The flags of both sets.
            #[inline(always)]
            pub const fn union(self, other: $name) -> $name {
                $name(self.0 | other.0)
            }

            /// The flags that are in both sets.
            #[inline(always)]
            pub const fn intersection(self, other: $name) -> $name {
                $name(self.0 & other.0)
            }

            /// The flags of this set that the other one does not have.
            #[inline(always)]
            pub const fn difference(self, other: $name) -> $name {
                $name(self.0 & !other.0)
            }
        }

        impl core::ops::BitOr for $name {
            type Output = $name;
            #[inline(always)]
            fn bitor(self, other: $name) -> $name {
                self.union(other)
            }
        }

        impl core::ops::BitOrAssign for $name {
            #[inline(always)]
            fn bitor_assign(&mut self, other: $name) {
                *self = self.union(other);
            }
        }

        impl core::ops::BitAnd for $name {
            type Output = $name;
            #[inline(always)]
            fn bitand(self, other: $name) -> $name {
                self.intersection(other)
            }
        }
    };
}

flags! {
    /// What is known of a recorded packet: the byte `flags` of a record's header.
    RecordFlags: u8;
    /// The start of the path was not seen: the packet was already in flight, or its sender is not in the stage map.
    UNKNOWN_START = 1 << 0;
    /// The path had more than [`PATH_WORDS_MAX`](crate::path::PATH_WORDS_MAX) words.
    PATH_FULL = 1 << 1;
    /// The packet is a segment, a fragment or a clone of the packet `parent`.
    CHILD = 1 << 2;
    /// The packet entered through a device whose other side is not on this machine.
    FROM_DEVICE = 1 << 3;
    /// Other packets were made of this one: segments, fragments or clones. They name it as their `parent`.
    PARENT = 1 << 4;
    /// A TCP segment without data; also SYN and FIN segments that carry none.
    NO_DATA = 1 << 5;
    /// A TCP segment with SYN: it opens a connection or answers one that does.
    SYN = 1 << 6;
    /// A TCP segment that announces a window of zero: its sender can receive nothing for now.
    ZERO_WINDOW = 1 << 7;
}

impl RecordFlags {
    /// The flags that come from the TCP header.
    pub const TCP: RecordFlags = RecordFlags::NO_DATA.union(RecordFlags::SYN).union(RecordFlags::ZERO_WINDOW);
}

flags! {
    /// What a probe does: the bits 24 to 63 of a [`ProbeSpec`](crate::probe_spec::ProbeSpec).
    ProbeFlags: u64;
    /// Read the packet's device again.
    DEVICE = 1 << 24;
    /// The stage is a wait: the CPU no longer works on the packet.
    WAIT = 1 << 25;
    /// One encapsulation less from here on.
    DECAPSULATES = 1 << 26;
    /// The exit is probed too: remember the stage that the packet came from.
    EXIT = 1 << 27;
    /// The network header is in place: parse the headers unless that has been done.
    PARSE_HEADERS = 1 << 28;
    /// The packet's data begin with its network header (receive path).
    INGRESS = 1 << 29;
    /// `skb:kfree_skb` has a third argument, the drop reason (Linux 5.17).
    DROP_REASON = 1 << 30;
    /// The function returns the packets that this one was segmented into, or its clone.
    RETURNS_PACKETS = 1 << 31;
    /// The argument is the address of the `sk_buff` pointer.
    INDIRECT = 1 << 32;
    /// Calibration: the packet is synthetic.
    CALIBRATE = 1 << 33;
    /// A packet at this point is always a new one: what is known under its address is out of date.
    ALWAYS_NEW = 1 << 34;
    /// The argument is a socket; the packet is the one that the CPU works on.
    CURRENT_PACKET = 1 << 36;
    /// An unknown packet is tracked from here on, whatever the action.
    STARTS_PATH = 1 << 38;
    /// The probe fires after the packet may have become visible to another CPU: if that CPU has taken it, nothing is
    /// recorded.
    AFTER_HANDOVER = 1 << 39;
    /// Only if the function returns 0, so only its exit is probed.
    IF_ZERO = 1 << 40;
    /// A softirq empties the queue: the packet waits for the softirq first, and then for its turn.
    SOFTIRQ_QUEUE = 1 << 41;
    /// The argument is the number of a softirq that begins.
    SOFTIRQ = 1 << 42;
    /// What is interrupted at this point resumes when the point fires again.
    RESUMES = 1 << 43;
    /// Only for packets that have not left through a NIC.
    IN_SOCKET = 1 << 44;
    /// From here on the packet is being forwarded.
    FORWARDS = 1 << 45;
    /// Not for packets that are being forwarded.
    UNLESS_FORWARDED = 1 << 46;
    /// One encapsulation more from here on.
    ENCAPSULATES = 1 << 47;
    /// Calls of the stage follow each other with no other stage in between.
    REPEATS = 1 << 48;
    /// The send call of a packet that starts here may have been noted.
    HAS_SEND_NOTE = 1 << 49;
    /// A packet at this point is always a new one if its device is an edge of the machine.
    NEW_AT_EDGE = 1 << 50;
    /// GRO's result will follow for the packet that enters it here: remember the packet.
    GRO_ENTRY = 1 << 51;
    /// The argument is GRO's result.
    GRO_RESULT = 1 << 52;
    /// The argument before the packet is its TCP socket.
    IN_TCP = 1 << 53;
    /// Not all ends are seen: remember segments by their sequence numbers, and notice when a path cannot go on here.
    UNSEEN_ENDS = 1 << 54;
    /// The interrupt is a timer's.
    TIMER = 1 << 55;
    /// The path of a packet that is transmitted through a NIC ends here: when its driver returns is not probed.
    HANDS_OVER = 1 << 56;
    /// The packet comes out of a qdisc, into which the kernel may have put it back unseen.
    DEQUEUED = 1 << 57;
    /// GRO has merged packets before, at no probe.
    BEHIND_GRO = 1 << 58;
    /// The packet goes on at its route's device, which is not yet that of the packet.
    ROUTED = 1 << 59;
}

impl ProbeFlags {
    /// Bits of the integer below the flags.
    pub const SHIFT: u32 = 24;
    /// The flags of a probe at which a known packet only enters another stage, perhaps at another device.
    pub const STEP: ProbeFlags = ProbeFlags::WAIT
        .union(ProbeFlags::DEVICE)
        .union(ProbeFlags::FORWARDS)
        .union(ProbeFlags::UNLESS_FORWARDED)
        .union(ProbeFlags::REPEATS)
        .union(ProbeFlags::UNSEEN_ENDS)
        .union(ProbeFlags::DEQUEUED);
    /// The flags that only the running kernel decides.
    pub const OF_KERNEL: ProbeFlags = ProbeFlags::DROP_REASON.union(ProbeFlags::INDIRECT);
}
