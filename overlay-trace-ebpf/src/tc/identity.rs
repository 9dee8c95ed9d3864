//! What tells two packets at one address apart.

use overlay_trace_common::record::{HEADER_BYTES, RecordHeader};

/// What does not change on a packet's way through the machine, also not by address translation or encapsulation.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Identity {
    /// IPv4 identification, protocol, IP version, and the TCP sequence number.
    numbers: u64,
    /// See [`RecordHeader::witness`].
    witness: u64,
}

impl Identity {
    /// Of a packet of which only the address is known.
    pub const NOT_IP: Identity = Identity { numbers: 0, witness: 0 };

    #[inline(always)]
    pub fn new(header: &RecordHeader) -> Identity {
        let flow = &header.flow;
        let numbers = (flow.sequence as u64) << 32
            | (flow.ip_id as u64) << 16
            | (flow.protocol as u64) << 8
            | flow.version as u64;
        Identity { numbers, witness: header.witness }
    }
}

/// What the probe set `tc` keeps of a packet besides its path.
#[repr(C)]
pub struct TcState {
    pub identity: Identity,
    /// The number of the hook where the path began.
    pub first_hook: u32,
    pub _pad: u32,
}

/// Copies what the headers say of a packet: the flow, its length, the number of segments, the marks and the witness. The rest of the
/// header `to` is as the start of the path has set it.
#[inline(always)]
pub fn copy_description(to: &mut RecordHeader, from: &RecordHeader) {
    const { assert!(HEADER_BYTES.is_multiple_of(8)) };
    const { assert!(core::mem::offset_of!(RecordHeader, flow).is_multiple_of(8)) };
    const { assert!(size_of::<overlay_trace_common::record::Flow>().is_multiple_of(4)) };
    let words = size_of::<overlay_trace_common::record::Flow>() / 4;
    let (source, target) = (&raw const from.flow as *const u32, &raw mut to.flow as *mut u32);
    let mut word = 0;
    while word < words {
        // SAFETY: a flow consists of so many words of integers. Volatile: the compiler would call memcpy, which copies
        // byte by byte.
        unsafe { target.add(word).write_volatile(source.add(word).read_volatile()) };
        word += 1;
    }
    to.bytes = from.bytes;
    to.segments = from.segments;
    to.flags = from.flags;
    to.witness = from.witness;
}
