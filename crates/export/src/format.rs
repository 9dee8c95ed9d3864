//! The formats.

use clap::ValueEnum;

/// A format of other tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A trace for ui.perfetto.dev: a track for each CPU of each device, packets with their stages, arrows between devices
    Perfetto,
    /// A profile for speedscope.app
    Speedscope,
    /// A profile for `go tool pprof`, Pyroscope and Parca
    Pprof,
    /// Folded stacks in ns, the input of flame graph tools
    Folded,
    /// Packets with rebuilt headers, without payload, and their stages as comments, for Wireshark and tshark
    Pcapng,
    /// A table of packets with their spans, for DuckDB, ClickHouse and DataFusion
    Parquet,
    /// One JSON object per packet
    Jsonl,
}

impl Format {
    /// Whether the output is not text, so that it does not belong on a terminal.
    pub fn is_binary(self) -> bool {
        matches!(self, Format::Perfetto | Format::Pprof | Format::Pcapng | Format::Parquet)
    }
}
