//! What the parser of headers reads from.

/// Bytes of a window: an IPv6 header and a TCP header.
pub const WINDOW_BYTES: usize = 64;

/// Bytes of the memory of a window: behind the window there is room for another one, so that what lies in two places
/// is put together by two copies of constant length.
pub const WINDOW_ROOM: usize = 2 * WINDOW_BYTES;

/// Some bytes of a packet.
#[repr(C, align(8))]
pub struct Window(pub [u64; WINDOW_ROOM / 8]);

impl Window {
    /// The number at an offset that its size divides, in memory order.
    ///
    /// # Panics
    ///
    /// If the number does not lie in the window. (Offsets are constants: nothing of this is left in kernel programs.)
    #[inline(always)]
    pub fn at<T: Integer>(&self, offset: usize) -> T {
        assert!(offset + size_of::<T>() <= WINDOW_BYTES && offset.is_multiple_of(size_of::<T>()));
        // SAFETY: the number lies in the window and is aligned, as was asserted; any bytes are an integer. Volatile,
        // since on the kernel side a helper wrote them.
        unsafe { (self.0.as_ptr() as *const u8).add(offset).cast::<T>().read_volatile() }
    }

    /// The 16-bit number at an offset, from network byte order.
    #[inline(always)]
    pub fn short(&self, offset: usize) -> u16 {
        u16::from_be(self.at(offset))
    }
}

/// The integers that a [`Window`] can be read as: for each of them any bytes are a value.
pub trait Integer: Copy {}
impl Integer for u8 {}
impl Integer for u16 {}
impl Integer for u32 {}
impl Integer for u64 {}

/// The memory that holds a packet, and the machine's tunnel ports. Addresses are those that the packet's bytes would have
/// if all of it lay behind its linear part.
pub trait Memory {
    /// Fills the window from an address; false if that cannot be read.
    fn read(&self, window: &mut Window, address: u64) -> bool;
    /// The address behind what can be read.
    fn limit(&self) -> u64;
    /// The address behind the packet.
    fn tail(&self) -> u64;
    /// Raises the limit, if more than the linear part can be read; costs a few reads.
    fn extend(&self) {}
    /// The tunnel protocol of UDP packets to this port.
    fn tunnel(&self, port: u16) -> Tunnel;
    /// The same number, as one that the kernel's verifier does not know: it follows each known value through the rest of
    /// the program, and gives up if these are too many.
    #[inline(always)]
    fn any(&self, number: u64) -> u64 {
        number
    }
}

/// Tunnel protocols over UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Tunnel {
    None = 0,
    /// VXLAN, or VXLAN-GPE, which its header says.
    Vxlan = 1,
    Geneve = 2,
    /// IPv4 directly in UDP, as flannel's backend `udp`.
    Ip = 3,
}

impl Tunnel {
    /// From its two bits in the map `TUNNEL_PORTS`.
    #[inline(always)]
    pub const fn from_bits(bits: u64) -> Tunnel {
        match bits & 3 {
            1 => Tunnel::Vxlan,
            2 => Tunnel::Geneve,
            3 => Tunnel::Ip,
            _ => Tunnel::None,
        }
    }
}
