//! Where the structs of a kernel have the fields that the kernel side reads, from BTF.

use anyhow::{Context, Result, bail};
use overlay_trace_common::abi::Offsets;

use super::btf::{Btf, Kind};

/// The offsets in bytes. `has_netns_cookies`: whether programs can read the cookie of a network namespace.
///
/// # Errors
///
/// A field is missing.
pub fn read(btf: &Btf, has_netns_cookies: bool) -> Result<Offsets> {
    let of = |name: &str, path: &str| offset(btf, name, path);
    Ok(Offsets {
        skb_dev: of("sk_buff", "dev")?,
        skb_sk: of("sk_buff", "sk")?,
        skb_len: of("sk_buff", "len")?,
        skb_data_len: of("sk_buff", "data_len")?,
        skb_protocol: of("sk_buff", "protocol")?,
        skb_next: of("sk_buff", "next")?,
        skb_head: of("sk_buff", "head")?,
        skb_data: of("sk_buff", "data")?,
        skb_end: of("sk_buff", "end")?,
        skb_inner_network_header: of("sk_buff", "inner_network_header")?,
        skb_network_header: of("sk_buff", "network_header")?,
        shared_gso_size: gso_size(btf)?,
        shared_gso_type: of("skb_shared_info", "gso_type")?,
        shared_nr_frags: of("skb_shared_info", "nr_frags")?,
        shared_frags: of("skb_shared_info", "frags")?,
        shared_frag_list: of("skb_shared_info", "frag_list")?,
        dev_ifindex: of("net_device", "ifindex")?,
        dev_net: of("net_device", "nd_net")?,
        dev_name: of("net_device", "name")?,
        dev_link_ops: of("net_device", "rtnl_link_ops")?,
        link_ops_kind: of("rtnl_link_ops", "kind")?,
        queue_dev: of("netdev_queue", "dev")?,
        sock_net: of("sock_common", "skc_net")?,
        net_inum: of("net", "ns.inum")?,
        // The cookie is there from 5.12 on, and for programs to read from 5.14 on.
        net_mix: of("net", if has_netns_cookies { "net_cookie" } else { "hash_mix" })?,
        sock_protocol: of("sock", "sk_protocol")?,
        skb_dst: of("sk_buff", "_skb_refdst")?,
        dst_dev: of("dst_entry", "dev")?,
        queue_state: of("netdev_queue", "state")?,
        sock_owned: of("sock", "sk_lock.owned")?,
        tcp_rcv_nxt: of("tcp_sock", "rcv_nxt")?,
        skb_cb: of("sk_buff", "cb")?,
    })
}

/// Where `gso_size` is; the kernel side reads `gso_segs`, which lies behind it, at the same time.
fn gso_size(btf: &Btf) -> Result<u32> {
    let size = offset(btf, "skb_shared_info", "gso_size")?;
    if offset(btf, "skb_shared_info", "gso_segs")? != size + 2 {
        bail!(
            "the kernel's skb_shared_info has gso_segs elsewhere than behind gso_size: this kernel is not supported yet"
        );
    }
    Ok(size)
}

fn offset(btf: &Btf, structure: &str, path: &str) -> Result<u32> {
    let id = btf
        .find(structure, Kind::Struct)
        .with_context(|| format!("the kernel's BTF has no struct {structure}"))?;
    let bits = member_offset(btf, id, path).with_context(|| {
        format!("the kernel's struct {structure} has no field {path}: this kernel is not supported yet")
    })?;
    Ok(bits / 8)
}

/// The offset in bits of a field, also inside anonymous structs and unions.
fn member_offset(btf: &Btf, structure: u32, path: &str) -> Option<u32> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    btf.members(structure).find_map(|member| {
        let offset = match (member.name, rest) {
            (name, None) if name == first => 0,
            (name, Some(rest)) if name == first => member_offset(btf, btf.unqualified(member.type_id), rest)?,
            ("", _) => member_offset(btf, btf.unqualified(member.type_id), path)?,
            _ => return None,
        };
        Some(member.bits + offset)
    })
}
