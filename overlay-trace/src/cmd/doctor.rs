use std::{collections::BTreeMap, process::ExitCode};

use anyhow::Result;
use comfy_table::{ContentArrangement, Table, presets};
use overlay_trace_common::stage_map::STAGES;

use crate::{
    probe::{
        FilterOptions, Plan, ProbeKind, ProbeSet,
        calibrate::{self, works},
        load::{Attached, Loader, Sizes},
        plan::wanted_functions,
    },
    sys::{bpf, kernel, kernel::Kernel, privilege},
};

#[derive(clap::Args)]
pub struct Doctor {}

/// Modules whose functions the stage map has, and what for: a stage of a module that is not loaded
/// cannot be seen.
const MODULES: [(&str, &str); 8] = [
    ("nf_conntrack", "conntrack-in"),
    ("nf_nat", "nat"),
    ("ip_tables", "iptables"),
    ("nf_tables", "nftables"),
    ("bridge", "bridge-rx"),
    ("br_netfilter", "bridge-netfilter"),
    ("vxlan", "vxlan-decap"),
    ("ipip", "ipip-decap"),
];

impl Doctor {
    pub fn run(self) -> Result<ExitCode> {
        println!("kernel            {}", kernel::release());
        let missing = privilege::missing();
        if missing.is_empty() {
            println!("privileges        sufficient");
        }
        for (name, why) in &missing {
            println!("privileges        {name} is missing: it is needed {why}");
        }
        println!(
            "type information  {}",
            if bpf::has_vmlinux_btf() {
                "yes"
            } else {
                "no: /sys/kernel/btf/vmlinux cannot be read; a kernel with CONFIG_DEBUG_INFO_BTF=y has it"
            }
        );
        privilege::check()?;
        let kernel = Kernel::read(&wanted_functions())?;
        let loader = Loader::new(&kernel, &FilterOptions::default(), Sizes::default())?;
        let can = |name: &str, kind| match works(&kernel, &loader, kind) {
            Ok(()) => {
                println!("{name:<17} yes");
                true
            }
            Err(error) => {
                println!("{name:<17} no: {error:#}");
                false
            }
        };
        let tracepoints = can("tracepoints", ProbeKind::TpBtf);
        let fentry = can("fentry", ProbeKind::Fentry);
        let kprobes = can("kprobes", ProbeKind::Kprobe);
        let sets: &[ProbeSet] = match (tracepoints, fentry || kprobes) {
            (false, _) => &[],
            (true, false) => &[ProbeSet::Device],
            (true, true) => &[ProbeSet::Full, ProbeSet::Light, ProbeSet::Device],
        };
        let Some(richest) = sets.first() else {
            println!("probe sets        none: without tracepoints nothing can be seen");
            return Ok(ExitCode::FAILURE);
        };
        let names: Vec<&str> = sets.iter().map(|set| set.name()).collect();
        println!("probe sets        {}", names.join(", "));
        let entry = if fentry { Some(ProbeKind::Fentry) } else { kprobes.then_some(ProbeKind::Kprobe) };
        print_costs(&kernel, &loader, entry);
        print_modules(&kernel);
        print_stages(&kernel, &loader, *richest);
        Ok(ExitCode::SUCCESS)
    }
}

fn print_costs(kernel: &Kernel, loader: &Loader, entry: Option<ProbeKind>) {
    let cost = calibrate::measure(kernel, loader, entry);
    let ns = |value: Option<f64>| value.map_or("not used".to_owned(), |ns| format!("{ns:.0} ns"));
    println!(
        "cost of a hit     entry {}, exit {}, tracepoint {}",
        ns(cost.entry),
        ns(cost.exit),
        ns(cost.tracepoint)
    );
}

fn print_modules(kernel: &Kernel) {
    for (module, stage) in MODULES {
        let stage = STAGES.iter().find(|row| row.name == stage);
        let functions = stage.into_iter().flat_map(|row| row.points).flat_map(|point| point.probes);
        let known = functions.filter_map(|probe| match probe.target {
            overlay_trace_common::stage::Target::Function(name) => kernel.symbol(name),
            _ => None,
        });
        if known.count() == 0 {
            println!(
                "module            {module} is not loaded: its stages cannot be seen until something uses it, or after `modprobe {module}`"
            );
        }
    }
}

/// Attaches the set for a moment, to see what the kernel really accepts.
fn print_stages(kernel: &Kernel, loader: &Loader, set: ProbeSet) {
    let mut plan = Plan::new(kernel, set, false);
    let attached = loader.attach_plan(kernel, &mut plan);
    let mut seen: BTreeMap<u8, Vec<String>> = BTreeMap::new();
    for Attached { attachment, .. } in attached.iter().rev() {
        seen.entry(attachment.stage).or_default().push(format!(
            "{} {}",
            attachment.kind.name(),
            attachment.target
        ));
    }
    println!("\nThe stages of the set {} on this kernel:", set.name());
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["stage", "layer", "seen by"]);
    for (number, stage) in STAGES.iter().enumerate() {
        let number = number as u8;
        let by = match (seen.get(&number), plan.unseen.get(&number)) {
            (Some(probes), _) => probes.join(", "),
            (None, Some(reason)) => format!("UNSEEN: {reason}"),
            (None, None) => continue,
        };
        table.add_row([stage.name, stage.layer.name(), &by]);
    }
    println!("{table}");
    println!("{} stages cannot be seen", plan.unseen.len());
}
