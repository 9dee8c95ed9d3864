//! Flame graphs, drawn by inferno, with a legend below.

use anyhow::{Context, Result, ensure};
use inferno::flamegraph::{
    self, Options, TextTruncateDirection,
    color::{BackgroundColor, Color},
};

use super::{
    folded,
    palette::{OTHER, PLACE, WAIT, layer, overlay, palette},
    text::losses,
    units::{count, percent, signed_time, time},
};
use crate::analysis::{Analysis, Diff};

/// Pixels of the legend below the graph.
const LEGEND_HEIGHT: usize = 44;

/// The flame graph of an analysis.
pub(super) fn report(analysis: &Analysis) -> Result<Vec<u8>> {
    ensure!(
        analysis.end_to_end.sum() > 0,
        "no packet finished its way during the recording: there is nothing to draw"
    );
    let header = &analysis.header;
    let mut colours = palette(analysis);
    let mut options = options();
    options.palette_map = Some(&mut colours);
    options.title = format!(
        "Where {} packets spent their time: {} each (node {}, kernel {}, probe set {})",
        count(analysis.packets()),
        time(analysis.end_to_end.mean()),
        header.node,
        header.kernel,
        header.probe_set
    );
    options.subtitle = Some(format!(
        "lost: {}{} | no stage claims {}",
        losses(analysis),
        if analysis.complete { "" } else { " | the recording ended abruptly" },
        percent(analysis.other_share())
    ));
    let legend = [
        (layer("iptables"), "work: the CPU is busy with the packet (one colour per layer)"),
        (WAIT, "wait: in a queue, or behind others"),
        (OTHER, "claimed by no stage"),
        (PLACE, "where"),
        (overlay(1), "in an overlay"),
    ];
    let reading = "Width is time, left to right is the packets' path. From the bottom: node, network namespace and \
                   direction, level (encapsulation headers around the packet), device, layer, stage.";
    draw(options, &folded::report(analysis), &legend, reading)
}

/// The flame graph of the second recording of a difference.
pub(super) fn diff(diff: &Diff) -> Result<Vec<u8>> {
    ensure!(
        diff.second.end_to_end.sum() > 0,
        "no packet finished its way during the second recording: there is nothing to draw"
    );
    let total = diff.total();
    let mut options = options();
    options.count_name = "ns per packet".into();
    options.title = format!(
        "{} per packet: {} in the first recording, {} in the second",
        signed_time(total.delta()),
        time(total.first.per_packet),
        time(total.second.per_packet)
    );
    let side = |analysis: &Analysis| {
        format!(
            "{}, kernel {}, {} packets",
            analysis.header.node,
            analysis.header.kernel,
            count(analysis.packets())
        )
    };
    options.subtitle = Some(format!("first: {} | second: {}", side(&diff.first), side(&diff.second)));
    let legend = [
        (Color { r: 255, g: 110, b: 110 }, "slower in the second"),
        (Color { r: 250, g: 250, b: 250 }, "the same"),
        (Color { r: 110, g: 110, b: 255 }, "faster in the second"),
    ];
    let reading = "Width is the time per packet in the second recording. From the bottom: direction, level \
                   (encapsulation headers around the packet), layer, stage. What only the first has is in the table.";
    draw(options, &folded::diff(diff), &legend, reading)
}

fn options() -> Options<'static> {
    let mut options = Options::default();
    options.count_name = "ns".into();
    options.name_type = "Stage:".into();
    options.bgcolors = Some(BackgroundColor::Grey);
    options.frame_height = 18;
    options.font_type = "sans-serif".into();
    options.font_width = 0.55;
    options.text_truncate_direction = TextTruncateDirection::Right;
    // The lines are in the order of the packets' path.
    options.no_sort = true;
    options
}

fn draw(mut options: Options<'_>, folded: &str, legend: &[(Color, &str)], reading: &str) -> Result<Vec<u8>> {
    let mut svg = Vec::new();
    flamegraph::from_lines(&mut options, folded.lines(), &mut svg).context("cannot draw the flame graph")?;
    let svg = String::from_utf8(svg).context("cannot draw the flame graph")?;
    Ok(with_legend(&svg, legend, reading).into_bytes())
}

/// Makes the picture higher and puts the legend there.
fn with_legend(svg: &str, legend: &[(Color, &str)], reading: &str) -> String {
    let Some(height) = attribute(svg, "height").and_then(|height| height.parse::<usize>().ok()) else {
        return svg.into();
    };
    let higher = height + LEGEND_HEIGHT;
    let mut items = String::new();
    let mut x = 10;
    for (Color { r, g, b }, text) in legend {
        let (box_y, text_y) = (height + 2, height + 12);
        items += &format!(
            "<rect x=\"{x}\" y=\"{box_y}\" width=\"12\" height=\"12\" fill=\"rgb({r},{g},{b})\" stroke=\"#888\"/>\
             <text x=\"{}\" y=\"{text_y}\">{text}</text>",
            x + 17
        );
        x += 40 + text.len() * 6;
    }
    items += &format!("<text x=\"10\" y=\"{}\">{reading}</text>", height + 32);
    svg.replacen(&format!("height=\"{height}\""), &format!("height=\"{higher}\""), 2)
        .replacen(&format!(" {height}\""), &format!(" {higher}\""), 1)
        .replacen("<svg id=\"frames\"", &format!("<g id=\"legend\">{items}</g><svg id=\"frames\""), 1)
}

/// The value of the first attribute of this name.
fn attribute<'a>(svg: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = svg.split_once(&format!(" {name}=\""))?;
    rest.split('"').next()
}
