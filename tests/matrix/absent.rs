//! Points of the stage map that a kernel does not have, and need not have. A point that is absent and not declared
//! here is a failure, and so is one that is declared absent and exists.

use overlay_trace_common::stage::{Point, Target};
use overlay_trace_probe::sys::kernel;

/// A place in the kernel that only some kernels have.
pub struct Absent {
    /// The first alternative of the point.
    place: &'static str,
    /// The kernels (major, minor) that do not have it.
    when: When,
    pub why: &'static str,
}

enum When {
    Before(u32, u32),
    From(u32, u32),
    Only(u32, u32),
}

const ABSENT: &[Absent] = &[
    Absent {
        place: "qdisc_enqueue",
        when: When::Before(5, 15),
        why: "the tracepoint came with 5.15; before, the qdiscs' own functions stand for it",
    },
    Absent {
        place: "skb_attempt_defer_free",
        when: When::Before(5, 19),
        why: "until 5.19 readers free packets themselves, by kfree_skb_partial and __kfree_skb",
    },
    Absent {
        place: "tcf_classify_ingress",
        when: When::From(5, 15),
        why: "since 5.15 tcf_classify serves ingress too",
    },
    Absent {
        place: "ip_vs_remote_request6",
        when: When::From(5, 13),
        why: "since 5.13 IPVS has one hook for both families",
    },
    Absent {
        place: "ip_vs_reply6",
        when: When::From(5, 13),
        why: "since 5.13 IPVS has one hook for both families",
    },
    Absent {
        place: "skb_gro_receive_list",
        when: When::Only(6, 1),
        why: "6.1's compiler has put it into its only caller; the end is noticed when the packet is taken off the chain",
    },
];

/// What the table tells of a point on the running kernel.
pub fn declared(point: &Point) -> Option<&'static Absent> {
    let here = |absent: &&Absent| match absent.when {
        When::Before(major, minor) => !kernel::at_least((major, minor)),
        When::From(major, minor) => kernel::at_least((major, minor)),
        When::Only(major, minor) => kernel::at_least((major, minor)) && !kernel::at_least((major, minor + 1)),
    };
    ABSENT.iter().filter(here).find(|absent| absent.place == place(point))
}

/// The point's first alternative.
pub fn place(point: &Point) -> &'static str {
    match point.probes.first().map(|probe| probe.target) {
        Some(Target::Function(name) | Target::Tracepoint(name)) => name,
        Some(Target::Transmit(_)) => "net_dev_start_xmit",
        None => "",
    }
}

#[cfg(test)]
mod tests {
    use overlay_trace_common::stage_map::STAGES;

    use super::*;

    #[test]
    fn what_is_declared_absent_is_in_the_stage_map() {
        let places: Vec<&str> = STAGES.iter().flat_map(|stage| stage.points).map(place).collect();
        assert!(ABSENT.iter().all(|absent| places.contains(&absent.place)));
    }
}
