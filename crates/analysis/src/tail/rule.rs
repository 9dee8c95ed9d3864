//! A rule: the evidence of a cause of slow or lost packets, and advice.

use super::finding::Severity;

/// A cause of slow or lost packets.
#[derive(Debug)]
pub struct Rule {
    /// A short name. It never changes; programs match on it.
    pub id: &'static str,
    pub evidence: Evidence,
    /// The cause, as a clause for people. Its wording can change.
    pub what: &'static str,
    /// How to make sure, as a command or a place to look at; empty where the rows of the drops say it.
    pub check: &'static str,
    pub advice: &'static [Advice],
}

impl Rule {
    /// Whether it is about all packets, not only the slow ones.
    pub fn is_of_all(&self) -> bool {
        matches!(self.evidence, Evidence::TimeShare { .. })
    }

    /// The stages in which slow packets wait, for rules about places in the network; none for delays by programs.
    pub(super) fn stages(&self) -> &'static [&'static str] {
        match self.evidence {
            Evidence::Excess(stages)
            | Evidence::Queue(stages)
            | Evidence::RequestWait(stages)
            | Evidence::ExcessLed(stages)
            | Evidence::ExcessSpread(stages)
            | Evidence::ExcessOnOneCpu(stages) => stages,
            _ => &[],
        }
    }

    /// Whether it is about time that slow packets spend in this stage.
    pub fn is_about(&self, stage: &str) -> bool {
        let of_program = match self.evidence {
            Evidence::ExcessInProgram(stages) => stages,
            _ => &[],
        };
        self.stages().contains(&stage) || of_program.contains(&stage)
    }

    /// The stages that it is spread over; none if it is about one place.
    pub fn spread_over(&self) -> &'static [&'static str] {
        if let Evidence::ExcessSpread(stages) = self.evidence { stages } else { &[] }
    }

    /// Whether it is about copies of packets.
    pub fn is_of_copies(&self) -> bool {
        matches!(self.evidence, Evidence::Copies { .. })
    }

    /// Whether it is about TCP's behaviour, which takes no time of any packet's path.
    pub fn is_of_no_time(&self) -> bool {
        matches!(self.evidence, Evidence::Timeouts | Evidence::ZeroWindows)
    }
}

/// What must be in a recording for a cause to be named.
#[derive(Debug)]
pub enum Evidence {
    /// Slow packets spend more time in these stages than ordinary ones do.
    Excess(&'static [&'static str]),
    /// The same, where the first stage holds a notable part of it: the other stages are its consequence.
    ExcessLed(&'static [&'static str]),
    /// Slow packets spend more time in these stages, spread over several of them: a burst waits in each queue. Rules about
    /// single ones of these stages are left out then.
    ExcessSpread(&'static [&'static str]),
    /// Slow packets of several flows spend more time in these stages, and all packets were on one CPU there, though the
    /// node has more. Rules about single ones of these stages are left out then.
    ExcessOnOneCpu(&'static [&'static str]),
    /// Slow packets spend more time in these stages; or all packets do, and spend most of their time there: a queue that
    /// never empties.
    Queue(&'static [&'static str]),
    /// Slow requests spend more time in these waits between their packets; or most requests do, and a large part of their
    /// time: a fault that is always there.
    RequestWait(&'static [&'static str]),
    /// Slow packets spend more time in these stages, where they wait for a program, not for the network.
    ExcessInProgram(&'static [&'static str]),
    /// All packets spend a large part of their time in these layers: of the working time, or where the layers are waits,
    /// of the whole time.
    TimeShare {
        layers: &'static [&'static str],
        /// The least part, 0 to 1.
        least: f64,
    },
    /// Copies of packets were made in one of these stages.
    Copies {
        stages: &'static [&'static str],
        /// The least number of copies as a fraction of the packets that passed there, 0 to 1.
        least: f64,
    },
    /// Packets were dropped: for one of these reasons while in one of these stages (in any stage where none is given), or,
    /// where the kernel gives no reason, by one of these functions.
    Drops {
        reasons: &'static [&'static str],
        stages: &'static [&'static str],
        functions: &'static [&'static str],
        /// What the flows of the packets must show besides.
        sign: Sign,
        /// The drop can be configured on purpose (a firewall rule).
        intended: bool,
    },
    /// Packets were dropped that no other rule explains.
    OtherDrops,
    /// TCP waited for its retransmission timeout, and no rule about drops explains the loss.
    Timeouts,
    /// TCP receivers advertised a zero window.
    ZeroWindows,
    /// The kernel's own counters grew.
    Counted(Counters),
    /// A control group's CPU quota ran out, and its program is in one of the recording's namespaces.
    Throttled,
    /// A hypervisor took time from the CPUs.
    Stolen,
    /// Softirqs used up their budget, and slow packets waited for softirqs.
    Squeezed,
}

/// Counters of the kernel that tell of a cause.
#[derive(Debug)]
pub struct Counters {
    /// One of these grew by at least `least`.
    pub names: &'static [&'static str],
    pub least: u64,
    /// Counters that are shown with them.
    pub with: &'static [&'static str],
    pub severity: Severity,
    /// How long each makes somebody wait at least, in ns; 0 where that is unknown.
    pub waits_ns: u64,
}

/// What the flows of dropped packets show. It tells causes apart for which the kernel gives the same reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// Anything.
    Any,
    /// While the packet was in flight, another one of the same flow was, and got through.
    Raced,
    /// The packets are the first of several flows, nearly all to one address and port, and none raced.
    OneDestination,
    /// The flow got through before and nothing of it does any more, while other flows to the same address and port do.
    StaleEntry,
    /// A TCP flow that got through before, and whose addresses are translated between client and server.
    TranslationLost,
    /// The first packets of flows, while others to the same address and port get through: other flows, or the same ones at
    /// the next attempt.
    Sometimes,
    /// Nothing gets through to the same addresses and ports after the first drop.
    Total,
    /// Each packet is longer than all packets of its flow that got through.
    Longest,
    /// They were dropped at an outer header: at level 1 or above.
    Outer,
    /// The kernel has drop reasons and gave none.
    NoReason,
    /// The namespace where they were dropped forwards other packets.
    Forwards,
    /// One of these counters of the kernel grew in the namespace where they were dropped.
    Counted(&'static [&'static str]),
}

/// What to do about a cause, and the document that says so.
#[derive(Debug)]
pub struct Advice {
    pub what: &'static str,
    pub source: &'static str,
}

pub(super) const fn advice(what: &'static str, source: &'static str) -> Advice {
    Advice { what, source }
}

pub(super) const fn drops(
    reasons: &'static [&'static str],
    stages: &'static [&'static str],
    functions: &'static [&'static str],
) -> Evidence {
    Evidence::Drops { reasons, stages, functions, sign: Sign::Any, intended: false }
}

/// Drops whose flows show something.
pub(super) const fn told_apart(
    reasons: &'static [&'static str],
    stages: &'static [&'static str],
    functions: &'static [&'static str],
    sign: Sign,
) -> Evidence {
    Evidence::Drops { reasons, stages, functions, sign, intended: false }
}

/// A warning about counters.
pub(super) const fn counted(names: &'static [&'static str], least: u64) -> Evidence {
    Evidence::Counted(Counters { names, least, with: &[], severity: Severity::Warning, waits_ns: 0 })
}
