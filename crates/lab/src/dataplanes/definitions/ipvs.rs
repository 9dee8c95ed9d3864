//! Services implemented by IPVS, as kube-router and kube-proxy do. The Service address is on a dummy device, so
//! that its packets are delivered locally, where IPVS hooks into INPUT.

use super::NODES;
use crate::dataplanes::lab::{Need, Part};
use crate::dataplanes::step::{ServiceTable, Step, firewall, ip, ipset, ipvs, sysctl};

/// IPVS connections are visible to conntrack.
const CONNTRACK: Step = sysctl(NODES, "net.ipv4.vs.conntrack = 1\nnet.ipv4.vs.conn_reuse_mode = 0");

/// The Service in masquerading mode: packets are translated to the server's address.
const VIRTUAL_SERVERS: Step = ipvs(
    NODES,
    "
    -A -t {service_at}:7700 -s rr
    -a -t {service_at}:7700 -r {server_at}:7700 -m
    -A -u {service_at}:7700 -s rr
    -a -u {service_at}:7700 -r {server_at}:7700 -m
    ",
)
.for_both_families()
.service_table(ServiceTable::Ipvs);

/// kube-proxy in IPVS mode.
pub const KUBE_PROXY: Part = Part {
    about: "kube-proxy, IPVS mode: kube-ipvs0, virtual servers, and a fixed number of rules with ipsets",
    needs: &[Need::Ipvs, Need::Link("dummy"), Need::Iptables, Need::Ipset],
    steps: &[
        ip(NODES, "link add name kube-ipvs0 type dummy"),
        ip(NODES, "addr add {service} dev kube-ipvs0").for_both_families(),
        CONNTRACK,
        VIRTUAL_SERVERS,
        ipset(
            NODES,
            "
            create {kube}CLUSTER-IP hash:ip,port family {inet}
            add {kube}CLUSTER-IP {service},tcp:7700
            add {kube}CLUSTER-IP {service},udp:7700
            create {kube}LOOP-BACK hash:ip,port,ip family {inet}
            add {kube}LOOP-BACK {server},tcp:7700,{server}
            add {kube}LOOP-BACK {server},udp:7700,{server}
            ",
        )
        .for_both_families()
        .service_table(ServiceTable::ClusterIpSet),
        firewall(
            NODES,
            r#"
            *nat
            :KUBE-MARK-MASQ - [0:0]
            :KUBE-POSTROUTING - [0:0]
            :KUBE-SERVICES - [0:0]
            -A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
            -A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
            -A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
            -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
            -A KUBE-POSTROUTING -m set --match-set {kube}LOOP-BACK dst,dst,src -j MASQUERADE
            -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
            -A KUBE-POSTROUTING -j MASQUERADE --random-fully
            -A KUBE-SERVICES ! -s {pods} -m comment --comment "Kubernetes service cluster ip + port for masquerade purpose" -m set --match-set {kube}CLUSTER-IP dst,dst -j KUBE-MARK-MASQ
            -A KUBE-SERVICES -m set --match-set {kube}CLUSTER-IP dst,dst -j ACCEPT
            COMMIT
            *filter
            :KUBE-FORWARD - [0:0]
            -A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
            -A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
            -A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
            COMMIT
            "#,
        ),
    ],
};

/// kube-router's Services in masquerading mode.
pub const KUBE_ROUTER: Part = Part {
    about: "kube-router's service proxy: kube-dummy-if with the Service's address, a virtual server",
    needs: &[Need::Ipvs, Need::Link("dummy")],
    steps: &[
        ip(
            NODES,
            "
            link add name kube-dummy-if type dummy
            link set dev kube-dummy-if up
            ",
        ),
        ip(NODES, "addr add {service} dev kube-dummy-if").for_both_families(),
        CONNTRACK,
        VIRTUAL_SERVERS,
    ],
};

/// kube-router's direct server return: the pod owns the Service address, behind a tunnel. No device of the node owns
/// it, since the replies come from the pod; a firewall mark and a routing table deliver its packets to IPVS. The
/// pods' MTU is that of the nodes; MSS clamping leaves room for the tunnel header.
pub const KUBE_ROUTER_DSR: Part = Part {
    about: "kube-router's DSR: virtual servers by firewall mark, tunnelling mode; in the pod kube-tunnel-* with the address",
    needs: &[Need::Ipvs, Need::Iptables, Need::Link("ipip"), Need::LinkV6("ip6tnl"), Need::Link("dummy")],
    steps: &[
        ip(NODES, "link add name kube-dummy-if type dummy\nlink set dev kube-dummy-if up"),
        firewall(
            &["node1"],
            "
            *mangle
            -A PREROUTING -d {service} -p tcp -m tcp --dport 7700 -j MARK --set-xmark 0x2710/0xffffffff
            -A PREROUTING -d {service} -p udp -m udp --dport 7700 -j MARK --set-xmark 0x2711/0xffffffff
            -A PREROUTING -d {service} -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss {tunnelled_mss}
            -A POSTROUTING -s {service} -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss {tunnelled_mss}
            COMMIT
            ",
        ),
        ip(
            &["node1"],
            "
            route add local default dev lo table 78
            rule add fwmark 0x2710 lookup 78
            rule add fwmark 0x2711 lookup 78
            ",
        )
        .for_both_families(),
        sysctl(&["node1"], "net.ipv4.vs.conntrack = 1"),
        ipvs(
            &["node1"],
            "
            -A -f 10000{ipvs_family} -s rr
            -a -f 10000{ipvs_family} -r {server_at}:0 -i
            -A -f 10001{ipvs_family} -s rr
            -a -f 10001{ipvs_family} -r {server_at}:0 -i
            ",
        )
        .for_both_families()
        .service_table(ServiceTable::Ipvs),
        ip(
            &["pod2"],
            "
            link add name kube-tunnel-if type ipip local {server}
            addr add {service} dev kube-tunnel-if
            link set dev kube-tunnel-if up
            ",
        ),
        ip(
            &["pod2"],
            "
            link add name kube-tunnel-v6 type ip6tnl mode any local {server}
            addr add {service} dev kube-tunnel-v6 nodad
            link set dev kube-tunnel-v6 up
            ",
        )
        .v6(),
        sysctl(
            &["pod2"],
            "
            net.ipv4.conf.all.rp_filter = 0
            net.ipv4.conf.eth0.rp_filter = 0
            net.ipv4.conf.kube-tunnel-if.rp_filter = 0
            ",
        ),
    ],
};
