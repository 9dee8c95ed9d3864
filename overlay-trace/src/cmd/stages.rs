//! `stages`: the stage map.

use std::process::ExitCode;

use anyhow::Result;
use comfy_table::{ContentArrangement, Table, presets};
use overlay_trace_common::{
    stage::{LevelChange, Sets, Stage, Target},
    stage_map::STAGES,
};

use super::output::line;

/// Output formats of the stage map.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    /// A table
    Text,
    /// A Markdown table
    Markdown,
    /// A JSON array
    Json,
}

#[derive(clap::Args)]
pub struct Stages {
    /// Output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

const COLUMNS: [&str; 7] = ["stage", "layer", "kind", "level", "sets", "where in the kernel", "what it is"];

impl Stages {
    pub fn run(self) -> Result<ExitCode> {
        let text = match self.format {
            Format::Text => text(),
            Format::Markdown => markdown(),
            Format::Json => json()?,
        };
        line(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn text() -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(COLUMNS);
    for stage in STAGES {
        table.add_row(cells(stage));
    }
    table.to_string()
}

fn markdown() -> String {
    let mut lines =
        vec![format!("| {} |", COLUMNS.join(" | ")), format!("|{}", "---|".repeat(COLUMNS.len()))];
    lines.extend(STAGES.iter().map(|stage| format!("| {} |", cells(stage).join(" | "))));
    lines.join("\n")
}

fn json() -> Result<String> {
    let rows: Vec<_> = STAGES
        .iter()
        .map(|stage| {
            let row: serde_json::Map<_, _> = COLUMNS
                .iter()
                .map(|name| name.to_string())
                .zip(cells(stage).into_iter().map(Into::into))
                .collect();
            row
        })
        .collect();
    Ok(serde_json::to_string_pretty(&rows)?)
}

fn cells(stage: &Stage) -> Vec<String> {
    let kind = match stage.outcome {
        Some(_) => "end",
        None => stage.kind.name(),
    };
    let level = match stage.level {
        LevelChange::Keep => "",
        LevelChange::Up => "+1",
        LevelChange::Down => "-1",
    };
    vec![
        stage.name.to_owned(),
        stage.layer.name().to_owned(),
        kind.to_owned(),
        level.to_owned(),
        sets(stage.sets),
        places(stage),
        stage.about.to_owned(),
    ]
}

fn sets(sets: Sets) -> String {
    [(Sets::FULL, "full"), (Sets::LIGHT, "light"), (Sets::DEVICE, "device"), (Sets::TC, "tc")]
        .iter()
        .filter(|(set, _)| sets.contains(*set))
        .map(|(_, name)| *name)
        .collect::<Vec<_>>()
        .join(" ")
}

/// The probe points, each with its alternatives.
fn places(stage: &Stage) -> String {
    let name = |target: Target| match target {
        Target::Function(name) => name.to_owned(),
        Target::Tracepoint(name) => format!("tp {name}"),
        Target::Transmit("") => "tp net_dev_start_xmit, a NIC".to_owned(),
        Target::Transmit(kind) => format!("tp net_dev_start_xmit, link kind {kind}"),
    };
    stage
        .points
        .iter()
        .map(|point| {
            let exit = if point.exit { " and its exit" } else { "" };
            let names: Vec<String> = point.probes.iter().map(|probe| name(probe.target)).collect();
            names.join(" or ") + exit
        })
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use overlay_trace_common::stage::Layer;

    use super::*;

    #[test]
    fn names_are_unique_and_stages_have_points_but_for_what_follows_from_others() {
        let names: HashSet<&str> = STAGES.iter().map(|stage| stage.name).collect();
        assert_eq!(names.len(), STAGES.len());
        let follows = |stage: &Stage| {
            let is_of_others = stage.behaviour.probed_by.is_some() || stage.sets == Sets::TC;
            is_of_others || matches!(stage.layer, Layer::Other | Layer::Cpu)
        };
        assert!(STAGES.iter().all(|stage| !stage.points.is_empty() || follows(stage)));
        assert!(STAGES.len() < 0xf0, "higher codes have other meanings");
    }

    #[test]
    fn the_numbers_that_the_kernel_side_knows_are_right() {
        use overlay_trace_common::stage_map::{OTHER, SOCKET_SEND, TCP_SEND};
        assert_eq!(STAGES[OTHER as usize].name, "other");
        assert_eq!(STAGES[SOCKET_SEND as usize].name, "socket-send");
        assert_eq!(STAGES[TCP_SEND as usize].name, "tcp-send");
    }

    /// The stage table of the documents is this one.
    #[test]
    fn every_row_of_the_map_is_a_row_of_the_table() {
        let table = markdown();
        let names = table.lines().skip(2).filter_map(|line| line.split(" | ").next()?.strip_prefix("| "));
        assert!(names.eq(STAGES.iter().map(|stage| stage.name)), "{table}");
    }

    #[test]
    fn every_cell_is_one_line() {
        assert!(STAGES.iter().flat_map(cells).all(|cell| !cell.contains(['\n', '|'])));
    }
}
