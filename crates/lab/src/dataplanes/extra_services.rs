//! Additional Services and endpoints, to measure what their number costs: [`Knobs::services`],
//! [`Knobs::endpoints`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::knobs::Knobs;
use super::lab::Lab;
use super::step::{Action, ServiceTable, Tool};
use super::variables::SERVICE;

/// The first additional Service's address.
const FIRST_V4: Ipv4Addr = Ipv4Addr::new(10, 97, 0, 0);
const FIRST_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0x97, 0, 0, 0, 0, 0);

/// The actions on each node that translates Services, for the traffic's IP family. kube-proxy would also add
/// the addresses to the device kube-ipvs0; that takes minutes for thousands of them and does not affect other
/// packets.
pub fn actions(lab: &'static Lab, knobs: &Knobs) -> Vec<Action> {
    let mut actions = Vec::new();
    if knobs.services == 0 && knobs.endpoints == 0 {
        return actions;
    }
    for &namespace in lab.namespaces.iter().filter(|name| name.starts_with("node")) {
        let mut add = |tool, lines: String| {
            if !lines.is_empty() {
                actions.push(Action { namespace, tool, v6: knobs.ipv6, lines });
            }
        };
        if lab.has_service_table(ServiceTable::Ipvs) {
            add(Tool::Ipvs, virtual_servers(knobs));
        }
        if lab.has_service_table(ServiceTable::ClusterIpSet) {
            let set = if knobs.ipv6 { "KUBE-6-CLUSTER-IP" } else { "KUBE-CLUSTER-IP" };
            add(Tool::Ipset, addresses(knobs, |address| format!("add {set} {address},tcp:80")));
        }
        if lab.has_service_table(ServiceTable::Iptables) {
            add(Tool::Iptables, chains(knobs));
        }
    }
    actions
}

/// One line per additional Service. The addresses are consecutive.
fn addresses(knobs: &Knobs, line: impl Fn(IpAddr) -> String) -> String {
    let address = |number: u32| match knobs.ipv6 {
        true => IpAddr::from(Ipv6Addr::from_bits(FIRST_V6.to_bits() + u128::from(number))),
        false => IpAddr::from(Ipv4Addr::from_bits(FIRST_V4.to_bits() + number)),
    };
    (0..knobs.services).map(|number| line(address(number)) + "\n").collect()
}

/// IPVS finds a Service in a hash table and schedules its endpoints round-robin. Endpoints of weight 0 get no new
/// connections.
fn virtual_servers(knobs: &Knobs) -> String {
    let services = addresses(knobs, |address| format!("-A -t {} -s rr", SocketAddr::new(address, 80)));
    let endpoint = |protocol: char, number: u32| {
        let (high, low) = (number >> 8 & 255, number & 255);
        match knobs.ipv6 {
            true => format!(
                "-a -{protocol} [{}]:7700 -r [fd00:10:244:{high:x}::{low:x}]:7701 -m -w 0\n",
                SERVICE[1]
            ),
            false => {
                format!("-a -{protocol} {}:7700 -r 10.244.{high}.{low}:7701 -m -w 0\n", SERVICE[0])
            }
        }
    };
    let endpoints = (0..knobs.endpoints).flat_map(|number| ['t', 'u'].map(|one| endpoint(one, number)));
    services + &endpoints.collect::<String>()
}

/// kube-proxy's form: one rule per Service, the new ones first, and one rule per endpoint that selects it with
/// a probability. All endpoints are the server here.
fn chains(knobs: &Knobs) -> String {
    let services = addresses(knobs, |address| {
        format!("-I KUBE-SERVICES -d {address} -p tcp -m tcp --dport 80 -j KUBE-SVC-API")
    });
    let endpoint = |protocol: &str, left: u32| {
        let probability = 1.0 / f64::from(left + 1);
        format!(
            "-I KUBE-SVC-TRAFFIC-{protocol} -m statistic --mode random --probability {probability:.8} -j KUBE-SEP-TRAFFIC-{protocol}\n"
        )
    };
    // Each is inserted at the head, so the last one needs the smallest probability.
    let endpoints = (1..=knobs.endpoints).flat_map(|left| ["TCP", "UDP"].map(|one| endpoint(one, left)));
    format!("*nat\n{services}{}COMMIT\n", endpoints.collect::<String>())
}
