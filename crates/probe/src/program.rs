//! Which program of the kernel side a probe copies, and what that program is called: the one place that makes their
//! names (see `overlay-trace-ebpf/src/main.rs` and its `build.rs`).

use std::fmt;

use overlay_trace_common::{flags::ProbeFlags, probe_spec::ProbeSpec, record::Outcome, stage::Action};

use crate::probe_kind::ProbeKind;

/// The highest argument position that there is a generic program for, plus 1.
pub const ARGUMENTS: u8 = 4;

/// How a program gets the arguments of what it is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// An array of the arguments: fentry, fexit, tp_btf.
    Typed,
    /// The registers: kprobe.
    Registers,
}

impl Context {
    /// The context that programs of this kind get.
    pub fn of(kind: ProbeKind) -> Context {
        match kind {
            ProbeKind::Fentry | ProbeKind::Fexit | ProbeKind::TpBtf => Context::Typed,
            ProbeKind::Kprobe => Context::Registers,
        }
    }

    /// What the names of its programs begin with.
    fn prefix(self) -> &'static str {
        match self {
            Context::Typed => "typed",
            Context::Registers => "kprobe",
        }
    }
}

/// A program of the kernel side; [`Display`](fmt::Display) gives its name in the object file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Does whatever its probe spec says, with the packet at this argument.
    Generic { context: Context, argument: u8 },
    /// The same at the exit of a function.
    Exit { argument: u8 },
    /// `skb:kfree_skb`: the end of a packet, with the location and the reason.
    Drop,
    /// `qdisc:qdisc_enqueue`: the device comes from the queue, not from the packet.
    Queued,
    /// `tcp:tcp_probe`: the end of a packet in its socket.
    TakenUp,
    /// `sock:inet_sock_set_state`.
    SocketState,
    /// `net:net_dev_xmit`: a driver has returned, and the packet may be gone.
    HandOver,
    /// GRO's result, without a packet.
    GroResult,
    /// The step of a synthetic packet, to measure the cost of a probe.
    Calibrate(Context),
    /// For functions that make one packet of another.
    Pair(Context),
    /// The set `tc`: the end of a packet.
    TcEnd,
    /// The set `tc`: `skb:kfree_skb`.
    TcDrop,
    /// Compiled for the probe specs of one class ([`ProbeSpec::class`]), without the branches that these do not need.
    Class { context: Context, class: u64 },
    /// The same at the exit of a function.
    ExitClass { class: u64 },
}

impl Program {
    /// The program that can serve every probe of this kind, argument and spec.
    pub fn generic(kind: ProbeKind, argument: u8, spec: ProbeSpec) -> Program {
        let context = Context::of(kind);
        let drops = spec.action() == Action::End as u8 && spec.outcome() == Outcome::Dropped as u8;
        let is_step = spec.action() == Action::Enter as u8;
        match kind {
            _ if spec.has(ProbeFlags::CALIBRATE) && is_step => Program::Calibrate(context),
            ProbeKind::TpBtf if drops => Program::Drop,
            ProbeKind::TpBtf if spec.has(ProbeFlags::AFTER_HANDOVER) => Program::Queued,
            ProbeKind::TpBtf if spec.has(ProbeFlags::IN_TCP) => Program::TakenUp,
            ProbeKind::TpBtf if spec.has(ProbeFlags::GRO_RESULT) => Program::GroResult,
            ProbeKind::TpBtf if spec.action() == Action::SocketState as u8 => Program::SocketState,
            ProbeKind::TpBtf if spec.action() == Action::HandOver as u8 => Program::HandOver,
            ProbeKind::Fexit => Program::Exit { argument },
            _ if spec.action() == Action::Copy as u8 => Program::Pair(context),
            _ => Program::Generic { context, argument },
        }
    }

    /// The program of the set `tc` for a tracepoint at which packets end.
    pub fn tc(spec: ProbeSpec) -> Program {
        if spec.outcome() == Outcome::Dropped as u8 { Program::TcDrop } else { Program::TcEnd }
    }

    /// The program for the class of a spec, where there may be one instead of this one. There is none for programs that
    /// do one thing only, nor for specs that depend on the running kernel.
    pub fn for_class(self, spec: ProbeSpec) -> Option<Program> {
        let class = spec.class();
        match self {
            _ if spec.has(ProbeFlags::OF_KERNEL) => None,
            Program::Generic { context, .. } => Some(Program::Class { context, class }),
            Program::Exit { .. } => Some(Program::ExitClass { class }),
            _ => None,
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Program::Generic { context, argument } => write!(out, "{}_{argument}", context.prefix()),
            Program::Exit { argument } => write!(out, "{}_exit_{argument}", Context::Typed.prefix()),
            Program::Drop => write!(out, "{}_drop", Context::Typed.prefix()),
            Program::Queued => write!(out, "{}_queued", Context::Typed.prefix()),
            Program::TakenUp => write!(out, "{}_taken_up", Context::Typed.prefix()),
            Program::SocketState => write!(out, "{}_socket_state", Context::Typed.prefix()),
            Program::HandOver => write!(out, "{}_hand_over", Context::Typed.prefix()),
            Program::GroResult => write!(out, "{}_gro_result", Context::Typed.prefix()),
            Program::TcEnd => write!(out, "tc_end"),
            Program::TcDrop => write!(out, "tc_drop"),
            Program::Calibrate(context) => write!(out, "{}_calibrate", context.prefix()),
            Program::Pair(context) => write!(out, "{}_pair", context.prefix()),
            Program::Class { context, class } => write!(out, "{}_class_{class:x}", context.prefix()),
            Program::ExitClass { class } => write!(out, "{}_exit_class_{class:x}", Context::Typed.prefix()),
        }
    }
}

#[cfg(test)]
mod tests {
    use overlay_trace_common::probe_spec::calibration;

    use super::*;

    fn spec(action: Action, outcome: u8, flags: ProbeFlags) -> ProbeSpec {
        ProbeSpec::new(7, action as u8, outcome, flags)
    }

    fn generic(kind: ProbeKind, spec: ProbeSpec) -> String {
        Program::generic(kind, 2, spec).to_string()
    }

    #[test]
    fn the_kind_the_action_and_the_argument_select_the_program() {
        let enters = spec(Action::Enter, 0, ProbeFlags::NONE);
        assert_eq!(generic(ProbeKind::Fentry, enters), "typed_2");
        assert_eq!(generic(ProbeKind::TpBtf, enters), "typed_2");
        assert_eq!(generic(ProbeKind::Kprobe, enters), "kprobe_2");
        assert_eq!(generic(ProbeKind::Fexit, enters), "typed_exit_2");
        let copies = spec(Action::Copy, 0, ProbeFlags::NONE);
        assert_eq!(generic(ProbeKind::Fentry, copies), "typed_pair");
        assert_eq!(generic(ProbeKind::Kprobe, copies), "kprobe_pair");
        let drops = spec(Action::End, Outcome::Dropped as u8, ProbeFlags::NONE);
        assert_eq!(generic(ProbeKind::TpBtf, drops), "typed_drop");
        assert_eq!(generic(ProbeKind::Fentry, drops), "typed_2");
        let queued = spec(Action::Enter, 0, ProbeFlags::AFTER_HANDOVER);
        assert_eq!(generic(ProbeKind::TpBtf, queued), "typed_queued");
    }

    #[test]
    fn a_class_has_a_program_unless_the_kernel_decides_what_it_does() {
        let of_class =
            |kind, spec| Program::generic(kind, 0, spec).for_class(spec).map(|program| program.to_string());
        let waits = spec(Action::Enter, 0, ProbeFlags::WAIT);
        let class = format!("{:x}", waits.class());
        assert_eq!(of_class(ProbeKind::Fentry, waits), Some(format!("typed_class_{class}")));
        assert_eq!(of_class(ProbeKind::Kprobe, waits), Some(format!("kprobe_class_{class}")));
        assert_eq!(of_class(ProbeKind::Fexit, waits), Some(format!("typed_exit_class_{class}")));
        assert_eq!(of_class(ProbeKind::Fentry, waits.with(ProbeFlags::INDIRECT)), None);
        assert_eq!(of_class(ProbeKind::Fentry, spec(Action::Copy, 0, ProbeFlags::NONE)), None);
        assert_eq!(of_class(ProbeKind::Fentry, calibration::STEP), None);
        assert_eq!(generic(ProbeKind::Fexit, calibration::STEP), "typed_calibrate");
    }
}
