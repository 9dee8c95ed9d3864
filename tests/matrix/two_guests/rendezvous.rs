//! How the machines of the test talk: by files in a folder that all of them see.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

const POLL: Duration = Duration::from_millis(50);

/// The folder.
#[derive(Clone)]
pub struct Rendezvous {
    folder: PathBuf,
}

impl Rendezvous {
    pub fn at(folder: &Path) -> Rendezvous {
        Rendezvous { folder: folder.to_path_buf() }
    }

    /// The path of a file in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Tells the others something; they see all of it or nothing.
    pub fn tell(&self, what: &str, text: &str) -> Result<()> {
        let (whole, part) = (self.file(what), self.file(&format!("{what}.part")));
        fs::write(&part, text)
            .and_then(|()| fs::rename(&part, &whole))
            .with_context(|| format!("cannot write {}", whole.display()))
    }

    /// Waits until somebody has told this, and gives the text. `while_waiting` is called again and again, and its error ends
    /// the wait.
    pub fn wait(
        &self,
        what: &str,
        limit: Duration,
        mut while_waiting: impl FnMut() -> Result<()>,
    ) -> Result<String> {
        let begin = Instant::now();
        loop {
            if let Ok(text) = fs::read_to_string(self.file(what)) {
                return Ok(text);
            }
            while_waiting()?;
            if begin.elapsed() > limit {
                bail!("after {} s there is no word of `{what}`", limit.as_secs());
            }
            thread::sleep(POLL);
        }
    }
}
