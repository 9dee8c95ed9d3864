//! The binary interface between the loader and the kernel side: read-only globals that the loader sets before it loads
//! the programs, sizes of maps, and values of maps.

/// Offsets in bytes of the fields that the kernel side reads, from the running kernel's BTF.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Offsets {
    pub skb_dev: u32,
    pub skb_sk: u32,
    pub skb_len: u32,
    /// Bytes in fragments, outside the linear part.
    pub skb_data_len: u32,
    pub skb_protocol: u32,
    pub skb_next: u32,
    pub skb_head: u32,
    pub skb_data: u32,
    /// Offset of the end of the head buffer from `skb_head`, where `skb_shared_info` begins.
    pub skb_end: u32,
    pub skb_network_header: u32,
    pub skb_inner_network_header: u32,
    /// `gso_size`, behind which `gso_segs` lies.
    pub shared_gso_size: u32,
    pub shared_gso_type: u32,
    pub shared_nr_frags: u32,
    /// The first fragment: the page (`struct page *`, 8 bytes), its length and offset (4 bytes each; `bio_vec`, from 6.9
    /// on `skb_frag`).
    pub shared_frags: u32,
    pub shared_frag_list: u32,
    pub dev_ifindex: u32,
    pub dev_net: u32,
    pub dev_name: u32,
    pub dev_link_ops: u32,
    pub link_ops_kind: u32,
    pub queue_dev: u32,
    pub sock_net: u32,
    pub net_inum: u32,
    /// A number that is unique to a namespace, its cookie or `hash_mix`: address and inode number of a deleted namespace
    /// are reused.
    pub net_mix: u32,
    pub sock_protocol: u32,
    pub skb_dst: u32,
    pub dst_dev: u32,
    /// Bits in which a device's queue says who has stopped it.
    pub queue_state: u32,
    /// Whether a task has the socket locked: what comes in meanwhile goes to its backlog.
    pub sock_owned: u32,
    pub tcp_rcv_nxt: u32,
    /// `struct tcp_skb_cb`, of which `end_seq` is the second word.
    pub skb_cb: u32,
}

/// The number of fields.
const FIELDS: usize = size_of::<Offsets>() / 4;

impl Offsets {
    /// All fields, in their order.
    pub fn all(&self) -> &[u32; FIELDS] {
        // SAFETY: a repr(C) struct of `FIELDS` fields of type u32 has the layout of that array.
        unsafe { &*(self as *const Offsets).cast() }
    }
}

/// A link kind and the stage that a transmission through such a device enters.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct TransmitKind {
    /// The name; see [`words_of`].
    pub kind: [u64; 2],
    pub stage: u32,
    /// 1 if the device encapsulates.
    pub up: u32,
    /// 1 if the packet waits there until it is fetched.
    pub waits: u32,
    pub _pad: u32,
}

/// Maximum number of [`TransmitKind`]s.
pub const TRANSMIT_KINDS: usize = 32;

/// At most 16 bytes, with zeros behind them, as two numbers of the machine's byte order: these are compared faster.
pub fn words_of(bytes: &[u8]) -> [u64; 2] {
    let byte = |index: usize| bytes.get(index).copied().unwrap_or(0);
    [0, 8].map(|begin| u64::from_ne_bytes(core::array::from_fn(|index| byte(begin + index))))
}

/// Maximum number of namespaces in a filter.
pub const NETNS_MAX: usize = 8;

/// Which packets are recorded. A field of 0 does not filter.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Filter {
    /// Innermost source or destination; see [`words_of`].
    pub address: [u64; 2],
    /// Name of a device on the packet's path; see [`words_of`].
    pub device: [u64; 2],
    /// Inode numbers of namespaces, one of which is on the packet's path; the list ends at the first 0.
    pub netns: [u32; NETNS_MAX],
    /// By namespace: the low half of its cookie, so that one that gets its inode number later is another one; 0 where the
    /// kernel has no cookies. There it is the namespace whose packets come first.
    pub netns_mix: [u32; NETNS_MAX],
    /// IP version of `address`: 4, 6, or 0 for no address.
    pub address_version: u8,
    /// IP protocol number.
    pub protocol: u8,
    /// Innermost source or destination port.
    pub port: u16,
}

/// The settings of a recording.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Settings {
    pub offsets: Offsets,
    pub filter: Filter,
    pub transmit: [TransmitKind; TRANSMIT_KINDS],
    /// Stage of a transmission through a device of unknown kind.
    pub transmit_default: u32,
    /// Buckets of the packet table minus 1 (a power of two minus 1).
    pub bucket_mask: u32,
    /// Tail sampling: 1 in this number of the ordinary packets has its record sent; 0 sends every record.
    pub one_in: u32,
    /// Sampling by packet: 1 in this number of packets is followed; 0 follows all.
    pub sample: u32,
    pub _pad: u32,
    /// Bytes of a `struct page`; 0 if the content of pages cannot be found.
    pub page_struct_bytes: u32,
    /// Addresses of the kernel's variables `vmemmap_base` and `page_offset_base`.
    pub vmemmap_base: u64,
    pub page_offset_base: u64,
}

/// Maximum number of CPUs.
pub const CPUS_MAX: usize = 1024;

/// UDP ports per word of the map `TUNNEL_PORTS`: two bits each, a [`Tunnel`](crate::headers::Tunnel).
pub const PORTS_PER_WORD: u32 = 32;
/// Words of the map `TUNNEL_PORTS`.
pub const TUNNEL_WORDS: u32 = 65536 / PORTS_PER_WORD;

/// Slots per bucket of the packet table.
pub const BUCKET_SLOTS: usize = 4;
/// Default number of buckets of the packet table.
pub const BUCKETS: u32 = 4096;

/// Which packets the kernel side starts to track: the value of the map `TRACKING_PHASE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u64)]
pub enum TrackingPhase {
    /// None: programs are being attached or detached.
    Off = 0,
    /// Packets that start: packets that are already in flight when the recording begins would look cut off.
    StartsOnly = 1,
    /// Also packets that are picked up mid-path.
    All = 2,
}
