//! A rule: the evidence of a cause of slow or lost packets, and advice.

/// A cause of slow or lost packets.
#[derive(Debug)]
pub struct Rule {
    /// A short name. It never changes; programs match on it.
    pub id: &'static str,
    pub evidence: Evidence,
    /// The cause, as a clause for people. Its wording can change.
    pub what: &'static str,
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
            | Evidence::ExcessLed(stages)
            | Evidence::ExcessSpread(stages)
            | Evidence::ExcessOnOneCpu(stages) => stages,
            _ => &[],
        }
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
        /// The drop can be configured on purpose (a firewall rule).
        intended: bool,
    },
    /// TCP waited for its retransmission timeout, and no rule about drops explains the loss.
    Timeouts,
    /// TCP receivers advertised a zero window.
    ZeroWindows,
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
    Evidence::Drops { reasons, stages, functions, intended: false }
}
