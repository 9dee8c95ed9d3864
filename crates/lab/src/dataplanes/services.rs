//! Further Services and endpoints, for what their number costs: [`Knobs::services`], [`Knobs::endpoints`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::definitions::SERVICE;
use super::expand::Action;
use super::{Knobs, Lab, Tool};

/// The first further Service's address.
const FIRST_V4: Ipv4Addr = Ipv4Addr::new(10, 97, 0, 0);
const FIRST_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0x97, 0, 0, 0, 0, 0);

/// What is added on each node that translates Services, of the traffic's family. kube-proxy would also give the device kube-ipvs0 their
/// addresses, which would take minutes for thousands and make no difference to other packets.
pub fn script(lab: &'static Lab, knobs: &Knobs) -> Vec<Action> {
    let mut actions = Vec::new();
    if knobs.services == 0 && knobs.endpoints == 0 {
        return actions;
    }
    let of = |tool: Tool, word: &str| lab.steps().any(|step| step.tool == tool && step.lines.contains(word));
    let by_ipvs = of(Tool::Ipvs, "");
    let by_chains = of(Tool::Iptables, ":KUBE-SVC-TRAFFIC-TCP");
    let with_sets = of(Tool::Ipset, "create {kube}CLUSTER-IP");
    for &namespace in lab.namespaces.iter().filter(|name| name.starts_with("node")) {
        let mut add = |tool, lines: String| {
            if !lines.is_empty() {
                actions.push(Action { namespace, tool, v6: knobs.ipv6, lines });
            }
        };
        if by_ipvs {
            add(Tool::Ipvs, virtual_servers(knobs));
        }
        if with_sets {
            let set = if knobs.ipv6 { "KUBE-6-CLUSTER-IP" } else { "KUBE-CLUSTER-IP" };
            add(Tool::Ipset, addresses(knobs, |address| format!("add {set} {address},tcp:80")));
        }
        if by_chains {
            add(Tool::Iptables, chains(knobs));
        }
    }
    actions
}

/// A line for each further Service. Their addresses follow each other.
fn addresses(knobs: &Knobs, line: impl Fn(IpAddr) -> String) -> String {
    let address = |number: u32| match knobs.ipv6 {
        true => IpAddr::from(Ipv6Addr::from_bits(FIRST_V6.to_bits() + u128::from(number))),
        false => IpAddr::from(Ipv4Addr::from_bits(FIRST_V4.to_bits() + number)),
    };
    (0..knobs.services).map(|number| line(address(number)) + "\n").collect()
}

/// IPVS finds a Service by a hash, and goes through its endpoints in turn; those of weight 0 get nothing.
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

/// As kube-proxy writes them: a rule for each Service, the new ones first; and for each endpoint one that picks it by
/// chance. All endpoints are the server here.
fn chains(knobs: &Knobs) -> String {
    let services = addresses(knobs, |address| {
        format!("-I KUBE-SERVICES -d {address} -p tcp -m tcp --dport 80 -j KUBE-SVC-API")
    });
    let endpoint = |protocol: &str, left: u32| {
        let chance = 1.0 / f64::from(left + 1);
        format!(
            "-I KUBE-SVC-TRAFFIC-{protocol} -m statistic --mode random --probability {chance:.8} -j KUBE-SEP-TRAFFIC-{protocol}\n"
        )
    };
    // Inserted at the head, so that the last one has the smallest chance.
    let endpoints = (1..=knobs.endpoints).flat_map(|left| ["TCP", "UDP"].map(|one| endpoint(one, left)));
    format!("*nat\n{services}{}COMMIT\n", endpoints.collect::<String>())
}
