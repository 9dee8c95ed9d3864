//! What recordings of older versions do not say of themselves.
//!
//! Up to version 4 the header had no behaviour of stages: it followed from their names and layers. The tables here are
//! that knowledge, for the stages that there were then. They do not change when the stage map does.

use overlay_trace_common::behaviour::{Delivery, Role};

use super::{Behaviour, Header, StageRow};

/// Fills in what the header of a recording of the version `version` lacks.
pub(super) fn complete(header: &mut Header, version: u32) {
    if version < 5 {
        header.unseen_stages.iter_mut().for_each(|unseen| {
            let module = unseen.reason.strip_prefix("needs module ");
            unseen.module = module.filter(|name| !name.contains(' ')).map(str::to_owned);
        });
        header.stages.iter_mut().for_each(complete_stage);
    }
}

fn complete_stage(row: &mut StageRow) {
    let of_layer = OF_LAYERS.iter().filter(|(layers, _)| layers.contains(&row.layer.as_str()));
    let of_stage = OF_STAGES.iter().filter(|(stages, _)| stages.contains(&row.name.as_str()));
    of_layer.chain(of_stage).for_each(|(_, change)| change(&mut row.behaviour));
    row.link_kind =
        LINK_KINDS.iter().find(|(stage, _)| *stage == row.name).map(|(_, kind)| (*kind).to_owned());
}

/// Names, and what they meant.
type Rule = (&'static [&'static str], fn(&mut Behaviour));

/// What all stages of a layer meant.
const OF_LAYERS: &[Rule] = &[
    (&["backlog", "gro", "gro-cells"], |stage| stage.arrives = true),
    (&["qdisc"], |stage| stage.leaves = true),
    (&["cpu"], |stage| stage.interrupts = true),
    (&["ip"], |stage| stage.delivers = Delivery::Local),
    (&["transport"], |stage| stage.delivers = Delivery::Transport),
    (&["socket"], |stage| stage.delivers = Delivery::Socket),
    (&["socket", "neighbour", "cpu"], |stage| stage.role = Role::Endpoint),
    (&["qdisc", "driver", "gro", "gro-cells", "tc"], |stage| stage.role = Role::Device),
    (&["veth", "backlog"], |stage| stage.role = Role::PodDevice),
    (&["vxlan", "ipip", "gre", "geneve", "wireguard", "xfrm"], |stage| stage.role = Role::Tunnel),
    (&["gso", "checksum", "fragment"], |stage| stage.role = Role::Length),
    (&["conntrack", "nat"], |stage| stage.role = Role::Conntrack),
    (&["bridge"], |stage| stage.role = Role::Bridge),
    (&["iptables"], |stage| stage.role = Role::Iptables),
    (&["nftables"], |stage| stage.role = Role::Nftables),
    (&["ipvs"], |stage| stage.role = Role::Ipvs),
];

/// What single stages meant besides.
const OF_STAGES: &[Rule] = &[
    (
        &[
            "dev-queue-xmit",
            "driver-xmit",
            "veth-xmit",
            "bridge-xmit",
            "vxlan-encap",
            "ipip-encap",
            "gre-encap",
            "gretap-encap",
            "geneve-encap",
            "ip6tnl-encap",
            "sit-encap",
            "ip6gre-encap",
            "ip6gretap-encap",
            "wireguard-encap",
            "ipvlan-xmit",
            "macvlan-xmit",
            "vlan-xmit",
            "ipvs-xmit",
            "ipvs-encap",
        ],
        |stage| (stage.transmits, stage.leaves) = (true, true),
    ),
    (&["ip-forward", "bridge-forward"], |stage| stage.leaves = true),
    (&["socket-send", "tcp-send"], |stage| stage.before_start = true),
    (&["batch-wait"], |stage| stage.behind_others = true),
    (
        &["batch-wait", "softirq-wait", "ksoftirqd-wait", "backlog-wait", "gro-cells-wait", "qdisc-wait"],
        |stage| stage.shared_queue = true,
    ),
    (&["softirq-wait", "ksoftirqd-wait"], |stage| stage.probed_by = Some("softirq-interruption".to_owned())),
    (&["copy"], |stage| stage.clones = true),
    (&["receive"], |stage| stage.delivers = Delivery::Local),
];

/// The link kinds of transmit stages.
const LINK_KINDS: &[(&str, &str)] = &[
    ("driver-xmit", ""),
    ("veth-xmit", "veth"),
    ("bridge-xmit", "bridge"),
    ("vxlan-encap", "vxlan"),
    ("ipip-encap", "ipip"),
    ("gre-encap", "gre"),
    ("gretap-encap", "gretap"),
    ("geneve-encap", "geneve"),
    ("ip6tnl-encap", "ip6tnl"),
    ("sit-encap", "sit"),
    ("ip6gre-encap", "ip6gre"),
    ("ip6gretap-encap", "ip6gretap"),
    ("wireguard-encap", "wireguard"),
    ("ipvlan-xmit", "ipvlan"),
    ("macvlan-xmit", "macvlan"),
    ("vlan-xmit", "vlan"),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The recording in the tests' folder is of version 3.
    #[test]
    fn stages_of_an_old_recording_mean_what_those_of_the_same_name_and_layer_mean_now() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/recordings/flannel-vxlan-6.12.otr");
        let recording = crate::Recording::open(path).unwrap();
        let now = Header::new();
        let mut known = 0;
        for then in &recording.header.stages {
            if let Some(row) =
                now.stages.iter().find(|row| (&row.name, &row.layer) == (&then.name, &then.layer))
            {
                assert_eq!(
                    (&then.behaviour, &then.link_kind),
                    (&row.behaviour, &row.link_kind),
                    "{}",
                    row.name
                );
                known += 1;
            }
        }
        assert!(known > 50, "{known}");
    }

    #[test]
    fn stages_that_are_gone_still_have_their_meaning() {
        let mut row =
            StageRow { name: "bridge-forward".into(), layer: "bridge".into(), ..StageRow::default() };
        complete_stage(&mut row);
        assert!(row.behaviour.leaves && !row.behaviour.transmits && row.behaviour.role == Role::Bridge);
        let mut row = StageRow { name: "ipvs-xmit".into(), layer: "ipvs".into(), ..StageRow::default() };
        complete_stage(&mut row);
        assert!(row.behaviour.transmits && row.behaviour.leaves && row.link_kind.is_none());
    }
}
