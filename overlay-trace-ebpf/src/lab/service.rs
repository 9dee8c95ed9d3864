//! Socket load balancing: a Service's address becomes the server's where a socket of the cgroup connects or sends,
//! and is what the socket is told of the sender of an answer. No packet has the Service's address.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock_addr},
    helpers::generated::bpf_get_socket_cookie,
    macros::map,
    maps::LruHashMap,
};

use crate::settings;

/// The call goes on; a packet passes.
const ALLOW: i32 = 1;

/// Which sockets have sent to the server by the Service's address.
#[map]
static TRANSLATED: LruHashMap<u64, u32> = LruHashMap::with_max_entries(4096, 0);

/// Towards the server.
#[inline(always)]
fn translate(call: *mut bpf_sock_addr) -> i32 {
    let settings = settings();
    // SAFETY: `call` is a program's context.
    let (address, port) = unsafe { ((*call).user_ip4, (*call).user_port) };
    if address != settings.service || port != settings.service_port {
        return ALLOW;
    }
    // SAFETY: `call` is a program's context.
    let socket = unsafe { bpf_get_socket_cookie(call as *mut c_void) };
    // A socket that finds no place in the map sees the server's own address in what it is answered.
    let _ = TRANSLATED.insert(socket, settings.server, 0);
    // SAFETY: `call` is a program's context, and these programs may write both.
    unsafe {
        (*call).user_ip4 = settings.server;
        (*call).user_port = settings.server_port;
    }
    ALLOW
}

/// Back to the Service, for who asks where something comes from.
#[inline(always)]
fn translate_back(call: *mut bpf_sock_addr) -> i32 {
    let settings = settings();
    // SAFETY: `call` is a program's context.
    let (address, port) = unsafe { ((*call).user_ip4, (*call).user_port) };
    if address != settings.server || port != settings.server_port {
        return ALLOW;
    }
    // SAFETY: `call` is a program's context.
    let socket = unsafe { bpf_get_socket_cookie(call as *mut c_void) };
    // SAFETY: the entry is not read: it may be replaced at any time.
    if unsafe { TRANSLATED.get(socket) }.is_some() {
        // SAFETY: as above.
        unsafe {
            (*call).user_ip4 = settings.service;
            (*call).user_port = settings.service_port;
        }
    }
    ALLOW
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "cgroup/connect4")]
extern "C" fn connect4(call: *mut bpf_sock_addr) -> i32 {
    translate(call)
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "cgroup/sendmsg4")]
extern "C" fn sendmsg4(call: *mut bpf_sock_addr) -> i32 {
    translate(call)
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "cgroup/recvmsg4")]
extern "C" fn recvmsg4(call: *mut bpf_sock_addr) -> i32 {
    translate_back(call)
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "cgroup/getpeername4")]
extern "C" fn getpeername4(call: *mut bpf_sock_addr) -> i32 {
    translate_back(call)
}

/// As systemd has them, to allow a unit's addresses: looks at each packet of the cgroup's sockets.
#[unsafe(no_mangle)]
#[unsafe(link_section = "cgroup_skb/ingress")]
extern "C" fn ingress(_: *mut __sk_buff) -> i32 {
    ALLOW
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "cgroup_skb/egress")]
extern "C" fn egress(_: *mut __sk_buff) -> i32 {
    ALLOW
}
