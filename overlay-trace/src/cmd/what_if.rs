//! `what-if`: the predicted times without a part of the network.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;

use super::{output, unprivileged};
use overlay_trace_analysis::report::{self, WhatIfFormat};
use overlay_trace_analysis::what_if::{Change, WhatIf as Predictions};

#[derive(clap::Args)]
pub struct WhatIf {
    /// Recording to read
    file: PathBuf,
    /// Part of the network to remove: overlay, overlay-2 (the outer one of two), conntrack, bridge, iptables, nftables,
    /// ipvs, kube-proxy; join several with +. By default each part that there is, one by one
    #[arg(long, value_name = "PART")]
    without: Vec<Change>,
    /// Network to change to: host-gw (the same as --without overlay) or ipvlan
    #[arg(long, value_name = "NETWORK")]
    r#as: Vec<Change>,
    /// Output format
    #[arg(long, short, value_enum, default_value_t)]
    format: WhatIfFormat,
    /// Write to this file instead of standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Overwrite the output file if it exists
    #[arg(long, requires = "output")]
    force: bool,
}

impl WhatIf {
    pub fn run(self) -> Result<ExitCode> {
        let mut changes = [self.without, self.r#as].concat();
        if changes.is_empty() {
            changes = Change::all();
        }
        let [recording] = unprivileged::open([&self.file], self.output.as_ref())?;
        let predictions = Predictions::of(&recording, &changes, &|_| true)?;
        output::write(
            &report::what_if(&predictions, self.format)?,
            &[&self.file],
            self.output.as_deref(),
            self.force,
        )
    }
}
