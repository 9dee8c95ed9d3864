//! What Felix, the policy agent of Calico, sets up (calico-node 3.x): IP sets and iptables chains.

use super::NODES;
use crate::dataplanes::lab::{Need, Part};
use crate::dataplanes::step::{firewall, ipset, iptables};

/// Felix's chains, which precede kube-proxy's: a network policy that admits a set of pods, and the profile of a
/// Kubernetes namespace that allows everything.
pub const FIREWALL: Part = Part {
    about: "Felix: sets of addresses, a policy and chains per workload, reverse path filter, outgoing NAT",
    needs: &[Need::Iptables, Need::Ipset],
    steps: &[
        ipset(
            NODES,
            "
            create cali40all-ipam-pools hash:net family inet maxelem 1048576
            create cali40masq-ipam-pools hash:net family inet maxelem 1048576
            create cali40all-hosts-net hash:net family inet maxelem 1048576
            create cali40s:peers hash:net family inet maxelem 1048576
            add cali40all-ipam-pools 10.244.0.0/16
            add cali40masq-ipam-pools 10.244.0.0/16
            add cali40all-hosts-net 192.0.2.1
            add cali40all-hosts-net 192.0.2.2
            add cali40s:peers 10.244.1.2
            add cali40s:peers 10.244.2.2
            ",
        ),
        ipset(
            NODES,
            "
            create cali60all-ipam-pools hash:net family inet6 maxelem 1048576
            create cali60masq-ipam-pools hash:net family inet6 maxelem 1048576
            create cali60s:peers hash:net family inet6 maxelem 1048576
            add cali60all-ipam-pools fd00:10:244::/48
            add cali60masq-ipam-pools fd00:10:244::/48
            add cali60s:peers fd00:10:244:1::2
            add cali60s:peers fd00:10:244:2::2
            ",
        )
        .v6(),
        firewall(
            NODES,
            r#"
            *raw
            :cali-PREROUTING - [0:0]
            :cali-OUTPUT - [0:0]
            :cali-from-host-endpoint - [0:0]
            :cali-to-host-endpoint - [0:0]
            -I PREROUTING -j cali-PREROUTING
            -I OUTPUT -j cali-OUTPUT
            -A cali-PREROUTING -j MARK --set-xmark 0x0/0xf0000
            -A cali-PREROUTING -i cali+ -j MARK --set-xmark 0x40000/0x40000
            -A cali-PREROUTING -m mark --mark 0x40000/0x40000 -m rpfilter --validmark --invert -j DROP
            -A cali-PREROUTING -m mark --mark 0x0/0x40000 -j cali-from-host-endpoint
            -A cali-PREROUTING -m mark --mark 0x10000/0x10000 -j ACCEPT
            -A cali-OUTPUT -j MARK --set-xmark 0x0/0xf0000
            -A cali-OUTPUT -j cali-to-host-endpoint
            -A cali-OUTPUT -m mark --mark 0x10000/0x10000 -j ACCEPT
            COMMIT
            *mangle
            :cali-PREROUTING - [0:0]
            :cali-POSTROUTING - [0:0]
            :cali-from-host-endpoint - [0:0]
            :cali-to-host-endpoint - [0:0]
            -I PREROUTING -j cali-PREROUTING
            -I POSTROUTING -j cali-POSTROUTING
            -A cali-PREROUTING -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
            -A cali-PREROUTING -m mark --mark 0x10000/0x10000 -j ACCEPT
            -A cali-PREROUTING -j cali-from-host-endpoint
            -A cali-PREROUTING -m comment --comment "Host endpoint policy accepted packet." -m mark --mark 0x10000/0x10000 -j ACCEPT
            -A cali-POSTROUTING -m mark --mark 0x10000/0x10000 -j RETURN
            -A cali-POSTROUTING -j MARK --set-xmark 0x0/0xf0000
            -A cali-POSTROUTING -m conntrack --ctstate DNAT -j cali-to-host-endpoint
            -A cali-POSTROUTING -m comment --comment "Host endpoint policy accepted packet." -m mark --mark 0x10000/0x10000 -j RETURN
            COMMIT
            *nat
            :cali-PREROUTING - [0:0]
            :cali-OUTPUT - [0:0]
            :cali-POSTROUTING - [0:0]
            :cali-fip-dnat - [0:0]
            :cali-fip-snat - [0:0]
            :cali-nat-outgoing - [0:0]
            -I PREROUTING -j cali-PREROUTING
            -I OUTPUT -j cali-OUTPUT
            -I POSTROUTING -j cali-POSTROUTING
            -A cali-PREROUTING -j cali-fip-dnat
            -A cali-OUTPUT -j cali-fip-dnat
            -A cali-POSTROUTING -j cali-fip-snat
            -A cali-POSTROUTING -j cali-nat-outgoing
            -A cali-nat-outgoing -m set --match-set {cali}masq-ipam-pools src -m set ! --match-set {cali}all-ipam-pools dst -j MASQUERADE --random-fully
            COMMIT
            "#,
        ),
        firewall(
            NODES,
            r#"
            *filter
            :cali-INPUT - [0:0]
            :cali-FORWARD - [0:0]
            :cali-OUTPUT - [0:0]
            :cali-cidr-block - [0:0]
            :cali-from-hep-forward - [0:0]
            :cali-from-host-endpoint - [0:0]
            :cali-from-wl-dispatch - [0:0]
            :cali-fw-cali-pod{n} - [0:0]
            :cali-pi-default/peers - [0:0]
            :cali-pri-kns.default - [0:0]
            :cali-pri-ksa.default.default - [0:0]
            :cali-pro-kns.default - [0:0]
            :cali-pro-ksa.default.default - [0:0]
            :cali-to-hep-forward - [0:0]
            :cali-to-host-endpoint - [0:0]
            :cali-to-wl-dispatch - [0:0]
            :cali-tw-cali-pod{n} - [0:0]
            :cali-wl-to-host - [0:0]
            -I INPUT -j cali-INPUT
            -I FORWARD -j cali-FORWARD
            -I OUTPUT -j cali-OUTPUT
            -A FORWARD -m comment --comment "Policy explicitly accepted packet." -m mark --mark 0x10000/0x10000 -j ACCEPT
            -A FORWARD -j MARK --set-xmark 0x10000/0x10000
            -A cali-INPUT -i cali+ -g cali-wl-to-host
            -A cali-INPUT -m mark --mark 0x10000/0x10000 -j ACCEPT
            -A cali-INPUT -j MARK --set-xmark 0x0/0xf0000
            -A cali-INPUT -j cali-from-host-endpoint
            -A cali-INPUT -m comment --comment "Host endpoint policy accepted packet." -m mark --mark 0x10000/0x10000 -j ACCEPT
            -A cali-FORWARD -j MARK --set-xmark 0x0/0xe0000
            -A cali-FORWARD -m mark --mark 0x0/0x10000 -j cali-from-hep-forward
            -A cali-FORWARD -i cali+ -j cali-from-wl-dispatch
            -A cali-FORWARD -o cali+ -j cali-to-wl-dispatch
            -A cali-FORWARD -j cali-to-hep-forward
            -A cali-FORWARD -j cali-cidr-block
            -A cali-OUTPUT -m mark --mark 0x10000/0x10000 -j ACCEPT
            -A cali-OUTPUT -o cali+ -j RETURN
            -A cali-OUTPUT -j MARK --set-xmark 0x0/0xf0000
            -A cali-OUTPUT -m conntrack ! --ctstate DNAT -j cali-to-host-endpoint
            -A cali-OUTPUT -m comment --comment "Host endpoint policy accepted packet." -m mark --mark 0x10000/0x10000 -j ACCEPT
            -A cali-from-wl-dispatch -i cali-pod{n} -g cali-fw-cali-pod{n}
            -A cali-from-wl-dispatch -m comment --comment "Unknown interface" -j DROP
            -A cali-to-wl-dispatch -o cali-pod{n} -g cali-tw-cali-pod{n}
            -A cali-to-wl-dispatch -m comment --comment "Unknown interface" -j DROP
            -A cali-fw-cali-pod{n} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
            -A cali-fw-cali-pod{n} -m conntrack --ctstate INVALID -j DROP
            -A cali-fw-cali-pod{n} -j MARK --set-xmark 0x0/0x30000
            -A cali-fw-cali-pod{n} -p udp -m comment --comment "Drop VXLAN encapped packets originating in workloads" -m multiport --dports 4789 -j DROP
            -A cali-fw-cali-pod{n} -p ipencap -m comment --comment "Drop IPinIP encapped packets originating in workloads" -j DROP
            -A cali-fw-cali-pod{n} -j cali-pro-kns.default
            -A cali-fw-cali-pod{n} -m comment --comment "Return if profile accepted" -m mark --mark 0x10000/0x10000 -j RETURN
            -A cali-fw-cali-pod{n} -j cali-pro-ksa.default.default
            -A cali-fw-cali-pod{n} -m comment --comment "Return if profile accepted" -m mark --mark 0x10000/0x10000 -j RETURN
            -A cali-fw-cali-pod{n} -m comment --comment "Drop if no profiles matched" -j DROP
            -A cali-tw-cali-pod{n} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
            -A cali-tw-cali-pod{n} -m conntrack --ctstate INVALID -j DROP
            -A cali-tw-cali-pod{n} -j MARK --set-xmark 0x0/0x30000
            -A cali-tw-cali-pod{n} -m comment --comment "Start of policies" -j MARK --set-xmark 0x0/0x20000
            -A cali-tw-cali-pod{n} -m mark --mark 0x0/0x20000 -j cali-pi-default/peers
            -A cali-tw-cali-pod{n} -m comment --comment "Return if policy accepted" -m mark --mark 0x10000/0x10000 -j RETURN
            -A cali-tw-cali-pod{n} -m comment --comment "Drop if no policies passed packet" -m mark --mark 0x0/0x20000 -j DROP
            -A cali-tw-cali-pod{n} -j cali-pri-kns.default
            -A cali-tw-cali-pod{n} -m comment --comment "Return if profile accepted" -m mark --mark 0x10000/0x10000 -j RETURN
            -A cali-tw-cali-pod{n} -j cali-pri-ksa.default.default
            -A cali-tw-cali-pod{n} -m comment --comment "Return if profile accepted" -m mark --mark 0x10000/0x10000 -j RETURN
            -A cali-tw-cali-pod{n} -m comment --comment "Drop if no profiles matched" -j DROP
            -A cali-pi-default/peers -m set --match-set {cali}s:peers src -j MARK --set-xmark 0x10000/0x10000
            -A cali-pi-default/peers -m mark --mark 0x10000/0x10000 -j RETURN
            -A cali-pri-kns.default -m comment --comment "Profile kns.default ingress" -j MARK --set-xmark 0x10000/0x10000
            -A cali-pri-kns.default -m mark --mark 0x10000/0x10000 -j RETURN
            -A cali-pro-kns.default -m comment --comment "Profile kns.default egress" -j MARK --set-xmark 0x10000/0x10000
            -A cali-pro-kns.default -m mark --mark 0x10000/0x10000 -j RETURN
            -A cali-wl-to-host -j cali-from-wl-dispatch
            -A cali-wl-to-host -m comment --comment "Configured DefaultEndpointToHostAction" -j ACCEPT
            COMMIT
            "#,
        ),
        // IPIP is IPv4 only.
        iptables(
            NODES,
            r#"
            *nat
            -A cali-POSTROUTING -o tunl0 -m addrtype ! --src-type LOCAL --limit-iface-out -m addrtype --src-type LOCAL -j MASQUERADE --random-fully
            COMMIT
            *filter
            -I cali-INPUT -p ipencap -m comment --comment "Drop IPIP packets from non-Calico hosts" -j DROP
            -I cali-INPUT -p ipencap -m comment --comment "Allow IPIP packets from Calico hosts" -m set --match-set cali40all-hosts-net src -m addrtype --dst-type LOCAL -j ACCEPT
            -I cali-OUTPUT 3 -p ipencap -m comment --comment "Allow IPIP packets to other Calico hosts" -m set --match-set cali40all-hosts-net dst -m addrtype --src-type LOCAL -j ACCEPT
            COMMIT
            "#,
        ),
    ],
};
