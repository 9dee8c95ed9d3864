//! kube-proxy in iptables mode (Kubernetes 1.2x) of a small cluster: Services for the API, DNS and the lab's
//! traffic server.

use super::NODES;
use crate::dataplanes::lab::{Need, Part};
use crate::dataplanes::step::{ServiceTable, firewall};

/// The chains of kube-proxy and kubelet. Their conntrack matches enable connection tracking on the nodes.
pub const KUBE_PROXY: Part = Part {
    about: "kube-proxy, iptables mode: Services by DNAT, masquerading of marked packets; conntrack",
    needs: &[Need::Iptables],
    steps: &[
        firewall(
            NODES,
            r#"
            *mangle
            :KUBE-KUBELET-CANARY - [0:0]
            :KUBE-PROXY-CANARY - [0:0]
            COMMIT
            *filter
            :KUBE-EXTERNAL-SERVICES - [0:0]
            :KUBE-FIREWALL - [0:0]
            :KUBE-FORWARD - [0:0]
            :KUBE-NODEPORTS - [0:0]
            :KUBE-PROXY-FIREWALL - [0:0]
            :KUBE-SERVICES - [0:0]
            -A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
            -A INPUT -m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS
            -A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
            -A INPUT -j KUBE-FIREWALL
            -A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
            -A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
            -A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
            -A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
            -A OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
            -A OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
            -A OUTPUT -j KUBE-FIREWALL
            -A KUBE-FIREWALL ! -s {localhost} -d {localhost} -m comment --comment "block incoming localnet connections" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
            -A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
            -A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
            -A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
            COMMIT
            "#,
        ),
        firewall(
            NODES,
            r#"
            *nat
            :KUBE-MARK-MASQ - [0:0]
            :KUBE-NODEPORTS - [0:0]
            :KUBE-POSTROUTING - [0:0]
            :KUBE-SEP-API - [0:0]
            :KUBE-SEP-DNS - [0:0]
            :KUBE-SEP-TRAFFIC-TCP - [0:0]
            :KUBE-SEP-TRAFFIC-UDP - [0:0]
            :KUBE-SERVICES - [0:0]
            :KUBE-SVC-API - [0:0]
            :KUBE-SVC-DNS - [0:0]
            :KUBE-SVC-TRAFFIC-TCP - [0:0]
            :KUBE-SVC-TRAFFIC-UDP - [0:0]
            -A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
            -A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
            -A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
            -A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
            -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
            -A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
            -A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
            -A KUBE-SERVICES -d {api} -p tcp -m comment --comment "default/kubernetes:https cluster IP" -m tcp --dport 443 -j KUBE-SVC-API
            -A KUBE-SERVICES -d {dns} -p udp -m comment --comment "kube-system/kube-dns:dns cluster IP" -m udp --dport 53 -j KUBE-SVC-DNS
            -A KUBE-SERVICES -d {service} -p tcp -m comment --comment "default/traffic:tcp cluster IP" -m tcp --dport 7700 -j KUBE-SVC-TRAFFIC-TCP
            -A KUBE-SERVICES -d {service} -p udp -m comment --comment "default/traffic:udp cluster IP" -m udp --dport 7700 -j KUBE-SVC-TRAFFIC-UDP
            -A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
            -A KUBE-SVC-API ! -s {pods} -d {api} -p tcp -m tcp --dport 443 -j KUBE-MARK-MASQ
            -A KUBE-SVC-API -j KUBE-SEP-API
            -A KUBE-SEP-API -p tcp -m tcp -j DNAT --to-destination {api_server}:6443
            -A KUBE-SVC-DNS ! -s {pods} -d {dns} -p udp -m udp --dport 53 -j KUBE-MARK-MASQ
            -A KUBE-SVC-DNS -j KUBE-SEP-DNS
            -A KUBE-SEP-DNS -p udp -m udp -j DNAT --to-destination {dns_server}:53
            -A KUBE-SVC-TRAFFIC-TCP ! -s {pods} -d {service} -p tcp -m tcp --dport 7700 -j KUBE-MARK-MASQ
            -A KUBE-SVC-TRAFFIC-TCP -j KUBE-SEP-TRAFFIC-TCP
            -A KUBE-SEP-TRAFFIC-TCP -p tcp -m tcp -j DNAT --to-destination {server_at}:7700
            -A KUBE-SVC-TRAFFIC-UDP ! -s {pods} -d {service} -p udp -m udp --dport 7700 -j KUBE-MARK-MASQ
            -A KUBE-SVC-TRAFFIC-UDP -j KUBE-SEP-TRAFFIC-UDP
            -A KUBE-SEP-TRAFFIC-UDP -p udp -m udp -j DNAT --to-destination {server_at}:7700
            COMMIT
            "#,
        )
        .service_table(ServiceTable::Iptables),
    ],
};
