//! Recordings without what identifies people and machines, to be given to strangers.

mod address_key;
mod names;

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    path::Path,
};

use anyhow::Result;
use overlay_trace_common::record::{Flow, RecordHeader};
use serde_json::Value;

use super::{
    Checkpoint, Header, HopName, Interface, KernelCounters, MACHINE_SEPARATOR, Machine, Recording,
    Translation, Writer, encode_record,
    flow_addresses::{flow_addresses, flow_bytes},
};
use address_key::AddressKey;
use names::Table;

/// TCP's protocol number.
const TCP: u8 = 6;
/// What is said instead of the evidence for a network.
const EVIDENCE: &str = "evidence in names that were replaced";
/// Keys of traffic results whose texts are the program's own.
const OWN_WORDS: [&str; 2] = ["kind", "protocol"];

/// Replaces, with one key, what identifies. The same address, name or MAC address gets the same replacement in all
/// recordings that pass through; the key is never stored.
///
/// Replaced: IP and MAC addresses; names of nodes, namespaces, devices and control groups; command lines, filters and
/// texts about detected networks; the marks of the machine; addresses of kernel code; what `witness` has of a payload.
/// Kept: times, ports, protocols, lengths, TCP sequence numbers, drop reasons, the kernel's release and the stage map.
#[derive(Default)]
pub struct Anonymiser {
    key: AddressKey,
    nodes: Table,
    netns: Table,
    devices: Table,
    cgroups: Table,
    commands: Table,
    /// Addresses of kernel code, numbered from 1.
    locations: HashMap<u64, u64>,
}

impl Anonymiser {
    /// An anonymiser with a new random key.
    pub fn new() -> Anonymiser {
        Anonymiser::default()
    }

    /// Writes a recording without what identifies; returns the bytes of the file.
    ///
    /// # Errors
    ///
    /// One sentence: a file cannot be read or written.
    pub fn write(&mut self, recording: &Recording, path: &Path, force: bool) -> Result<u64> {
        let mut writer = Writer::create(path, force, &self.header(&recording.header))?;
        let hops: Vec<_> = recording.hops.iter().map(|(number, hop)| (*number, self.hop(hop))).collect();
        writer.hops(&hops)?;
        let mut names = recording.names.clone();
        names.symbols =
            names.symbols.into_iter().map(|(at, name)| (self.location(at), name)).collect::<BTreeMap<_, _>>();
        writer.names(&names)?;
        let translations: Vec<_> =
            recording.translations.iter().map(|known| self.translation(known)).collect();
        if !translations.is_empty() {
            writer.translations(&translations)?;
        }
        self.records(recording, &mut writer)?;
        for clocks in &recording.clocks {
            writer.checkpoint(&Checkpoint { clocks: Some(*clocks), ..recording.last.clone() })?;
        }
        let mut traffic = recording.traffic.clone();
        traffic.iter_mut().for_each(|result| self.traffic(result));
        writer.traffic(&traffic)?;
        if !recording.nics.is_empty() {
            writer.nics(&recording.nics)?;
        }
        if let Some(counters) = &recording.kernel_counters {
            writer.kernel_counters(&self.kernel_counters(counters))?;
        }
        let last = Checkpoint { clocks: None, ..recording.last.clone() };
        if recording.complete {
            return writer.finish(&last);
        }
        if recording.has_counters {
            writer.checkpoint(&last)?;
        }
        Ok(writer.bytes())
    }

    fn records(&mut self, recording: &Recording, writer: &mut Writer) -> Result<()> {
        let (mut bytes, mut outcome) = (Vec::new(), Ok(()));
        recording.for_each_record(|record| {
            bytes.clear();
            encode_record(&self.record_header(&record.header), record.path, &mut bytes);
            if outcome.is_ok() {
                outcome = writer.records(&bytes);
            }
        })?;
        outcome
    }

    fn header(&mut self, header: &Header) -> Header {
        let mut header = header.clone();
        header.node = self.nodes.replace("node", &header.node);
        header.machine = header.machine.map(|machine| self.machine(machine));
        for text in [&mut header.filter, &mut header.command] {
            if !text.is_empty() {
                *text = "(anonymised)".into();
            }
        }
        for network in header.networks.iter_mut().flatten() {
            network.details.clear();
            network.evidence = vec![EVIDENCE.into()];
        }
        header
    }

    fn machine(&mut self, machine: Machine) -> Machine {
        let interfaces = machine.interfaces.into_iter().map(|interface| Interface {
            device: self.devices.replace("nic", &interface.device),
            mac: self.key.mac(&interface.mac),
            addresses: interface.addresses.iter().map(|address| self.text(address)).collect(),
        });
        let interfaces = interfaces.collect();
        let (boot_id, machine_id) = (self.key.mark(&machine.boot_id), self.key.mark(&machine.machine_id));
        Machine { boot_id, machine_id, interfaces, hypervisor: machine.hypervisor }
    }

    fn hop(&mut self, hop: &HopName) -> HopName {
        let kind = if hop.kind.is_empty() { "nic" } else { &hop.kind };
        HopName {
            netns: self.netns_name(&hop.netns),
            device: self.devices.replace(kind, &hop.device),
            ..hop.clone()
        }
    }

    /// In merged recordings the machine's name stands before the namespace's.
    fn netns_name(&mut self, name: &str) -> String {
        match name.split_once(MACHINE_SEPARATOR) {
            Some((node, netns)) => {
                let node = self.nodes.replace("node", node);
                node + MACHINE_SEPARATOR + &self.netns.replace("netns", netns)
            }
            None => self.netns.replace("netns", name),
        }
    }

    fn location(&mut self, address: u64) -> u64 {
        if address == 0 {
            return 0;
        }
        let next = self.locations.len() as u64 + 1;
        *self.locations.entry(address).or_insert(next)
    }

    fn record_header(&mut self, header: &RecordHeader) -> RecordHeader {
        let Flow { protocol, .. } = header.flow;
        let mut flow = header.flow;
        if let Some([source, destination]) = flow_addresses(&flow) {
            flow.source = flow_bytes(self.key.address(source));
            flow.destination = flow_bytes(self.key.address(destination));
        }
        // Of TCP these are numbers of its header, of others the beginning of what was sent.
        let witness = if protocol == TCP { header.witness } else { self.key.witness(header.witness) };
        RecordHeader { flow, witness, drop_location: self.location(header.drop_location), ..*header }
    }

    fn translation(&self, known: &Translation) -> Translation {
        let replace = |end: SocketAddr| SocketAddr::new(self.key.address(end.ip()), end.port());
        Translation {
            protocol: known.protocol,
            client: replace(known.client),
            translated: replace(known.translated),
            peer: replace(known.peer),
        }
    }

    /// An address in a text; other texts are left out.
    fn text(&self, text: &str) -> String {
        if let Ok(address) = text.parse::<IpAddr>() {
            return self.key.address(address).to_string();
        }
        let end = text.parse::<SocketAddr>();
        end.map_or_else(
            |_| String::new(),
            |end| SocketAddr::new(self.key.address(end.ip()), end.port()).to_string(),
        )
    }

    fn traffic(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(values) => values.iter_mut().for_each(|value| self.traffic(value)),
            Value::Object(object) => {
                let values = object.iter_mut().filter(|(key, _)| !OWN_WORDS.contains(&key.as_str()));
                values.for_each(|(_, value)| self.traffic(value));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn kernel_counters(&mut self, counters: &KernelCounters) -> KernelCounters {
        let mut counters = counters.clone();
        for growth in &mut counters.node {
            growth.device = self.devices.replace("nic", &growth.device);
        }
        for netns in &mut counters.netns {
            netns.netns = self.netns_name(&netns.netns);
            for growth in &mut netns.grown {
                growth.device = self.devices.replace("nic", &growth.device);
            }
        }
        for group in &mut counters.throttled {
            group.cgroup = self.cgroups.replace("cgroup", &group.cgroup);
            group.commands.iter_mut().for_each(|name| *name = self.commands.replace("command", name));
        }
        counters.unread.iter_mut().for_each(|name| *name = self.netns.replace("netns", name));
        counters
    }
}
