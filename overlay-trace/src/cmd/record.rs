//! `record`: attaches the probes and writes a recording until the command, the time or a signal ends it.

use std::{
    ffi::OsString,
    path::PathBuf,
    process::{ExitCode, ExitStatus},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{self as sys, SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
    time::{Instant, interval, interval_at, sleep_until},
};

use super::{
    child::{self, Running},
    live::{self, Attaching, Live, announce, report},
    probes::Probes,
    remote::{self, Machines, On},
    unprivileged,
};
use overlay_trace_lab::traffic::is_hangup_ignored;
use overlay_trace_probe::{
    FilterOptions, SamplingOptions, Session, SessionOptions, StartGate, StartProgress,
    load::Sizes,
    sys::{
        capabilities::{self, CAP_KILL},
        limits::Limits,
    },
    tc,
};

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
    /// Attach the set tc by filters in the qdisc clsact even where the kernel has tcx
    #[arg(long)]
    clsact: bool,
    /// Print what the kernel programs say of oddities, if they were built with a log (`cargo xtask build-ebpf
    /// --kernel-log`)
    #[arg(long)]
    kernel_log: bool,
    /// Size of the packet table: how many packets can be in flight at once (a power of two)
    #[arg(long, default_value_t = Sizes::default().states, value_parser = power_of_two, value_name = "N")]
    states: u32,
    /// Size of the ring buffer in bytes (a power of two)
    #[arg(long, default_value_t = Sizes::default().ring_bytes, value_parser = power_of_two, value_name = "BYTES")]
    buffer: u32,
    #[command(flatten)]
    sampling: SamplingOptions,
    #[command(flatten)]
    filter: FilterOptions,
    /// Write the arguments of COMMAND to the recording; without it only its name, since they may hold passwords
    #[arg(long)]
    keep_command_line: bool,
    /// Let COMMAND run on where the recording cannot be written any more, instead of ending it
    #[arg(long, requires = "command")]
    keep_going: bool,
    #[command(flatten)]
    on: On,
    /// For --on of another machine: say on the standard output when the recording has begun, record until the standard
    /// input ends, and write the recording to the standard output
    #[arg(long, hide = true, conflicts_with_all = ["command", "hosts", "output"])]
    relay: bool,
    /// Command to run; the recording ends when it exits
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// The longest time to record.
const DURATION_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

fn power_of_two(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(number) if number.is_power_of_two() && number >= 4 => Ok(number),
        _ => Err("expected a power of two, at least 4".to_owned()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration > DURATION_MAX => Err("expected at most a year".to_owned()),
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ if text.parse::<u32>().is_ok_and(|number| number > 0) => {
            Err(format!("a time needs its unit; did you mean {text}s?"))
        }
        _ => Err("expected a time such as 30s, 1m30s or 500ms".to_owned()),
    }
}

/// The signals that end a recording.
struct Signals {
    interrupt: Signal,
    quit: Signal,
    terminate: Signal,
    /// `None` under `nohup`, which has it ignored.
    hangup: Option<Signal>,
}

impl Signals {
    fn new() -> Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: if is_hangup_ignored() { None } else { Some(signal(SignalKind::hangup())?) },
        })
    }

    async fn any(&mut self) -> sys::Signal {
        let hangup = async {
            match &mut self.hangup {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => SIGINT,
            _ = self.quit.recv() => SIGQUIT,
            _ = self.terminate.recv() => SIGTERM,
            _ = hangup => SIGHUP,
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

    async fn record(mut self) -> Result<ExitCode> {
        let mut signals = Signals::new()?;
        if !self.on.hosts.is_empty() {
            return self.on_machines(signals).await;
        }
        // Deleted when this returns.
        let relayed =
            if self.relay { Some(tempfile::tempdir().context("no place for the recording")?) } else { None };
        if let Some(folder) = &relayed {
            self.output = folder.path().join("relay.otr");
        }
        overlay_trace_format::check_output(&self.output, self.force)?;
        Running::check(&self.command)?;
        let limits = Limits::now();
        let session = self.start(&mut signals).await?;
        announce(&session);
        let child = match Running::start(&self.command, limits) {
            Err(error) => {
                session.discard();
                return Err(error);
            }
            Ok(child) => child,
        };
        // Nothing is started or attached by this thread from here on: the command may have become another user.
        capabilities::drop_in_thread("main", &[CAP_KILL]);
        if self.relay {
            remote::say_ready()?;
        }
        let (end, child) = self.watch(&session, child, &mut signals).await?;
        let code = end_command(end, child).await?;
        let summary = session.stop()?;
        report(&summary, &self.output);
        if self.relay {
            remote::send(&self.output)?;
        }
        let is_doubtful = code == ExitCode::SUCCESS && summary.counters.distrust().is_some();
        Ok(if is_doubtful { ExitCode::FAILURE } else { code })
    }

    /// Records on other machines, while the command runs here.
    async fn on_machines(self, mut signals: Signals) -> Result<ExitCode> {
        Running::check(&self.command)?;
        let limits = Limits::now();
        let machines = tokio::select! {
            machines = Machines::start(&self.on, &self.output, self.force) => machines?,
            _ = signals.any() => bail!("interrupted while the recorders began: nothing was recorded"),
        };
        let mut child = Running::start(&self.command, limits)?;
        let begin = Instant::now();
        let limit = self.duration.map(|duration| begin + duration);
        let end = tokio::select! {
            signal = signals.any() => End::Signal(signal),
            () = sleep_until(limit.unwrap_or(begin)), if limit.is_some() => End::Time,
            status = Running::wait(&mut child), if child.is_some() => {
                child = None;
                End::Command(status?)
            }
        };
        let code = end_command(end, child).await?;
        // What comes from other machines is read without privileges, as by all commands that read recordings.
        unprivileged::begin()?;
        let is_complete = machines.finish(&self.output, self.force).await;
        Ok(if code == ExitCode::SUCCESS && !is_complete { ExitCode::FAILURE } else { code })
    }

    /// Attaches the probes on a thread of its own: that takes seconds, in which a signal ends the program. The probes
    /// are detached with it.
    async fn start(&self, signals: &mut Signals) -> Result<Session> {
        let (gate, progress) = (StartGate::default(), StartProgress::default());
        let options = SessionOptions {
            set: self.probes.set(),
            kprobes_only: self.kprobes,
            clsact_only: self.clsact,
            kernel_log: self.kernel_log,
            baseline: None,
            filter: self.filter.clone(),
            output: self.output.clone(),
            force: self.force,
            ring: None,
            keep_command_line: self.keep_command_line,
            sampling: self.sampling.tail(),
            sample: self.sampling.by_packet(),
            sizes: Sizes { states: self.states, ring_bytes: self.buffer },
            gate: gate.clone(),
            progress: progress.clone(),
        };
        let (send, mut session) = oneshot::channel();
        let attach = std::thread::Builder::new().name("attach".into()).spawn(move || {
            // A session that nobody waits for any more is dropped, and so detached.
            let _ = send.send(Session::start(options));
        })?;
        let mut attaching = Attaching::new(progress);
        let mut tick = interval_at(Instant::now() + Attaching::INTERVAL, Attaching::INTERVAL);
        loop {
            tokio::select! {
                session = &mut session => {
                    attaching.clear();
                    return Ok(session.context("the thread that attaches the probes has ended")??);
                }
                _ = tick.tick() => attaching.show(),
                _ = signals.any() => break,
            }
        }
        attaching.clear();
        if !gate.close() {
            // The file is there, or will be in a moment.
            if let Ok(Ok(session)) = session.await {
                session.discard();
            }
        } else if tc::has_note() {
            // Filters do not go with the process.
            let _ = attach.join();
        }
        bail!("interrupted while attaching the probes: nothing was recorded")
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
        let mut has_failed = false;
        let mut input = self.relay.then(remote::end_of_input);
        let end = loop {
            tokio::select! {
                () = ended(&mut input), if self.relay => break End::Time,
                _ = tick.tick() => {
                    if has_failed {
                        continue;
                    }
                    if session.failed() {
                        has_failed = true;
                        live.clear();
                        live::failed(child.is_some(), self.keep_going);
                        if child.is_none() || !self.keep_going {
                            break End::Failure;
                        }
                        continue;
                    }
                    live.print_causes(&session.progress(), begin.elapsed());
                    live.show(&session.progress(), begin.elapsed());
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

/// Waits until the standard input has ended.
async fn ended(input: &mut Option<oneshot::Receiver<()>>) {
    if let Some(input) = input {
        let _ = input.await;
    }
}

/// Ends a command that still runs, and gives the exit code. A command's own end decides it, also where a signal has ended
/// the recording and the command with it; whoever gives a time has asked for that end.
async fn end_command(end: End, child: Option<Running>) -> Result<ExitCode> {
    let signal = if let End::Signal(signal) = end { signal } else { SIGTERM };
    let ended = match child {
        Some(child) => Some(child.end(signal).await?),
        None => None,
    };
    Ok(match (end, ended) {
        (End::Command(status), _) | (End::Signal(_), Some(status)) => child::exit_code(status),
        _ => ExitCode::SUCCESS,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_time_and_not_zero() {
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert!(duration("500000000000years").is_err() && duration("1year").is_ok());
        assert!(["", "0s", "garbage", "-1s", "5"].iter().all(|text| duration(text).is_err()));
    }

    #[test]
    fn sizes_are_powers_of_two() {
        assert_eq!(power_of_two("4096"), Ok(4096));
        assert!(["0", "3", "1", "x"].iter().all(|text| power_of_two(text).is_err()));
    }
}
