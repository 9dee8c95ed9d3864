//! The variables in a step's lines whose value depends on the IP family. [`script`](super::script) fills
//! them in.

/// The Service address of the lab's traffic server, IPv4 and IPv6.
pub const SERVICE: [&str; 2] = ["10.96.77.77", "fd00:10:96::7777"];

/// Variables that depend on the step's IP family: their values for IPv4 and for IPv6.
pub const FAMILY_VARIABLES: &[(&str, [&str; 2])] = &[
    // The pods of the whole cluster, and those of this node.
    ("{pods}", ["10.244.0.0/16", "fd00:10:244::/48"]),
    ("{own_pods}", ["10.244.{n}.0/24", "fd00:10:244:{n}::/64"]),
    ("{other_pods}", ["10.244.{p}.0/24", "fd00:10:244:{p}::/64"]),
    ("{own_pod}", ["10.244.{n}.2", "fd00:10:244:{n}::2"]),
    // The underlay addresses of this node and of the other one.
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
    // The same, as it is written before a port.
    ("{service_at}", ["10.96.77.77", "[fd00:10:96::7777]"]),
    // The prefixes of Felix's and kube-proxy's set names, and ipset's name of the family.
    ("{cali}", ["cali40", "cali60"]),
    ("{kube}", ["KUBE-", "KUBE-6-"]),
    ("{inet}", ["inet", "inet6"]),
    // The subnet of docker0.
    ("{docker}", ["172.17.0.0/16", "fd00:172:17::/64"]),
    // Protocol names and options of iptables, ipvsadm and Open vSwitch.
    ("{icmp}", ["icmp", "ipv6-icmp"]),
    ("{port_unreachable}", ["icmp-port-unreachable", "icmp6-port-unreachable"]),
    ("{dhcp_server}", ["--sport 67 --dport 68", "--sport 547 --dport 546"]),
    ("{ipvs_family}", ["", " -6"]),
    ("{ip}", ["eth_type(0x0800),ipv4()", "eth_type(0x86dd),ipv6()"]),
];

/// Variables that depend on the lab's IP families on this system: their values for IPv4 only and for dual
/// stack.
pub const STACK_VARIABLES: &[(&str, [&str; 2])] = &[
    // The ranges of CNI's host-local: one subnet per node, or one subnet for all nodes.
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
    // Destinations that Cilium's programs redirect: the other node's pods, and this node's pod.
    ("{other_networks}", ["network=10.244.{p}.0/24", "network=10.244.{p}.0/24 network=fd00:10:244:{p}::/64"]),
    ("{pod_networks}", ["network=10.244.{n}.2/32", "network=10.244.{n}.2/32 network=fd00:10:244:{n}::2/128"]),
    ("{default_routes}", [r#"[{ "dst": "0.0.0.0/0" }]"#, r#"[{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }]"#]),
];
