//! What a rule about slow or lost packets consists of.

/// A cause of slow or lost packets.
#[derive(Debug)]
pub struct Rule {
    /// A short name that does not change.
    pub id: &'static str,
    pub evidence: Evidence,
    /// What is the matter, as a clause.
    pub what: &'static str,
    pub advice: &'static [Advice],
}

impl Rule {
    /// Whether it is about all packets, not about those that are slow.
    pub fn is_of_all(&self) -> bool {
        matches!(self.evidence, Evidence::Time { .. })
    }

    /// The stages in which slow packets wait, if it is about one place or several of the machine; none for what
    /// programs do.
    pub(super) fn stages(&self) -> &'static [&'static str] {
        match self.evidence {
            Evidence::Excess(stages)
            | Evidence::Led(stages)
            | Evidence::Spread(stages)
            | Evidence::OneCore(stages) => stages,
            _ => &[],
        }
    }

    /// The stages that it is spread over; none if it is about one place.
    pub fn spread_over(&self) -> &'static [&'static str] {
        if let Evidence::Spread(stages) = self.evidence { stages } else { &[] }
    }

    /// Whether it is about copies of packets.
    pub fn is_of_copies(&self) -> bool {
        matches!(self.evidence, Evidence::Copies { .. })
    }

    /// Whether it is about what TCP did, of which the recording has no time.
    pub fn is_of_no_time(&self) -> bool {
        matches!(self.evidence, Evidence::Timeouts | Evidence::ZeroWindows)
    }
}

/// What betrays a cause.
#[derive(Debug)]
pub enum Evidence {
    /// Slow packets spend more time in these stages than ordinary ones do.
    Excess(&'static [&'static str]),
    /// The same, where the first of the stages holds a part of it that is worth telling: the others are then for its sake.
    Led(&'static [&'static str]),
    /// Slow packets spend more time in these stages, not in one of them above all, but in one after the other: what
    /// comes together waits together in each queue. Then the rules about each of them have nothing to add.
    Spread(&'static [&'static str]),
    /// Slow packets of several flows spend more time in these stages, where all packets were on one CPU though the
    /// node has more. Then the rules about what they waited for there have nothing to add.
    OneCore(&'static [&'static str]),
    /// Slow packets spend more time in these stages, where it is a program that takes the time, not the network.
    OfProgram(&'static [&'static str]),
    /// All packets spend a large part of their time in these layers: of the time that is worked for them, or if these
    /// are waits, of all of it.
    Time {
        layers: &'static [&'static str],
        /// At least this part, 0 to 1.
        least: f64,
    },
    /// In one of these stages copies of packets were made.
    Copies {
        stages: &'static [&'static str],
        /// As a part of the packets that came there at least, 0 to 1.
        least: f64,
    },
    /// Packets were dropped: for one of these reasons, while they were in one of these stages (in any where
    /// none is given); or, where the kernel gives no reason, by one of these functions.
    Drops {
        reasons: &'static [&'static str],
        stages: &'static [&'static str],
        functions: &'static [&'static str],
        /// Somebody may have wanted it so.
        intended: bool,
    },
    /// TCP waited for its timer before it sent segments again, and none of the rules about drops says why the first
    /// attempts were lost.
    Timeouts,
    /// TCP's receivers said that they could take nothing more.
    ZeroWindows,
}

/// What to do about it, and where it says so.
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
    Evidence::Drops { reasons, stages, functions, intended: false }
}
