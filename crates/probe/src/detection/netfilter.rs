//! The names of chains and sets, and the number of IPsec policies, in the network namespace of the calling thread. Only
//! modules that are loaded already are asked.

use std::collections::BTreeSet;
use std::io;
use std::mem::size_of;
use std::os::fd::AsRawFd;
use std::path::Path;

use anyhow::{Result, bail};
use netlink_packet_core::{NetlinkBuffer, NlaBuffer, NlasIterator};
use netlink_sys::{Socket, SocketAddr};

/// A kind of object that netlink lists.
struct Listing {
    /// The kernel module that has it.
    module: &'static str,
    /// Netlink's protocol (`netlink(7)`).
    protocol: isize,
    /// The type of the request, and its payload.
    message: u16,
    body: &'static [u8],
    /// Length of the fixed part of an answer's payload, and the attribute with the name.
    fixed: usize,
    name: u16,
}

const NETLINK_XFRM: isize = 6;
const NETLINK_NETFILTER: isize = 12;

/// `NFT_MSG_GETCHAIN` of the subsystem nftables, of all families.
const CHAINS: Listing = Listing {
    module: "nf_tables",
    protocol: NETLINK_NETFILTER,
    message: 10 << 8 | 4,
    body: &[0; 4],
    fixed: 4,
    name: 3,
};
/// `IPSET_CMD_LIST`, protocol version 6, names only.
const SETS: Listing = Listing {
    module: "ip_set",
    protocol: NETLINK_NETFILTER,
    message: 6 << 8 | 7,
    body: &[2, 0, 0, 0, 5, 0, 1, 0, 6, 0, 0, 0, 8, 0, 6, 0x40, 0, 0, 0, 2],
    fixed: 4,
    name: 2,
};
/// `XFRM_MSG_GETPOLICY`, whose answers are only counted.
const POLICIES: Listing = Listing {
    module: "xfrm_user",
    protocol: NETLINK_XFRM,
    message: 0x15,
    body: &[],
    fixed: usize::MAX,
    name: 0,
};

/// `NLM_F_REQUEST | NLM_F_DUMP`.
const DUMP: u16 = 0x301;
const HEADER: usize = 16;
const DONE: u16 = 3;
const ERROR: u16 = 2;
/// Mask of an attribute's number, without its flags.
const ATTRIBUTE: u16 = 0x3fff;

/// The chains of nftables and of legacy iptables over IPv4.
pub fn chains() -> BTreeSet<String> {
    let mut chains: BTreeSet<String> = names(&CHAINS).into_iter().collect();
    let tables = std::fs::read_to_string("/proc/thread-self/net/ip_tables_names").unwrap_or_default();
    for table in tables.lines() {
        match table_chains(table) {
            Ok(found) => chains.extend(found),
            Err(error) => tracing::debug!("the iptables table {table} cannot be read: {error:#}"),
        }
    }
    chains
}

/// The sets of ipset.
pub fn sets() -> BTreeSet<String> {
    names(&SETS).into_iter().collect()
}

/// The number of IPsec policies.
pub fn policies() -> usize {
    names(&POLICIES).len()
}

fn names(listing: &Listing) -> Vec<String> {
    // A request would load the module.
    if !Path::new("/sys/module").join(listing.module).exists() {
        return Vec::new();
    }
    list(listing).unwrap_or_else(|error| {
        tracing::debug!("the objects of {} cannot be listed: {error:#}", listing.module);
        Vec::new()
    })
}

fn list(listing: &Listing) -> Result<Vec<String>> {
    let mut socket = Socket::new(listing.protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let length = (HEADER + listing.body.len()) as u32;
    let mut request = vec![0; HEADER];
    let mut header = NetlinkBuffer::new(&mut request);
    header.set_length(length);
    header.set_message_type(listing.message);
    header.set_flags(DUMP);
    request.extend(listing.body);
    socket.send(&request, 0)?;
    let mut names = Vec::new();
    loop {
        let (answer, _) = socket.recv_from_full()?;
        let mut rest = &answer[..];
        while rest.len() >= HEADER {
            let message = NetlinkBuffer::new_checked(rest)?;
            match message.message_type() {
                DONE => return Ok(names),
                ERROR => bail!("{}", io::Error::from_raw_os_error(-error_number(message.payload()))),
                _ => names.push(name(listing, message.payload()).unwrap_or_default()),
            }
            let next = (message.length() as usize).next_multiple_of(4).min(rest.len());
            rest = &rest[next..];
        }
    }
}

fn error_number(payload: &[u8]) -> i32 {
    payload.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes))
}

fn name(listing: &Listing, payload: &[u8]) -> Option<String> {
    let attributes = NlasIterator::new(payload.get(listing.fixed..)?);
    let is_name = |one: &NlaBuffer<&[u8]>| one.kind() & ATTRIBUTE == listing.name;
    let found = attributes.flatten().find(is_name)?;
    Some(text(found.value()))
}

/// The text before the first zero.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// `IPT_SO_GET_INFO` and `IPT_SO_GET_ENTRIES`.
const GET_INFO: libc::c_int = 64;
const GET_ENTRIES: libc::c_int = 65;
/// The kernel's `struct ipt_getinfo` and the head of `struct ipt_get_entries`.
const INFO: usize = 84;
const INFO_SIZE: usize = 80;
const ENTRIES: usize = 40;
const ENTRIES_SIZE: usize = 32;
/// In a `struct ipt_entry`: where its target lies, and how long the whole is.
const TARGET_OFFSET: usize = 88;
const NEXT_OFFSET: usize = 90;
/// In a target: its name, and what it has; a chain begins with the target `ERROR`, which has the chain's name.
const TARGET_NAME: std::ops::Range<usize> = 2..31;
const TARGET_DATA: std::ops::Range<usize> = 32..62;

/// The chains of a table of legacy iptables, but for the built-in ones.
fn table_chains(table: &str) -> Result<Vec<String>> {
    let socket =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::RAW, Some(libc::IPPROTO_RAW.into()))?;
    let mut info = vec![0; INFO];
    put_name(&mut info, table);
    get(&socket, GET_INFO, &mut info)?;
    let size = u32::from_ne_bytes(info[INFO_SIZE..].try_into()?);
    let mut entries = vec![0; ENTRIES + size as usize];
    put_name(&mut entries, table);
    entries[ENTRIES_SIZE..ENTRIES_SIZE + 4].copy_from_slice(&size.to_ne_bytes());
    get(&socket, GET_ENTRIES, &mut entries)?;
    Ok(chain_names(&entries[ENTRIES..]))
}

fn chain_names(mut entries: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    let number =
        |bytes: &[u8], at: usize| Some(usize::from(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?)));
    while let (Some(target), Some(next)) = (number(entries, TARGET_OFFSET), number(entries, NEXT_OFFSET)) {
        let target = entries.get(target..).unwrap_or_default();
        if target.get(TARGET_NAME).is_some_and(|name| text(name) == "ERROR") {
            names.extend(target.get(TARGET_DATA).map(text));
        }
        match entries.get(next..) {
            Some(rest) if next > 0 => entries = rest,
            _ => break,
        }
    }
    // The table's end looks like a chain.
    names.retain(|name| name != "ERROR");
    names
}

fn put_name(buffer: &mut [u8], name: &str) {
    let length = name.len().min(31);
    buffer[..length].copy_from_slice(&name.as_bytes()[..length]);
}

fn get(socket: &socket2::Socket, option: libc::c_int, buffer: &mut [u8]) -> io::Result<()> {
    let mut length = buffer.len() as libc::socklen_t;
    const { assert!(size_of::<libc::socklen_t>() == 4) };
    // SAFETY: the kernel writes at most `length` bytes.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            option,
            buffer.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(target: &str, data: &str) -> Vec<u8> {
        let mut entry = vec![0; 112 + 64];
        entry[TARGET_OFFSET..TARGET_OFFSET + 2].copy_from_slice(&112u16.to_ne_bytes());
        entry[NEXT_OFFSET..NEXT_OFFSET + 2].copy_from_slice(&176u16.to_ne_bytes());
        put_name(&mut entry[112 + TARGET_NAME.start..], target);
        put_name(&mut entry[112 + TARGET_DATA.start..], data);
        entry
    }

    #[test]
    fn chains_are_found_among_rules() {
        let table =
            [entry("", ""), entry("ERROR", "KUBE-SERVICES"), entry("MARK", "x"), entry("ERROR", "ERROR")];
        assert_eq!(chain_names(&table.concat()), ["KUBE-SERVICES"]);
        assert!(chain_names(&table.concat()[..100]).is_empty());
    }

    #[test]
    fn attributes_have_names() {
        let payload = [2, 0, 0, 0, 9, 0, 2, 0, b'c', b'a', b'l', b'i', 0, 0, 0, 0];
        assert_eq!(name(&SETS, &payload).as_deref(), Some("cali"));
        assert_eq!(name(&POLICIES, &payload), None);
    }
}
