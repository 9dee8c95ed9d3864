//! `cut`: a small piece of a recording, to look at or to share.

use std::{net::IpAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Result;
use overlay_trace_format::{Selection, cut};

use super::{
    output::{self, ensure_no_input},
    unprivileged::{self, with_files},
};

#[derive(clap::Args)]
pub struct Cut {
    /// Recording to read
    file: PathBuf,
    /// Recording to write
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Overwrite the output file if it exists
    #[arg(long)]
    force: bool,
    /// Only packets whose path ends after this time since the start of the recording, such as 2s or 150ms
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    from: Option<Duration>,
    /// Only packets whose path starts before this time since the start of the recording
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    to: Option<Duration>,
    /// Only packets that pass through the network namespace of this name
    #[arg(long, value_name = "NETNS")]
    netns: Option<String>,
    /// Only packets that pass through a device of this name
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Only this protocol: tcp, udp, icmp, icmpv6, or a number
    #[arg(long, value_name = "PROTOCOL", value_parser = overlay_trace_probe::protocol)]
    protocol: Option<u8>,
    /// Only from or to this address
    #[arg(long, value_name = "ADDRESS")]
    address: Option<IpAddr>,
    /// Only from or to this port
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Of these packets, only the N slowest
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    slowest: Option<u32>,
}

/// A time in ns.
fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Cut {
    pub fn run(self) -> Result<ExitCode> {
        let [recording] = unprivileged::open([&self.file], Some(&self.output))?;
        ensure_no_input(&self.output, &[&self.file])?;
        let selection = Selection {
            from_ns: self.from.map(ns),
            until_ns: self.to.map(ns),
            address: self.address,
            port: self.port,
            protocol: self.protocol,
            netns: self.netns,
            device: self.device,
            slowest: self.slowest.map(|number| number as usize),
        };
        let done = with_files(|| cut(&recording, &selection, &self.output, self.force))?;
        output::line(&format!(
            "{} of {} records written to {}, {} bytes",
            done.records,
            done.of,
            output::shown(&self.output),
            done.bytes
        ))?;
        Ok(ExitCode::SUCCESS)
    }
}
