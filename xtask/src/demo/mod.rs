//! `cargo xtask demo`: the same traffic between two pods over routes alone and over a VXLAN overlay, traced,
//! and what the overlay adds.

mod place;
mod summary;

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result};
use clap::Args;

use self::place::Place;
use crate::{build_ebpf, host};

/// The lab without an overlay, with which the other one is compared.
const FIRST: &str = "flannel-host-gw";
/// The lab with an overlay.
const SECOND: &str = "flannel-vxlan";
/// What is sent through both: requests and answers over UDP, then over TCP.
const TRAFFIC: &[&str] = &["--traffic", "udp-rr", "tcp-rr", "--rate", "1000", "--duration", "2s"];
const STEPS: usize = 4;

/// `cargo xtask demo`
#[derive(Args)]
pub struct Demo {
    /// Use a virtual machine with this kernel, whatever the machine's own allows: 6.1, 6.12 …
    #[arg(long)]
    kernel: Option<String>,
}

/// A run of the demonstration.
struct Show {
    start: Instant,
    /// The `overlay-trace` program.
    program: PathBuf,
    /// Where everything is written.
    folder: PathBuf,
}

impl Demo {
    /// Builds, records, prints, draws.
    ///
    /// # Errors
    ///
    /// Something cannot be built, the labs do not run, or a file cannot be written.
    pub fn run(&self) -> Result<()> {
        let start = Instant::now();
        let folder = host::target().join("demo");
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let step = |number: usize, what: &str| {
            host::progress(&format!("[{number}/{STEPS}, {} s] {what}", start.elapsed().as_secs()));
        };
        step(1, "building the kernel programs and overlay-trace (minutes the first time)");
        build_ebpf::build()?;
        let program = host::build_binaries()?.join("overlay-trace");
        let show = Show { start, program, folder };

        step(2, "choosing a kernel");
        let place = Place::choose(&show.program, [FIRST, SECOND], self.kernel.as_deref())?;
        host::progress(&place.reason());

        step(3, &format!("recording UDP and TCP between two pods, over {FIRST}, then over {SECOND}"));
        place.run(&[show.recording_of(FIRST), show.recording_of(SECOND)], &show.folder)?;

        step(4, "reporting");
        show.report(&place)
    }
}

impl Show {
    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn recording(&self, lab: &str) -> PathBuf {
        self.file(&format!("{lab}.otr"))
    }

    /// The command that builds a lab, sends the traffic, records it, and takes the lab down.
    fn recording_of(&self, lab: &str) -> Vec<OsString> {
        let mut words = vec![self.program.clone().into_os_string()];
        words.extend(["lab", "run", lab, "--probes", "full", "--force", "--record"].map(OsString::from));
        words.push(self.recording(lab).into_os_string());
        words.extend(TRAFFIC.iter().map(OsString::from));
        words
    }

    fn report(&self, place: &Place) -> Result<()> {
        for lab in [FIRST, SECOND] {
            let table = self.output(&["report"], &[lab], &format!("{lab}.txt"))?;
            println!("\n======== {lab}: where its packets spent their time ========\n\n{table}");
            self.output(&["report", "--format", "svg"], &[lab], &format!("{lab}.svg"))?;
        }
        let both = [FIRST, SECOND];
        let difference = self.output(&["diff"], &both, "difference.txt")?;
        println!("\n======== What {SECOND} adds to {FIRST} ========\n\n{difference}");
        self.output(&["diff", "--format", "svg"], &both, "difference.svg")?;
        let numbers =
            |lab: &str| self.output(&["report", "--format", "json"], &[lab], &format!("{lab}.json"));
        let summary = summary::of((FIRST, &numbers(FIRST)?), (SECOND, &numbers(SECOND)?))?;
        println!("\n======== In short ========\n\n{summary}");
        println!("{}\n", place.about_times());
        self.name_files();
        let seconds = self.start.elapsed().as_secs();
        println!("\nDone in {} min {} s.", seconds / 60, seconds % 60);
        Ok(())
    }

    /// Runs the program on recordings, writes what it prints to a file, and gives it.
    fn output(&self, command: &[&str], labs: &[&str], file: &str) -> Result<String> {
        let mut program = Command::new(&self.program);
        program.args(command).args(labs.iter().map(|lab| self.recording(lab)));
        let text = host::output(&mut program)? + "\n";
        let path = self.file(file);
        fs::write(&path, &text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(text)
    }

    fn name_files(&self) {
        println!("Files in {}:", relative(&self.folder).display());
        let files = [
            (format!("{SECOND}.svg"), "flame graph of the way over VXLAN; open it in a browser"),
            (format!("{FIRST}.svg"), "flame graph of the way without an overlay"),
            ("difference.svg".to_owned(), "flame graph of the difference, red where VXLAN is slower"),
            (format!("{FIRST}.txt, {SECOND}.txt, difference.txt"), "the tables above"),
            (format!("{FIRST}.json, {SECOND}.json"), "the same for programs"),
            (format!("{FIRST}.otr, {SECOND}.otr"), "the recordings; `overlay-trace report FILE` reads them"),
        ];
        for (name, about) in files {
            println!("  {name}\n      {about}");
        }
    }
}

/// The path as seen from the current folder, if it lies within.
fn relative(path: &Path) -> PathBuf {
    let current = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(current).unwrap_or(path).to_path_buf()
}
