use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};

use crate::cmd::compare::{Compare, Reproduce};
use crate::cmd::output::line;
use crate::cmd::record::{self, Probes};
use overlay_trace_lab::dataplanes::{self, Knobs, Running, System};
use overlay_trace_lab::traffic::{
    self, Kind, Protocol, Size, Spec, Stop, TrafficReport, parse_duration, parse_plan,
};
use overlay_trace_probe::{BaselineProgram, Session, SessionOptions, TailSamplingOptions};

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
    /// Print every line that sets a lab up
    Show {
        /// A name of `lab list`
        name: String,
        #[command(flatten)]
        knobs: KnobArgs,
    },
    /// Build a lab, send traffic through it, take it down
    Run(Box<Run>),
    /// Send the same traffic through several labs and compare them
    Compare(Compare),
    /// Check on this machine what articles have published about container networks
    Reproduce(Reproduce),
    /// Remove a lab that was kept
    Down {
        /// A name of `lab list`
        name: String,
    },
}

#[derive(Args)]
struct Run {
    /// A name of `lab list`
    name: String,
    #[command(flatten)]
    knobs: KnobArgs,
    /// What to send, in this order: udp-rr, tcp-rr, tcp-bulk, udp-stream or ping, with changes as in
    /// `udp-rr:rate=2000,size=4KB` [default: udp-rr tcp-rr tcp-bulk]
    #[arg(long, value_name = "PLAN", num_args = 1.., value_delimiter = ' ')]
    traffic: Vec<String>,
    /// Requests or packets per second
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    /// How long each run of traffic takes (bulk by default at most 2 s)
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    duration: Duration,
    /// 350B (100 bytes asked, 350 answered), 4KB (100 and 4096), BYTES, or REQUEST/ANSWER
    #[arg(long, default_value = "350B")]
    size: Size,
    /// Over how many connections
    #[arg(long, default_value_t = 1)]
    connections: u32,
    /// Print the traffic's reports as JSON, one line each
    #[arg(long)]
    json: bool,
    /// Write a recording of the traffic to this file
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Overwrite the recording if it exists
    #[arg(long, requires = "record")]
    force: bool,
    /// The recording's probe set
    #[arg(long, value_enum, default_value = "auto", value_name = "SET", requires = "record")]
    probes: Probes,
    /// In the recording, probe functions by kprobe also where the kernel has fentry
    #[arg(long, requires = "record")]
    kprobes: bool,
    /// Attach programs that do nothing instead of the recorder's, to measure what the kernel takes to call them
    #[arg(long, value_enum, requires = "record", hide = true)]
    baseline: Option<BaselineProgram>,
    #[command(flatten)]
    tail_sampling: TailSamplingOptions,
    /// Leave the lab standing; `lab down NAME` removes it
    #[arg(long)]
    keep: bool,
    /// Run this in the client's namespace instead of traffic; it finds the server in the variable
    /// OVERLAY_TRACE_SERVER
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

#[derive(Args)]
struct KnobArgs {
    /// Delay the packets that leave node1 by so much (netem on the underlay), as 2ms
    #[arg(long, value_parser = parse_duration)]
    delay: Option<Duration>,
    /// So many iptables rules that match nothing, in FORWARD on every node
    #[arg(long, default_value_t = 0)]
    rules: u32,
    /// The underlay's MTU
    #[arg(long, default_value_t = 1500)]
    mtu: u32,
    /// Send over IPv6
    #[arg(long)]
    ipv6: bool,
    /// Send to the server's Service address, also in labs that are not about Services
    #[arg(long)]
    service: bool,
    /// So many more Services, which are not used
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=100_000))]
    services: u32,
    /// So many more endpoints of the server's Service
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=20_000))]
    endpoints: u32,
    /// Join the nodes by taps and a program between them, as if they were two machines
    #[arg(long)]
    wire: bool,
}

impl KnobArgs {
    fn knobs(&self, keep: bool) -> Knobs {
        let KnobArgs { delay, rules, mtu, ipv6, service, services, endpoints, wire } = *self;
        Knobs { delay, rules, mtu, ipv6, service, services, endpoints, wire, keep }
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
                line(&format!("{count} namespaces removed"));
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

pub(super) fn find(name: &str) -> Result<&'static dataplanes::Lab> {
    dataplanes::find(name).with_context(|| {
        let names: Vec<_> = dataplanes::all().iter().map(|lab| lab.name).collect();
        format!("there is no lab '{name}': there are {}", names.join(", "))
    })
}

fn list() -> Result<ExitCode> {
    let system = System::inspect();
    for lab in dataplanes::all() {
        line(&format!("{:26} {}", lab.name, lab.about));
        let lack = match &system {
            Ok(system) => system.lack(lab, &Knobs::default())?,
            Err(error) => Some(format!("{error:#}")),
        };
        match lack {
            None => line(&format!("{:26} runs here", "")),
            Some(lack) => line(&format!("{:26} does not run here: {lack}", "")),
        }
        for note in system.iter().flat_map(|system| system.notes(lab)) {
            line(&format!("{:26} note: {note}", ""));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(name: &str, knobs: &Knobs) -> Result<ExitCode> {
    let (lab, system) = (find(name)?, System::inspect()?);
    line(&format!("# {}: {}", lab.name, lab.about));
    for part in lab.parts {
        line(&format!("#   {}", part.about));
    }
    for action in dataplanes::script(lab, knobs, &system) {
        let family = if action.v6 { ", IPv6" } else { "" };
        line(&format!("\n# {} {:?}{family}\n{}", action.namespace, action.tool, action.lines.trim_end()));
    }
    Ok(ExitCode::SUCCESS)
}

impl Run {
    fn run(self) -> Result<ExitCode> {
        let lab = find(&self.name)?;
        ensure!(
            !(self.keep && self.knobs.wire),
            "the program between the nodes ends with this one: take --keep or --wire, not both"
        );
        ensure!(
            !(self.keep && lab.has_daemons()),
            "programs that are part of the lab {} end with this one: it cannot be kept",
            lab.name
        );
        let plan = self.plan()?;
        let stop = Stop::on_signals()?;
        eprintln!("building {}", lab.name);
        let running = Running::up(lab, self.knobs.knobs(self.keep), &stop)?;
        for note in running.notes() {
            eprintln!("note: {note}");
        }
        let session = self.start_recording(&running)?;
        let outcome = self.load(&running, &plan, &stop);
        // What was recorded until a failure or an interruption is kept.
        self.stop_recording(session, outcome.as_ref().map_or(&[], |(_, reports)| reports))?;
        let (code, _) = outcome?;
        if self.keep {
            let names: Vec<_> = running.namespaces().iter().map(|netns| netns.name()).collect();
            line(&format!("kept: {}; `overlay-trace lab down {}` removes them", names.join(" "), lab.name));
        }
        running.down()?;
        Ok(code)
    }

    /// The traffic, or the command.
    fn load(&self, running: &Running, plan: &[Spec], stop: &Stop) -> Result<(ExitCode, Vec<TrafficReport>)> {
        if !self.command.is_empty() {
            let status = dataplanes::command(running, &self.command, stop)?;
            return Ok((ExitCode::from(status.code().unwrap_or(1) as u8), Vec::new()));
        }
        eprintln!("{} -> {}", running.client()?.netns.name(), running.target()?);
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
            sampling: self.tail_sampling.sampling(),
            ..SessionOptions::default()
        })?;
        record::announce(&session);
        Ok(Some(session))
    }

    fn stop_recording(&self, session: Option<Session>, reports: &[TrafficReport]) -> Result<()> {
        let (Some(mut session), Some(output)) = (session, &self.record) else { return Ok(()) };
        session.traffic(reports.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?);
        record::report(&session.stop()?, output);
        Ok(())
    }

    fn plan(&self) -> Result<Vec<Spec>> {
        ensure!(
            self.command.is_empty() || self.traffic.is_empty(),
            "say either --traffic or a command to run, not both"
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
                line(&serde_json::to_string(report)?);
            }
        } else {
            let table = traffic::table(reports).to_string();
            line(table.trim_end());
        }
        Ok(())
    }
}
