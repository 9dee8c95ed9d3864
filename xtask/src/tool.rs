//! Programs that come from crates.io: from PATH, from the cache folder, or built into it, once.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};

use crate::host;

/// A program, and the crate that it comes from.
pub struct Tool {
    pub name: &'static str,
    /// Its first numbers: `0.10` is each 0.10.
    pub version: &'static str,
    /// The only features that are needed; `None` for the usual ones.
    pub features: Option<&'static str>,
}

impl Tool {
    /// Where it is.
    ///
    /// # Errors
    ///
    /// It is not there, and cannot be built.
    pub fn find(&self) -> Result<PathBuf> {
        let Tool { name, version, features } = self;
        let tools = host::cache()?.join("tools");
        let ours = tools.join("bin").join(name);
        if let Some(found) = host::find_program(name).into_iter().chain([ours.clone()]).find(|at| self.is(at))
        {
            return Ok(found);
        }
        host::progress(&format!("building {name} {version} (once, a minute or three)"));
        let mut install = host::command("cargo");
        install
            .args(["install", name, "--locked", "--version", &format!("^{version}"), "--root"])
            .arg(&tools);
        if let Some(features) = features {
            install.args(["--no-default-features", "--features", features]);
        }
        host::run(install.env("CARGO_TARGET_DIR", tools.join("build"))).with_context(|| {
            format!("{name} cannot be built here: run `cargo install {name} --locked --version ^{version}`")
        })?;
        // The intermediate files are of no more use, and their absence does no harm.
        let _ = fs::remove_dir_all(tools.join("build"));
        Ok(ours)
    }

    fn is(&self, program: &PathBuf) -> bool {
        let said = host::output(host::command(program).arg("--version")).unwrap_or_default();
        said.split_whitespace()
            .any(|word| word.trim_start_matches('v').starts_with(&format!("{}.", self.version)))
    }
}
