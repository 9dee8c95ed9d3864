//! One line per row, for spreadsheets. Times are in ns; values that an analysis does not have are empty.

use anyhow::{Result, anyhow};

use crate::breakdown::{Analysis, Direction, Dist, Row};

const COLUMNS: [&str; 27] = [
    "layer",
    "stage",
    "kind",
    "level",
    "direction",
    "netns",
    "device",
    "packets",
    "segments",
    "bytes",
    "share",
    "sum_ns",
    "mean_ns",
    "p50_ns",
    "p90_ns",
    "p99_ns",
    "p999_ns",
    "p9999_ns",
    "max_ns",
    "net_sum_ns",
    "net_mean_ns",
    "net_p50_ns",
    "net_p90_ns",
    "net_p99_ns",
    "net_p999_ns",
    "net_p9999_ns",
    "net_max_ns",
];

/// The report as comma-separated values, with a heading.
pub(super) fn report(analysis: &Analysis) -> Result<Vec<u8>> {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS)?;
    for row in &analysis.rows {
        writer.write_record(fields(row))?;
    }
    writer.into_inner().map_err(|error| anyhow!("cannot write the CSV: {error}"))
}

fn fields(row: &Row) -> Vec<String> {
    let key = row.key.clone();
    let mut fields = vec![
        text(key.layer),
        text(key.stage),
        key.kind.into(),
        key.level.map(|level| level.to_string()).unwrap_or_default(),
        key.direction.map(Direction::name).unwrap_or_default().into(),
        text(key.netns),
        text(key.device),
        row.raw.count().to_string(),
        row.segments.to_string(),
        row.bytes.to_string(),
        format!("{:.6}", row.share),
    ];
    fields.extend(numbers(&row.raw));
    match &row.net {
        Some(net) => fields.extend(numbers(net)),
        None => fields.resize(COLUMNS.len(), String::new()),
    }
    fields
}

/// A name as a cell. Spreadsheets take a cell that begins like this for a formula, which can call programs and send data;
/// behind an apostrophe it is text.
fn text(name: Option<String>) -> String {
    let name = name.unwrap_or_default();
    if name.starts_with(['=', '+', '-', '@']) { format!("'{name}") } else { name }
}

fn numbers(dist: &Dist) -> [String; 8] {
    let quantile = |quantile| dist.quantile(quantile).to_string();
    [
        dist.sum().to_string(),
        format!("{:.1}", dist.mean()),
        quantile(0.5),
        quantile(0.9),
        quantile(0.99),
        quantile(0.999),
        quantile(0.9999),
        dist.max().to_string(),
    ]
}
