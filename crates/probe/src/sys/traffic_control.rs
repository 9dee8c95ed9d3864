//! The qdisc `clsact` of a device and its filters, in the network namespace of the calling thread.
//!
//! The messages of rtnetlink are read here as bytes: whether a `clsact` is empty must not depend on whether a library
//! understands every kind of filter.

use std::io;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use overlay_trace_common::tc::Side;

/// Lengths of `struct nlmsghdr` and `struct tcmsg`.
const HEADER: usize = 16;
const MESSAGE: usize = 20;
/// `TC_H_CLSACT`: the parent of the qdisc; its handle has the same major number.
const CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
/// Attributes of qdiscs and filters, and of filters of the kind `bpf`.
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_NAME: u16 = 7;
const NAME_BITS: u16 = 0x3fff;
/// Bytes of the buffer for answers: the kernel's dumps use up to 32 KiB.
const BUFFER: usize = 64 << 10;

/// A filter at a side of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The lowest is asked first.
    pub priority: u16,
    /// The EtherType that it is for, `ETH_P_ALL` for all.
    pub protocol: u16,
    pub handle: u32,
    /// `bpf`, `flower`, ….
    pub kind: String,
    /// Of a filter of the kind `bpf`: its name; else empty.
    pub name: String,
}

/// The parent of the filters at a side of a device.
fn parent(side: Side) -> u32 {
    match side {
        Side::Ingress => 0xffff_fff2,
        Side::Egress => 0xffff_fff3,
    }
}

/// The filters at a side of a device, in the order in which the kernel asks them; none if there is no qdisc for them.
///
/// # Errors
///
/// The kernel's error.
pub fn filters(ifindex: u32, side: Side) -> io::Result<Vec<Filter>> {
    let messages = match dump(libc::RTM_GETTFILTER, ifindex, parent(side)) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(Vec::new()),
        messages => messages?,
    };
    // A filter's protocol has a message of its own, without a handle.
    let filters = messages.iter().filter_map(|message| filter(message)).filter(|filter| filter.handle != 0);
    Ok(filters.collect())
}

fn filter(message: &[u8]) -> Option<Filter> {
    let info = word(message, 16)?;
    let of_filter = |wanted| attributes(&message[MESSAGE..]).find(|(kind, _)| *kind == wanted);
    let options = of_filter(TCA_OPTIONS).map_or(&[][..], |(_, value)| value);
    let name = attributes(options).find(|(kind, _)| *kind == TCA_BPF_NAME);
    Some(Filter {
        priority: (info >> 16) as u16,
        protocol: u16::from_be(info as u16),
        handle: word(message, 8)?,
        kind: of_filter(TCA_KIND).map(|(_, value)| text(value)).unwrap_or_default(),
        name: name.map(|(_, value)| text(value)).unwrap_or_default(),
    })
}

/// Whether the device has a `clsact`.
///
/// # Errors
///
/// The kernel's error.
pub fn has_clsact(ifindex: u32) -> io::Result<bool> {
    let messages = dump(libc::RTM_GETQDISC, ifindex, 0)?;
    Ok(messages.iter().any(|message| {
        // Older kernels list the qdiscs of all devices.
        word(message, 4) == Some(ifindex)
            && attributes(&message[MESSAGE..])
                .any(|(kind, value)| kind == TCA_KIND && text(value) == "clsact")
    }))
}

/// Whether no filter is left in the device's `clsact`, of whatever kind.
///
/// # Errors
///
/// The kernel's error.
pub fn is_empty(ifindex: u32) -> io::Result<bool> {
    for side in Side::ALL {
        if !dump(libc::RTM_GETTFILTER, ifindex, parent(side))?.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes the device's `clsact`. The kernel refuses if its ingress qdisc is of another kind.
///
/// # Errors
///
/// The kernel's error.
pub fn delete_clsact(ifindex: u32) -> io::Result<()> {
    let mut body = tcmsg(ifindex, CLSACT_HANDLE, CLSACT, 0);
    // The attribute TCA_KIND: length, kind, text, padding.
    body.extend(11u16.to_ne_bytes());
    body.extend(TCA_KIND.to_ne_bytes());
    body.extend(b"clsact\0\0");
    request(libc::RTM_DELQDISC, libc::NLM_F_ACK, &body).map(drop)
}

/// Removes one filter of a side.
///
/// # Errors
///
/// The kernel's error.
pub fn delete_filter(ifindex: u32, side: Side, filter: &Filter) -> io::Result<()> {
    let info = u32::from(filter.priority) << 16 | u32::from(filter.protocol.to_be());
    let body = tcmsg(ifindex, filter.handle, parent(side), info);
    request(libc::RTM_DELTFILTER, libc::NLM_F_ACK, &body).map(drop)
}

fn dump(kind: u16, ifindex: u32, parent: u32) -> io::Result<Vec<Vec<u8>>> {
    request(kind, libc::NLM_F_DUMP, &tcmsg(ifindex, 0, parent, 0))
}

/// `struct tcmsg`.
fn tcmsg(ifindex: u32, handle: u32, parent: u32, info: u32) -> Vec<u8> {
    [0, ifindex, handle, parent, info].into_iter().flat_map(u32::to_ne_bytes).collect()
}

/// Sends a request and gives the bodies of the answers, up to the last or the acknowledgement.
fn request(kind: u16, flags: i32, body: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend(((HEADER + body.len()) as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(((libc::NLM_F_REQUEST | flags) as u16).to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    socket.send(&message, 0)?;
    let mut answers = Vec::new();
    let mut buffer = Vec::with_capacity(BUFFER);
    loop {
        buffer.clear();
        socket.recv(&mut buffer, 0)?;
        if add_answers(&buffer, &mut answers)? {
            return Ok(answers);
        }
    }
}

/// Takes the messages of a datagram apart; true if the last one was among them.
fn add_answers(datagram: &[u8], answers: &mut Vec<Vec<u8>>) -> io::Result<bool> {
    let mut rest = datagram;
    while let (Some(length), Some(kind)) = (word(rest, 0), half(rest, 4)) {
        let length = length as usize;
        if length < HEADER || length > rest.len() {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
        let body = &rest[HEADER..length];
        match i32::from(kind) {
            libc::NLMSG_DONE => return Ok(true),
            libc::NLMSG_ERROR => match word(body, 0).unwrap_or_default() as i32 {
                0 => return Ok(true),
                error => return Err(io::Error::from_raw_os_error(-error)),
            },
            _ if body.len() >= MESSAGE => answers.push(body.to_vec()),
            _ => {}
        }
        rest = &rest[aligned(length).min(rest.len())..];
    }
    Ok(false)
}

/// The attributes in these bytes: kind and value.
fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (length, kind) = (usize::from(half(rest, 0)?), half(rest, 2)? & NAME_BITS);
        let value = rest.get(4..length)?;
        rest = &rest[aligned(length).min(rest.len())..];
        Some((kind, value))
    })
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The text before the first NUL.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = ((value.len() + 4) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(aligned(bytes.len()), 0);
        bytes
    }

    fn message(kind: i32, body: &[u8]) -> Vec<u8> {
        let mut bytes = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend((kind as u16).to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn a_filter_has_its_name_among_the_options() {
        let mut body = tcmsg(3, 0x6f74_0001, parent(Side::Ingress), 7 << 16 | u32::from(3u16.to_be()));
        body.extend(attribute(TCA_KIND, b"bpf\0"));
        let options = [attribute(6, &[1, 0, 0, 0]), attribute(TCA_BPF_NAME, b"overlay_trace_7\0")].concat();
        body.extend(attribute(TCA_OPTIONS | 0x8000, &options));
        let expected = Filter {
            priority: 7,
            protocol: 3,
            handle: 0x6f74_0001,
            kind: "bpf".into(),
            name: "overlay_trace_7".into(),
        };
        assert_eq!(filter(&body), Some(expected));
    }

    #[test]
    fn answers_end_with_done_or_an_error() {
        let mut answers = Vec::new();
        let body = tcmsg(1, 2, 3, 4);
        let both = [message(44, &body), message(44, &body)].concat();
        assert!(!add_answers(&both, &mut answers).unwrap());
        assert!(add_answers(&message(libc::NLMSG_DONE, &[0; 4]), &mut answers).unwrap());
        assert_eq!(answers, [body.clone(), body]);
        let refused = message(libc::NLMSG_ERROR, &(-libc::ENOENT).to_ne_bytes());
        assert_eq!(add_answers(&refused, &mut answers).unwrap_err().raw_os_error(), Some(libc::ENOENT));
        assert!(add_answers(&message(libc::NLMSG_ERROR, &[0; 4]), &mut answers).unwrap());
        let cut = &message(44, &[0; 20])[..30];
        assert!(add_answers(cut, &mut answers).is_err());
    }
}
