use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    process::{ExitCode, ExitStatus},
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    time::{Instant, interval, sleep_until},
};

use crate::probe::{FilterOptions, ProbeSet, Session, SessionOptions, Summary, load::Sizes};

/// How long a command that was asked to end may take before the recording goes on to its end without it.
const GRACE: Duration = Duration::from_secs(5);

#[derive(clap::Args)]
pub struct Record {
    /// The recording to write
    #[arg(short, long, default_value = "overlay-trace.otr", value_name = "FILE")]
    output: PathBuf,
    /// Overwrite the recording if it exists
    #[arg(long)]
    force: bool,
    /// How long to record, such as 30s or 2m; without this and without a command until Ctrl-C
    #[arg(short, long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// Which probes to attach
    #[arg(long, value_enum, default_value = "auto", value_name = "SET")]
    probes: Probes,
    /// Probe functions by kprobe also where the kernel has fentry, which is cheaper
    #[arg(long)]
    kprobes: bool,
    /// How many packets can be under way at once (a power of two)
    #[arg(long, default_value_t = Sizes::default().states, value_parser = power_of_two, value_name = "N")]
    states: u32,
    /// Bytes of the buffer between kernel and file (a power of two)
    #[arg(long, default_value_t = Sizes::default().ring_bytes, value_parser = power_of_two, value_name = "BYTES")]
    buffer: u32,
    #[command(flatten)]
    filter: FilterOptions,
    /// The command to run while recording; the recording ends with it
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// The probe set, or the richest that the kernel allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Probes {
    Auto,
    Full,
    Light,
    Device,
}

impl Probes {
    pub fn set(self) -> Option<ProbeSet> {
        match self {
            Probes::Auto => None,
            Probes::Full => Some(ProbeSet::Full),
            Probes::Light => Some(ProbeSet::Light),
            Probes::Device => Some(ProbeSet::Device),
        }
    }
}

fn power_of_two(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(number) if number.is_power_of_two() && number >= 4 => Ok(number),
        _ => Err("give a power of two".to_owned()),
    }
}

impl Record {
    pub fn run(self) -> Result<ExitCode> {
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(self.record())
    }

    async fn record(self) -> Result<ExitCode> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let session = Session::start(SessionOptions {
            set: self.probes.set(),
            kprobes_only: self.kprobes,
            filter: self.filter.clone(),
            output: self.output.clone(),
            force: self.force,
            sizes: Sizes { states: self.states, ring_bytes: self.buffer },
        })?;
        announce(&session);
        let mut child = self.spawn()?;
        let begin = Instant::now();
        let end = self.duration.map(|duration| begin + duration);
        let mut tick = interval(Duration::from_secs(1));
        let mut status = None;
        loop {
            tokio::select! {
                _ = tick.tick() => {
                    show(&session, begin.elapsed());
                    if session.failed() {
                        break;
                    }
                }
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                _ = sleep_until(end.unwrap_or(begin)), if end.is_some() => break,
                ended = wait(&mut child), if child.is_some() => {
                    status = Some(ended?);
                    child = None;
                    break;
                }
            }
        }
        if let Some(child) = child {
            end_child(child).await;
        }
        clear_line();
        let summary = session.stop()?;
        report(&summary, &self.output);
        Ok(exit_code(status))
    }

    fn spawn(&self) -> Result<Option<Child>> {
        let Some((program, arguments)) = self.command.split_first() else { return Ok(None) };
        let child = Command::new(program)
            .args(arguments)
            .spawn()
            .with_context(|| format!("cannot start {program}: check its name and that it may be executed"))?;
        Ok(Some(child))
    }
}

async fn wait(child: &mut Option<Child>) -> Result<ExitStatus> {
    match child {
        Some(child) => Ok(child.wait().await?),
        None => std::future::pending().await,
    }
}

/// Asks the command to end, as Ctrl-C does, and waits for it for a while.
async fn end_child(mut child: Child) {
    if let Some(id) = child.id() {
        let _ =
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(id as i32), nix::sys::signal::Signal::SIGTERM);
    }
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}

fn exit_code(status: Option<ExitStatus>) -> ExitCode {
    match status {
        Some(status) if !status.success() => ExitCode::from(status.code().unwrap_or(1) as u8),
        _ => ExitCode::SUCCESS,
    }
}

/// Says on the standard error what the recording can see.
pub fn announce(session: &Session) {
    let (set, reason) = session.set();
    let (probes, unseen) = session.coverage();
    let unseen = match unseen {
        0 => String::new(),
        number => format!("; {number} stages cannot be seen here (`overlay-trace doctor` says why)"),
    };
    let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    eprintln!("recording with the probe set {}{reason}: {probes} probes{unseen}", set.name());
}

fn show(session: &Session, elapsed: Duration) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    let Summary { counters, .. } = session.progress();
    let seconds = elapsed.as_secs_f64().max(1.0);
    eprint!(
        "\r\x1b[K{:>4.0} s  {} packets  {:.0}/s  lost: {} records, {} table full, {} ends unseen",
        elapsed.as_secs_f64(),
        counters.finished,
        counters.finished as f64 / seconds,
        counters.lost_records,
        counters.state_full,
        counters.lost_end,
    );
    let _ = std::io::stderr().flush();
}

fn clear_line() {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
}

/// Says on the standard error what was recorded.
pub fn report(summary: &Summary, output: &std::path::Path) {
    let counters = &summary.counters;
    eprintln!(
        "{} packets in {:.1} s, {} bytes in {}; lost: {} records, {} for a full table, {} ends unseen, {} probes missed",
        counters.finished,
        summary.duration_ns as f64 / 1e9,
        summary.file_bytes,
        output.display(),
        counters.lost_records,
        counters.state_full,
        counters.lost_end,
        counters.probe_misses.map_or("unknown".to_owned(), |misses| misses.to_string()),
    );
}
