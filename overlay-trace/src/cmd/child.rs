//! The command that runs while a recording is made.

use std::{
    ffi::OsString,
    process::{ExitCode, ExitStatus},
    time::Duration,
};

use anyhow::{Context, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use overlay_trace_probe::sys::limits::Limits;
use tokio::{
    process::{Child, Command},
    time::timeout,
};

/// How long a command may take to end after a signal that the terminal has sent it too.
const AFTER_TERMINAL: Duration = Duration::from_secs(1);
/// How long a command may take to end after it was sent a signal, before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// A running command.
pub(super) struct Running(Child);

impl Running {
    /// Checks that the command can be found, before anything is attached or written.
    pub fn check(command: &[OsString]) -> Result<()> {
        let Some(program) = command.first() else { return Ok(()) };
        which::which(program).map(drop).map_err(|_| {
            let program = program.display();
            anyhow::anyhow!("cannot start {program}: no such program, or it is not executable")
        })
    }

    /// Starts the command, if there is one, with the limits that this program was started with, and with its privileges.
    pub fn start(command: &[OsString], limits: Limits) -> Result<Option<Running>> {
        let Some((program, arguments)) = command.split_first() else { return Ok(None) };
        let mut child = Command::new(program);
        child.args(arguments);
        // SAFETY: the closure makes one system call with numbers that it owns, which is allowed between fork and exec.
        unsafe { child.pre_exec(move || Ok(limits.set()?)) };
        let child = child.spawn().with_context(|| {
            format!("cannot start {}: check that it is an executable file", program.display())
        })?;
        Ok(Some(Running(child)))
    }

    /// Waits for the end of the command; forever if there is none.
    pub async fn wait(running: &mut Option<Running>) -> Result<ExitStatus> {
        match running {
            Some(Running(child)) => Ok(child.wait().await?),
            None => std::future::pending().await,
        }
    }

    /// Ends the command by `signal`. The terminal sends SIGINT, SIGQUIT and SIGHUP to the command as well as to this
    /// program, so the command is given a moment before it is sent one.
    ///
    /// # Errors
    ///
    /// The kernel's, where the command cannot be waited for.
    pub async fn end(self, signal: Signal) -> Result<ExitStatus> {
        let Running(mut child) = self;
        if signal != Signal::SIGTERM
            && let Ok(status) = timeout(AFTER_TERMINAL, child.wait()).await
        {
            return Ok(status?);
        }
        if let Some(id) = child.id() {
            let _ = kill(Pid::from_raw(id as i32), signal);
        }
        if let Ok(status) = timeout(GRACE, child.wait()).await {
            return Ok(status?);
        }
        let _ = child.start_kill();
        Ok(child.wait().await?)
    }
}

/// The command's exit code; for a command that a signal has ended, 128 + the signal's number, as in shells.
pub(super) fn exit_code(status: ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(code.unwrap_or(1) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_is_not_there_is_named() {
        let missing = ["/nonexistent/program".into()];
        assert!(Running::check(&missing).unwrap_err().to_string().contains("/nonexistent/program"));
        assert!(Running::check(&["sh".into()]).is_ok() && Running::check(&[]).is_ok());
    }
}
