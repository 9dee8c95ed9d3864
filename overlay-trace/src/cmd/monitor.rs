//! `monitor`: follows the running system for as long as it runs, as metrics, and keeps the last packets.

mod dump;
mod own;

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use overlay_trace_format::Counters;
use overlay_trace_lab::say;
use overlay_trace_monitor::{
    Aggregation, Devices, Follower, Tick,
    http::{Bound, Token},
    metrics::{Info, Own, Shared, State},
};
use overlay_trace_probe::{
    FilterOptions, Session, SessionOptions, StartGate, load::Sizes, sys::capabilities::drop_in_thread,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
    time::{Instant, MissedTickBehavior, interval},
};

use super::{live::announce, probes::Probes};
use dump::Dumps;

/// Where the last packets are kept where nothing else is said.
pub(super) const RING: &str = "/var/lib/overlay-trace/ring";
/// How often the metrics are brought up to date.
const TICK: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Monitor {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    follow: Follow,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Write the packets that a running monitor keeps to a recording
    Dump(dump::Dump),
}

#[derive(clap::Args)]
struct Follow {
    /// Address of /metrics and /healthz; another machine reaches it only if it is not a loopback address
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9464")]
    listen: SocketAddr,
    /// Let /metrics be read only with the bearer token in this file, which is read again at SIGHUP
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Most series of times, and as many of drops; what finds no room is added to one with the labels "other"
    #[arg(long, value_name = "N", default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..))]
    max_series: u32,
    /// How much of the last packets is kept on disk
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = size)]
    keep: u64,
    /// Folder for the packets that are kept; what an earlier monitor kept there is removed
    #[arg(long, value_name = "FOLDER", default_value = RING)]
    ring: PathBuf,
    /// Write the packets that are kept to a recording when a packet takes longer than this, at most once in five minutes
    #[arg(long, value_name = "TIME", value_parser = time)]
    dump_above: Option<Duration>,
    /// Folder for these recordings, of which the last eight stay
    #[arg(
        long,
        value_name = "FOLDER",
        default_value = "/var/lib/overlay-trace/slow",
        requires = "dump_above"
    )]
    dumps: PathBuf,
    /// Probe set to attach
    #[arg(long, value_enum, default_value = "auto", value_name = "SET")]
    probes: Probes,
    #[command(flatten)]
    filter: FilterOptions,
}

/// A number of bytes, such as 256MiB or 1GiB.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|char: char| !char.is_ascii_digit());
    let factor = match text[digits.len()..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1u64 << 40,
        _ => return Err("expected a size such as 256MiB or 1GiB".to_owned()),
    };
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    number.ok_or_else(|| "expected a size such as 256MiB or 1GiB".to_owned())
}

fn time(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if !time.is_zero() => Ok(time),
        _ => Err("expected a time such as 50ms or 1s".to_owned()),
    }
}

impl Monitor {
    pub fn run(self) -> Result<ExitCode> {
        match self.command {
            Some(Command::Dump(dump)) => dump.run(),
            None => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(self.follow.run())
            }
        }
    }
}

/// The signals that a daemon gets.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

enum Wish {
    End,
    Reload,
}

impl Signals {
    fn new() -> Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.interrupt.recv() => Wish::End,
            _ = self.terminate.recv() => Wish::End,
            _ = self.hangup.recv() => Wish::Reload,
        }
    }
}

impl Follow {
    async fn run(self) -> Result<ExitCode> {
        let mut signals = Signals::new()?;
        let token: Token = Arc::new(RwLock::new(self.read_token()?));
        let bound = Bound::new(self.listen)?;
        if !self.listen.ip().is_loopback() && self.token_file.is_none() {
            say(&format!(
                "{} can be read by other machines: --token-file lets only some read it",
                self.listen
            ));
        }
        let session = self.start(&mut signals).await?;
        announce(&session);
        drop_in_thread("main", &[]);
        let state = self.state(&session);
        let server = bound.start(&state, &token, || drop_in_thread("http", &[]))?;
        say(&format!(
            "metrics at http://{}/metrics; the last packets are in {}",
            server.address(),
            self.ring.display()
        ));
        let mut watch = Watch::new(&self, state, &session);
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => if !watch.look(&session) { break },
                wish = signals.next() => match wish {
                    Wish::End => break,
                    Wish::Reload => self.reload(&token),
                },
            }
        }
        drop(server);
        let has_failed = session.failed();
        session.stop()?;
        Ok(if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    fn read_token(&self) -> Result<Option<String>> {
        let Some(file) = &self.token_file else { return Ok(None) };
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read the token in {}", file.display()))?;
        let token = text.trim().to_owned();
        ensure!(!token.is_empty(), "there is no token in {}", file.display());
        Ok(Some(token))
    }

    /// Reads the token again; where that fails, the former one is valid still.
    fn reload(&self, token: &Token) {
        match self.read_token() {
            Ok(new) => {
                *token.write().unwrap_or_else(PoisonError::into_inner) = new;
                say("reloaded");
            }
            Err(error) => say(&format!("not reloaded: {error:#}")),
        }
    }

    /// Attaches the probes on a thread of its own: that takes seconds, in which a signal ends the program.
    async fn start(&self, signals: &mut Signals) -> Result<Session> {
        let gate = StartGate::default();
        let options = SessionOptions {
            set: self.probes.set(),
            filter: self.filter.clone(),
            ring: Some((self.ring.clone(), self.keep)),
            sizes: Sizes::default(),
            gate: gate.clone(),
            ..SessionOptions::default()
        };
        let (send, mut session) = oneshot::channel();
        std::thread::Builder::new().name("attach".into()).spawn(move || {
            // A session that nobody waits for any more is dropped, and so detached.
            let _ = send.send(Session::start(options));
        })?;
        loop {
            tokio::select! {
                session = &mut session => {
                    return Ok(session.context("the thread that attaches the probes has ended")??);
                }
                wish = signals.next() => if matches!(wish, Wish::End) {
                    gate.close();
                    bail!("interrupted while attaching the probes: nothing was followed")
                }
            }
        }
    }

    fn state(&self, session: &Session) -> Shared {
        let (set, _) = session.set();
        let uname = nix::sys::utsname::uname();
        let text = |text: Option<&std::ffi::OsStr>| {
            text.map(|text| overlay_trace_format::printable_bytes(text.as_encoded_bytes()))
                .unwrap_or_default()
        };
        let info = Info {
            version: env!("CARGO_PKG_VERSION").into(),
            probe_set: set.name().into(),
            kernel: text(uname.as_ref().ok().map(|uname| uname.release())),
            node: text(uname.as_ref().ok().map(|uname| uname.nodename())),
        };
        Arc::new(Mutex::new(State {
            aggregation: Aggregation::new(self.max_series as usize, Devices::Classes),
            counters: Counters::default(),
            info,
            own: Own { is_healthy: true, ..Own::default() },
        }))
    }
}

/// Brings the metrics up to date.
struct Watch {
    state: Shared,
    follower: Follower,
    dumps: Option<Dumps>,
    begin: Instant,
    read_errors: u64,
}

impl Watch {
    fn new(options: &Follow, state: Shared, _: &Session) -> Watch {
        let dumps =
            options.dump_above.map(|above| Dumps::new(above, options.ring.clone(), options.dumps.clone()));
        Watch { state, follower: Follower::new(&options.ring), dumps, begin: Instant::now(), read_errors: 0 }
    }

    /// Takes in what is new. Whether the recorder goes on.
    fn look(&mut self, session: &Session) -> bool {
        let now = self.begin.elapsed();
        let Watch { state, follower, dumps, .. } = self;
        let mut slowest_ns = 0;
        let result = follower.poll(|tick: &Tick<'_>| {
            slowest_ns = slowest_ns.max(tick.analysis.latency.max());
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            state.aggregation.add(tick.analysis, tick.hops, now);
            state.counters = tick.last.counters.clone();
        });
        if let Err(error) = result {
            tracing::warn!("packets cannot be read: {error:#}");
            self.read_errors += 1;
            // From the next segment on.
            follower.skip();
        }
        if let Some(dumps) = dumps {
            dumps.look(slowest_ns, now);
        }
        let (dumps, failed_dumps) = dumps.as_ref().map_or((0, 0), Dumps::counts);
        let own = Own {
            cpu_s: own::cpu_seconds(),
            kept_bytes: session.progress().file_bytes,
            dumps,
            failed_dumps,
            missed_segments: follower.missed_segments,
            read_errors: self.read_errors,
            is_healthy: !session.failed(),
        };
        let is_healthy = own.is_healthy;
        state.lock().unwrap_or_else(PoisonError::into_inner).own = own;
        is_healthy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(
            (size("1GiB"), size("64m"), size("9"), size("8 KiB")),
            (Ok(1 << 30), Ok(64 << 20), Ok(9), Ok(8192))
        );
        assert!(["", "GiB", "1x", "-1", "99999999999TiB", "1.5GiB"].iter().all(|text| size(text).is_err()));
    }

    #[test]
    fn times_are_not_zero() {
        assert_eq!(time("50ms"), Ok(Duration::from_millis(50)));
        assert!(["", "0s", "5"].iter().all(|text| time(text).is_err()));
    }
}
