//! Network agents of Kubernetes: pods on two nodes, traffic to the pod's own address.

use crate::dataplanes::definitions::{
    bridge, calico, cilium, felix, flannel, ipvlan_macvlan, kube_proxy, kube_router, romana, underlay, vpc,
    weave,
};
use crate::dataplanes::lab::Lab;

/// flannel with this backend.
macro_rules! flannel {
    ($name:literal, $about:literal, $backend:expr) => {
        Lab::new(
            $name,
            $about,
            &[
                &underlay::NAMESPACES,
                &underlay::UNDERLAY,
                &bridge::CNI_BRIDGE,
                $backend,
                &kube_proxy::KUBE_PROXY,
                &flannel::FIREWALL,
            ],
        )
    };
}

pub const FLANNEL_HOST_GW: Lab = flannel!(
    "flannel-host-gw",
    "flannel, backend host-gw: each node has a route to the other's pods, without encapsulation.",
    &flannel::HOST_GW
)
.dual_stack();

pub const FLANNEL_VXLAN: Lab = flannel!(
    "flannel-vxlan",
    "flannel, backend vxlan: flannel.1 encapsulates packets between the nodes' pods.",
    &flannel::VXLAN
)
.dual_stack()
.overheads(50, 70);

pub const FLANNEL_UDP: Lab = flannel!(
    "flannel-udp",
    "flannel, backend udp: a daemon tunnels packets of the TUN device flannel0 over UDP port 8285; IPv4 only.",
    &flannel::UDP
)
.overhead(28);

pub const FLANNEL_IPIP: Lab = flannel!(
    "flannel-ipip",
    "flannel, backend ipip: flannel.ipip adds a second IP header to packets between the nodes' pods; IPv4 only.",
    &flannel::IPIP
)
.overhead(20);

pub const FLANNEL_AWS_VPC: Lab = Lab::new(
    "flannel-aws-vpc",
    "flannel, backend aws-vpc: the cloud's router has a route to each node's pods, without encapsulation; IPv4 only.",
    &[
        &underlay::NAMESPACES,
        &vpc::VPC,
        &bridge::CNI_BRIDGE,
        &kube_proxy::KUBE_PROXY,
        &flannel::FIREWALL,
    ],
)
.namespaces(&["vpc", "node1", "node2", "pod1", "pod2"]);

/// Routed pods with Felix's policy chains, and these routes between the nodes.
macro_rules! calico {
    ($name:literal, $about:literal, $routes:expr) => {
        Lab::new(
            $name,
            $about,
            &[
                &underlay::NAMESPACES,
                &underlay::UNDERLAY,
                &calico::WORKLOADS,
                $routes,
                &kube_proxy::KUBE_PROXY,
                &felix::FIREWALL,
            ],
        )
        .dual_stack()
    };
}

pub const CALICO_IPIP: Lab = calico!(
    "calico-ipip",
    "Calico with IPIP: routed pods without a bridge, policy chains, tunl0 between the nodes.",
    &calico::IPIP
)
.overhead(20);

pub const CALICO_BGP: Lab = calico!(
    "calico-bgp",
    "Calico with BGP: routed pods, policy chains, routes exchanged by BIRD, without encapsulation.",
    &calico::BGP
);

pub const CANAL: Lab = calico!(
    "canal",
    "Canal: Calico's routed pods and policy chains, flannel's vxlan between the nodes.",
    &flannel::VXLAN
)
.overheads(50, 70);

pub const ROMANA: Lab = Lab::new(
    "romana",
    "Romana: routed pods, a route to each other node's block, policy chains, without encapsulation; IPv4 only.",
    &[
        &underlay::NAMESPACES,
        &underlay::UNDERLAY,
        &romana::WORKLOADS,
        &flannel::HOST_GW,
        &kube_proxy::KUBE_PROXY,
        &romana::POLICY,
    ],
);

pub const KUBE_ROUTER: Lab = Lab::new(
    "kube-router",
    "kube-router without its overlay: BGP routes between the nodes, policy chains, without encapsulation.",
    &[
        &underlay::NAMESPACES,
        &underlay::UNDERLAY,
        &kube_router::PODS_ON_BRIDGE,
        &kube_router::ROUTES,
        &kube_router::POLICY,
    ],
)
.dual_stack();

pub const KUBE_ROUTER_IPIP: Lab = Lab::new(
    "kube-router-ipip",
    "kube-router with its overlay: an IP-in-IP tunnel tun-* to each other node.",
    &[
        &underlay::NAMESPACES,
        &underlay::UNDERLAY,
        &kube_router::PODS_ON_BRIDGE,
        &kube_router::TUNNELS,
        &kube_router::POLICY,
    ],
)
.dual_stack()
.overheads(20, 48);

pub const WEAVE_FASTDP: Lab = Lab::new(
    "weave-fastdp",
    "Weave Net, fast datapath: the bridge weave and an Open vSwitch datapath with VXLAN on UDP port 6784; IPv4 only.",
    &[
        &underlay::NAMESPACES,
        &underlay::UNDERLAY,
        &weave::BRIDGE,
        &weave::DATAPATH,
        &ipvlan_macvlan::ON_LINK,
    ],
)
.overhead(50);

pub const WEAVE_SLEEVE: Lab = Lab::new(
    "weave-sleeve",
    "Weave Net, sleeve: a daemon on each node tunnels the bridge's frames over UDP port 6783; IPv4 only.",
    &[
        &underlay::NAMESPACES,
        &underlay::UNDERLAY,
        &weave::BRIDGE,
        &weave::USER_SPACE,
        &ipvlan_macvlan::ON_LINK,
    ],
)
.overhead(42);

pub const CILIUM_NATIVE: Lab = Lab::new(
    "cilium-native",
    "Cilium's datapath shape, native routing: tc programs redirect from the pod to the NIC, and from the NIC into the pod.",
    &[&underlay::NAMESPACES, &underlay::UNDERLAY, &cilium::ENDPOINTS, &cilium::NATIVE_PROGRAMS],
)
.dual_stack();

pub const CILIUM_VXLAN: Lab = Lab::new(
    "cilium-vxlan",
    "Cilium's datapath shape, vxlan: tc programs redirect from the pod to cilium_vxlan, and from there into the pod.",
    &[
        &underlay::NAMESPACES,
        &underlay::UNDERLAY,
        &cilium::ENDPOINTS,
        &cilium::VXLAN_DEVICE,
        &cilium::VXLAN_PROGRAMS,
    ],
)
.dual_stack()
.overhead(50);

pub const CILIUM_GENEVE: Lab = Lab::new(
    "cilium-geneve",
    "Cilium's datapath shape, geneve: tc programs redirect from the pod to cilium_geneve, and from there into the pod.",
    &[
        &underlay::NAMESPACES,
        &underlay::UNDERLAY,
        &cilium::ENDPOINTS,
        &cilium::GENEVE_DEVICE,
        &cilium::GENEVE_PROGRAMS,
    ],
)
.dual_stack()
.overhead(50);
