//! TCP_INFO of a connection.

use std::net::TcpStream;
use std::os::fd::AsRawFd;

/// The number of segments that this end of the connection has retransmitted (`tcpi_total_retrans`); 0 when the
/// kernel does not tell.
pub fn retransmits(stream: &TcpStream) -> u64 {
    // SAFETY: tcp_info is a C struct of integers; all-zero bytes are a valid value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `info`, which is that large, and the actual length to
    // `length`. Both live across the call and are not aliased; the descriptor is open.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    if result == 0 { u64::from(info.tcpi_total_retrans) } else { 0 }
}
