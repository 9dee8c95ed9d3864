//! Clients whose address was translated on the path (source NAT), by connection tracking.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// A connection of a client that its server knows by another address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Translation {
    /// The IP protocol number.
    pub protocol: u8,
    /// The client's own address.
    pub client: SocketAddr,
    /// The address that answers are sent to.
    pub translated: SocketAddr,
    /// Where answers come from, as known where the client is translated.
    pub peer: SocketAddr,
}
