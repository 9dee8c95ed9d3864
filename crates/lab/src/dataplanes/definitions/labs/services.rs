//! Kubernetes Services: traffic goes to a Service address.

use crate::dataplanes::definitions::{bridge, cilium, flannel, ipvs, kube_proxy, kube_router, underlay};
use crate::dataplanes::lab::{Lab, TrafficTarget};

pub const KUBE_PROXY_IPTABLES: Lab = Lab::new(
    "kube-proxy-iptables",
    "kube-proxy in iptables mode over flannel's host-gw: DNAT chains translate the Service address.",
    &[
        &underlay::NAMESPACES,
        &underlay::UNDERLAY,
        &bridge::CNI_BRIDGE,
        &flannel::HOST_GW,
        &kube_proxy::KUBE_PROXY,
        &flannel::FIREWALL,
    ],
)
.dual_stack()
.target(TrafficTarget::Service);

pub const KUBE_PROXY_IPVS: Lab = Lab::new(
    "kube-proxy-ipvs",
    "kube-proxy in IPVS mode over flannel's host-gw: Services in IPVS's hash table, their addresses in ipsets.",
    &[
        &underlay::NAMESPACES,
        &underlay::UNDERLAY,
        &bridge::CNI_BRIDGE,
        &flannel::HOST_GW,
        &ipvs::KUBE_PROXY,
        &flannel::FIREWALL,
    ],
)
.dual_stack()
.target(TrafficTarget::Service);

pub const KUBE_ROUTER_IPVS: Lab = Lab::new(
    "kube-router-ipvs",
    "kube-router's Services: IPVS translates the Service address, which kube-dummy-if owns.",
    &[
        &underlay::NAMESPACES,
        &underlay::UNDERLAY,
        &kube_router::PODS_ON_BRIDGE,
        &kube_router::ROUTES,
        &kube_router::POLICY,
        &ipvs::KUBE_ROUTER,
    ],
)
.dual_stack()
.target(TrafficTarget::Service);

pub const KUBE_ROUTER_DSR: Lab = Lab::new(
    "kube-router-dsr",
    "kube-router's direct server return: IPVS tunnels to the pod, which answers the client directly.",
    &[
        &underlay::NAMESPACES,
        &underlay::UNDERLAY,
        &kube_router::PODS_ON_BRIDGE,
        &kube_router::ROUTES,
        &kube_router::POLICY,
        &ipvs::KUBE_ROUTER_DSR,
    ],
)
.dual_stack()
.target(TrafficTarget::DirectServerReturn);

pub const CILIUM_SERVICE: Lab = Lab::new(
    "cilium-service",
    "Cilium's datapath shape, socket load balancing: connect and sendmsg programs translate the Service address; IPv4 only.",
    &[
        &underlay::NAMESPACES,
        &underlay::UNDERLAY,
        &cilium::ENDPOINTS,
        &cilium::NATIVE_PROGRAMS,
        &cilium::SERVICE_PROGRAMS,
    ],
)
.target(TrafficTarget::Service);
