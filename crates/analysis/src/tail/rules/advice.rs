//! Documents that advice refers to, and advice that several rules share.

use super::super::rule::{Advice, advice};

pub(in super::super) const NET: &str = "kernel: Documentation/admin-guide/sysctl/net.rst";
pub(in super::super) const SCALING: &str = "kernel: Documentation/networking/scaling.rst";
pub(in super::super) const IP: &str = "kernel: Documentation/networking/ip-sysctl.rst";
pub(in super::super) const CONNTRACK: &str = "kernel: Documentation/networking/nf_conntrack-sysctl.rst";
pub(in super::super) const OFFLOADS: &str = "kernel: Documentation/networking/segmentation-offloads.rst";
pub(super) const EXTENSIONS: &str = "iptables-extensions(8), target CT";
pub(super) const FLANNEL: &str = "flannel: Documentation/backends.md";
pub(super) const CILIUM: &str = "Cilium: documentation, Routing";

pub(super) const SPREAD: Advice =
    advice("distribute the flows over the CPUs: RSS, RPS (rps_cpus), RFS (rps_flow_cnt)", SCALING);
pub(super) const BACKLOG: Advice = advice("raise net.core.netdev_max_backlog", NET);
pub(super) const NOTRACK: Advice =
    advice("exempt the tunnel's outer packets from connection tracking (-j CT --notrack)", EXTENSIONS);
pub(super) const BUCKETS: Advice = advice(
    "use more hash buckets, so that fewer connections share one: net.netfilter.nf_conntrack_buckets",
    CONNTRACK,
);
pub(super) const MTU: Advice =
    advice("lower the MTU of the pods' devices to leave room for the tunnel's headers", "ip-link(8), mtu");
pub(super) const NO_TUNNEL: Advice = advice(
    "avoid the tunnel where all nodes are in one layer-2 network: backend host-gw instead of vxlan",
    FLANNEL,
);
pub(super) const NATIVE: Advice = advice("or Cilium's native routing instead of its tunnel", CILIUM);
pub(super) const IPVS: Advice = advice(
    "run kube-proxy in a mode without long chains: nftables or ipvs",
    "Kubernetes: Virtual IPs and Service Proxies",
);
pub(super) const RCVBUF: Advice =
    advice("enlarge the receive buffer: SO_RCVBUF, net.core.rmem_max", "socket(7)");
