//! What has passed at a commit, so that a long run can be taken up again where it stopped.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result};

use crate::{
    host,
    tally::{self, Tally},
};

/// The outputs of pieces that have passed, in `target/passed/COMMIT`, a file each.
pub struct Remembered {
    /// `None`: nothing is remembered.
    folder: Option<PathBuf>,
}

impl Remembered {
    /// Nothing is remembered.
    pub fn nothing() -> Self {
        Self { folder: None }
    }

    /// What is remembered of the commit that the work tree is at. Of a work tree with changes nothing is: it is not
    /// known what has passed there.
    pub fn of_this_commit() -> Self {
        let git =
            |words: &[&str]| host::output(Command::new("git").args(words).current_dir(host::workspace()));
        let commit = || -> Result<Option<String>> {
            let changed = git(&["status", "--porcelain"])?;
            Ok(if changed.is_empty() { Some(git(&["rev-parse", "HEAD"])?) } else { None })
        };
        match commit() {
            Ok(Some(commit)) => Self { folder: Some(host::target().join("passed").join(commit)) },
            Ok(None) => {
                host::progress(
                    "the work tree has changes that are not committed: what passes is not remembered",
                );
                Self::nothing()
            }
            Err(error) => {
                host::progress(&format!("what passes is not remembered: {error:#}"));
                Self::nothing()
            }
        }
    }

    /// What the piece of this name has counted and said: before, if it passed then, or now.
    ///
    /// # Errors
    ///
    /// Those of the piece; or what it said cannot be written down.
    pub fn or_run(
        &self,
        name: &str,
        run: impl FnOnce() -> Result<(Tally, String)>,
    ) -> Result<(Tally, String)> {
        let file = self.folder.as_ref().map(|folder| folder.join(file_name(name)));
        let before = file.as_ref().and_then(|file| fs::read_to_string(file).ok());
        if let Some((tally, output)) = before.and_then(|output| Some((tally::last_line(&output)?, output))) {
            host::progress(&format!("{name}: passed before at this commit"));
            return Ok((tally, output));
        }
        let (tally, output) = run()?;
        if let Some(file) = file.filter(|_| tally.is_good()) {
            host::write_if_changed(&file, output.as_bytes())
                .context("what has passed cannot be remembered")?;
        }
        Ok((tally, output))
    }
}

/// Letters, digits and dots of a name, with dashes for what is between them.
fn file_name(name: &str) -> String {
    let words = name.split(|sign: char| !sign.is_ascii_alphanumeric() && sign != '.');
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passed_is_not_run_again_and_what_failed_is() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let remembered = Remembered { folder: Some(folder.path().to_path_buf()) };
        let run = |name: &str, output: &str| {
            let tally = tally::last_line(output).context("no last line")?;
            remembered.or_run(name, || Ok((tally, output.to_owned())))
        };
        run("NICs, 6.12: virtio", "all well\n3 passed, 0 failed, 0 skipped\n")?;
        let again = run("NICs, 6.12: virtio", "0 passed, 9 failed, 0 skipped\n")?;
        assert_eq!((again.0.passed, again.1.lines().next()), (3, Some("all well")));
        run("NICs, 6.12: igb", "0 passed, 1 failed, 0 skipped\n")?;
        assert_eq!(run("NICs, 6.12: igb", "5 passed, 0 failed, 0 skipped\n")?.0.passed, 5);
        Ok(())
    }

    #[test]
    fn names_of_pieces_are_names_of_files() {
        assert_eq!(file_name("NICs, 6.12: virtio,queues=4"), "NICs-6.12-virtio-queues-4");
    }
}
