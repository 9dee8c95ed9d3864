//! Who is asked and who is answered, through address translation.
//!
//! A request has the client's own address. Where that is translated on the path, the answer is sent to another address,
//! and connection tracking's entries lead back to the client, from one translation to the one before.

use std::net::{IpAddr, SocketAddr};

use overlay_trace_common::record::Flow;
use overlay_trace_format::Translation;
use rustc_hash::FxHashMap;

/// Protocol, IP version, port, address.
pub(super) type End = (u8, u8, u16, [u8; 16]);

/// A client is translated so often at most.
const TRANSLATIONS_MAX: usize = 8;

/// Source and destination of a packet.
pub(super) fn ends(flow: &Flow) -> (End, End) {
    let Flow { protocol, version, source, destination, source_port, destination_port, .. } = *flow;
    ((protocol, version, source_port, source), (protocol, version, destination_port, destination))
}

/// The clients behind translated addresses.
#[derive(Default)]
pub(super) struct Clients {
    /// By the address that answers are sent to: where they come from, and whose address it is.
    by_translated: FxHashMap<End, Vec<(End, End)>>,
}

impl Clients {
    pub fn new(translations: &[Translation]) -> Clients {
        let mut clients = Clients::default();
        for Translation { protocol, client, translated, peer } in translations {
            let end = |address| end(*protocol, address);
            let known = clients.by_translated.entry(end(translated)).or_default();
            known.push((end(peer), end(client)));
        }
        clients
    }

    /// The address that the client of an answer calls its own.
    pub fn behind(&self, source: End, destination: End) -> End {
        let (mut from, mut client) = (Some(source), destination);
        for _ in 0..TRANSLATIONS_MAX {
            let Some(known) = self.by_translated.get(&client) else { break };
            let exact = known.iter().rev().find(|(peer, _)| Some(*peer) == from);
            // The server's address can be translated elsewhere, so that it is another one here.
            let (_, first) = known[0];
            let only = known.iter().all(|(_, other)| *other == first).then_some(first);
            let Some(before) = exact.map(|(_, before)| *before).or(only) else { break };
            (from, client) = (None, before);
        }
        client
    }
}

fn end(protocol: u8, address: &SocketAddr) -> End {
    let mut bytes = [0; 16];
    let version = match address.ip() {
        IpAddr::V4(ip) => {
            bytes[..4].copy_from_slice(&ip.octets());
            4
        }
        IpAddr::V6(ip) => {
            bytes = ip.octets();
            6
        }
    };
    (protocol, version, address.port(), bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translation(client: &str, translated: &str, peer: &str) -> Translation {
        let parse = |text: &str| text.parse().unwrap();
        Translation { protocol: 6, client: parse(client), translated: parse(translated), peer: parse(peer) }
    }

    fn at(address: &str) -> End {
        end(6, &address.parse().unwrap())
    }

    #[test]
    fn a_client_is_found_behind_several_translations() {
        let clients = Clients::new(&[
            translation("10.1.0.2:40000", "192.0.2.1:40000", "10.96.0.1:80"),
            translation("192.0.2.1:40000", "192.0.2.9:51000", "10.2.0.2:7700"),
        ]);
        assert_eq!(clients.behind(at("10.2.0.2:7700"), at("192.0.2.9:51000")), at("10.1.0.2:40000"));
        assert_eq!(clients.behind(at("10.2.0.2:7700"), at("10.1.0.3:40000")), at("10.1.0.3:40000"));
    }

    #[test]
    fn of_two_clients_behind_one_address_the_peer_decides_or_nothing() {
        let clients = Clients::new(&[
            translation("10.1.0.2:40000", "192.0.2.1:40000", "10.2.0.2:80"),
            translation("10.1.0.3:40000", "192.0.2.1:40000", "10.2.0.3:80"),
        ]);
        assert_eq!(clients.behind(at("10.2.0.3:80"), at("192.0.2.1:40000")), at("10.1.0.3:40000"));
        assert_eq!(clients.behind(at("10.2.0.4:80"), at("192.0.2.1:40000")), at("192.0.2.1:40000"));
    }
}
