//! Filters in the qdisc `clsact`, for kernels without tcx (before 6.6), in the network namespace of the calling thread.

use anyhow::{Context, Result, bail};
use aya::programs::{
    SchedClassifier, TcAttachType,
    tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact},
};
use overlay_trace_common::tc::{HOOK_NAME, Side};

use super::{devices::Device, note::Made};
use crate::sys::traffic_control::{self, Filter};

/// The upper half of the handles of our filters, `ot`: no program that numbers its filters from 1 on meets them.
const HANDLE: u16 = 0x6f74;
const ETH_P_ALL: u16 = 3;

/// The handle of the filters of this process.
pub fn own_handle() -> u32 {
    u32::from(HANDLE) << 16 | std::process::id() & 0xffff
}

/// aya's name of a side.
pub fn attach_type(side: Side) -> TcAttachType {
    match side {
        Side::Ingress => TcAttachType::Ingress,
        Side::Egress => TcAttachType::Egress,
    }
}

/// Makes sure that the device has a `clsact`.
///
/// # Errors
///
/// The kernel's error.
pub fn prepare(device: &Device, made: &Made) -> Result<()> {
    if made.clsact {
        qdisc_add_clsact(&device.name).context("the kernel refuses the qdisc clsact")?;
    }
    Ok(())
}

/// Attaches a program before all filters of the side.
///
/// # Errors
///
/// There is no room before them, or the kernel's error.
pub fn attach(program: &mut SchedClassifier, device: &Device, side: Side) -> Result<SchedClassifierLink> {
    let priority = priority(&traffic_control::filters(device.ifindex, side)?)?;
    let handle = own_handle();
    let options =
        NlOptions { priority, handle: TcHandle::new((handle >> 16) as u16, handle as u16), classid: None };
    let link =
        program.attach_with_options(&device.name, attach_type(side), TcAttachOptions::Netlink(options))?;
    Ok(program.take_link(link)?)
}

/// The priority of a filter that is to be asked before these.
fn priority(filters: &[Filter]) -> Result<u16> {
    let Some(first) = filters.iter().min_by_key(|filter| filter.priority) else { return Ok(1) };
    if first.priority > 1 {
        return Ok(first.priority - 1);
    }
    // Filters of one kind, priority and protocol form a list, at whose head new ones are put.
    if first.kind == "bpf" && first.protocol == ETH_P_ALL {
        return Ok(1);
    }
    bail!("its filter of priority 1 is of the kind {}, before which none can be put", first.kind)
}

/// Whether a filter is one of ours.
pub fn is_ours(filter: &Filter) -> bool {
    filter.kind == "bpf" && filter.name.starts_with(HOOK_NAME)
}

/// Removes our filters from a device, except those with the handles `keep`, and its `clsact` if that was ours and is
/// empty now. Gives how many filters were removed.
///
/// # Errors
///
/// The kernel's error.
pub fn clean(ifindex: u32, keep: &[u32], clsact_is_ours: bool) -> Result<usize> {
    let mut removed = 0;
    for side in Side::ALL {
        let filters = traffic_control::filters(ifindex, side)?;
        for filter in filters.iter().filter(|filter| is_ours(filter) && !keep.contains(&filter.handle)) {
            traffic_control::delete_filter(ifindex, side, filter)?;
            removed += 1;
        }
    }
    if clsact_is_ours && traffic_control::has_clsact(ifindex)? && traffic_control::is_empty(ifindex)? {
        traffic_control::delete_clsact(ifindex)?;
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(priority: u16, kind: &str, protocol: u16) -> Filter {
        Filter { priority, protocol, handle: 1, kind: kind.into(), name: "cil_from_container".into() }
    }

    #[test]
    fn ours_comes_before_all_others() {
        assert_eq!(priority(&[]).unwrap(), 1);
        assert_eq!(priority(&[filter(49152, "flower", 0x800), filter(7, "bpf", 3)]).unwrap(), 6);
        assert_eq!(priority(&[filter(1, "bpf", ETH_P_ALL), filter(2, "u32", 3)]).unwrap(), 1);
        let refused = priority(&[filter(1, "flower", ETH_P_ALL)]).unwrap_err();
        assert!(refused.to_string().contains("flower"), "{refused}");
        assert!(priority(&[filter(1, "bpf", 0x800)]).is_err());
    }

    #[test]
    fn our_filters_are_known_by_their_names() {
        assert!(!is_ours(&filter(1, "bpf", ETH_P_ALL)));
        assert!(is_ours(&Filter { name: format!("{HOOK_NAME}12"), ..filter(1, "bpf", ETH_P_ALL) }));
    }
}
