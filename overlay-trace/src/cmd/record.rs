//! `record`: attaches the probes and writes a recording until the command, the time or a signal ends it.

use std::{
    path::PathBuf,
    process::{ExitCode, ExitStatus},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{self as sys, SIGINT, SIGTERM};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
    time::{Instant, interval, sleep_until},
};

use super::{
    child::{self, Running},
    live::{Live, announce, report},
    probes::Probes,
};
use overlay_trace_probe::{FilterOptions, Session, SessionOptions, TailSamplingOptions, load::Sizes};

#[derive(clap::Args)]
pub struct Record {
    /// Recording to write
    #[arg(short, long, default_value = "overlay-trace.otr", value_name = "FILE")]
    output: PathBuf,
    /// Overwrite the recording if it exists
    #[arg(long)]
    force: bool,
    /// How long to record, such as 30s or 2m; the default is until Ctrl-C, or the end of the command
    #[arg(short, long, value_name = "DURATION", value_parser = duration)]
    duration: Option<Duration>,
    /// Probe set to attach
    #[arg(long, value_enum, default_value = "auto", value_name = "SET")]
    probes: Probes,
    /// Use kprobes for functions even where the kernel has fentry, which is cheaper
    #[arg(long)]
    kprobes: bool,
    /// Size of the packet table: how many packets can be in flight at once (a power of two)
    #[arg(long, default_value_t = Sizes::default().states, value_parser = power_of_two, value_name = "N")]
    states: u32,
    /// Size of the ring buffer in bytes (a power of two)
    #[arg(long, default_value_t = Sizes::default().ring_bytes, value_parser = power_of_two, value_name = "BYTES")]
    buffer: u32,
    #[command(flatten)]
    tail_sampling: TailSamplingOptions,
    #[command(flatten)]
    filter: FilterOptions,
    /// Command to run; the recording ends when it exits
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

fn power_of_two(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(number) if number.is_power_of_two() && number >= 4 => Ok(number),
        _ => Err("expected a power of two, at least 4".to_owned()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("expected a time such as 30s, 1m30s or 500ms".to_owned()),
    }
}

/// The signals that end a recording.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn any(&mut self) -> sys::Signal {
        tokio::select! {
            _ = self.interrupt.recv() => SIGINT,
            _ = self.terminate.recv() => SIGTERM,
        }
    }
}

/// Why a recording ends.
enum End {
    Command(ExitStatus),
    Signal(sys::Signal),
    Time,
    /// The recording cannot be written to any more.
    Failure,
}

impl Record {
    pub fn run(self) -> Result<ExitCode> {
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(self.record())
    }

    async fn record(self) -> Result<ExitCode> {
        let mut signals = Signals::new()?;
        overlay_trace_format::check_output(&self.output, self.force)?;
        Running::check(&self.command)?;
        let session = self.start(&mut signals).await?;
        announce(&session);
        let child = match Running::start(&self.command) {
            Err(error) => {
                drop(session);
                // The recording is empty.
                let _ = std::fs::remove_file(&self.output);
                return Err(error);
            }
            Ok(child) => child,
        };
        let (end, child) = self.watch(&session, child, &mut signals).await?;
        if let Some(child) = child {
            let signal = if let End::Signal(signal) = end { signal } else { SIGTERM };
            child.end(signal).await;
        }
        report(&session.stop()?, &self.output);
        Ok(match end {
            End::Command(status) => child::exit_code(status),
            _ => ExitCode::SUCCESS,
        })
    }

    /// Attaches the probes on a thread of its own: that takes seconds, in which a signal ends the program. The probes
    /// are detached with it.
    async fn start(&self, signals: &mut Signals) -> Result<Session> {
        let options = SessionOptions {
            set: self.probes.set(),
            kprobes_only: self.kprobes,
            baseline: None,
            filter: self.filter.clone(),
            output: self.output.clone(),
            force: self.force,
            sampling: self.tail_sampling.sampling(),
            sizes: Sizes { states: self.states, ring_bytes: self.buffer },
        };
        let (send, session) = oneshot::channel();
        std::thread::Builder::new().name("attach".into()).spawn(move || {
            let _ = send.send(Session::start(options));
        })?;
        tokio::select! {
            session = session => Ok(session.context("the thread that attaches the probes has ended")??),
            _ = signals.any() => {
                bail!("interrupted while attaching the probes: nothing was recorded")
            }
        }
    }

    /// Waits for the end of the recording, and shows its progress.
    async fn watch(
        &self,
        session: &Session,
        mut child: Option<Running>,
        signals: &mut Signals,
    ) -> Result<(End, Option<Running>)> {
        let begin = Instant::now();
        let limit = self.duration.map(|duration| begin + duration);
        let mut tick = interval(Duration::from_secs(1));
        let mut live = Live::new();
        let end = loop {
            tokio::select! {
                _ = tick.tick() => {
                    live.print_causes(&session.progress(), begin.elapsed());
                    live.show(&session.progress(), begin.elapsed());
                    if session.failed() {
                        break End::Failure;
                    }
                }
                signal = signals.any() => break End::Signal(signal),
                () = sleep_until(limit.unwrap_or(begin)), if limit.is_some() => break End::Time,
                status = Running::wait(&mut child), if child.is_some() => {
                    child = None;
                    break End::Command(status?);
                }
            }
        };
        live.clear();
        Ok((end, child))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_time_and_not_zero() {
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert!(["", "0s", "garbage", "-1s", "5"].iter().all(|text| duration(text).is_err()));
    }

    #[test]
    fn sizes_are_powers_of_two() {
        assert_eq!(power_of_two("4096"), Ok(4096));
        assert!(["0", "3", "1", "x"].iter().all(|text| power_of_two(text).is_err()));
    }
}
