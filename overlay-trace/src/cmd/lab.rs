//! `lab`: the dataplanes of well-known container networks, built on this machine.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};

use super::{
    child,
    compare::{Compare, Reproduce},
    lab_name::find,
    live,
    output::line,
    probes::Probes,
};
use overlay_trace_format::check_output;
use overlay_trace_lab::dataplanes::{self, Knobs, Running, System, Wire};
use overlay_trace_lab::say;
use overlay_trace_lab::traffic::{
    self, Kind, Protocol, Size, Spec, Stop, TrafficReport, parse_duration, parse_plan,
};
use overlay_trace_probe::{BaselineProgram, SamplingOptions, Session, SessionOptions};

/// Build the dataplanes of well-known container networks on this machine.
#[derive(Args)]
pub struct Lab {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the labs, and whether they can run here
    List,
    /// Print the commands that set a lab up
    Show {
        /// Name of a lab, see `lab list`
        name: String,
        #[command(flatten)]
        knobs: KnobArgs,
    },
    /// Build a lab, run traffic through it, remove it
    Run(Box<Run>),
    /// Run the same traffic through several labs and compare them
    Compare(Compare),
    /// Check published claims about container networks on this machine
    Reproduce(Reproduce),
    /// Remove a lab that was left standing (--keep)
    Down {
        /// Name of a lab, see `lab list`
        name: String,
    },
}

#[derive(Args)]
struct Run {
    /// Name of a lab, see `lab list`
    name: String,
    #[command(flatten)]
    knobs: KnobArgs,
    /// Traffic to run, in this order: udp-rr, tcp-rr, tcp-bulk, udp-stream or ping, each with options as in
    /// `udp-rr:rate=2000,size=4KB` [default: udp-rr tcp-rr tcp-bulk]
    #[arg(long, value_name = "PLAN", num_args = 1.., value_delimiter = ' ')]
    traffic: Vec<String>,
    /// Requests or packets per second
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    /// Duration of each traffic run (tcp-bulk: at most 2 s by default)
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    duration: Duration,
    /// Payload sizes: 350B (request 100 bytes, answer 350), 4KB (100 and 4096), BYTES, or REQUEST/ANSWER
    #[arg(long, default_value = "350B")]
    size: Size,
    /// Number of connections
    #[arg(long, default_value_t = 1)]
    connections: u32,
    /// Print the traffic reports as JSON, one per line
    #[arg(long)]
    json: bool,
    /// Write a recording of the traffic to this file
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Overwrite the recording if it exists
    #[arg(long, requires = "record")]
    force: bool,
    /// Probe set of the recording
    #[arg(long, value_enum, default_value = "auto", value_name = "SET", requires = "record")]
    probes: Probes,
    /// Record with kprobes even where fentry, which is cheaper, is available
    #[arg(long, requires = "record")]
    kprobes: bool,
    /// Attach minimal programs instead of the recorder's, to measure the kernel's own cost of a probe
    #[arg(long, value_enum, requires = "record", hide = true)]
    baseline: Option<BaselineProgram>,
    #[command(flatten)]
    sampling: SamplingOptions,
    /// Keep the lab afterwards; `lab down NAME` removes it
    #[arg(long)]
    keep: bool,
    /// Remove the lab first if it stands already, with everything that runs in it
    #[arg(long)]
    replace: bool,
    /// Command to run in the client's namespace instead of traffic; the environment variable OVERLAY_TRACE_SERVER holds
    /// the server's address
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[derive(Args)]
struct KnobArgs {
    /// Delay of packets that leave node1 (netem on the underlay), such as 2ms
    #[arg(long, value_parser = parse_duration)]
    delay: Option<Duration>,
    /// Number of iptables rules in FORWARD on every node that match nothing
    #[arg(long, default_value_t = 0)]
    rules: u32,
    /// MTU of the underlay
    #[arg(long, default_value_t = 1500)]
    mtu: u32,
    /// Use IPv6
    #[arg(long)]
    ipv6: bool,
    /// Send to the server's Service address, also in labs without Services
    #[arg(long)]
    service: bool,
    /// Number of additional Services without traffic
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=100_000))]
    services: u32,
    /// Number of additional endpoints of the server's Service
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=20_000))]
    endpoints: u32,
    /// Connect the nodes as if they were two machines: by `tap` devices and a user-space program, or by this machine's
    /// own NICs, `nic=NAME,NAME`, which must be connected to each other (`nic`: those that are down and have no
    /// address) [without a value: tap]
    #[arg(long, value_name = "KIND", num_args = 0..=1, default_missing_value = "tap")]
    wire: Option<Wire>,
}

impl KnobArgs {
    fn knobs(&self, keep: bool) -> Knobs {
        let KnobArgs { delay, rules, mtu, ipv6, service, services, endpoints, .. } = *self;
        let wire = self.wire.clone().unwrap_or(Wire::Veth);
        Knobs { delay, rules, mtu, ipv6, service, services, endpoints, wire, keep, ..Knobs::default() }
    }
}

impl Lab {
    pub fn run(self) -> Result<ExitCode> {
        match self.command {
            Command::List => list(),
            Command::Show { name, knobs } => show(&name, &knobs.knobs(false)),
            Command::Run(run) => run.run(),
            Command::Compare(compare) => compare.run(),
            Command::Reproduce(reproduce) => reproduce.run(),
            Command::Down { name } => {
                let count = dataplanes::remove_leftovers(find(&name)?)?;
                line(&format!("removed {count} namespaces"))?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

fn list() -> Result<ExitCode> {
    let system = System::look();
    for lab in dataplanes::all() {
        line(&format!("{:26} {}", lab.name, lab.about))?;
        let lack = match &system {
            Ok(system) => system.lack(lab, &Knobs::default())?,
            Err(error) => Some(format!("{error:#}")),
        };
        match lack {
            None => line(&format!("{:26} runs here", ""))?,
            Some(lack) => line(&format!("{:26} does not run here: {lack}", ""))?,
        }
        for note in system.iter().flat_map(|system| system.notes(lab)) {
            line(&format!("{:26} note: {note}", ""))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(name: &str, knobs: &Knobs) -> Result<ExitCode> {
    let (lab, system) = (find(name)?, System::look()?);
    line(&format!("# {}: {}", lab.name, lab.about))?;
    for part in lab.parts {
        line(&format!("#   {}", part.about))?;
    }
    for change in dataplanes::foretell(lab, knobs, &system) {
        line(&format!("# outside of its namespaces it {change}"))?;
    }
    for action in dataplanes::script(lab, knobs, &system) {
        let family = if action.v6 { ", IPv6" } else { "" };
        line(&format!("\n# {} {:?}{family}\n{}", action.namespace, action.tool, action.lines.trim_end()))?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Run {
    fn run(self) -> Result<ExitCode> {
        let lab = find(&self.name)?;
        ensure!(
            !(self.keep && self.knobs.wire == Some(Wire::Taps)),
            "--keep and --wire tap exclude each other: the program that connects the nodes ends with this command"
        );
        ensure!(
            !(self.keep && lab.has_daemons()),
            "the lab {} cannot be kept: its programs end with this command",
            lab.name
        );
        let plan = self.plan()?;
        if let Some(output) = &self.record {
            check_output(output, self.force)?;
        }
        let stop = Stop::on_signals()?;
        let knobs = Knobs { replace: self.replace, ..self.knobs.knobs(self.keep) };
        say(&format!("building {}", lab.name));
        for change in dataplanes::foretell(lab, &knobs, &System::look()?) {
            say(&format!("outside of its namespaces it {change}"));
        }
        let running = Running::up(lab, knobs, &stop)?;
        for note in running.notes() {
            say(&format!("note: {note}"));
        }
        let session = self.start_recording(&running)?;
        let outcome = self.load(&running, &plan, &stop);
        // After a failure or an interruption the recording so far is kept.
        self.stop_recording(session, outcome.as_ref().map_or(&[], |(_, reports)| reports))?;
        let (code, _) = outcome?;
        if self.keep {
            let names: Vec<_> = running.namespaces().iter().map(|netns| netns.name()).collect();
            line(&format!("kept: {}; `overlay-trace lab down {}` removes them", names.join(" "), lab.name))?;
        }
        running.down()?;
        Ok(code)
    }

    /// Runs the traffic, or the command.
    fn load(&self, running: &Running, plan: &[Spec], stop: &Stop) -> Result<(ExitCode, Vec<TrafficReport>)> {
        if !self.command.is_empty() {
            let status = dataplanes::command(running, &self.command, stop)?;
            return Ok((child::exit_code(status), Vec::new()));
        }
        say(&format!("{} -> {}", running.client()?.netns.name(), running.target()?));
        let reports = dataplanes::drive(running, plan, stop)?;
        self.print(&reports)?;
        Ok((ExitCode::SUCCESS, reports))
    }

    fn start_recording(&self, running: &Running) -> Result<Option<Session>> {
        let Some(output) = self.record.clone() else { return Ok(None) };
        let session = Session::start(SessionOptions {
            set: self.probes.set(),
            kprobes_only: self.kprobes,
            baseline: self.baseline,
            filter: running.filter(),
            output,
            force: self.force,
            sampling: self.sampling.tail(),
            sample: self.sampling.by_packet(),
            ..SessionOptions::default()
        })?;
        live::announce(&session);
        Ok(Some(session))
    }

    fn stop_recording(&self, session: Option<Session>, reports: &[TrafficReport]) -> Result<()> {
        let (Some(mut session), Some(output)) = (session, &self.record) else { return Ok(()) };
        session.traffic(reports.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?);
        live::report(&session.stop()?, output);
        Ok(())
    }

    fn plan(&self) -> Result<Vec<Spec>> {
        ensure!(
            self.command.is_empty() || self.traffic.is_empty(),
            "--traffic and a command exclude each other: give one of them"
        );
        let defaults = |kind: Kind, protocol: Protocol| Spec {
            rate: self.rate,
            duration: self.duration,
            size: self.size,
            connections: self.connections,
            ..Spec::new(kind, protocol)
        };
        if self.traffic.is_empty() {
            return Ok(dataplanes::default_plan(defaults));
        }
        self.traffic.iter().map(|text| parse_plan(text, defaults)).collect()
    }

    fn print(&self, reports: &[TrafficReport]) -> Result<()> {
        if self.json {
            for report in reports {
                line(&serde_json::to_string(report)?)?;
            }
        } else {
            let table = traffic::table(reports).to_string();
            line(table.trim_end())?;
        }
        Ok(())
    }
}
