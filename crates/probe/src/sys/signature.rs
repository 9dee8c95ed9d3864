//! What BTF says about the arguments of a function or tracepoint.

use super::btf::{Btf, Kind};

/// The arguments of a function or tracepoint, as far as probes need them.
#[derive(Clone, Debug, Default)]
pub struct Signature {
    /// The BTF type to attach to.
    pub id: u32,
    /// Position of the first argument of type `struct sk_buff *` (or `**`, see `indirect`).
    pub skb: Option<u8>,
    /// Positions of all such arguments, as bits.
    pub skbs: u32,
    /// Position of the first argument of type `struct sock *`.
    pub sock: Option<u8>,
    /// The first packet is a `struct sk_buff **`.
    pub indirect: bool,
    /// How many arguments there are.
    pub arguments: u8,
}

impl Signature {
    /// Of a function that this BTF itself has.
    pub fn of_function(btf: &Btf, name: &str) -> Option<Signature> {
        let id = btf.find(name, Kind::Function)?;
        Some(Signature { id, ..Signature::of_prototype(btf, btf.behind(id), 0) })
    }

    /// Of a tracepoint, by the type of its callback (`btf_trace_NAME`).
    pub fn of_tracepoint(btf: &Btf, name: &str) -> Option<Signature> {
        let id = btf.find(&format!("btf_trace_{name}"), Kind::Typedef)?;
        let prototype = btf.behind(btf.behind(id));
        // The first argument of the callback is the tracer's own data.
        Some(Signature { id, ..Signature::of_prototype(btf, prototype, 1) })
    }

    fn of_prototype(btf: &Btf, prototype: u32, skipped: usize) -> Signature {
        let mut signature = Signature::default();
        for (position, parameter) in btf.parameters(prototype).skip(skipped).enumerate() {
            signature.arguments = position as u8 + 1;
            let pointed = pointed_to(btf, parameter);
            if pointed.is_some_and(|(name, _)| name == "sk_buff") {
                signature.skbs |= 1 << position;
            }
            match pointed {
                Some(("sk_buff", depth)) if signature.skb.is_none() => {
                    signature.skb = Some(position as u8);
                    signature.indirect = depth > 1;
                }
                Some(("sock", 1)) if signature.sock.is_none() => signature.sock = Some(position as u8),
                _ => {}
            }
        }
        signature
    }

    /// Position of the packet: the wanted one if there is a packet, else that of the first packet.
    pub fn packet(&self, wanted: u8) -> Option<u8> {
        if self.skbs >> wanted & 1 == 1 { Some(wanted) } else { self.skb }
    }
}

/// The struct that a parameter points to, and through how many pointers.
fn pointed_to(btf: &Btf, parameter: u32) -> Option<(&str, u8)> {
    let (mut id, mut depth) = (btf.unqualified(parameter), 0);
    while btf.kind(id) == Kind::Pointer {
        id = btf.unqualified(btf.behind(id));
        depth += 1;
    }
    (depth > 0 && btf.kind(id) == Kind::Struct).then(|| (btf.name(id), depth))
}
