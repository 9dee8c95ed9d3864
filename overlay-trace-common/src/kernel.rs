//! What the loader hands to the kernel side as read-only globals before the programs are loaded.

/// Offsets in bytes of the fields that the kernel side reads, from the running kernel's BTF.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Offsets {
    pub skb_dev: u32,
    pub skb_sk: u32,
    pub skb_len: u32,
    /// How much of it does not lie in one piece.
    pub skb_data_len: u32,
    pub skb_protocol: u32,
    pub skb_next: u32,
    pub skb_head: u32,
    pub skb_data: u32,
    /// Offset of the end of the head buffer from `skb_head`, where `skb_shared_info` begins.
    pub skb_end: u32,
    pub skb_network_header: u32,
    pub skb_inner_network_header: u32,
    pub shared_gso_segs: u32,
    pub shared_frag_list: u32,
    pub dev_ifindex: u32,
    pub dev_net: u32,
    pub dev_name: u32,
    pub dev_link_ops: u32,
    pub link_ops_kind: u32,
    pub queue_dev: u32,
    pub sock_net: u32,
    pub net_inum: u32,
    /// A number that each namespace has for itself, its cookie or a random one: it tells it from an earlier
    /// one whose address and inode number it got.
    pub net_mix: u32,
    pub sock_protocol: u32,
    pub skb_dst: u32,
    pub dst_dev: u32,
}

/// How many there are.
const FIELDS: usize = size_of::<Offsets>() / 4;

impl Offsets {
    /// All of them, in their order.
    pub fn all(&self) -> &[u32; FIELDS] {
        // SAFETY: it consists of these numbers and nothing else.
        unsafe { &*(self as *const Offsets).cast() }
    }
}

/// A link kind and the stage that a transmission through such a device enters.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct TransmitKind {
    /// NUL-padded.
    pub kind: [u8; 16],
    pub stage: u32,
    /// 1 if the device encapsulates.
    pub up: u32,
}

/// How many [`TransmitKind`]s there can be.
pub const TRANSMIT_KINDS: usize = 32;

/// How many namespaces a filter can name.
pub const NETNS_MAX: usize = 8;

/// Which packets are recorded. What is 0 is not asked for.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Filter {
    /// Innermost source or destination.
    pub address: [u8; 16],
    /// NUL-padded name of a device on the packet's way.
    pub device: [u8; 16],
    /// Inodes of namespaces, one of which is on the packet's way; none asked for if the first is 0.
    pub netns: [u32; NETNS_MAX],
    /// IP version of `address`: 4, 6, or 0 for no address.
    pub address_version: u8,
    /// IP protocol number.
    pub protocol: u8,
    /// Innermost source or destination port.
    pub port: u16,
}

/// What the kernel side needs to know of this run.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Settings {
    pub offsets: Offsets,
    pub filter: Filter,
    pub transmit: [TransmitKind; TRANSMIT_KINDS],
    /// Stage of a transmission through a device of unknown kind.
    pub transmit_default: u32,
    /// Buckets of the state table minus 1 (a power of two minus 1).
    pub bucket_mask: u32,
    /// Of the ordinary packets one in so many has its record sent; 0 if every packet has.
    pub one_in: u32,
    pub _pad: u32,
}

/// How many CPUs the kernel side can tell apart.
pub const CPUS_MAX: usize = 1024;

/// UDP ports per word of the map `TUNNEL_PORTS`: two bits each, a [`Tunnel`](crate::headers::Tunnel).
pub const PORTS_PER_WORD: u32 = 32;
/// Words of the map `TUNNEL_PORTS`.
pub const TUNNEL_WORDS: u32 = 65536 / PORTS_PER_WORD;

/// Places of a bucket of the state table.
pub const WAYS: usize = 4;
/// Default number of buckets; each holds [`WAYS`] packets.
pub const BUCKETS: u32 = 4096;

/// Value of the map `ARMED`: packets that are born are followed.
pub const ARMED_BIRTHS: u64 = 1;
/// Value of the map `ARMED`: also packets that are met on their way.
pub const ARMED_ALL: u64 = 2;
