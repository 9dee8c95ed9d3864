//! Two hypervisors in namespaces of this machine: a bridge for their guest's tap, and a VXLAN between them.

use anyhow::Result;

use super::guest::PREFIX;
use crate::machine;
use crate::own::Network;

/// The hypervisors' short names.
pub const NAMES: [&str; 2] = ["hv1", "hv2"];

/// Brings them up.
pub fn up() -> Result<Network> {
    let network = Network::up(
        PREFIX,
        &NAMES,
        "link add eth0 mtu 9000 netns @hv1 type veth peer name eth0 mtu 9000 netns @hv2",
    )?;
    for (own, (name, peer)) in NAMES.into_iter().zip([2, 1]).enumerate() {
        let own = own + 1;
        // A kernel with IPv6 would greet its neighbours by itself.
        for family in ["default", "all"] {
            let setting = format!("sysctl -qw net.ipv6.conf.{family}.disable_ipv6=1");
            machine::run_in(&network.netns(name)?, &setting)?;
        }
        network.ip_in(
            name,
            &format!(
                "link set lo up\naddr add 198.51.100.{own}/24 dev eth0\nlink set eth0 up\n\
                 link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0\nlink set br0 up\n\
                 link add vxlan77 type vxlan id 77 local 198.51.100.{own} remote 198.51.100.{peer} dstport 4789\n\
                 link set vxlan77 master br0 up"
            ),
        )?;
    }
    Ok(network)
}
