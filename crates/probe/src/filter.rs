//! Which packets are recorded.

use std::net::IpAddr;

use anyhow::{Result, bail};
use overlay_trace_common::abi::{Filter, NETNS_MAX, words_of};

use overlay_trace_format::PodFilter;

use crate::{pods, sys::netns};

/// The filter as the user gives it; options that are not given match every packet. Addresses, ports and protocol are those
/// of the innermost packet.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct FilterOptions {
    /// Only packets that pass through this network namespace (name, path, or process id); if it is given several times,
    /// through one of them
    #[arg(long, value_name = "NETNS")]
    pub netns: Vec<String>,
    #[command(flatten)]
    pub pods: PodFilter,
    /// The namespaces of these pods: see [`find_pods`](FilterOptions::find_pods).
    #[arg(skip)]
    pub pod_netns: Vec<String>,
    /// Only packets that pass through a device of this name
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Only this protocol: tcp, udp, icmp, icmpv6, or a number
    #[arg(long, value_name = "PROTOCOL", value_parser = protocol)]
    pub protocol: Option<u8>,
    /// Only from or to this address
    #[arg(long, value_name = "ADDRESS")]
    pub address: Option<IpAddr>,
    /// Only from or to this port
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
}

/// The number of an IP protocol.
///
/// # Errors
///
/// What to write instead.
pub fn protocol(text: &str) -> Result<u8, String> {
    match text {
        "icmp" => Ok(1),
        "tcp" => Ok(6),
        "udp" => Ok(17),
        "icmpv6" => Ok(58),
        number => number.parse().map_err(|_| "give tcp, udp, icmp, icmpv6, or a number up to 255".to_owned()),
    }
}

impl FilterOptions {
    /// Looks for the namespaces of the pods that are meant, which must be there: it has to come before
    /// [`resolve`](FilterOptions::resolve).
    ///
    /// # Errors
    ///
    /// There are none, or too many together with those that are given by name.
    pub fn find_pods(&mut self) -> Result<()> {
        if self.pods.is_empty() {
            return Ok(());
        }
        let found = pods::find(&self.pods)?;
        if self.netns.len() + found.len() > NETNS_MAX {
            bail!(
                "{} pods are meant by {}, and packets can be filtered by {NETNS_MAX} network namespaces: name fewer",
                found.len(),
                self.pods
            );
        }
        let paths = found.into_iter().map(|found| found.path.to_string_lossy().into_owned());
        self.pod_netns = paths.collect();
        Ok(())
    }

    /// The network namespaces that are given, by name or as those of pods.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = &String> {
        self.netns.iter().chain(&self.pod_netns)
    }

    /// The filter for the kernel side.
    ///
    /// # Errors
    ///
    /// The namespace or the device does not exist.
    pub fn resolve(&self) -> Result<Filter> {
        let mut filter = Filter {
            protocol: self.protocol.unwrap_or(0),
            port: self.port.unwrap_or(0),
            ..Filter::default()
        };
        if self.netns.len() > NETNS_MAX {
            bail!("--netns can be given {NETNS_MAX} times, not {}", self.netns.len());
        }
        for (number, given) in self.namespaces().enumerate() {
            let netns::Identity { inode, cookie } = netns::identity(given)?;
            (filter.netns[number], filter.netns_mix[number]) = (inode, cookie.unwrap_or(0));
        }
        if let Some(device) = &self.device {
            if device.is_empty() || device.len() > 15 || !netns::device_exists(device) {
                bail!(
                    "there is no device {device} in any network namespace of this machine: `ip -all netns exec ip link` lists them"
                );
            }
            filter.device = words_of(device.as_bytes());
        }
        match self.address {
            Some(IpAddr::V4(address)) => {
                filter.address_version = 4;
                filter.address = words_of(&address.octets());
            }
            Some(IpAddr::V6(address)) => {
                filter.address_version = 6;
                filter.address = words_of(&address.octets());
            }
            None => {}
        }
        Ok(filter)
    }
}

impl std::fmt::Display for FilterOptions {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        let mut parts = Vec::new();
        if !self.netns.is_empty() {
            parts.push(format!("netns {}", self.netns.join(" or ")));
        }
        if !self.pods.is_empty() {
            parts.push(self.pods.to_string());
        }
        let mut part = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                parts.push(format!("{name} {value}"));
            }
        };
        part("device", self.device.clone());
        part("protocol", self.protocol.map(|protocol| protocol.to_string()));
        part("address", self.address.map(|address| address.to_string()));
        part("port", self.port.map(|port| port.to_string()));
        out.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_namespace_or_device_is_named_in_the_error() {
        let missing = FilterOptions { netns: vec!["no-such-ns".into()], ..FilterOptions::default() };
        assert!(missing.resolve().unwrap_err().to_string().contains("no-such-ns"));
        let missing = FilterOptions { device: Some("no-such-dev".into()), ..FilterOptions::default() };
        assert!(missing.resolve().unwrap_err().to_string().contains("no-such-dev"));
    }

    #[test]
    fn protocols_have_names_and_numbers() {
        assert_eq!(protocol("udp"), Ok(17));
        assert_eq!(protocol("47"), Ok(47));
        assert!(protocol("300").is_err() && protocol("xyz").is_err());
    }

    #[test]
    fn addresses_of_both_families_are_resolved() {
        let v4 = FilterOptions { address: Some("10.1.2.3".parse().unwrap()), ..FilterOptions::default() };
        let v4 = v4.resolve().unwrap();
        assert_eq!((v4.address_version, v4.address), (4, words_of(&[10, 1, 2, 3])));
        let v6 = FilterOptions { address: Some("fd00::1".parse().unwrap()), ..FilterOptions::default() };
        let v6 = v6.resolve().unwrap();
        let mut octets = [0; 16];
        (octets[0], octets[15]) = (0xfd, 1);
        assert_eq!((v6.address_version, v6.address), (6, words_of(&octets)));
    }
}
