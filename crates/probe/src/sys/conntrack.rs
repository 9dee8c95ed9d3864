//! The connections of connection tracking that have a translated client, in all network namespaces.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    net::{IpAddr, SocketAddr},
};

use nix::sched::{CloneFlags, setns};
use overlay_trace_format::Translation;

use super::netns;

/// The connections of the thread's namespace. The kernel has it if it was built with `CONFIG_NF_CONNTRACK_PROCFS`, and
/// if connection tracking is loaded: reading loads nothing.
const TABLE: &str = "/proc/thread-self/net/nf_conntrack";

/// The clients that are translated now, at most `most`. The calling thread stays in the last namespace.
pub fn translations(most: usize) -> Vec<Translation> {
    let mut found = Vec::new();
    for namespace in netns::all() {
        if setns(&namespace.file, CloneFlags::CLONE_NEWNET).is_err() {
            continue;
        }
        let Ok(table) = File::open(TABLE) else { continue };
        let lines = BufReader::new(table).lines().map_while(Result::ok);
        found.extend(lines.filter_map(|line| translation(&line)).take(most - found.len()));
    }
    found
}

/// One direction of a connection.
#[derive(Default)]
struct Direction {
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    source_port: Option<u16>,
    destination_port: Option<u16>,
}

impl Direction {
    fn source(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.source?, self.source_port?))
    }

    fn destination(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.destination?, self.destination_port?))
    }
}

/// What a line says of its client, if that is translated: layers with their numbers, the time left, perhaps a state, and
/// for each direction `src=… dst=… sport=… dport=…`.
fn translation(line: &str) -> Option<Translation> {
    let mut words = line.split_ascii_whitespace();
    let protocol = words.nth(3)?.parse().ok()?;
    let mut directions: [Direction; 2] = Default::default();
    let mut number = 0;
    for (name, value) in words.filter_map(|word| word.split_once('=')) {
        // The second direction begins where the first one's words come again.
        if name == "src" && directions[0].source.is_some() {
            number = 1;
        }
        let direction = &mut directions[number];
        match name {
            "src" => direction.source = value.parse().ok(),
            "dst" => direction.destination = value.parse().ok(),
            "sport" => direction.source_port = value.parse().ok(),
            "dport" => direction.destination_port = value.parse().ok(),
            _ => {}
        }
    }
    let [original, reply] = directions;
    let (client, translated) = (original.source()?, reply.destination()?);
    (client != translated).then_some(Translation { protocol, client, translated, peer: reply.source()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_translated_client_is_read() {
        let line = "ipv4     2 tcp      6 431999 ESTABLISHED src=10.244.1.2 dst=10.96.0.1 sport=40000 dport=80 \
                    src=10.244.2.2 dst=10.244.1.0 sport=7700 dport=51234 [ASSURED] mark=0 zone=0 use=2";
        let expected = Translation {
            protocol: 6,
            client: "10.244.1.2:40000".parse().unwrap(),
            translated: "10.244.1.0:51234".parse().unwrap(),
            peer: "10.244.2.2:7700".parse().unwrap(),
        };
        assert_eq!(translation(line), Some(expected));
        let line = "ipv6     10 udp      17 27 src=fd00::1 dst=fd00::9 sport=1 dport=2 packets=1 bytes=9 \
                    [UNREPLIED] src=fd00::9 dst=fd00::1 sport=2 dport=1 packets=0 bytes=0 mark=0 use=2";
        assert_eq!(translation(line), None);
        assert_eq!(translation("ipv4 2 icmp 1 29 src=10.0.0.1 dst=10.0.0.2 type=8 code=0 id=7"), None);
        assert_eq!(translation(""), None);
    }
}
