//! NICs of this machine that are lent to a lab: they are the nodes' NICs until the lab ends.
//!
//! A lent NIC keeps its former name and MTU in its alias, so that a later run can give it back if this one is killed.

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::getpid;
use serde_json::Value;

use super::netns::Netns;
use super::tools;

/// Begins the alias of a lent NIC: `overlay-trace lab, was eth1 mtu 1500`.
const ALIAS: &str = "overlay-trace lab, was ";

/// What `ip` says of a device.
#[derive(Debug, PartialEq, Eq)]
struct Device {
    name: String,
    mtu: u64,
    alias: String,
    /// An Ethernet device that no software made.
    is_nic: bool,
    /// Up, or it has an address.
    is_used: bool,
}

/// The NICs that a lab gets: those of these names, or without names this machine's spare ones.
///
/// # Errors
///
/// One sentence: a name is wrong, or there are too few.
pub fn choose(names: &[String], wanted: usize) -> Result<Vec<String>> {
    let mut devices = list()?;
    devices.retain(|device| device.is_nic);
    pick(&devices, names, wanted)
}

fn pick(devices: &[Device], names: &[String], wanted: usize) -> Result<Vec<String>> {
    if names.is_empty() {
        let spare = devices.iter().filter(|device| !device.is_used).map(|device| device.name.clone());
        let spare: Vec<String> = spare.take(wanted).collect();
        ensure!(
            spare.len() == wanted,
            "the lab needs {wanted} NICs that are connected to each other, and this machine has {} to spare \
             (down and without address): `cargo xtask vm KERNEL --nic virtio --nic virtio` starts one that has",
            spare.len()
        );
        return Ok(spare);
    }
    ensure!(
        names.len() == wanted
            && names.iter().all(|name| names.iter().filter(|other| *other == name).count() == 1),
        "the lab needs {wanted} different NICs, and `{}` was named",
        names.join(",")
    );
    for name in names {
        match devices.iter().find(|device| device.name == *name) {
            None => bail!("there is no NIC {name} in this network namespace: `ip link` lists them"),
            Some(device) if device.is_used => {
                bail!("the NIC {name} is in use: a lab takes NICs that are down and have no address")
            }
            Some(_) => {}
        }
    }
    Ok(names.to_vec())
}

/// Moves NICs of the current namespace to a node, where they are called nic0, nic1, …, and runs the `ip` commands that
/// make its eth0 of them.
///
/// # Errors
///
/// When one cannot be moved, or a command fails.
pub fn lend(names: &[String], to: &Netns, commands: &str) -> Result<()> {
    let devices = list()?;
    for (number, name) in names.iter().enumerate() {
        let device = devices.iter().find(|device| device.name == *name);
        let mtu = device.with_context(|| format!("the NIC {name} has gone"))?.mtu;
        batch(&format!(
            "link set dev {name} alias \"{ALIAS}{name} mtu {mtu}\"\nlink set dev {name} name nic{number} netns {}\n",
            to.name()
        ))
        .with_context(|| format!("cannot move the NIC {name} to {}", to.name()))?;
    }
    to.run(|| batch(commands))?.with_context(|| format!("cannot make eth0 of {}", to.name()))
}

/// Moves the lent NICs of a namespace to the one of this process, as they were.
///
/// # Errors
///
/// When one cannot be moved. It returns all the same when its namespace is deleted, perhaps under another name.
pub fn give_back(from: &Netns) -> Result<()> {
    for device in from.run(list)?? {
        let Some((name, mtu)) = former(&device.alias) else { continue };
        let now = device.name;
        let lines = format!(
            "link set dev {now} nomaster down\nlink set dev {now} mtu {mtu} alias \"\"\n\
             link set dev {now} name {name} netns {}\n",
            getpid()
        );
        from.run(|| batch(&lines))?
            .with_context(|| format!("cannot take the NIC {name} out of {}", from.name()))?;
    }
    Ok(())
}

/// The name and MTU that a NIC had before it was lent.
fn former(alias: &str) -> Option<(&str, u64)> {
    let (name, mtu) = alias.strip_prefix(ALIAS)?.split_once(" mtu ")?;
    Some((name, mtu.parse().ok()?))
}

/// The devices of the current namespace.
fn list() -> Result<Vec<Device>> {
    parse(&tools::output(tools::command("ip")?.args(["-json", "-details", "address"]))?)
}

fn batch(lines: &str) -> Result<()> {
    tools::feed(tools::command("ip")?.args(["-batch", "-"]), lines)
}

fn parse(json: &str) -> Result<Vec<Device>> {
    let list: Vec<Value> = serde_json::from_str(json).context("`ip -json address` gave no list")?;
    let device = |value: &Value| {
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_string();
        let flags = value["flags"].as_array();
        let is_up = flags.is_some_and(|flags| flags.iter().any(|flag| flag == "UP"));
        Device {
            name: text("ifname"),
            mtu: value["mtu"].as_u64().unwrap_or_default(),
            alias: text("ifalias"),
            is_nic: value["link_type"] == "ether" && value["linkinfo"]["info_kind"].is_null(),
            is_used: is_up || value["addr_info"].as_array().is_some_and(|all| !all.is_empty()),
        }
    };
    // A device that has just gone leaves an empty object.
    Ok(list.iter().map(device).filter(|device| !device.name.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINKS: &str = r#"[
        {"ifname": "lo", "flags": ["LOOPBACK"], "mtu": 65536, "link_type": "loopback", "addr_info": []},
        {"ifname": "eth0", "flags": ["BROADCAST", "UP"], "mtu": 1500, "link_type": "ether", "addr_info": []},
        {"ifname": "eth1", "flags": ["BROADCAST"], "mtu": 9000, "link_type": "ether", "addr_info": [],
         "ifalias": "overlay-trace lab, was enp1s0 mtu 1500"},
        {"ifname": "eth2", "flags": ["BROADCAST"], "mtu": 1500, "link_type": "ether",
         "addr_info": [{"local": "192.0.2.1"}]},
        {"ifname": "veth0", "flags": [], "mtu": 1500, "link_type": "ether",
         "linkinfo": {"info_kind": "veth"}, "addr_info": []},
        {"ifname": "eth3", "flags": [], "mtu": 1500, "link_type": "ether", "addr_info": []},
        {}
    ]"#;

    fn nics() -> Vec<Device> {
        parse(LINKS).unwrap().into_iter().filter(|device| device.is_nic).collect()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_string()).collect()
    }

    #[test]
    fn the_spare_nics_are_those_that_nothing_uses() {
        assert_eq!(pick(&nics(), &[], 2).unwrap(), ["eth1", "eth3"]);
        let error = pick(&nics(), &[], 3).unwrap_err().to_string();
        assert!(error.contains("needs 3 NICs") && error.contains("has 2 to spare"), "{error}");
    }

    #[test]
    fn named_nics_are_taken_in_their_order_unless_they_are_in_use() {
        assert_eq!(pick(&nics(), &names(&["eth3", "eth1"]), 2).unwrap(), ["eth3", "eth1"]);
        for (given, what) in [
            (&["eth1", "eth2"][..], "eth2 is in use"),
            (&["eth1", "eth0"], "eth0 is in use"),
            (&["eth1", "veth0"], "no NIC veth0"),
            (&["eth1", "eth1"], "different"),
            (&["eth1"], "needs 2"),
        ] {
            let error = pick(&nics(), &names(given), 2).unwrap_err().to_string();
            assert!(error.contains(what), "{given:?}: {error}");
        }
    }

    #[test]
    fn the_alias_keeps_what_a_nic_was() {
        let lent: Vec<_> = nics().into_iter().filter(|device| former(&device.alias).is_some()).collect();
        assert_eq!(lent.len(), 1);
        assert_eq!(former(&lent[0].alias), Some(("enp1s0", 1500)));
        assert_eq!(former("uplink to the switch"), None);
    }
}
