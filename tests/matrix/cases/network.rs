//! Two nodes with pods behind bridges: `n1` and `n2`, pods `p1` on the first and `p2` on the second; between the nodes
//! VXLAN with static entries, plain routes, or IPsec.

use anyhow::Result;

use crate::machine;
use crate::own::Network;

/// Link-layer addresses of the tunnel devices.
const TUNNEL: [&str; 2] = ["0e:61:00:00:00:01", "0e:61:00:00:00:02"];

/// How pods' packets pass from node to node.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Between {
    Vxlan,
    Routes,
}

/// Brings it up; the names of its namespaces begin with `prefix`.
pub fn up(prefix: String, between: Between) -> Result<Network> {
    let lines = "link add eth0 netns @n1 type veth peer name eth0 netns @n2\n\
                 link add eth0 netns @p1 type veth peer name vp1 netns @n1\n\
                 link add eth0 netns @p2 type veth peer name vp2 netns @n2";
    let network = Network::up(prefix, &["n1", "n2", "p1", "p2"], lines)?;
    for node in [1, 2] {
        let (name, other) = (format!("n{node}"), 3 - node);
        network.ip_in(
            &name,
            &format!(
                "link set lo up\naddr add 172.21.0.{node}/24 dev eth0\nlink set eth0 up\nlink add cni0 type bridge\n\
                 addr add 10.61.{node}.1/24 dev cni0\nlink set cni0 up\nlink set vp{node} master cni0 mtu 1400 up"
            ),
        )?;
        machine::do_in(&network.netns(&name)?, "sysctl -qw net.ipv4.ip_forward=1")?;
        pod_up(&network, &format!("p{node}"), &format!("10.61.{node}.2"))?;
        match between {
            Between::Vxlan => tunnel(&network, &name, node, other)?,
            Between::Routes => {
                network.ip_in(&name, &format!("route add 10.61.{other}.0/24 via 172.21.0.{other}"))?;
            }
        }
    }
    Ok(network)
}

fn tunnel(network: &Network, name: &str, node: usize, other: usize) -> Result<()> {
    let (own, peer) = (TUNNEL[node - 1], TUNNEL[other - 1]);
    network.ip_in(
        name,
        &format!(
            "link add flannel.1 address {own} type vxlan id 1 dstport 8472 local 172.21.0.{node} dev eth0 nolearning\n\
             link set flannel.1 mtu 1400 up\naddr add 10.61.{node}.0/32 dev flannel.1\n\
             route add 10.61.{other}.0/24 via 10.61.{other}.0 dev flannel.1 onlink\n\
             neigh add 10.61.{other}.0 lladdr {peer} dev flannel.1"
        ),
    )?;
    let entry = format!("bridge fdb append {peer} dev flannel.1 dst 172.21.0.{other}");
    machine::do_in(&network.netns(name)?, &entry)
}

/// A further pod on a node: its short name, and its address.
pub fn further_pod(network: &Network, node: usize, pod: &str, address: &str) -> Result<()> {
    network.ip(&format!(
        "netns add @{pod}\nlink add eth0 netns @{pod} type veth peer name v{pod} netns @n{node}"
    ))?;
    network.ip_in(&format!("n{node}"), &format!("link set v{pod} master cni0 mtu 1400 up"))?;
    pod_up(network, pod, address)
}

fn pod_up(network: &Network, pod: &str, address: &str) -> Result<()> {
    let (subnet, _) = address.rsplit_once('.').unwrap_or((address, ""));
    network.ip_in(
        pod,
        &format!(
            "link set lo up\naddr add {address}/24 dev eth0\nlink set eth0 mtu 1400 up\nroute add default via {subnet}.1"
        ),
    )
}

/// The tunnel device of the second node gets another link-layer address, or its own one again.
pub fn change_tunnel(network: &Network, is_changed: bool) -> Result<()> {
    let address = if is_changed { "0e:61:00:00:00:99" } else { TUNNEL[1] };
    // The kernel removes permanent entries of a device whose address changes.
    network.ip_in(
        "n2",
        &format!(
            "link set flannel.1 address {address}\nneigh replace 10.61.1.0 lladdr {} dev flannel.1 nud permanent",
            TUNNEL[0]
        ),
    )
}
