//! Where the demonstration runs: under the machine's own kernel, or in a virtual machine.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    host, packages,
    vm::{self, VmOptions},
};

/// The kernel that is booted where the machine's own does not do.
const KERNEL: &str = "6.12";

/// The kernel under which the labs run.
pub enum Place {
    /// The machine's own.
    Own,
    /// Another one, and why.
    Guest { kernel: String, why: String },
}

impl Place {
    /// The machine's own kernel if it allows the full probe set and the labs and no other one is asked for.
    ///
    /// # Errors
    ///
    /// A package is missing and cannot be installed, or the program cannot be run.
    pub fn choose(program: &Path, labs: [&str; 2], wanted: Option<&str>) -> Result<Self> {
        let guest = |kernel: &str, why| Ok(Self::Guest { kernel: kernel.to_owned(), why });
        if let Some(kernel) = wanted {
            return guest(kernel, "--kernel asks for it".to_owned());
        }
        if !host::is_root() {
            return guest(KERNEL, "only root may trace this machine's own".to_owned());
        }
        packages::require(packages::LAB)?;
        let doctor = host::output(Command::new(program).arg("doctor"));
        let doctor = doctor.unwrap_or_else(|error| format!("{error:#}"));
        if let Some(why) = lacks_full(&doctor) {
            return guest(KERNEL, why);
        }
        let list = host::output(Command::new(program).args(["lab", "list"]))?;
        if let Some(why) = labs.iter().find_map(|lab| lacks_lab(&list, lab)) {
            return guest(KERNEL, why);
        }
        Ok(Self::Own)
    }

    /// Which kernel it is, and why, in a sentence.
    pub fn reason(&self) -> String {
        match self {
            Self::Own => "this machine's own kernel allows the full probe set: using it".to_owned(),
            Self::Guest { kernel, why } => {
                format!("booting Debian's kernel {kernel} in a virtual machine, because {why}")
            }
        }
    }

    /// What the times of the recordings mean.
    pub fn about_times(&self) -> &'static str {
        if self.counts_instructions() {
            "The virtual machine's processor is emulated, and its clock counts instructions: 1 ns is one\n\
             instruction, the same in every run. Shares and ratios tell; microseconds are not this machine's."
        } else {
            "These are times of this machine's processor."
        }
    }

    /// Without a processor that runs the guest itself, only the count of instructions is worth comparing:
    /// ordinary time would show how busy this machine is.
    fn counts_instructions(&self) -> bool {
        matches!(self, Self::Guest { .. }) && !vm::has_kvm()
    }

    /// Runs commands, one after the other, that write to `folder`.
    ///
    /// # Errors
    ///
    /// One of them fails, or the virtual machine does.
    pub fn run(&self, commands: &[Vec<OsString>], folder: &Path) -> Result<()> {
        let Self::Guest { kernel, .. } = self else {
            return commands.iter().try_for_each(|words| {
                let (program, arguments) = words.split_first().context("a command needs a program")?;
                host::run(Command::new(program).args(arguments))
            });
        };
        let options = VmOptions {
            icount: self.counts_instructions(),
            share: Some(PathBuf::from(folder)),
            ..VmOptions::new(kernel)
        };
        let script: Result<Vec<String>> = commands.iter().map(|words| line(words)).collect();
        let command = ["sh", "-c", &script?.join(" && ")].map(OsString::from);
        let finished = vm::run(&options, &command)?;
        if !finished.status.success() {
            bail!("the labs did not run in the virtual machine ({})", finished.status);
        }
        Ok(())
    }
}

/// A command as a line of the shell.
fn line(words: &[OsString]) -> Result<String> {
    let words: Option<Vec<&str>> = words.iter().map(|word| word.to_str()).collect();
    Ok(shlex::try_join(words.context("the path of the workspace must be valid UTF-8")?)?)
}

/// Why the full probe set cannot be had, by what `overlay-trace doctor` says; nothing if it can.
fn lacks_full(doctor: &str) -> Option<String> {
    let value = |name: &str| doctor.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let sets = value("probe sets").unwrap_or_default();
    if sets.split(", ").any(|set| set == "full") {
        return None;
    }
    let reasons: Vec<String> = ["kprobes", "fentry", "privileges", "type information"]
        .iter()
        .filter_map(|name| Some((name, value(name)?)))
        .filter(|(_, value)| !["yes", "sufficient"].contains(value))
        .map(|(name, value)| format!("{name}: {}", value.trim_end_matches([':', ' '])))
        .collect();
    let why = if reasons.is_empty() { doctor.trim().to_owned() } else { reasons.join("; ") };
    Some(format!("this machine's own does not allow the full probe set ({why})"))
}

/// Why a lab cannot be built, by what `overlay-trace lab list` says; nothing if it can.
fn lacks_lab(list: &str, lab: &str) -> Option<String> {
    let mut lines = list.lines().skip_while(|line| line.split_whitespace().next() != Some(lab)).skip(1);
    let reason = lines.next()?.trim().strip_prefix("does not run here: ")?;
    Some(format!("the lab {lab} cannot be built under this machine's own: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HARDENED: &str = "privileges        sufficient\n\
        fentry            no: the kernel refuses the program: \n\
        kprobes           no: cannot attach\n\
        probe sets        device\n";

    #[test]
    fn a_kernel_without_the_full_set_is_named_with_its_reasons() {
        let why = lacks_full(HARDENED).unwrap_or_default();
        assert!(
            why.contains("kprobes: no: cannot attach; fentry: no: the kernel refuses the program)"),
            "{why}"
        );
        assert_eq!(lacks_full("probe sets        full, light, device\n"), None);
        assert!(lacks_full("").is_some());
    }

    #[test]
    fn a_lab_that_cannot_be_built_is_named() {
        let list = "host    No container network.\n        runs here\n\
                    tunnel  A tunnel.\n        does not run here: no device\n";
        assert_eq!(lacks_lab(list, "host"), None);
        assert!(lacks_lab(list, "tunnel").is_some_and(|why| why.ends_with(": no device")));
    }
}
