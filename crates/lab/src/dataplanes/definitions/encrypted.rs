//! Encrypted overlays: WireGuard, and IPsec (xfrm).

use super::NODES;
use crate::dataplanes::lab::{Need, Part};
use crate::dataplanes::step::{ip, wireguard};

/// The keys are public constants, since a lab carries no secrets: the words `overlay-trace lab, key of node 1` and
/// `… 2` in base64, and the output of `wg pubkey` for each. IPv6 has its own device, as in flannel's dual stack.
pub const WIREGUARD: Part = Part {
    about: "flanneld, backend wireguard: flannel-wg* with the other node as peer, and the route to its pods",
    needs: &[Need::Link("wireguard"), Need::Wireguard],
    steps: &[
        ip(NODES, "link add name flannel-wg mtu {pod_mtu} type wireguard"),
        wireguard(
            &["node1"],
            "flannel-wg",
            "
            [Interface]
            PrivateKey = b3ZlcmxheS10cmFjZSBsYWIsIGtleSBvZiBub2RlIDE=
            ListenPort = 51820
            [Peer]
            PublicKey = QId25GRYKM3DAMA4B1Je2Xnx5wxyl4Z8sD1Par8CyW0=
            Endpoint = 192.0.2.2:51820
            AllowedIPs = 10.244.2.0/24
            ",
        ),
        wireguard(
            &["node2"],
            "flannel-wg",
            "
            [Interface]
            PrivateKey = b3ZlcmxheS10cmFjZSBsYWIsIGtleSBvZiBub2RlIDI=
            ListenPort = 51820
            [Peer]
            PublicKey = C12e/XewQ054AU36Y89t0GYyx+vr52wEit2KGcRf0F4=
            Endpoint = 192.0.2.1:51820
            AllowedIPs = 10.244.1.0/24
            ",
        ),
        ip(
            NODES,
            "
            addr add 10.244.{n}.0/32 dev flannel-wg
            link set dev flannel-wg up
            route add 10.244.{p}.0/24 dev flannel-wg
            ",
        ),
        ip(NODES, "link add name flannel-wg-v6 mtu {pod_mtu_v6} type wireguard").v6(),
        wireguard(
            &["node1"],
            "flannel-wg-v6",
            "
            [Interface]
            PrivateKey = b3ZlcmxheS10cmFjZSBsYWIsIGtleSBvZiBub2RlIDE=
            ListenPort = 51821
            [Peer]
            PublicKey = QId25GRYKM3DAMA4B1Je2Xnx5wxyl4Z8sD1Par8CyW0=
            Endpoint = [2001:db8::2]:51821
            AllowedIPs = fd00:10:244:2::/64
            ",
        )
        .v6(),
        wireguard(
            &["node2"],
            "flannel-wg-v6",
            "
            [Interface]
            PrivateKey = b3ZlcmxheS10cmFjZSBsYWIsIGtleSBvZiBub2RlIDI=
            ListenPort = 51821
            [Peer]
            PublicKey = C12e/XewQ054AU36Y89t0GYyx+vr52wEit2KGcRf0F4=
            Endpoint = [2001:db8::1]:51821
            AllowedIPs = fd00:10:244:1::/64
            ",
        )
        .v6(),
        ip(
            NODES,
            "
            addr add fd00:10:244:{n}::/128 dev flannel-wg-v6 nodad
            link set dev flannel-wg-v6 up
            route add fd00:10:244:{p}::/64 dev flannel-wg-v6
            ",
        )
        .v6(),
    ],
};

pub const ESP: Part = Part {
    about: "the result of an IKE daemon: one security association per direction (AES-GCM), and policies for the pods",
    needs: &[Need::Esp],
    steps: &[
        ip(
            NODES,
            "
            xfrm state add src {own} dst {other} proto esp spi 0x10{n} reqid 1 mode tunnel aead rfc4106(gcm(aes)) 0x000102030405060708090a0b0c0d0e0f1011121{n} 128
            xfrm state add src {other} dst {own} proto esp spi 0x10{p} reqid 1 mode tunnel aead rfc4106(gcm(aes)) 0x000102030405060708090a0b0c0d0e0f1011121{p} 128
            xfrm policy add src {own_pods} dst {other_pods} dir out tmpl src {own} dst {other} proto esp reqid 1 mode tunnel
            xfrm policy add src {other_pods} dst {own_pods} dir in tmpl src {other} dst {own} proto esp reqid 1 mode tunnel
            xfrm policy add src {other_pods} dst {own_pods} dir fwd tmpl src {other} dst {own} proto esp reqid 1 mode tunnel
            ",
        )
        .for_both_families(),
    ],
};
