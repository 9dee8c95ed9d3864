//! `traffic`: the load generator.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::{Args, Subcommand};

use super::output::{self, line};
use overlay_trace_lab::dataplanes::Netns;
use overlay_trace_lab::traffic::{
    self, Kind, Options, Protocol, Server, Size, Spec, Stop, TrafficReport, parse_bit_rate, parse_duration,
};

/// Generate or answer test traffic.
#[derive(Args)]
pub struct Traffic {
    #[command(subcommand)]
    command: Command,
    /// Run in this network namespace (a name of `ip netns`)
    #[arg(long, global = true, value_name = "NAME")]
    netns: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Answer traffic until interrupted; prints "ready ADDRESS" when listening
    Serve {
        /// Address to listen on, TCP and UDP
        #[arg(long, value_name = "ADDR:PORT")]
        listen: SocketAddr,
        /// Stop after this time
        #[arg(long, value_parser = parse_duration)]
        duration: Option<Duration>,
    },
    /// Requests at a constant rate (open loop); latency counts from the scheduled send time, so coordinated omission is
    /// avoided
    Rr {
        /// tcp or udp
        #[arg(long, default_value = "udp")]
        protocol: Protocol,
        #[command(flatten)]
        to: To,
        #[command(flatten)]
        load: Load,
    },
    /// TCP bulk transfer at full speed
    Bulk {
        #[command(flatten)]
        to: To,
        /// Duration of the transfer
        #[arg(long, default_value = "10s", value_parser = parse_duration)]
        duration: Duration,
        /// Number of connections
        #[arg(long, default_value_t = 1)]
        connections: u32,
        /// Delay of the server before each read
        #[arg(long, default_value = "0s", value_parser = parse_duration)]
        reader_delay: Duration,
    },
    /// UDP packets one way at a constant rate; measures jitter and loss
    Stream {
        #[command(flatten)]
        to: To,
        #[command(flatten)]
        load: Load,
        /// Payload bits per second, such as 10M; instead of --rate
        #[arg(long, value_parser = parse_bit_rate, conflicts_with = "rate")]
        bitrate: Option<f64>,
        /// Number of packets per send call, which the kernel segments (UDP_SEGMENT); 0 for none
        #[arg(long, default_value_t = 0)]
        gso: u32,
        /// Let the kernel hand several packets to the server per read (UDP_GRO)
        #[arg(long)]
        gro: bool,
        /// Send to this IPv4 multicast group or broadcast address; the server listens there too
        #[arg(long, value_name = "ADDR")]
        group: Option<Ipv4Addr>,
    },
    /// ICMP echo at a constant rate; the port of --to is ignored
    Ping {
        #[command(flatten)]
        to: To,
        #[command(flatten)]
        load: Load,
    },
}

#[derive(Args)]
struct To {
    /// Address of the server
    #[arg(long, value_name = "ADDR:PORT")]
    to: SocketAddr,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Load {
    /// Requests or packets per second
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    /// Duration
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    duration: Duration,
    /// Maximum number of requests or packets
    #[arg(long)]
    count: Option<u64>,
    /// Payload sizes: 350B (request 100 bytes, answer 350), 4KB (100 and 4096), BYTES, or REQUEST/ANSWER
    #[arg(long, default_value = "350B")]
    size: Size,
    /// Number of connections or sockets
    #[arg(long, default_value_t = 1)]
    connections: u32,
    /// How long to wait for an answer
    #[arg(long, default_value = "1s", value_parser = parse_duration)]
    timeout: Duration,
    /// Delay of the server before each read
    #[arg(long, default_value = "0s", value_parser = parse_duration)]
    reader_delay: Duration,
}

impl Load {
    fn spec(self, kind: Kind, protocol: Protocol) -> Spec {
        let Load { rate, duration, count, size, connections, timeout, reader_delay } = self;
        let options = Options { reader_delay, ..Options::default() };
        Spec { kind, protocol, rate, duration, count, size, connections, timeout, options }
    }
}

impl Traffic {
    pub fn run(self) -> Result<ExitCode> {
        let stop = Stop::on_signals()?;
        match &self.netns {
            Some(name) => Netns::named(name)?.run(|| self.command.run(&stop))?,
            None => self.command.run(&stop),
        }
    }
}

impl Command {
    fn run(self, stop: &Stop) -> Result<ExitCode> {
        let (to, spec) = match self {
            Command::Serve { listen, duration } => return serve(listen, duration, stop),
            Command::Rr { protocol: Protocol::Icmp, .. } => {
                bail!("for ICMP use `overlay-trace traffic ping`")
            }
            Command::Rr { protocol, to, load } => (to, load.spec(Kind::Rr, protocol)),
            Command::Bulk { to, duration, connections, reader_delay } => {
                let options = Options { reader_delay, ..Options::default() };
                (to, Spec { duration, connections, options, ..Spec::new(Kind::Bulk, Protocol::Tcp) })
            }
            Command::Stream { to, load, bitrate, gso, gro, group } => {
                let mut spec = load.spec(Kind::Stream, Protocol::Udp);
                spec.options = Options { gso, gro, group, ..spec.options };
                if let Some(bits) = bitrate {
                    spec.rate = bits / (8.0 * f64::from(spec.size.request.max(1)));
                }
                (to, spec)
            }
            Command::Ping { to, load } => (to, load.spec(Kind::Ping, Protocol::Icmp)),
        };
        let report = traffic::run(&spec, to.to, stop)?;
        print(&report, to.json)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn print(report: &TrafficReport, json: bool) -> Result<()> {
    match json {
        true => line(&serde_json::to_string(report)?),
        false => output::print(traffic::table(std::slice::from_ref(report)).to_string().as_bytes()),
    }
}

fn serve(listen: SocketAddr, duration: Option<Duration>, stop: &Stop) -> Result<ExitCode> {
    let server = Server::start(listen)?;
    line(&format!("ready {}", server.address()))?;
    let began = Instant::now();
    while !stop.is_set() && duration.is_none_or(|duration| began.elapsed() < duration) {
        thread::sleep(Duration::from_millis(50));
    }
    Ok(ExitCode::SUCCESS)
}
