//! What a recording of merged paths says of itself: the stages, hops and names of all machines, with numbers of its own.

use std::collections::BTreeMap;

use anyhow::Result;
use overlay_trace_common::{behaviour::Role, path::CODE_POSITION};
use overlay_trace_format::{
    Behaviour, Checkpoint, Counters, Header, HopName, MACHINE_SEPARATOR, Names, StageRow,
};

use crate::{edge::Device, error::MergeError, links::Links, machine::Machine};

/// The stages of crossings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Crossing {
    /// From a guest's NIC to its tap: the hypervisor's program (QEMU, vhost) takes the packet.
    VmmTx,
    /// From a tap to the guest's NIC: the hypervisor's program has read the packet and gives it to the guest.
    VmmRx,
    /// From NIC to NIC, or from tap to tap.
    Wire,
}

impl Crossing {
    const ALL: [Crossing; 3] = [Crossing::VmmTx, Crossing::VmmRx, Crossing::Wire];

    /// The stage between these two edges.
    pub fn between(exit: Device, entry: Device) -> Crossing {
        match (exit.is_tap, entry.is_tap) {
            (false, true) => Crossing::VmmTx,
            (true, false) => Crossing::VmmRx,
            _ => Crossing::Wire,
        }
    }

    /// The stage's name in every output.
    pub fn name(self) -> &'static str {
        match self {
            Crossing::VmmTx => "vmm-tx",
            Crossing::VmmRx => "vmm-rx",
            Crossing::Wire => "wire",
        }
    }

    fn row(self) -> StageRow {
        let about = match self {
            Crossing::VmmTx => {
                "From the guest's driver until the hypervisor's program has given the packet to the tap."
            }
            Crossing::VmmRx => {
                "From the tap, read by the hypervisor's program, until the guest's driver has the packet."
            }
            Crossing::Wire => "From one machine's driver to the other's.",
        };
        StageRow {
            name: self.name().to_owned(),
            layer: "driver".to_owned(),
            kind: "wait".to_owned(),
            level: "keep".to_owned(),
            about: about.to_owned(),
            behaviour: Behaviour { leaves: true, role: Role::Device, ..Behaviour::default() },
            ..StageRow::default()
        }
    }
}

/// The numbers of machines' stages, hops, CPUs and drop reasons in the merged recording.
pub struct Numbers {
    pub header: Header,
    pub hops: BTreeMap<u16, HopName>,
    pub names: Names,
    /// By machine and its own number.
    stages: Vec<Vec<u8>>,
    first_hop: Vec<u16>,
    first_cpu: Vec<u16>,
    reasons: Vec<BTreeMap<u32, u32>>,
    crossings: BTreeMap<Crossing, u8>,
    links: BTreeMap<(Device, Device), u16>,
}

impl Numbers {
    /// Of these machines, and the links between them.
    pub(crate) fn new(machines: &[Machine], links: &Links, reference: u16) -> Result<Numbers> {
        let mut numbers = Numbers {
            header: header(machines, reference),
            hops: BTreeMap::new(),
            names: Names::default(),
            stages: Vec::new(),
            first_hop: Vec::new(),
            first_cpu: Vec::new(),
            reasons: Vec::new(),
            crossings: BTreeMap::new(),
            links: BTreeMap::new(),
        };
        numbers.add_stages(machines)?;
        numbers.add_hops(machines, links)?;
        numbers.add_names(machines);
        Ok(numbers)
    }

    fn add_stages(&mut self, machines: &[Machine]) -> Result<()> {
        let mut rows: Vec<StageRow> = Vec::new();
        for machine in machines {
            let mut own = Vec::new();
            for row in &machine.recording.header.stages {
                let known = rows.iter().position(|known| known.name == row.name);
                let number = known.unwrap_or_else(|| {
                    rows.push(row.clone());
                    rows.len() - 1
                });
                if rows[number].probe.is_none() {
                    rows[number].probe = row.probe;
                }
                own.push(number as u8);
            }
            self.stages.push(own);
        }
        for crossing in Crossing::ALL {
            self.crossings.insert(crossing, rows.len() as u8);
            rows.push(crossing.row());
        }
        if rows.len() > usize::from(CODE_POSITION) {
            return Err(MergeError::TooManyStages.into());
        }
        self.header.stages = rows;
        Ok(())
    }

    fn add_hops(&mut self, machines: &[Machine], links: &Links) -> Result<()> {
        let (mut next_hop, mut next_cpu) = (0u32, 0u32);
        for machine in machines {
            self.first_hop.push(next_hop as u16);
            self.first_cpu.push(next_cpu as u16);
            for (&hop, name) in &machine.recording.hops {
                let number = u16::try_from(next_hop + u32::from(hop)).map_err(|_| MergeError::TooManyHops)?;
                self.hops.insert(number, HopName { netns: netns_of(&machine.name, name), ..name.clone() });
            }
            next_hop += machine.recording.hops.keys().last().map_or(0, |&last| u32::from(last));
            next_cpu =
                next_cpu.saturating_add(machine.recording.header.cpus.unwrap_or(1)).min(u32::from(u16::MAX));
        }
        for (one, other, _) in links.iter() {
            for (from, to) in [(one, other), (other, one)] {
                next_hop += 1;
                let number = u16::try_from(next_hop).map_err(|_| MergeError::TooManyHops)?;
                let of = |device: Device| &machines[usize::from(device.machine)];
                let device = |device: Device| {
                    of(device).recording.hops.get(&device.hop).map_or("", |hop| hop.device.as_str())
                };
                let name = HopName {
                    netns: format!("{} > {}", of(from).name, of(to).name),
                    device: format!("{} > {}", device(from), device(to)),
                    ..HopName::default()
                };
                self.hops.insert(number, name);
                self.links.insert((from, to), number);
            }
        }
        Ok(())
    }

    fn add_names(&mut self, machines: &[Machine]) {
        let mut by_name: BTreeMap<String, u32> = BTreeMap::new();
        for machine in machines {
            let names = &machine.recording.names;
            self.names.symbols.extend(names.symbols.clone());
            let mut own = BTreeMap::new();
            for (&reason, name) in &names.drop_reasons {
                let known = &mut self.names.drop_reasons;
                let number = match by_name.get(name) {
                    Some(&number) => number,
                    None if !known.contains_key(&reason) => reason,
                    None => known.keys().last().map_or(1, |last| last.saturating_add(1)),
                };
                known.entry(number).or_insert_with(|| name.clone());
                by_name.entry(name.clone()).or_insert(number);
                own.insert(reason, number);
            }
            self.reasons.push(own);
        }
    }

    /// The number of a machine's stage.
    pub fn stage(&self, machine: u16, stage: u8) -> u8 {
        self.stages[usize::from(machine)].get(usize::from(stage)).copied().unwrap_or(stage)
    }

    /// The number of a machine's hop; 0 for an unknown one.
    pub fn hop(&self, machine: u16, hop: u16) -> u16 {
        if hop == 0 { 0 } else { self.first_hop[usize::from(machine)].saturating_add(hop) }
    }

    /// The number of a machine's CPU.
    pub fn cpu(&self, machine: u16, cpu: u16) -> u16 {
        self.first_cpu[usize::from(machine)].saturating_add(cpu)
    }

    /// The number of a machine's drop reason.
    pub fn reason(&self, machine: u16, reason: u32) -> u32 {
        self.reasons[usize::from(machine)].get(&reason).copied().unwrap_or(reason)
    }

    /// The stage and the hop of a crossing.
    pub fn crossing(&self, exit: Device, entry: Device) -> (u8, u16) {
        let stage = self.crossings[&Crossing::between(exit, entry)];
        (stage, self.links.get(&(exit, entry)).copied().unwrap_or(0))
    }
}

/// A namespace with its machine before it.
fn netns_of(machine: &str, hop: &HopName) -> String {
    match hop.netns.as_str() {
        "" => format!("{machine}{MACHINE_SEPARATOR}netns:{}", hop.netns_inode),
        named => format!("{machine}{MACHINE_SEPARATOR}{named}"),
    }
}

fn header(machines: &[Machine], reference: u16) -> Header {
    let of = |each: &dyn Fn(&Header) -> String| {
        let mut all: Vec<String> = Vec::new();
        for machine in machines {
            let text = each(&machine.recording.header);
            if !all.contains(&text) {
                all.push(text);
            }
        }
        all.join(", ")
    };
    let own = &machines[usize::from(reference)].recording.header;
    let names: Vec<&str> = machines.iter().map(|machine| machine.name.as_str()).collect();
    Header {
        kernel: of(&|header| header.kernel.clone()),
        node: names.join(", "),
        probe_set: of(&|header| header.probe_set.clone()),
        cpus: machines
            .iter()
            .try_fold(0, |sum: u32, machine| Some(sum.saturating_add(machine.recording.header.cpus?))),
        start_wall_ns: own.start_wall_ns,
        start_monotonic_ns: own.start_monotonic_ns,
        probe_cost_ns: own.probe_cost_ns,
        filter: of(&|header| header.filter.clone()),
        command: "overlay-trace merge".to_owned(),
        ..Header::new()
    }
}

/// The final counters: so many records, and the losses of all machines.
pub(crate) fn last(machines: &[Machine], reference: u16, records: u64) -> Checkpoint {
    let mut sum = Counters { probe_misses: Some(0), ..Counters::default() };
    let mut unfinished = 0u64;
    for machine in machines {
        let own = &machine.recording.last.counters;
        for (sum, own) in [
            (&mut sum.lost_records, own.lost_records),
            (&mut sum.state_full, own.state_full),
            (&mut sum.unmatched_exits, own.unmatched_exits),
            (&mut sum.unknown_start, own.unknown_start),
            (&mut sum.lost_end, own.lost_end),
            (&mut sum.filtered, own.filtered),
            (&mut sum.not_ip, own.not_ip),
            (&mut sum.unreadable, own.unreadable),
            (&mut sum.hops_full, own.hops_full),
            (&mut sum.hits, own.hits),
            (&mut sum.record_bytes, own.record_bytes),
            (&mut sum.device_changes, own.device_changes),
            (&mut sum.untold_probes, own.untold_probes),
        ] {
            *sum = sum.saturating_add(own);
        }
        sum.probe_misses = sum.probe_misses.zip(own.probe_misses).map(|(sum, own)| sum.saturating_add(own));
        let ended = own.finished.saturating_add(own.without_record());
        unfinished = unfinished.saturating_add(own.started.saturating_sub(ended));
    }
    sum.finished = records.saturating_add(sum.lost_records);
    sum.started = sum.finished.saturating_add(unfinished).saturating_add(sum.without_record());
    let duration_ns = machines[usize::from(reference)].recording.last.duration_ns;
    Checkpoint { duration_ns, counters: sum, clocks: None }
}
