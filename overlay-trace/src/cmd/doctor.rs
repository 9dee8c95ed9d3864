//! `doctor`: what this kernel allows.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::ExitCode,
};

use anyhow::Result;
use comfy_table::{ContentArrangement, Table, presets};
use overlay_trace_common::stage_map::{OTHER, STAGES, transmit_stages};

use super::output::line;
use overlay_trace_probe::sys::{bpf, kernel, kernel::Kernel, privilege};
use overlay_trace_probe::{
    FilterOptions, Plan, ProbeKind, ProbeSet, Unprobed,
    calibrate::{self, works},
    load::{Attached, Loader, Sizes},
    modules,
    plan::wanted_functions,
};

/// Columns of the table of stages.
const WIDTH: u16 = 110;

#[derive(clap::Args)]
#[command(
    after_help = "The exit code is 0 if this kernel lets packets be recorded, with whatever probe set, and 1 if not."
)]
pub struct Doctor {}

impl Doctor {
    pub fn run(self) -> Result<ExitCode> {
        item("kernel", &kernel::release());
        print_privileges();
        item(
            "type information",
            if bpf::has_vmlinux_btf() {
                "yes"
            } else {
                "no: /sys/kernel/btf/vmlinux cannot be read; mount /sys, or take a kernel with CONFIG_DEBUG_INFO_BTF=y"
            },
        );
        privilege::check()?;
        let kernel = Kernel::read(&wanted_functions())?;
        let loader = Loader::new(&kernel, &FilterOptions::default(), Sizes::default())?;
        let can = |name: &str, kind| {
            let result = works(&kernel, &loader, kind);
            item(name, &result.as_ref().map_or_else(|error| format!("no: {error:#}"), |()| "yes".to_owned()));
            result.is_ok()
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
            item(
                "probe sets",
                "none: without tracepoints nothing can be seen; a kernel with CONFIG_BPF_EVENTS=y has them",
            );
            return Ok(ExitCode::FAILURE);
        };
        print_sets(sets);
        let entry = if fentry { Some(ProbeKind::Fentry) } else { kprobes.then_some(ProbeKind::Kprobe) };
        let plan = Plan::new(&kernel, *richest, false);
        print_costs(&kernel, &loader, entry, &plan);
        print_stages(&kernel, &loader, plan);
        Ok(ExitCode::SUCCESS)
    }
}

fn item(name: &str, value: &str) {
    line(&format!("{name:<17} {value}"));
}

fn print_privileges() {
    let missing = privilege::missing();
    if missing.is_empty() {
        item("privileges", "sufficient");
    }
    for (name, why) in &missing {
        item("privileges", &format!("{name} is missing: it is needed {why}"));
    }
}

fn print_sets(sets: &[ProbeSet]) {
    let names: Vec<&str> = sets.iter().map(|set| set.name()).collect();
    item("probe sets", &names.join(", "));
    if sets.contains(&ProbeSet::Full) {
        return;
    }
    item(
        "",
        "full and light need a kernel with fentry (CONFIG_FUNCTION_TRACER, CONFIG_BPF_JIT) or CONFIG_KPROBES",
    );
    let lockdown = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    if !lockdown.is_empty() && !lockdown.contains("[none]") {
        item("", &format!("this kernel is locked down ({}), which can forbid both", lockdown.trim()));
    }
}

fn print_costs(kernel: &Kernel, loader: &Loader, entry: Option<ProbeKind>, plan: &Plan) {
    let cost = calibrate::measure(kernel, loader, entry, plan);
    let kinds = [
        ("entry", cost.entry),
        ("exit", cost.exit),
        ("kprobe", cost.kprobe),
        ("tracepoint", cost.tracepoint),
    ];
    let parts: Vec<String> =
        kinds.iter().filter_map(|(name, ns)| Some(format!("{name} {:.0} ns", (*ns)?))).collect();
    item("cost of a hit", &parts.join(", "));
}

/// Attaches the set for a moment, to see what the kernel really accepts.
fn print_stages(kernel: &Kernel, loader: &Loader, mut plan: Plan) {
    let set = plan.set;
    let attached = loader.attach_plan(kernel, &mut plan);
    let mut seen: BTreeMap<u8, Vec<String>> = BTreeMap::new();
    for Attached { attachment, .. } in attached.iter().rev() {
        let probe = format!("{} {}", attachment.kind.name(), attachment.target);
        let probes = seen.entry(attachment.stage).or_default();
        if !probes.contains(&probe) {
            probes.push(probe);
        }
    }
    drop(attached);
    if seen.values().flatten().any(|probe| probe.ends_with(" net_dev_start_xmit")) {
        // One program serves the rows of all link kinds.
        for (stage, kind) in transmit_stages().filter(|(_, kind)| !kind.is_empty()) {
            seen.insert(stage, vec![format!("tp_btf net_dev_start_xmit (link kind {kind})")]);
        }
    }
    let of_set =
        |number: u8| number != OTHER && (seen.contains_key(&number) || plan.unseen.contains_key(&number));
    let all = (0..STAGES.len() as u8).filter(|number| of_set(*number)).count();
    item(
        "stages",
        &format!("{} of the {all} of the set {} can be seen", all - plan.unseen.len(), set.name()),
    );
    print_kinds(&seen);
    print_unseen(&plan);
    line(&format!("\nThe stages of the set {} on this kernel:", set.name()));
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    table.set_header(["stage", "layer", "seen by"]);
    for number in (0..STAGES.len() as u8).filter(|number| of_set(*number)) {
        let stage = &STAGES[usize::from(number)];
        let by = match (seen.get(&number), plan.unseen.get(&number)) {
            (Some(probes), _) => probes.join(", "),
            (None, reason) => format!("UNSEEN: {}", reason.map_or_else(String::new, Unprobed::to_string)),
        };
        table.add_row([stage.name, stage.layer.name(), &by]);
    }
    for row in table.lines() {
        line(row.trim_end());
    }
}

/// By how many stages each kind of probe is used.
fn print_kinds(seen: &BTreeMap<u8, Vec<String>>) {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for probes in seen.values() {
        let names: BTreeSet<&str> = probes.iter().filter_map(|probe| probe.split(' ').next()).collect();
        *kinds.entry(names.into_iter().collect::<Vec<_>>().join(" and ")).or_default() += 1;
    }
    let parts: Vec<String> = kinds.iter().map(|(names, stages)| format!("{stages} by {names}")).collect();
    item("", &parts.join(", "));
}

/// What is missing, and how to get it.
fn print_unseen(plan: &Plan) {
    for (stage, reason) in &plan.unseen {
        line(&format!("  {} cannot be seen: {reason}", STAGES[usize::from(*stage)].name));
    }
    for module in plan.unseen.values().filter_map(Unprobed::module).collect::<BTreeSet<_>>() {
        line(&format!("  module {module} is {}", modules::advice(module)));
    }
}
