//! The labs, as data. To add one: a file with its parts, and a row in [`LABS`].

mod aws;
mod base;
mod bridge;
mod calico;
mod cilium;
mod cloud;
mod cni;
mod docker;
mod encrypted;
mod flannel;
mod ipvs;
mod kube_proxy;
mod kube_router;
mod neutron;
mod ovs;
mod romana;
mod slaves;
mod tunnels;
mod vlan;
mod weave;

use super::{Lab, Place, Towards};

/// Variables that differ by a step's family: their values for IPv4 and for IPv6.
pub const FAMILIES: &[(&str, [&str; 2])] = &[
    // The pods of the whole cluster, and those of this node.
    ("{pods}", ["10.244.0.0/16", "fd00:10:244::/48"]),
    ("{own_pods}", ["10.244.{n}.0/24", "fd00:10:244:{n}::/64"]),
    ("{other_pods}", ["10.244.{p}.0/24", "fd00:10:244:{p}::/64"]),
    ("{own_pod}", ["10.244.{n}.2", "fd00:10:244:{n}::2"]),
    // This node's address in the underlay, and the other one's.
    ("{own}", ["192.0.2.{n}", "2001:db8::{n}"]),
    ("{other}", ["192.0.2.{p}", "2001:db8::{p}"]),
    ("{localhost}", ["127.0.0.0/8", "::1/128"]),
    ("{multicast}", ["224.0.0.0/4", "ff00::/8"]),
    // Services: the Kubernetes API, DNS, and the lab's traffic server.
    ("{api}", ["10.96.0.1", "fd00:10:96::1"]),
    ("{api_server}", ["192.0.2.1", "[2001:db8::1]"]),
    ("{dns}", ["10.96.0.10", "fd00:10:96::a"]),
    ("{dns_server}", ["10.244.1.99", "[fd00:10:244:1::99]"]),
    ("{service}", SERVICE),
    // Before a port.
    ("{service_at}", ["10.96.77.77", "[fd00:10:96::7777]"]),
    // How Felix and kube-proxy begin their sets' names, and what ipset calls the family.
    ("{cali}", ["cali40", "cali60"]),
    ("{kube}", ["KUBE-", "KUBE-6-"]),
    ("{inet}", ["inet", "inet6"]),
    // The network of docker0.
    ("{docker}", ["172.17.0.0/16", "fd00:172:17::/64"]),
    // How iptables, ipvsadm and Open vSwitch name protocols and what comes with them.
    ("{icmp}", ["icmp", "ipv6-icmp"]),
    ("{port_unreachable}", ["icmp-port-unreachable", "icmp6-port-unreachable"]),
    ("{dhcp_server}", ["--sport 67 --dport 68", "--sport 547 --dport 546"]),
    ("{ipvs_family}", ["", " -6"]),
    ("{ip}", ["eth_type(0x0800),ipv4()", "eth_type(0x86dd),ipv6()"]),
];

/// Variables that differ with the families that the lab has here: their values for IPv4 alone and for both.
pub const STACKS: &[(&str, [&str; 2])] = &[
    // What CNI's host-local chooses a pod's addresses from: of a network per node, of one for all.
    (
        "{node_ranges}",
        [
            r#"[[{ "subnet": "10.244.{n}.0/24", "rangeStart": "10.244.{n}.2", "rangeEnd": "10.244.{n}.2" }]]"#,
            r#"[[{ "subnet": "10.244.{n}.0/24", "rangeStart": "10.244.{n}.2", "rangeEnd": "10.244.{n}.2" }],
        [{ "subnet": "fd00:10:244:{n}::/64", "rangeStart": "fd00:10:244:{n}::2", "rangeEnd": "fd00:10:244:{n}::2" }]]"#,
        ],
    ),
    (
        "{shared_ranges}",
        [
            r#"[[{ "subnet": "10.244.0.0/16", "rangeStart": "10.244.{n}.2", "rangeEnd": "10.244.{n}.2" }]]"#,
            r#"[[{ "subnet": "10.244.0.0/16", "rangeStart": "10.244.{n}.2", "rangeEnd": "10.244.{n}.2" }],
        [{ "subnet": "fd00:10:244::/48", "rangeStart": "fd00:10:244:{n}::2", "rangeEnd": "fd00:10:244:{n}::2" }]]"#,
        ],
    ),
    // What Cilium's programs take: packets to the other node's pods, and to this node's pod.
    ("{other_networks}", ["network=10.244.{p}.0/24", "network=10.244.{p}.0/24 network=fd00:10:244:{p}::/64"]),
    ("{pod_networks}", ["network=10.244.{n}.2/32", "network=10.244.{n}.2/32 network=fd00:10:244:{n}::2/128"]),
    ("{default_routes}", [r#"[{ "dst": "0.0.0.0/0" }]"#, r#"[{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }]"#]),
];

/// The Service address of the lab's traffic server, IPv4 and IPv6.
pub const SERVICE: [&str; 2] = ["10.96.77.77", "fd00:10:96::7777"];

/// The address of the second node, which has most labs' server, IPv4 and IPv6.
pub const NODE2: [&str; 2] = ["192.0.2.2", "2001:db8::2"];

const NODES: &[&str] = &["node1", "node2"];
const PODS: &[&str] = &["pod1", "pod2"];

/// One pod on each of two nodes.
pub const PODS_ON_NODES: &[&str] = &["node1", "node2", "pod1", "pod2"];
/// The nodes are machines on two hypervisors.
const MACHINES: &[&str] = &["hv1", "hv2", "node1", "node2"];
const PODS_ON_MACHINES: &[&str] = &["hv1", "hv2", "node1", "node2", "pod1", "pod2"];

/// The pod of the first node, in most labs the client.
pub const POD1: Place = Place { namespace: "pod1", v4: "10.244.1.2", v6: Some("fd00:10:244:1::2") };
/// The pod of the second node, in most labs the server.
pub const POD2: Place = Place { namespace: "pod2", v4: "10.244.2.2", v6: Some("fd00:10:244:2::2") };

/// All labs, the simple ones first.
pub const LABS: &[Lab] = &[
    Lab {
        name: "host",
        about: "No container network: two nodes joined by the underlay; the baseline of every comparison.",
        namespaces: NODES,
        parts: &[&base::NAMESPACES, &base::UNDERLAY],
        client: Place { namespace: "node1", v4: "192.0.2.1", v6: Some("2001:db8::1") },
        server: Place { namespace: "node2", v4: "192.0.2.2", v6: Some("2001:db8::2") },
        overhead: (0, 0),
        towards: Towards::Server,
    },
    Lab {
        name: "same-pod",
        about: "Two containers of one pod talk over the pod's loopback device.",
        namespaces: &["node1", "pod1"],
        parts: &[&base::NAMESPACES, &bridge::CNI_BRIDGE],
        client: Place { namespace: "pod1", v4: "127.0.0.1", v6: Some("::1") },
        server: Place { namespace: "pod1", v4: "127.0.0.1", v6: Some("::1") },
        overhead: (0, 0),
        towards: Towards::Server,
    },
    Lab {
        name: "same-host",
        about: "Two pods of one node talk over its bridge cni0.",
        namespaces: &["node1", "pod1", "pod1b"],
        parts: &[
            &base::NAMESPACES,
            &bridge::CNI_BRIDGE,
            &bridge::SECOND_POD,
            &kube_proxy::KUBE_PROXY,
            &flannel::FIREWALL,
        ],
        client: POD1,
        server: Place { namespace: "pod1b", v4: "10.244.1.3", v6: Some("fd00:10:244:1::3") },
        overhead: (0, 0),
        towards: Towards::Server,
    },
    Lab {
        name: "flannel-host-gw",
        about: "flannel's host-gw: each node has a route to the other's pods, nothing is encapsulated.",
        namespaces: &["node1", "node2", "pod1", "pod2"],
        parts: &[
            &base::NAMESPACES,
            &base::UNDERLAY,
            &bridge::CNI_BRIDGE,
            &flannel::HOST_GW,
            &kube_proxy::KUBE_PROXY,
            &flannel::FIREWALL,
        ],
        client: POD1,
        server: POD2,
        overhead: (0, 0),
        towards: Towards::Server,
    },
    Lab {
        name: "flannel-vxlan",
        about: "flannel's vxlan: what leaves a node for another's pods is encapsulated by flannel.1.",
        namespaces: &["node1", "node2", "pod1", "pod2"],
        parts: &[
            &base::NAMESPACES,
            &base::UNDERLAY,
            &bridge::CNI_BRIDGE,
            &flannel::VXLAN,
            &kube_proxy::KUBE_PROXY,
            &flannel::FIREWALL,
        ],
        client: POD1,
        server: POD2,
        overhead: (50, 70),
        towards: Towards::Server,
    },
    Lab {
        name: "calico-ipip",
        about: "Calico with IPIP: routed pods without a bridge, policy chains, tunl0 between the nodes.",
        namespaces: &["node1", "node2", "pod1", "pod2"],
        parts: &[
            &base::NAMESPACES,
            &base::UNDERLAY,
            &calico::WORKLOADS,
            &calico::IPIP,
            &kube_proxy::KUBE_PROXY,
            &calico::FIREWALL,
        ],
        client: POD1,
        server: POD2,
        overhead: (20, 20),
        towards: Towards::Server,
    },
    Lab {
        name: "flannel-in-neutron",
        about: "flannel's vxlan on the machines of a cloud whose network, Neutron's, is a VXLAN too.",
        namespaces: &["hv1", "hv2", "node1", "node2", "pod1", "pod2"],
        parts: &[
            &base::NAMESPACES,
            &cloud::NEUTRON,
            &bridge::CNI_BRIDGE,
            &flannel::VXLAN,
            &kube_proxy::KUBE_PROXY,
            &flannel::FIREWALL,
        ],
        client: POD1,
        server: POD2,
        overhead: (50, 70),
        towards: Towards::Server,
    },
    Lab {
        name: "calico-in-neutron",
        about: "Calico's IPIP on the machines of a cloud whose network, Neutron's, is a VXLAN.",
        namespaces: &["hv1", "hv2", "node1", "node2", "pod1", "pod2"],
        parts: &[
            &base::NAMESPACES,
            &cloud::NEUTRON,
            &calico::WORKLOADS,
            &calico::IPIP,
            &kube_proxy::KUBE_PROXY,
            &calico::FIREWALL,
        ],
        client: POD1,
        server: POD2,
        overhead: (20, 20),
        towards: Towards::Server,
    },
    Lab {
        name: "gre",
        about: "Nodes joined by a GRE tunnel with a key.",
        namespaces: &["node1", "node2", "pod1", "pod2"],
        parts: &[&base::NAMESPACES, &base::UNDERLAY, &bridge::CNI_BRIDGE, &tunnels::GRE],
        client: POD1,
        server: POD2,
        overhead: (28, 28),
        towards: Towards::Server,
    },
    Lab {
        name: "gretap",
        about: "Nodes joined by a GRE tunnel that carries Ethernet.",
        namespaces: &["node1", "node2", "pod1", "pod2"],
        parts: &[&base::NAMESPACES, &base::UNDERLAY, &bridge::CNI_BRIDGE, &tunnels::GRETAP],
        client: POD1,
        server: POD2,
        overhead: (42, 42),
        towards: Towards::Server,
    },
    Lab {
        name: "geneve",
        about: "Nodes joined by Geneve with an option in each packet, as OVN has it.",
        namespaces: &["node1", "node2", "pod1", "pod2"],
        parts: &[&base::NAMESPACES, &base::UNDERLAY, &bridge::CNI_BRIDGE, &tunnels::GENEVE],
        client: POD1,
        server: POD2,
        overhead: (58, 58),
        towards: Towards::Server,
    },
    Lab {
        name: "vxlan6",
        about: "Nodes joined by a VXLAN over IPv6, at a port of its own.",
        namespaces: &["node1", "node2", "pod1", "pod2"],
        parts: &[&base::NAMESPACES, &base::UNDERLAY, &bridge::CNI_BRIDGE, &tunnels::VXLAN6],
        client: POD1,
        server: POD2,
        overhead: (70, 70),
        towards: Towards::Server,
    },
    Lab {
        name: "vlan",
        about: "Pods on tagged ports: a VLAN device on each side of the pod's veth.",
        namespaces: &["node1", "node2", "pod1", "pod2"],
        parts: &[&base::NAMESPACES, &base::UNDERLAY, &vlan::TAGGED, &flannel::HOST_GW],
        client: POD1,
        server: POD2,
        overhead: (0, 0),
        towards: Towards::Server,
    },
    Lab {
        name: "qinq",
        about: "Pods on doubly tagged ports (802.1ad around 802.1Q).",
        namespaces: &["node1", "node2", "pod1", "pod2"],
        parts: &[&base::NAMESPACES, &base::UNDERLAY, &vlan::DOUBLY_TAGGED, &flannel::HOST_GW],
        client: POD1,
        server: POD2,
        overhead: (0, 0),
        towards: Towards::Server,
    },
    flannel::UDP_LAB,
    flannel::IPIP_LAB,
    aws::FLANNEL,
    calico::BGP_LAB,
    calico::CANAL,
    romana::ROMANA,
    slaves::IPVLAN_L2,
    slaves::IPVLAN_L3,
    slaves::MACVLAN,
    cni::BRIDGE,
    cni::IPVLAN,
    cni::MACVLAN,
    kube_router::PLAIN,
    kube_router::IPIP,
    kube_router::IPVS,
    kube_router::DSR,
    kube_proxy::LAB,
    ipvs::KUBE_PROXY_LAB,
    docker::BRIDGE,
    docker::OVERLAY,
    neutron::FLAT,
    neutron::VLAN,
    neutron::VXLAN,
    neutron::GRE,
    ovs::FLAT,
    ovs::VLAN,
    ovs::VXLAN,
    ovs::GRE,
    ovs::FIREWALL,
    neutron::KURYR_MACVLAN,
    neutron::KURYR_IPVLAN,
    neutron::KURYR_VLAN,
    weave::FASTDP,
    weave::SLEEVE,
    cilium::NATIVE,
    cilium::VXLAN,
    cilium::GENEVE,
    cilium::SERVICE,
    encrypted::WIREGUARD,
    encrypted::IPSEC,
];
