//! What a stage means for the analysis of a recording.
//!
//! Analysis decides by nothing else: no stage is known by its name. [`Behaviour::of`] gives what all stages of a layer
//! have in common, so that a row of the stage map only states what is particular to it. A recording carries the
//! behaviour of every stage.

use crate::layer::Layer;

/// What a stage means for the analysis of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behaviour {
    /// The packet comes in from a device: what follows is ingress or forwarding.
    pub arrives: bool,
    /// The packet is handed to a device.
    pub transmits: bool,
    /// The packet leaves the network namespace.
    pub leaves: bool,
    /// No packet exists yet: the stage belongs to the send call, or to the poll of a NIC, before the first probe that
    /// sees an skb.
    pub before_start: bool,
    /// The packet waits for the CPU in the middle of another stage, which then goes on.
    pub interrupts: bool,
    /// The packet waits while the CPU works for other packets, so the cost of their probes delays it too.
    pub behind_others: bool,
    /// A queue that gets shorter when other packets need less work.
    pub shared_queue: bool,
    /// Clones of a packet (`skb_clone`) begin in this stage.
    pub clones: bool,
    /// Whether a packet that is freed here, without a drop, has been delivered.
    pub delivers: Delivery,
    /// What the stage is there for.
    pub role: Role,
    /// The stage whose probe begins this one, if this one has no probe of its own.
    pub probed_by: Option<&'static str>,
}

/// Whether a packet that is freed in a stage, without a drop, has been delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// No: it was forwarded, or sent out of the machine.
    #[default]
    No,
    /// Yes, unless it was about to leave the namespace.
    Local,
    /// Yes: the transport protocol has it.
    Transport,
    /// Yes: it is in a socket.
    Socket,
}

/// What a stage is there for. The what-if analysis takes parts of a network out by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// A packet's path through the IP stack, once for each level of encapsulation.
    #[default]
    Stack,
    /// The ends of a path, and waiting for a CPU or a neighbour: no change of the network takes it out.
    Endpoint,
    /// A device or its queues.
    Device,
    /// The same, where it can be a pod's own device (veth and the backlog behind it).
    PodDevice,
    /// A tunnel: encapsulation, decapsulation, encryption.
    Tunnel,
    /// Segmentation, checksums and fragmentation: may be needed without a tunnel as well.
    Length,
    /// Connection tracking and address translation.
    Conntrack,
    Bridge,
    Iptables,
    Nftables,
    Ipvs,
}

impl Delivery {
    pub const ALL: &'static [Delivery] =
        &[Delivery::No, Delivery::Local, Delivery::Transport, Delivery::Socket];

    /// The name in recordings.
    pub const fn name(self) -> &'static str {
        match self {
            Delivery::No => "no",
            Delivery::Local => "local",
            Delivery::Transport => "transport",
            Delivery::Socket => "socket",
        }
    }

    /// Whether it is delivered wherever it was going.
    pub const fn is_certain(self) -> bool {
        matches!(self, Delivery::Transport | Delivery::Socket)
    }
}

impl Role {
    pub const ALL: &'static [Role] = &[
        Role::Stack,
        Role::Endpoint,
        Role::Device,
        Role::PodDevice,
        Role::Tunnel,
        Role::Length,
        Role::Conntrack,
        Role::Bridge,
        Role::Iptables,
        Role::Nftables,
        Role::Ipvs,
    ];

    /// The name in recordings.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Stack => "stack",
            Role::Endpoint => "endpoint",
            Role::Device => "device",
            Role::PodDevice => "pod-device",
            Role::Tunnel => "tunnel",
            Role::Length => "length",
            Role::Conntrack => "conntrack",
            Role::Bridge => "bridge",
            Role::Iptables => "iptables",
            Role::Nftables => "nftables",
            Role::Ipvs => "ipvs",
        }
    }

    /// Whether it is a device of any kind.
    pub const fn is_device(self) -> bool {
        matches!(self, Role::Device | Role::PodDevice)
    }
}

impl Behaviour {
    /// What all stages of a layer have in common.
    pub const fn of(layer: Layer) -> Behaviour {
        Behaviour {
            arrives: matches!(layer, Layer::Backlog | Layer::Gro | Layer::GroCells),
            transmits: false,
            leaves: matches!(layer, Layer::Qdisc),
            before_start: false,
            interrupts: matches!(layer, Layer::Cpu),
            behind_others: false,
            shared_queue: false,
            clones: false,
            delivers: match layer {
                Layer::Socket => Delivery::Socket,
                Layer::Transport => Delivery::Transport,
                Layer::Ip => Delivery::Local,
                _ => Delivery::No,
            },
            role: role_of(layer),
            probed_by: None,
        }
    }
}

const fn role_of(layer: Layer) -> Role {
    match layer {
        Layer::Socket | Layer::Neighbour | Layer::Cpu => Role::Endpoint,
        Layer::Qdisc | Layer::Driver | Layer::Gro | Layer::GroCells | Layer::Tc => Role::Device,
        Layer::Veth | Layer::Backlog => Role::PodDevice,
        Layer::Vxlan | Layer::Ipip | Layer::Gre | Layer::Geneve | Layer::Wireguard | Layer::Xfrm => {
            Role::Tunnel
        }
        Layer::Gso | Layer::Checksum | Layer::Fragment => Role::Length,
        Layer::Conntrack | Layer::Nat => Role::Conntrack,
        Layer::Bridge => Role::Bridge,
        Layer::Iptables => Role::Iptables,
        Layer::Nftables => Role::Nftables,
        Layer::Ipvs => Role::Ipvs,
        _ => Role::Stack,
    }
}
