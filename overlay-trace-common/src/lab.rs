//! What the labs' own kernel programs need to know: a global of each copy of the object.

/// The settings of one program at one device. Addresses are as they lie in a packet, but for `remote`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct LabSettings {
    /// The network of the other node's pods, and its mask.
    pub network: u32,
    pub mask: u32,
    /// Index of the device that packets to that network leave by.
    pub out: u32,
    /// 1 if that is a tunnel, whose other end is `remote` (in the machine's byte order), with the identifier
    /// `vni`.
    pub is_tunnel: u32,
    pub remote: u32,
    pub vni: u32,
    /// The node's own pod, the index of its device's end on the node, and the link-layer addresses of both ends.
    pub pod: u32,
    pub pod_device: u32,
    pub pod_mac: [u8; 6],
    pub node_mac: [u8; 6],
    /// A Service, and the server that it stands for; ports in the packet's byte order too.
    pub service: u32,
    pub service_port: u32,
    pub server: u32,
    pub server_port: u32,
}
