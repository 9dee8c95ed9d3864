//! What only newer kernels can be made to do.

use overlay_trace_probe::sys::kernel::at_least;

/// The first kernel (major, minor) that can do something, and what one before cannot.
pub type Since = Option<((u32, u32), &'static str)>;

pub const VETH_GRO: Since = Some(((5, 13), "veth does no GRO"));
/// Before, what is to be cut into datagrams is cut as soon as it leaves the pod.
pub const VETH_WHOLE_UDP: Since = Some(((5, 12), "veth cannot take UDP's segments in one piece"));

/// Why the running kernel cannot, if it cannot.
pub fn lack(since: Since) -> Option<String> {
    let ((major, minor), why) = since.filter(|(version, _)| !at_least(*version))?;
    Some(format!("before Linux {major}.{minor} {why}"))
}
