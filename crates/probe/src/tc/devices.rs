//! The devices that the probe set `tc` looks at.

use anyhow::{Context, Result};
use futures_util::TryStreamExt;
use nix::sched::{CloneFlags, setns};
use overlay_trace_common::edges::TAP_KINDS;
use rtnetlink::packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};

use crate::sys::netns::{self, Namespace};

/// Link kinds whose devices no packet passes on its way to somewhere else.
const NOWHERE: [&str; 5] = ["dummy", "ifb", "nlmon", "vcan", "vxcan"];

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub ifindex: u32,
    pub name: String,
    /// The link kind (`veth`, `vxlan`, …); empty for a NIC.
    pub kind: String,
    /// Whether its packets begin with an Ethernet header.
    pub has_ethernet: bool,
    pub is_up: bool,
    pub is_loopback: bool,
}

impl Device {
    /// Whether the device is an edge of this machine, a NIC or a tap.
    pub fn is_edge(&self) -> bool {
        !self.is_loopback && (self.kind.is_empty() || TAP_KINDS.contains(&self.kind.as_str()))
    }

    /// Whether packets are to be looked at here: at a device of the name `wanted`, and at the edges; without a name at
    /// every device that packets pass.
    fn is_of_interest(&self, wanted: Option<&str>) -> bool {
        match wanted {
            Some(name) if name == self.name => true,
            Some(_) => self.is_up && self.is_edge(),
            None => self.is_up && !self.is_loopback && !NOWHERE.contains(&self.kind.as_str()),
        }
    }
}

/// A network namespace and its devices of interest.
#[derive(Debug)]
pub struct InNamespace {
    pub namespace: Namespace,
    /// 0 where the kernel has none.
    pub cookie: u64,
    pub devices: Vec<Device>,
}

/// The devices of interest in all network namespaces that can be read.
pub fn of_interest(wanted: Option<&str>) -> Vec<InNamespace> {
    let find = || {
        let mut found = Vec::new();
        for namespace in netns::all() {
            match enter(&namespace).and_then(|()| all_here()) {
                Ok(mut devices) => {
                    devices.retain(|device| device.is_of_interest(wanted));
                    let cookie = netns::own_cookie().unwrap_or_default();
                    found.push(InNamespace { namespace, cookie, devices });
                }
                // The namespace may have been deleted meanwhile.
                Err(error) => tracing::debug!("the devices of {} cannot be read: {error:#}", namespace.name),
            }
        }
        found
    };
    // Entering namespaces takes a thread of its own.
    std::thread::scope(|scope| scope.spawn(find).join()).unwrap_or_default()
}

/// Moves the calling thread into a network namespace.
///
/// # Errors
///
/// The kernel's error.
pub fn enter(namespace: &Namespace) -> Result<()> {
    setns(&namespace.file, CloneFlags::CLONE_NEWNET)
        .with_context(|| format!("cannot enter the network namespace {}", namespace.name))
}

/// All devices of the namespace that this thread is in.
///
/// # Errors
///
/// The kernel's error.
pub fn all_here() -> Result<Vec<Device>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        let mut links = handle.link().get().execute();
        let mut devices = Vec::new();
        while let Some(link) = links.try_next().await? {
            devices.push(device(&link));
        }
        Ok(devices)
    })
}

fn device(link: &LinkMessage) -> Device {
    let mut device = Device {
        ifindex: link.header.index,
        name: String::new(),
        kind: String::new(),
        has_ethernet: matches!(link.header.link_layer_type, LinkLayerType::Ether | LinkLayerType::Loopback),
        is_up: link.header.flags.contains(LinkFlags::Up),
        is_loopback: link.header.flags.contains(LinkFlags::Loopback),
    };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => device.name.clone_from(name),
            LinkAttribute::LinkInfo(information) => {
                device.kind = information.iter().find_map(kind).unwrap_or_default();
            }
            _ => {}
        }
    }
    device
}

fn kind(information: &LinkInfo) -> Option<String> {
    match information {
        LinkInfo::Kind(InfoKind::Other(kind)) => Some(kind.clone()),
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str, kind: &str) -> Device {
        Device {
            ifindex: 2,
            name: name.into(),
            kind: kind.into(),
            has_ethernet: true,
            is_up: true,
            is_loopback: name == "lo",
        }
    }

    #[test]
    fn without_a_name_it_is_every_device_that_packets_pass() {
        for (name, kind) in [("eth0", ""), ("eth0", "veth"), ("cni0", "bridge"), ("flannel.1", "vxlan")] {
            assert!(device(name, kind).is_of_interest(None), "{name}");
        }
        assert!(!device("lo", "").is_of_interest(None));
        assert!(!device("dummy0", "dummy").is_of_interest(None));
        assert!(!Device { is_up: false, ..device("tunl0", "ipip") }.is_of_interest(None));
    }

    #[test]
    fn with_a_name_it_is_that_device_and_the_edges() {
        let wanted = Some("flannel.1");
        assert!(device("flannel.1", "vxlan").is_of_interest(wanted));
        assert!(device("eth0", "").is_of_interest(wanted) && device("tap0", "tun").is_of_interest(wanted));
        assert!(!device("eth0", "veth").is_of_interest(wanted));
        assert!(device("lo", "").is_of_interest(Some("lo")));
    }
}
