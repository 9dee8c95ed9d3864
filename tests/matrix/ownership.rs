//! A lab removes what it has made, and nothing else: neither what is called alike, nor what was kept, nor what somebody
//! put where it writes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use overlay_trace_lab::dataplanes::{self, Knobs, System};

use crate::interrupted::program;
use crate::machine;
use crate::results::{Outcome, Results, Verdict};

const FOREIGN: &str = "ownership/foreign-namespaces";
const KEPT: &str = "ownership/kept-lab";
const PLANTED: &str = "ownership/planted-links";

/// Runs the tests.
pub fn run(folder: &Path, results: &mut Results) {
    for (name, test) in [(FOREIGN, foreign as fn(&Path) -> Outcome), (KEPT, kept), (PLANTED, planted)] {
        if results.wants(name) {
            results.add(name, test(folder));
        }
    }
}

/// `overlay-trace lab …`: its exit code, and what it said.
fn lab(arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let Output { status, stderr, .. } =
        Command::new(program()?).arg("lab").args(arguments).output().context("cannot run overlay-trace")?;
    Ok((status.code(), String::from_utf8_lossy(&stderr).into_owned()))
}

fn succeeds(arguments: &[&str]) -> Result<()> {
    let (code, said) = lab(arguments)?;
    ensure!(code == Some(0), "`lab {}` ended with {code:?}: {said}", arguments.join(" "));
    Ok(())
}

fn fails(arguments: &[&str], sentence: &str) -> Result<()> {
    let (code, said) = lab(arguments)?;
    ensure!(
        code == Some(1) && said.contains(sentence),
        "`lab {}` ended with {code:?}: {said}",
        arguments.join(" ")
    );
    Ok(())
}

/// Network namespaces of somebody else, removed when this is dropped.
struct Foreign(&'static [&'static str]);

impl Foreign {
    fn add(names: &'static [&'static str]) -> Result<Foreign> {
        let foreign = Foreign(names);
        for name in names {
            if let Some(lack) = machine::run(&format!("ip netns add {name}"))? {
                anyhow::bail!(lack);
            }
        }
        Ok(foreign)
    }

    fn are_there(&self) -> Result<()> {
        let there = machine::namespaces("ot-");
        for name in self.0 {
            ensure!(there.contains(*name), "the namespace {name} of somebody else was deleted");
        }
        Ok(())
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        for name in self.0 {
            let _ = Command::new("ip").args(["netns", "delete", name]).output();
        }
    }
}

/// Their names begin as those of the lab, or are the same.
fn foreign(_: &Path) -> Outcome {
    let foreign = Foreign::add(&["ot-host-precious", "ot-host-ipip-node1"])?;
    succeeds(&["run", "host", "--", "true"])?;
    foreign.are_there()?;
    fails(&["down", "host"], "does not stand")?;
    foreign.are_there()?;
    let same = Foreign::add(&["ot-host-node1"])?;
    fails(&["run", "host", "--", "true"], "that no lab has made")?;
    fails(&["down", "host"], "does not stand")?;
    same.are_there()?;
    Ok(Verdict::Passed)
}

/// A lab that was kept is replaced only if that is asked for; what took the name of its namespace stays.
fn kept(_: &Path) -> Outcome {
    succeeds(&["run", "host", "--keep", "--", "true"])?;
    let inode =
        || fs::metadata("/run/netns/ot-host-node1").map(|file| std::os::unix::fs::MetadataExt::ino(&file));
    let first = inode()?;
    fails(&["run", "host", "--", "true"], "--replace")?;
    ensure!(inode()? == first, "the kept lab was built anew");
    succeeds(&["run", "host", "--keep", "--replace", "--", "true"])?;
    succeeds(&["down", "host"])?;
    fails(&["down", "host"], "does not stand")?;
    succeeds(&["run", "host", "--keep", "--", "true"])?;
    Command::new("ip").args(["netns", "delete", "ot-host-node1"]).status()?;
    let taken = Foreign::add(&["ot-host-node1"])?;
    fails(&["down", "host"], "no longer the lab's")?;
    taken.are_there()?;
    ensure!(!machine::namespaces("ot-host-").contains("ot-host-node2"), "the lab's own namespace is left");
    Ok(Verdict::Passed)
}

/// Links where labs had their temporary files: what they lead to is not written, and no program is taken from there.
fn planted(folder: &Path) -> Outcome {
    let system = System::look()?;
    let precious = folder.join("precious");
    fs::create_dir_all(&precious)?;
    fs::write(precious.join("bird.conf"), "precious")?;
    let links = ["node1-bird0", "node2-bird1"].map(|name| format!("/tmp/ot-calico-bgp-{name}"));
    let links = links.into_iter().chain(["pod1", "pod2"].map(|pod| format!("/tmp/ot-cni-bridge-{pod}-cni")));
    let links: Vec<String> = links.collect();
    for link in &links {
        let _ = fs::remove_file(link);
        symlink(&precious, link)?;
    }
    let mut ran = Vec::new();
    let outcome = ["calico-bgp", "cni-bridge"].iter().try_for_each(|name| -> Result<()> {
        let lab = dataplanes::find(name).context("the lab is missing")?;
        if system.lack(lab, &Knobs::default())?.is_none() {
            ran.push(*name);
            succeeds(&["run", name, "--", "true"])?;
        }
        Ok(())
    });
    let are_left = links.iter().all(|link| fs::read_link(link).is_ok());
    links.iter().for_each(|link| drop(fs::remove_file(link)));
    outcome?;
    ensure!(are_left, "the links were removed");
    let content: Vec<_> = fs::read_dir(&precious)?.flatten().map(|entry| entry.file_name()).collect();
    ensure!(
        content == ["bird.conf"] && fs::read_to_string(precious.join("bird.conf"))? == "precious",
        "the folder behind the links has {content:?}"
    );
    if ran.is_empty() {
        return Ok(Verdict::Skipped("neither calico-bgp nor cni-bridge can be built here".to_owned()));
    }
    Ok(Verdict::With(ran.join(", ")))
}
