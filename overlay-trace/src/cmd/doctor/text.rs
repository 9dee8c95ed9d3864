//! The text that `doctor` prints.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use comfy_table::{ContentArrangement, Table, presets};
use overlay_trace_common::stage_map::{OTHER, STAGES, transmit_stages};
use overlay_trace_format::{ProbeCost, printable};
use overlay_trace_probe::{
    Attachment, Plan, ProbeKind, ProbeSet, Unprobed, modules,
    sys::{kernel::Kernel, privilege::Capability},
    tc::Cleaned,
};

/// Columns of the table of stages.
const WIDTH: u16 = 110;

/// Which kinds of probes the kernel accepts, or why not.
pub struct Abilities {
    pub tracepoints: Result<(), String>,
    pub fentry: Result<(), String>,
    pub kprobes: Result<(), String>,
    /// Classifiers at devices.
    pub tc: Result<(), String>,
    /// The lockdown mode; `None` if the kernel is not locked down.
    pub lockdown: Option<String>,
}

fn item(text: &mut String, name: &str, value: &str) {
    let _ = writeln!(text, "{name:<17} {value}");
}

/// The kernel, the capabilities that are missing, and whether there is BTF.
pub fn system(release: &str, missing: &[Capability], has_btf: bool) -> String {
    let mut text = String::new();
    item(&mut text, "kernel", release);
    if missing.is_empty() {
        item(&mut text, "privileges", "sufficient");
    }
    for Capability { name, purpose, .. } in missing {
        item(&mut text, "privileges", &format!("{name} is missing: it is needed {purpose}"));
    }
    item(
        &mut text,
        "type information",
        if has_btf {
            "yes"
        } else {
            "no: /sys/kernel/btf/vmlinux cannot be read; mount /sys, or use a kernel with CONFIG_DEBUG_INFO_BTF=y"
        },
    );
    text
}

/// The kinds of probes and the probe sets.
pub fn abilities(abilities: &Abilities) -> String {
    let mut text = String::new();
    for (name, can) in [
        ("tracepoints", &abilities.tracepoints),
        ("fentry", &abilities.fentry),
        ("kprobes", &abilities.kprobes),
        ("tc hooks", &abilities.tc),
    ] {
        let value = can.as_ref().map_or_else(|reason| format!("no: {reason}"), |()| "yes".to_owned());
        item(&mut text, name, &value);
    }
    let sets = abilities.sets();
    if sets.is_empty() {
        item(
            &mut text,
            "probe sets",
            "none: a kernel with CONFIG_BPF_EVENTS=y has tracepoints, one with CONFIG_NET_CLS_BPF has TC hooks",
        );
        return text;
    }
    let names: Vec<&str> = sets.iter().map(|set| set.name()).collect();
    item(&mut text, "probe sets", &names.join(", "));
    if sets.contains(&ProbeSet::Full) {
        return text;
    }
    item(
        &mut text,
        "",
        "full and light need a kernel with fentry (CONFIG_FUNCTION_TRACER, CONFIG_BPF_JIT) or CONFIG_KPROBES",
    );
    if let Some(mode) = &abilities.lockdown {
        item(&mut text, "", &format!("this kernel is locked down ({mode}), which can forbid both"));
    }
    text
}

/// What was removed from devices.
pub fn cleaned(cleaned: &Cleaned) -> String {
    let removed = match cleaned.filters {
        0 => "nothing was left on any device".to_owned(),
        1 => "removed 1 filter".to_owned(),
        number => format!("removed {number} filters"),
    };
    // A device's name can be a stranger's.
    let failures = cleaned.failures.iter().map(|failure| printable(failure).into_owned());
    [removed].into_iter().chain(failures).collect::<Vec<_>>().join("\n")
}

/// What a hit of each kind of probe costs.
pub fn costs(cost: &ProbeCost) -> String {
    let kinds = [
        ("entry", cost.entry),
        ("exit", cost.exit),
        ("kprobe", cost.kprobe),
        ("tracepoint", cost.tracepoint),
        ("tc hook", cost.tc),
    ];
    let parts: Vec<String> =
        kinds.iter().filter_map(|(name, ns)| Some(format!("{name} {:.0} ns", (*ns)?))).collect();
    let mut text = String::new();
    item(&mut text, "cost of a hit", &parts.join(", "));
    text
}

/// A kind of probe and the function or tracepoint that it is attached to.
type ProbeOn = (ProbeKind, &'static str);

/// By which probes each stage is seen, in the order of its points.
fn probes_of(attached: &[Attachment]) -> BTreeMap<u8, Vec<ProbeOn>> {
    let mut seen: BTreeMap<u8, Vec<ProbeOn>> = BTreeMap::new();
    for attachment in attached.iter().rev() {
        let probe = (attachment.kind, attachment.target);
        let probes = seen.entry(attachment.stage).or_default();
        if !probes.contains(&probe) {
            probes.push(probe);
        }
    }
    // One program serves the stages of all link kinds.
    let transmits = transmit_stages().find_map(|(stage, _)| seen.get(&stage).cloned());
    if let Some(probes) = transmits {
        for (stage, _) in transmit_stages() {
            seen.insert(stage, probes.clone());
        }
    }
    seen
}

/// The probes of a stage in words.
fn in_words(stage: u8, probes: &[ProbeOn]) -> String {
    let probes: Vec<String> =
        probes.iter().map(|(kind, target)| format!("{} {target}", kind.name())).collect();
    match transmit_stages().find(|(number, _)| *number == stage) {
        Some((_, kind)) if !kind.is_empty() => format!("{} (link kind {kind})", probes.join(", ")),
        _ => probes.join(", "),
    }
}

/// The stages of the plan's set: by which probes each is seen, or why it is not.
pub fn stages(kernel: &Kernel, plan: &Plan, attached: &[Attachment]) -> String {
    let set = plan.set;
    let seen = probes_of(attached);
    let of_set =
        |number: u8| number != OTHER && (seen.contains_key(&number) || plan.unseen.contains_key(&number));
    let all = (0..STAGES.len() as u8).filter(|number| of_set(*number)).count();
    let mut text = String::new();
    item(
        &mut text,
        "stages",
        &format!("{} of the {all} of the set {} can be seen", all - plan.unseen.len(), set.name()),
    );
    item(&mut text, "", &kinds(&seen));
    text.push_str(&unseen(kernel, plan));
    let _ = writeln!(text, "\nThe stages of the set {} on this kernel:", set.name());
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    table.set_header(["stage", "layer", "seen by"]);
    for number in (0..STAGES.len() as u8).filter(|number| of_set(*number)) {
        let stage = &STAGES[usize::from(number)];
        let by = match (seen.get(&number), plan.unseen.get(&number)) {
            (Some(probes), _) => in_words(number, probes),
            (None, reason) => format!("UNSEEN: {}", reason.map_or_else(String::new, Unprobed::to_string)),
        };
        table.add_row([stage.name, stage.layer.name(), &by]);
    }
    for row in table.lines() {
        let _ = writeln!(text, "{}", row.trim_end());
    }
    text
}

/// How many stages are seen by each combination of kinds of probes.
fn kinds(seen: &BTreeMap<u8, Vec<ProbeOn>>) -> String {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for probes in seen.values() {
        let names: BTreeSet<&str> = probes.iter().map(|(kind, _)| kind.name()).collect();
        *kinds.entry(names.into_iter().collect::<Vec<_>>().join(" and ")).or_default() += 1;
    }
    let parts: Vec<String> = kinds.iter().map(|(names, stages)| format!("{stages} by {names}")).collect();
    parts.join(", ")
}

/// The stages that cannot be seen, with the reasons, and how to get the missing modules.
fn unseen(kernel: &Kernel, plan: &Plan) -> String {
    let mut text = String::new();
    for (stage, reason) in &plan.unseen {
        let _ = writeln!(text, "  {} cannot be seen: {reason}", STAGES[usize::from(*stage)].name);
    }
    for module in plan.unseen.values().filter_map(Unprobed::module).collect::<BTreeSet<_>>() {
        let _ = writeln!(text, "  module {module} is {}", modules::advice(kernel, module));
    }
    text
}

#[cfg(test)]
mod tests {
    use overlay_trace_common::flags::ProbeFlags;
    use overlay_trace_probe::wanted_functions;
    use overlay_trace_test_support::{golden, kernels};

    use super::*;

    fn described(version: &str) -> Kernel {
        Kernel::from_files(&kernels::root(version), &wanted_functions()).unwrap()
    }

    /// What doctor prints on a kernel that lets probes of these kinds be attached.
    fn printed(version: &str, missing: &[Capability], abilities: &Abilities) -> String {
        let kernel = described(version);
        let mut text = system(&kernel.release, missing, true) + &super::abilities(abilities);
        let Some(set) = abilities.sets().first().copied() else { return text };
        let cost =
            ProbeCost { entry: Some(61.4), exit: Some(47.0), tracepoint: Some(50.9), ..ProbeCost::default() };
        text.push_str(&costs(&cost));
        let traceable = kernels::traceable(version);
        let mut plan = Plan::new(&kernel, set, false);
        let attached = plan.attach(|alternatives| {
            let is_accepted = |one: &&Attachment| match one.kind {
                ProbeKind::Fentry | ProbeKind::Fexit => {
                    traceable.accepts(one.target, one.spec.has(ProbeFlags::INDIRECT))
                }
                ProbeKind::Kprobe | ProbeKind::TpBtf => true,
            };
            let entry = alternatives
                .iter()
                .find(is_accepted)
                .ok_or_else(|| Unprobed::Refused("ftrace does not know it".into()))?;
            Ok([Some(entry.clone()), entry.exit()].into_iter().flatten().collect())
        });
        text + &stages(&kernel, &plan, &attached)
    }

    fn all() -> Abilities {
        Abilities { tracepoints: Ok(()), fentry: Ok(()), kprobes: Ok(()), tc: Ok(()), lockdown: None }
    }

    #[test]
    fn kernels_that_allow_everything() {
        for version in kernels::VERSIONS {
            golden::check(&format!("doctor-{version}.txt"), printed(version, &[], &all()).as_bytes());
        }
    }

    #[test]
    fn a_hardened_kernel() {
        let no = |reason: &str| Err(reason.to_owned());
        let abilities = Abilities {
            tracepoints: Ok(()),
            fentry: no("the kernel refuses the program: Operation not permitted (os error 1)"),
            kprobes: no("this kernel has no kprobes"),
            tc: Ok(()),
            lockdown: Some("integrity".to_owned()),
        };
        let missing = [Capability { name: "CAP_PERFMON", purpose: "to attach probes", number: 38 }];
        golden::check("doctor-hardened.txt", printed("6.12", &missing, &abilities).as_bytes());
    }

    #[test]
    fn a_kernel_without_tracepoints_can_do_nothing() {
        let no = || Err("no".to_owned());
        let abilities =
            Abilities { tracepoints: no(), fentry: Ok(()), kprobes: no(), tc: no(), lockdown: None };
        assert!(abilities.sets().is_empty());
        let text = printed("6.12", &[], &abilities);
        assert!(text.ends_with("one with CONFIG_NET_CLS_BPF has TC hooks\n"), "{text}");
    }

    #[test]
    fn missing_types_are_told_with_what_to_do() {
        assert!(
            system("6.12", &[], false).contains("no: /sys/kernel/btf/vmlinux cannot be read; mount /sys")
        );
    }
}
