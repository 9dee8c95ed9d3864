//! The kernel's own probe events (ftrace): at which device and in which namespace a packet is when a function begins.
//! They share neither programs nor accounting with overlay-trace.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use overlay_trace_common::abi::Offsets;
use overlay_trace_common::stage::{Action, Probe, Sets, Target};
use overlay_trace_common::stage_map::STAGES;
use overlay_trace_probe::sys::kernel;

const TRACING: &str = "/sys/kernel/tracing";
const GROUP: &str = "ot_witness";
/// The registers of a function's first four arguments on x86-64.
const REGISTERS: [&str; 4] = ["di", "si", "dx", "cx"];
/// `ETH_P_ARP` of <linux/if_ether.h>.
const ETH_P_ARP: u16 = 0x0806;
/// What an event says of a name that cannot be read: the packet has no device.
const NOTHING: &str = "(fault)";

/// A packet was at this device when the stage began; without one the device is empty and the namespace unknown.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sighting {
    pub stage: &'static str,
    pub netns_inode: u32,
    pub device: String,
}

/// Events at the functions of stages that look at the packet's device; they are removed when this is dropped.
pub struct Events {
    instance: PathBuf,
    /// By number of the event.
    stages: Vec<&'static str>,
}

impl Events {
    /// Why there are no such events here, if there are none.
    pub fn lack() -> Option<String> {
        let file = Path::new(TRACING).join("kprobe_events");
        (!file.exists()).then(|| format!("there is no {}", file.display()))
    }

    /// Begins to watch every function of the set full that the kernel has, of a stage that looks at the packet's device.
    pub fn begin(offsets: &Offsets) -> Result<Events> {
        let instance = Path::new(TRACING).join("instances").join(GROUP);
        let mut events = Events { instance, stages: Vec::new() };
        for stage in STAGES.iter().filter(|stage| stage.sets.contains(Sets::FULL)) {
            for point in stage.points.iter().filter(|point| point.hop && point.action == Action::Enter) {
                if point.probes.iter().any(|probe| events.define(probe, offsets).unwrap_or(false)) {
                    events.stages.push(stage.name);
                }
            }
        }
        ensure!(!events.stages.is_empty(), "the kernel takes none of the probe events");
        fs::create_dir(&events.instance).context("cannot make an instance of the tracer")?;
        write(&events.instance.join(format!("events/{GROUP}/enable")), "1")?;
        Ok(events)
    }

    /// Adds an event; false if the probe is at no function.
    fn define(&self, probe: &Probe, offsets: &Offsets) -> Result<bool> {
        let Target::Function(function) = probe.target else { return Ok(false) };
        let argument = match probe.before {
            Some((version, argument)) if !kernel::at_least(version) => argument,
            _ => probe.argument,
        };
        let Offsets { skb_dev, skb_protocol, dev_net, dev_name, net_inum, .. } = *offsets;
        let register = REGISTERS[usize::from(argument)];
        let device = format!("+{skb_dev}(%{register})");
        let netns = format!("netns=+{net_inum}(+{dev_net}({device})):u32");
        let name = format!("device=+{dev_name}({device}):string");
        let protocol = format!("protocol=+{skb_protocol}(%{register}):x16");
        let number = self.stages.len();
        append("kprobe_events", &format!("p:{GROUP}/at_{number} {function} {protocol} {netns} {name}"))?;
        Ok(true)
    }

    /// What was seen.
    pub fn seen(&self) -> Result<BTreeSet<Sighting>> {
        let text = fs::read_to_string(self.instance.join("trace")).context("cannot read the trace")?;
        Ok(text.lines().filter_map(|line| sighting(line, &self.stages)).collect())
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let enable = self.instance.join(format!("events/{GROUP}/enable"));
        if self.instance.exists()
            && let Err(error) = write(&enable, "0").and_then(|()| Ok(fs::remove_dir(&self.instance)?))
        {
            eprintln!("matrix: {error:#}");
        }
        for number in 0..self.stages.len() {
            if let Err(error) = append("kprobe_events", &format!("-:{GROUP}/at_{number}")) {
                eprintln!("matrix: {error:#}");
            }
        }
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write \"{text}\" to {}", path.display()))
}

fn append(file: &str, text: &str) -> Result<()> {
    let path = Path::new(TRACING).join(file);
    let mut file = fs::OpenOptions::new().append(true).open(&path)?;
    writeln!(file, "{text}").with_context(|| format!("cannot write \"{text}\" to {}", path.display()))
}

/// What a line as `ping-77 [001] ..s.. 12.3: at_4: (nf_hook+0x0/0x10) protocol=0x8 netns=4026532 device="eth0"` says; none of
/// ARP, of which there are no recordings.
fn sighting(line: &str, stages: &[&'static str]) -> Option<Sighting> {
    let (_, event) = line.split_once(": at_")?;
    let (number, rest) = event.split_once(':')?;
    let (_, rest) = rest.split_once(" protocol=0x")?;
    let (protocol, netns) = rest.split_once(" netns=")?;
    if u16::from_be(u16::from_str_radix(protocol, 16).ok()?) == ETH_P_ARP {
        return None;
    }
    let (netns, device) = netns.split_once(" device=")?;
    let device = device.trim().trim_matches('"');
    let stage = stages.get(number.parse::<usize>().ok()?)?;
    Some(match device {
        NOTHING => Sighting { stage, netns_inode: 0, device: String::new() },
        _ => Sighting { stage, netns_inode: netns.parse().ok()?, device: device.to_owned() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read() {
        let stages = ["nat", "ip-output"];
        let line = " ping-77 [001] ..s.. 12.3: at_1: (ip_finish_output+0x0/0x10) protocol=0x8 netns=402 device=\"eth0\"";
        let expected = Sighting { stage: "ip-output", netns_inode: 402, device: "eth0".into() };
        assert_eq!(sighting(line, &stages), Some(expected));
        let line =
            " ping-77 [001] ..s.. 12.3: at_0: (nf_nat_inet_fn+0x0/0x10) protocol=0x0 netns=0 device=(fault)";
        let expected = Sighting { stage: "nat", netns_inode: 0, device: String::new() };
        assert_eq!(sighting(line, &stages), Some(expected));
        let line =
            " ping-77 [001] ..s.. 12.3: at_1: (arp_xmit+0x0/0x10) protocol=0x608 netns=402 device=\"eth0\"";
        assert_eq!(sighting(line, &stages), None);
        assert_eq!(sighting("# tracer: nop", &stages), None);
    }
}
