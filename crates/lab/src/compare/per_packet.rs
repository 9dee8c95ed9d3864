//! Time per packet, summed by level and by layer.

use super::result::{StageTime, Stages};

/// Time per packet, ns. `whole_ns` is the sum of `socket_wait_ns` and `levels_ns`, and also of `socket_wait_ns` and
/// `layers_ns`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PerPacket {
    pub whole_ns: f64,
    /// Wait in sockets, until the program read the packet.
    pub socket_wait_ns: f64,
    /// All other time, by encapsulation level: index 1 is the cost of the first overlay.
    pub levels_ns: Vec<f64>,
    /// The same time by layer, in the order of the packets' path.
    pub layers_ns: Vec<(String, f64)>,
}

impl PerPacket {
    /// Divides all times by the number of packets.
    pub fn of(stages: &Stages) -> PerPacket {
        let mut sums = PerPacket::default();
        for row in &stages.rows {
            let ns = stages.per_packet(row);
            sums.whole_ns += ns;
            if row.is_socket_wait() {
                sums.socket_wait_ns += ns;
                continue;
            }
            match sums.layers_ns.iter_mut().find(|(layer, _)| *layer == row.layer) {
                Some((_, sum)) => *sum += ns,
                None => sums.layers_ns.push((row.layer.clone(), ns)),
            }
            let level = usize::from(row.level);
            if sums.levels_ns.len() <= level {
                sums.levels_ns.resize(level + 1, 0.0);
            }
            sums.levels_ns[level] += ns;
        }
        sums
    }

    /// The network's time: all but socket wait, ns.
    pub fn network_ns(&self) -> f64 {
        self.levels_ns.iter().sum()
    }

    /// The time in a layer, ns; 0 when packets do not pass it.
    pub fn layer(&self, name: &str) -> f64 {
        self.layers_ns.iter().find(|(layer, _)| layer == name).map_or(0.0, |(_, ns)| *ns)
    }
}

impl Stages {
    /// A row's time per packet, net of probe overhead where that is known, ns.
    pub fn per_packet(&self, row: &StageTime) -> f64 {
        row.net_ns as f64 / self.packets.max(1) as f64
    }
}

/// All layers of these labs, ordered by the largest time in any of them.
pub fn largest<'a>(labs: impl Iterator<Item = &'a PerPacket>) -> Vec<String> {
    let mut layers: Vec<(String, f64)> = Vec::new();
    for (layer, ns) in labs.flat_map(|lab| &lab.layers_ns) {
        match layers.iter_mut().find(|(known, _)| known == layer) {
            Some((_, most)) => *most = most.max(*ns),
            None => layers.push((layer.clone(), *ns)),
        }
    }
    layers.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    layers.into_iter().map(|(layer, _)| layer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_add_up_to_the_whole() {
        let row = |layer: &str, kind: &str, level, net_ns| StageTime {
            layer: layer.into(),
            kind: kind.into(),
            level,
            net_ns,
            ..StageTime::default()
        };
        let stages = Stages {
            packets: 10,
            rows: vec![
                row("socket", "work", 0, 1000),
                row("vxlan", "work", 1, 500),
                row("vxlan", "work", 2, 300),
                row("socket", "wait", 0, 7000),
                row("backlog", "wait", 0, 40),
            ],
            ..Stages::default()
        };
        let sums = PerPacket::of(&stages);
        assert_eq!((sums.whole_ns, sums.socket_wait_ns), (884.0, 700.0));
        assert_eq!(sums.levels_ns, [104.0, 50.0, 30.0]);
        assert_eq!((sums.layer("socket"), sums.layer("vxlan"), sums.layer("ipip")), (100.0, 80.0, 0.0));
        assert_eq!(sums.network_ns(), 184.0);
        assert_eq!(largest([&sums].into_iter()), ["socket", "vxlan", "backlog"]);
    }
}
