//! Commands that only look change nothing, and labs leave the machine as they found it.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use overlay_trace_lab::dataplanes::{self, Knobs, System};

use crate::interrupted::program;
use crate::results::{Outcome, Results, Verdict};
use crate::snapshot::Snapshot;

const LOOKING: &str = "untouched/looking";
/// Commands that only look. `@` is a recording, `%` a folder of their own.
const LOOKS: &[&str] = &[
    "--help",
    "--version",
    "lab --help",
    "lab list",
    "lab show flannel-vxlan",
    "lab show calico-ipip",
    "lab show neutron-ovs-gre",
    "lab run --help",
    "doctor",
    "stages",
    "stages --format json",
    "traffic --help",
    "report @",
    "tail @ --format html --output %/tail.html --force",
    "diff @ @",
    "tail @",
    "what-if @",
    "generate man %",
    "book labs",
];
/// Labs that bring modules, devices, settings, daemons, cgroups and BPF programs of every kind.
const LABS: &[&str] = &[
    "flannel-vxlan",
    "calico-ipip",
    "calico-bgp",
    "kube-router-dsr",
    "docker-overlay",
    "gretap",
    "cni-bridge",
    "neutron-ovs-vxlan",
    "cilium-service",
    "ipsec",
    "wireguard",
];
/// What a run says of modules that it does not unload.
const STAY: &str = "stay loaded: ";

/// Runs the tests; before any other, so that no module has been loaded yet.
pub fn run(folder: &Path, results: &mut Results) -> Result<()> {
    if results.wants(LOOKING) {
        results.add(LOOKING, looking(folder));
    }
    let system = System::look()?;
    for name in LABS {
        let test = format!("untouched/{name}");
        if results.wants(&test) {
            results.add(&test, lab(name, &system));
        }
    }
    Ok(())
}

fn overlay_trace(arguments: &[&str]) -> Result<Output> {
    Command::new(program()?).args(arguments).output().context("cannot run overlay-trace")
}

fn looking(folder: &Path) -> Outcome {
    let recording = concat!(env!("CARGO_MANIFEST_DIR"), "/recordings/flannel-vxlan-6.12.otr");
    let own = folder.join("looking");
    std::fs::create_dir_all(&own)?;
    let own = own.to_str().context("the folder's name is not UTF-8")?;
    // What is measured once, such as the first namespace of a boot, is no change by a command.
    let before = Snapshot::take()?;
    for command in LOOKS {
        let words: Vec<String> =
            command.split(' ').map(|word| word.replace('@', recording).replace('%', own)).collect();
        let output = overlay_trace(&words.iter().map(String::as_str).collect::<Vec<_>>())?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`{command}` ended with {}: {said}", output.status);
        let changes = before.changes(&Snapshot::take()?);
        ensure!(changes.is_empty(), "`{command}` has changed {}", changes.join("; "));
    }
    Ok(Verdict::With(format!("{} commands", LOOKS.len())))
}

fn lab(name: &str, system: &System) -> Outcome {
    let lab = dataplanes::find(name).context("the lab is missing")?;
    if let Some(lack) = system.lack(lab, &Knobs::default())? {
        return Ok(Verdict::Skipped(format!("unavailable: {lack}")));
    }
    let before = Snapshot::take()?;
    let output = overlay_trace(&["lab", "run", name, "--traffic", "udp-rr:rate=100", "--duration", "300ms"])?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "it ended with {}: {said}", output.status);
    let mut changes = before.changes(&Snapshot::take()?);
    let stay = said.lines().find_map(|line| line.split_once(STAY)).map_or("", |(_, modules)| modules);
    let stay: Vec<&str> = stay.split(", ").filter(|module| !module.is_empty()).collect();
    changes.retain(|line| !stay.iter().any(|module| line == &format!("+module {module}")));
    ensure!(changes.is_empty(), "it has changed {}; it said: {said}", changes.join("; "));
    for module in &stay {
        ensure!(foretold(&said).contains(module), "it stays, and was not foretold: {module}; {said}");
    }
    Ok(match foretold(&said).split(", ").filter(|name| !name.is_empty()).count() {
        0 => Verdict::Passed,
        modules => Verdict::With(format!("{modules} modules foretold, {} stay", stay.len())),
    })
}

/// The modules of which a run said before that it loads them.
fn foretold(said: &str) -> &str {
    let line = said.lines().find_map(|line| line.split_once("loads the kernel modules "));
    line.and_then(|(_, rest)| rest.split(';').next()).unwrap_or_default()
}
