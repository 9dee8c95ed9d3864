//! Published results about container networks, as pairs of networks. The figures are those of the articles' machines;
//! on another machine only the order can be checked. To add one: a row in [`CLAIMS`].

/// One network is better than another, or as good.
#[derive(Debug)]
pub struct Claim {
    /// The article's title.
    pub source: &'static str,
    pub measure: Measure,
    /// The one with more throughput, or less latency.
    pub better: Side,
    pub worse: Side,
    /// The article rates the two as equal.
    pub equal: bool,
}

/// The quantity that is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Bulk TCP.
    Throughput,
    /// 99th percentile of requests over TCP at a constant rate.
    Latency,
}

/// One of the two networks, with the article's figure.
#[derive(Debug)]
pub struct Side {
    pub lab: &'static str,
    /// The underlay's MTU, where the two differ in it.
    pub mtu: Option<u32>,
    /// The article's figure, in `unit`.
    pub published: f64,
    pub unit: &'static str,
}

const KUBERNETES: &str = "Research on container network of Kubernetes";
const SOLUTIONS: &str = "Comparison of Networking Solutions for Kubernetes";
const OPENSTACK: &str = "Optimizing and extending overlay networking for containers";

const fn side(lab: &'static str, published: f64, unit: &'static str) -> Side {
    Side { lab, mtu: None, published, unit }
}

const fn throughput(source: &'static str, better: Side, worse: Side) -> Claim {
    Claim { source, measure: Measure::Throughput, better, worse, equal: false }
}

/// Milliseconds at 150 000 requests per second.
const fn latency(better: (&'static str, f64), worse: (&'static str, f64)) -> Claim {
    Claim {
        source: SOLUTIONS,
        measure: Measure::Latency,
        better: side(better.0, better.1, " ms"),
        worse: side(worse.0, worse.1, " ms"),
        equal: false,
    }
}

const fn as_good(claim: Claim) -> Claim {
    Claim { equal: true, ..claim }
}

const fn with_mtu(mtu: u32, side: Side) -> Side {
    Side { mtu: Some(mtu), ..side }
}

/// All claims.
pub const CLAIMS: &[Claim] = &[
    throughput(KUBERNETES, side("host", 100.0, " %"), side("flannel-host-gw", 94.0, " %")),
    throughput(KUBERNETES, side("flannel-host-gw", 94.0, " %"), side("flannel-vxlan", 45.0, " %")),
    throughput(KUBERNETES, side("calico-bgp", 93.0, " %"), side("calico-ipip", 64.0, " %")),
    throughput(KUBERNETES, side("calico-ipip", 64.0, " %"), side("flannel-vxlan", 45.0, " %")),
    as_good(throughput(KUBERNETES, side("flannel-vxlan", 45.0, " %"), side("canal", 45.0, " %"))),
    as_good(throughput(KUBERNETES, side("flannel-aws-vpc", 97.0, " %"), side("flannel-host-gw", 94.0, " %"))),
    latency(("host", 0.6), ("ipvlan-l2", 0.9)),
    latency(("ipvlan-l2", 0.9), ("flannel-host-gw", 1.1)),
    as_good(latency(("flannel-host-gw", 1.1), ("flannel-aws-vpc", 1.1))),
    latency(("flannel-host-gw", 1.1), ("flannel-vxlan", 1.5)),
    throughput(OPENSTACK, side("flannel-vxlan", 4.0, " x"), side("flannel-udp", 1.0, " x")),
    throughput(OPENSTACK, side("flannel-vxlan", 100.0, " %"), side("flannel-in-neutron", 59.0, " %")),
    throughput(OPENSTACK, side("host", 100.0, " %"), side("neutron-linuxbridge-flat", 63.0, " %")),
    throughput(OPENSTACK, side("flannel-host-gw", 100.0, " %"), side("kube-proxy-iptables", 90.0, " %")),
    // The article's MTUs are 1450 and 1000.
    throughput(
        OPENSTACK,
        with_mtu(3000, side("flannel-vxlan", 100.0, " %")),
        with_mtu(1400, side("flannel-vxlan", 50.0, " %")),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_claim_is_about_existing_labs() {
        for side in CLAIMS.iter().flat_map(|claim| [&claim.better, &claim.worse]) {
            assert!(crate::dataplanes::find(side.lab).is_some(), "{}", side.lab);
        }
    }

    #[test]
    fn the_published_figures_support_the_claims() {
        for Claim { measure, better, worse, equal, .. } in CLAIMS {
            let (more, less) = match measure {
                Measure::Throughput => (better.published, worse.published),
                Measure::Latency => (worse.published, better.published),
            };
            assert!(if *equal { more / less < 1.05 } else { more > less }, "{better:?} {worse:?}");
        }
    }
}
