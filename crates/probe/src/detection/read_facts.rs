//! Reads the facts of network namespaces.

use std::{collections::HashMap, fs::File, io::Read, thread};

use anyhow::Result;
use aya::programs::loaded_programs;
use aya_obj::generated::bpf_prog_type::BPF_PROG_TYPE_CGROUP_SOCK_ADDR;
use futures_util::TryStreamExt;
use nix::sched::{CloneFlags, setns};
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::link::{
    InfoData, InfoGeneve, InfoIpVlan, InfoMacVlan, InfoVlan, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo,
    LinkMessage,
};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol, RouteType};

use super::facts::{Device, Facts};
use super::netfilter;

/// The facts of all these namespaces. Entering them takes a thread of its own.
pub fn facts(namespaces: Vec<(String, File)>) -> Vec<Facts> {
    let socket_programs = socket_programs();
    let read_all = move || {
        let mut all = Vec::new();
        for (netns, file) in namespaces {
            let entered = setns(&file, CloneFlags::CLONE_NEWNET).map_err(anyhow::Error::from);
            match entered.and_then(|()| facts_of_current_namespace()) {
                Ok(facts) => all.push(Facts { netns, socket_programs, ..facts }),
                // The namespace may have been deleted meanwhile.
                Err(error) => tracing::debug!("the network namespace {netns} cannot be read: {error:#}"),
            }
        }
        all
    };
    thread::spawn(read_all).join().unwrap_or_default()
}

fn socket_programs() -> usize {
    let of_sockets = |kind| kind == BPF_PROG_TYPE_CGROUP_SOCK_ADDR;
    loaded_programs().flatten().filter(|program| of_sockets(program.program_type())).count()
}

fn facts_of_current_namespace() -> Result<Facts> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let mut facts = runtime.block_on(from_rtnetlink())?;
    facts.chains = netfilter::chains();
    facts.sets = netfilter::sets();
    facts.policies = netfilter::policies();
    let table = ipvs_table().unwrap_or_default();
    (facts.virtual_servers, facts.tunnelled_servers) = (virtual_servers(&table), tunnelled_servers(&table));
    Ok(facts)
}

/// The table of IPVS; an error without IPVS.
fn ipvs_table() -> Result<String> {
    // Read in large pieces: between two reads the kernel may skip a service.
    let mut table = String::with_capacity(1 << 16);
    File::open("/proc/thread-self/net/ip_vs")?.read_to_string(&mut table)?;
    Ok(table)
}

/// Counts the services in the table of IPVS: `TCP  0A604D4D:1E14 rr`, `FWM  00002710 rr`. Lines of real servers begin
/// with `->`.
fn virtual_servers(table: &str) -> usize {
    const KINDS: [&str; 4] = ["TCP ", "UDP ", "SCTP", "FWM "];
    table.lines().filter(|line| KINDS.iter().any(|kind| line.starts_with(kind))).count()
}

/// Counts the real servers that are reached through a tunnel: `-> 0AF40202:0000 Tunnel 1 0 0`.
fn tunnelled_servers(table: &str) -> usize {
    let is_tunnelled = |line: &&str| {
        line.trim_start().starts_with("-> ") && line.split_whitespace().nth(2) == Some("Tunnel")
    };
    table.lines().filter(is_tunnelled).count()
}

async fn from_rtnetlink() -> Result<Facts> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    tokio::spawn(connection);
    let (mut facts, mut names) = (Facts::default(), HashMap::new());
    let mut links = handle.link().get().execute();
    while let Some(link) = links.try_next().await? {
        let device = device(&link);
        names.insert(link.header.index, device.name.clone());
        facts.devices.push(device);
    }
    let mut routes = handle.route().get(RouteMessageBuilder::<std::net::Ipv4Addr>::new().build()).execute();
    while let Some(route) = routes.try_next().await? {
        add_route(&mut facts, &names, &route);
    }
    Ok(facts)
}

fn add_route(facts: &mut Facts, names: &HashMap<u32, String>, route: &RouteMessage) {
    if !matches!(route.header.kind, RouteType::Unicast | RouteType::BlackHole) {
        return;
    }
    facts.route_protocols.insert(route.header.protocol.into());
    let has_gateway = route.attributes.iter().any(|one| matches!(one, RouteAttribute::Gateway(_)));
    let length = route.header.destination_prefix_length;
    facts.has_default |= length == 0 && has_gateway;
    if has_gateway && length > 0 {
        facts.by_gateway.insert(length);
    }
    let out = route.attributes.iter().find_map(|one| match one {
        RouteAttribute::Oif(index) => names.get(index),
        _ => None,
    });
    if let Some(device) = out.filter(|_| route.header.protocol == RouteProtocol::Kernel) {
        facts.networks.insert(device.clone(), length);
    }
}

fn device(link: &LinkMessage) -> Device {
    let mut device = Device { is_up: link.header.flags.contains(LinkFlags::Up), ..Device::default() };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => device.name.clone_from(name),
            LinkAttribute::LinkInfo(all) => all.iter().for_each(|one| match one {
                LinkInfo::Kind(kind) => device.kind = kind.to_string(),
                LinkInfo::Data(data) => device.details = details(data),
                _ => {}
            }),
            _ => {}
        }
    }
    device
}

/// What distinguishes a device from others of its kind.
fn details(data: &InfoData) -> String {
    match data {
        InfoData::Vxlan(all) => {
            let by_packet = all.iter().any(|one| matches!(one, InfoVxlan::CollectMetadata(true)));
            let number =
                all.iter().find_map(|one| if let InfoVxlan::Id(id) = one { Some(*id) } else { None });
            let port =
                all.iter().find_map(|one| if let InfoVxlan::Port(port) = one { Some(*port) } else { None });
            tunnel(number.filter(|_| !by_packet), port)
        }
        InfoData::Geneve(all) => {
            let by_packet = all.iter().any(|one| matches!(one, InfoGeneve::CollectMetadata));
            let number =
                all.iter().find_map(|one| if let InfoGeneve::Id(id) = one { Some(*id) } else { None });
            let port =
                all.iter().find_map(|one| if let InfoGeneve::Port(port) = one { Some(*port) } else { None });
            tunnel(number.filter(|_| !by_packet), port)
        }
        InfoData::IpVlan(all) => mode(all.iter().find_map(|one| match one {
            InfoIpVlan::Mode(mode) => Some(format!("{mode:?}")),
            _ => None,
        })),
        InfoData::MacVlan(all) => mode(all.iter().find_map(|one| match one {
            InfoMacVlan::Mode(mode) => Some(format!("{mode:?}")),
            _ => None,
        })),
        InfoData::Vlan(all) => {
            let number = all.iter().find_map(|one| if let InfoVlan::Id(id) = one { Some(*id) } else { None });
            number.map(|number| format!("VLAN {number}")).unwrap_or_default()
        }
        _ => String::new(),
    }
}

fn tunnel(number: Option<u32>, port: Option<u16>) -> String {
    let number = number.map_or("VNI by packet".to_owned(), |number| format!("VNI {number}"));
    match port {
        Some(port) => format!("{number}, port {port}"),
        None => number,
    }
}

fn mode(mode: Option<String>) -> String {
    mode.map(|mode| format!("mode {}", mode.to_lowercase())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtual_servers_are_counted_without_their_servers() {
        let table = "IP Virtual Server version 1.2.1 (size=4096)\n\
            Prot LocalAddress:Port Scheduler Flags\n  \
            -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n\
            TCP  0A604D4D:1E14 rr \n  -> 0AF40202:1E14      Masq    1      0          0         \nFWM  00002710 rr\n";
        assert_eq!((virtual_servers(table), tunnelled_servers(table)), (2, 0));
        assert_eq!(
            tunnelled_servers("FWM  00002710 rr\n  -> 0AF40202:0000      Tunnel  1      0          0\n"),
            1
        );
        assert_eq!(virtual_servers(""), 0);
    }
}
