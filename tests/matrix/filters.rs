//! Filters let through what they are asked for, all of it, and nothing else.

use anyhow::{Result, ensure};
use overlay_trace_format::RecordView;
use overlay_trace_lab::traffic::{PORT, Protocol};
use overlay_trace_probe::{FilterOptions, ProbeSet};

use crate::networks::requests_and_node_pings;
use crate::results::{Outcome, Verdict};
use crate::scene::{Check, Scene, check};
use crate::seen::Seen;

const POD2: &str = "10.244.2.2";

/// A recording with a filter, of traffic of which it lets a part through.
pub const fn scene(
    set: ProbeSet,
    name: &'static str,
    filter: fn() -> FilterOptions,
    checks: &'static [&'static [Check]],
) -> Scene {
    Scene { name, filter, drive: requests_and_node_pings, ..Scene::of(set, checks) }
}

pub fn by_protocol() -> FilterOptions {
    FilterOptions { protocol: Some(17), ..FilterOptions::default() }
}
pub fn by_port() -> FilterOptions {
    FilterOptions { port: Some(PORT), ..FilterOptions::default() }
}
pub fn by_address() -> FilterOptions {
    FilterOptions { address: POD2.parse().ok(), ..FilterOptions::default() }
}
pub fn by_netns() -> FilterOptions {
    FilterOptions { netns: vec!["ot-flannel-vxlan-pod2".into()], ..FilterOptions::default() }
}
pub fn by_device() -> FilterOptions {
    FilterOptions { device: Some("flannel.1".into()), ..FilterOptions::default() }
}

pub const PROTOCOL: &[Check] =
    &[check("passes", |seen, _| passes(seen, |record| Ok(record.header.flow.protocol == 17))), COUNTED];
pub const PORTS: &[Check] = &[
    check("passes", |seen, _| {
        passes(seen, |record| {
            let flow = record.header.flow;
            Ok(flow.source_port == PORT || flow.destination_port == PORT)
        })
    }),
    COUNTED,
];
pub const ADDRESS: &[Check] = &[
    check("passes", |seen, _| {
        passes(seen, |record| {
            let flow = record.header.flow;
            let pod2: std::net::Ipv4Addr = POD2.parse()?;
            Ok(flow.source[..4] == pod2.octets() || flow.destination[..4] == pod2.octets())
        })
    }),
    COUNTED,
];
pub const NETNS: &[Check] = &[check("passes", |seen, _| {
    let pod2 = seen.netns("pod2");
    passes(seen, |record| {
        Ok(record.spans().any(|step| seen.recording.hops.get(&step.hop).is_some_and(|hop| hop.netns == pod2)))
    })
})];
pub const DEVICE: &[Check] = &[check("passes", |seen, _| {
    passes(seen, |record| {
        Ok(record
            .spans()
            .any(|step| seen.recording.hops.get(&step.hop).is_some_and(|hop| hop.device == "flannel.1")))
    })
})];

fn passes(seen: &Seen, is_so: impl Fn(&RecordView<'_>) -> Result<bool>) -> Outcome {
    let all = seen.count(|_| true)?;
    let fitting = seen.count(|record| is_so(record).unwrap_or(false))?;
    ensure!(all == fitting, "{} of {all} packets should not have passed", all - fitting);
    // Under load TCP joins messages to one packet.
    let of_traffic = seen.traffic.iter().filter(|report| report.protocol == Protocol::Udp);
    let messages: u64 = of_traffic.map(|report| report.sent + report.received).sum();
    let unseen = seen.analysis.unfinished();
    ensure!(
        messages > 0 && all + unseen >= messages,
        "{messages} datagrams arrived, but only {all} packets passed"
    );
    Ok(Verdict::With(format!("{all} passed")))
}

/// There are pings between the nodes, which no filter of headers lets through; each is counted. What does
/// not come to the place that a filter names is no packet of the recording at all.
const COUNTED: Check = check("counts", |seen, _| {
    let filtered = seen.recording.last.counters.filtered;
    ensure!(filtered >= 100, "only {filtered} packets were filtered");
    Ok(Verdict::With(format!("{filtered} filtered")))
});
