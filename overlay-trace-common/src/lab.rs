//! What the labs' own kernel programs need to know: a global of each copy of the object.

/// A network of each family, and its mask. All zeros have no address in them.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct LabNetwork {
    pub v4: u32,
    pub mask_v4: u32,
    pub v6: [u32; 4],
    pub mask_v6: [u32; 4],
}

impl LabNetwork {
    pub fn has_v4(&self, address: u32) -> bool {
        self.mask_v4 != 0 && address & self.mask_v4 == self.v4
    }

    pub fn has_v6(&self, address: &[u32; 4]) -> bool {
        let is_in = |word: usize| address[word] & self.mask_v6[word] == self.v6[word];
        self.mask_v6[0] != 0 && is_in(0) && is_in(1) && is_in(2) && is_in(3)
    }
}

/// The settings of one program at one device. Addresses are as they lie in a packet, but for `remote`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct LabSettings {
    /// Whose packets the program takes, by where they go: those of the other node's pods, or of the node's own pod.
    pub network: LabNetwork,
    /// Index of the device that packets to that network leave by.
    pub out: u32,
    /// 1 if that is a tunnel, whose other end is `remote` (in the machine's byte order), with the identifier
    /// `vni`.
    pub is_tunnel: u32,
    pub remote: u32,
    pub vni: u32,
    /// The index of the node's end of its pod's device, and the link-layer addresses of both ends.
    pub pod_device: u32,
    pub pod_mac: [u8; 6],
    pub node_mac: [u8; 6],
    /// A Service, and the server that it stands for; ports in the packet's byte order too.
    pub service: u32,
    pub service_port: u32,
    pub server: u32,
    pub server_port: u32,
}
