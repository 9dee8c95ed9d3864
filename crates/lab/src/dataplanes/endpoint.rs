//! A traffic endpoint of a lab that is up.

use std::net::IpAddr;

use super::netns::Netns;

/// The namespace and address that traffic comes from or goes to.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub netns: Netns,
    pub address: IpAddr,
}
