//! A lab's flame graph in the page: time per packet, on a scale that all labs share.

use inferno::flamegraph::color::Color;
use maud::Markup;

use super::result::StageTime;
use super::summary::Row;
use overlay_trace_analysis::breakdown::{Direction, Key};
use overlay_trace_analysis::report::frames::stack;
use overlay_trace_analysis::report::page::graph::{self, Frame};
use overlay_trace_analysis::report::palette::colour;
use overlay_trace_analysis::report::units::{percent, time};

fn key(time: &StageTime) -> Key {
    let directions = [Direction::Egress, Direction::Forward, Direction::Ingress];
    Key {
        layer: Some(time.layer.clone()),
        stage: Some(time.stage.clone()),
        kind: if time.kind == "wait" { "wait" } else { "work" },
        level: Some(time.level),
        direction: directions.into_iter().find(|direction| direction.name() == time.direction),
        netns: None,
        device: None,
    }
}

/// The frames of a lab: direction, level, layer, stage. Socket wait, which depends on the reading program, is left
/// out.
fn frames(row: &Row) -> Frame {
    let mut root = Frame::new(row.lab.clone(), Color { r: 238, g: 236, b: 231 });
    let stages = &row.measured.stages;
    for time in stages.rows.iter().filter(|time| !time.is_socket_wait()) {
        let key = key(time);
        let stack: Vec<(String, Color)> = stack("", &key)
            .into_iter()
            .skip(1)
            .map(|(column, name)| {
                let colour = colour(column, &name, &key);
                (name, colour)
            })
            .collect();
        root.add(&stack, stages.per_packet(time), 0.0);
    }
    root
}

/// The flame graph; its full width is `scale_ns` per packet.
pub(super) fn graph(row: &Row, scale_ns: f64) -> Markup {
    let root = frames(row);
    let label =
        |frame: &Frame| format!("{} per packet, {}", time(frame.ns), percent(frame.ns / root.ns.max(1.0)));
    graph::graph(&root, scale_ns, &format!("Flame graph of {}", row.lab), &label)
}
