//! What times and drops are told apart by.

/// The value of every label of what found no room.
pub const OTHER: &str = "other";

/// What a distribution of times is of. Empty: none, or not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels {
    pub layer: String,
    pub stage: String,
    /// `work` or `wait`.
    pub kind: &'static str,
    pub level: String,
    pub direction: &'static str,
    /// The network namespace's name.
    pub netns: String,
    /// The pod's namespace, the pod's (or container's) name, and what it is a replica of.
    pub namespace: String,
    pub pod: String,
    pub workload: String,
    /// The device's class (`veth`, `bridge`, `nic`, …), or its name.
    pub device: String,
}

impl Labels {
    /// Those of what found no room.
    pub fn other() -> Labels {
        let other = || OTHER.to_owned();
        Labels {
            layer: other(),
            stage: other(),
            kind: OTHER,
            level: other(),
            direction: OTHER,
            netns: other(),
            namespace: other(),
            pod: other(),
            workload: other(),
            device: other(),
        }
    }

    /// With their names as metrics have them.
    pub(crate) fn named(&self) -> [(&'static str, &str); 10] {
        [
            ("layer", &self.layer),
            ("stage", &self.stage),
            ("kind", self.kind),
            ("level", &self.level),
            ("direction", self.direction),
            ("netns", &self.netns),
            ("namespace", &self.namespace),
            ("pod", &self.pod),
            ("workload", &self.workload),
            ("device_class", &self.device),
        ]
    }
}

/// What dropped packets are told apart by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DropLabels {
    /// The kernel's name of the reason.
    pub reason: String,
    pub layer: String,
    pub stage: String,
    pub level: String,
    pub netns: String,
    /// The device's name.
    pub device: String,
}

impl DropLabels {
    pub fn other() -> DropLabels {
        let other = || OTHER.to_owned();
        DropLabels {
            reason: other(),
            layer: other(),
            stage: other(),
            level: other(),
            netns: other(),
            device: other(),
        }
    }

    pub(crate) fn named(&self) -> [(&'static str, &str); 6] {
        [
            ("reason", &self.reason),
            ("layer", &self.layer),
            ("stage", &self.stage),
            ("level", &self.level),
            ("netns", &self.netns),
            ("device", &self.device),
        ]
    }
}
