//! The layers of the network stack.

macro_rules! layers {
    ($($layer:ident => $name:literal, $hue:expr;)*) => {
        /// The part of the network stack that a stage belongs to.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Layer {
            $($layer,)*
        }

        impl Layer {
            /// Every layer.
            pub const ALL: &'static [Layer] = &[$(Layer::$layer,)*];

            /// The layer's name in recordings and in every output.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Layer::$layer => $name,)*
                }
            }

            /// The layer's place among the hues of flame graphs. Layers that follow each other on a packet's path
            /// have places far apart. `None`: any place.
            pub const fn hue(self) -> Option<u8> {
                match self {
                    $(Layer::$layer => $hue,)*
                }
            }
        }
    };
}

// A layer, its name, its place among the hues.
layers! {
    Socket => "socket", Some(8);
    Transport => "transport", Some(12);
    Ip => "ip", Some(0);
    Route => "route", Some(10);
    Conntrack => "conntrack", Some(1);
    Nat => "nat", Some(9);
    Iptables => "iptables", Some(3);
    Nftables => "nftables", Some(15);
    Bridge => "bridge", Some(2);
    Veth => "veth", Some(4);
    Vxlan => "vxlan", Some(5);
    Ipip => "ipip", Some(17);
    Gre => "gre", Some(19);
    Geneve => "geneve", Some(21);
    Ipvlan => "ipvlan", Some(23);
    Macvlan => "macvlan", Some(24);
    Vlan => "vlan", None;
    Ovs => "ovs", Some(25);
    Ipvs => "ipvs", Some(26);
    Xfrm => "xfrm", None;
    Wireguard => "wireguard", None;
    Tun => "tun", None;
    Cgroup => "cgroup", None;
    Tc => "tc", Some(14);
    Qdisc => "qdisc", Some(6);
    Backlog => "backlog", Some(11);
    GroCells => "gro-cells", None;
    Gro => "gro", Some(13);
    Gso => "gso", Some(18);
    Checksum => "checksum", Some(20);
    Fragment => "fragment", Some(22);
    Neighbour => "neighbour", Some(16);
    Driver => "driver", Some(7);
    Cpu => "cpu", None;
    Other => "other", None;
}

impl Layer {
    /// The layer of this name, if this version knows it.
    pub fn from_name(name: &str) -> Option<Layer> {
        Layer::ALL.iter().copied().find(|layer| layer.name() == name)
    }
}
