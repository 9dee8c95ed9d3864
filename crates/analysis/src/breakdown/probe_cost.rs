//! What probes cost, from the header of a recording.

use overlay_trace_format::{Header, ProbeKind, StageRow};

/// Costs are added in parts of 1/1024 ns.
pub(super) const COST_PARTS_SHIFT: u32 = 10;
/// No hit of a probe takes longer, in ns: a header that says so is broken, and the costs of a path must not overflow.
const COST_MAX_NS: f64 = 1e9;

/// What probes cost besides the hit at a stage's entry, in 1/1024 ns.
pub(super) struct Costs {
    pub exit: u64,
    /// Of the next function of the stage that the packet is in already: the clock is not read.
    pub again: Option<u64>,
    /// Of the start of a path.
    pub start: u64,
    pub headers: u64,
    pub hop: u64,
    /// Of a look at the device through a helper.
    pub look: u64,
    /// Whether the cost of every kind of probe that was used has been measured.
    pub are_known: bool,
}

impl Costs {
    pub fn new(header: &Header) -> Costs {
        let costs = &header.probe_cost_ns;
        Costs {
            exit: fixed(costs.exit),
            again: costs.again.map(|ns| fixed(Some(ns))),
            start: fixed(costs.birth),
            headers: fixed(costs.headers),
            hop: fixed(costs.hop),
            look: fixed(costs.look),
            are_known: are_known(header),
        }
    }
}

/// What the probe at a stage's entry costs, in 1/1024 ns.
pub(super) fn of_stage(header: &Header, row: &StageRow) -> u64 {
    let costs = &header.probe_cost_ns;
    let prober = row.behaviour.probed_by.as_deref();
    let prober = prober.and_then(|name| header.stages.iter().find(|row| row.name == name));
    fixed(match prober.unwrap_or(row).probe {
        None => None,
        Some(ProbeKind::Fentry) => costs.entry,
        Some(ProbeKind::Kprobe) => costs.kprobe.or(costs.entry),
        Some(ProbeKind::TpBtf | ProbeKind::Tracepoint) => costs.tracepoint,
        Some(ProbeKind::Tc) => costs.tc,
    })
}

fn are_known(header: &Header) -> bool {
    let costs = &header.probe_cost_ns;
    let mut probes =
        header.stages.iter().filter_map(|row| row.probe.map(|probe| (probe, row.exit))).peekable();
    probes.peek().is_some()
        && probes.all(|(probe, exit)| match probe {
            ProbeKind::Fentry | ProbeKind::Kprobe => costs.entry.is_some() && (!exit || costs.exit.is_some()),
            ProbeKind::TpBtf | ProbeKind::Tracepoint => costs.tracepoint.is_some(),
            ProbeKind::Tc => costs.tc.is_some(),
        })
}

fn fixed(ns: Option<f64>) -> u64 {
    (ns.unwrap_or(0.0).clamp(0.0, COST_MAX_NS) * f64::from(1 << COST_PARTS_SHIFT)).round() as u64
}
