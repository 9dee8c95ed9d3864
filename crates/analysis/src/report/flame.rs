//! Flame graphs of `--format svg`, drawn by inferno, with a legend below.

use anyhow::{Context, Result, ensure};
use inferno::flamegraph::{
    self, Options, TextTruncateDirection,
    color::{BackgroundColor, Color, PaletteMap},
};

use super::{
    folded,
    frames::{Frames, Tells, machine_and_netns, stack},
    heading::losses,
    palette::{OTHER, PLACE, WAIT, colour, layer, overlay},
    units::{count, percent, signed_time, time},
};
use crate::breakdown::{Analysis, Diff, Key};
use crate::tail::Tail;

/// Borders, so that neighbouring frames of one colour can be told apart.
const BORDERS: &str = "\n#frames rect { stroke: #f2f2f2; stroke-width: 0.7; }";

/// Pixels of the legend below the graph.
const LEGEND_HEIGHT: usize = 44;

/// inferno adds up in 64 bits; this leaves room for 146 years of packets' time.
const DRAWABLE_MAX: f64 = (1u64 << 62) as f64;

/// The flame graph of an analysis.
pub(super) fn report(analysis: &Analysis) -> Result<Vec<u8>> {
    ensure!(
        analysis.end_to_end.sum() > 0,
        "no packet finished its path during the recording: there is nothing to draw"
    );
    let header = &analysis.header;
    let (lines, mut colours) = stacks(analysis);
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
    options.subtitle = Some(subtitle(analysis));
    let legend = [
        (
            ["conntrack", "ip", "bridge", "iptables"].map(layer).to_vec(),
            "work: the CPU processes the packet (colour: layer)",
        ),
        (vec![WAIT], "wait: in a queue, or behind other packets"),
        (vec![OTHER], "other: in no stage"),
        (vec![PLACE], "place"),
        (vec![overlay(1), overlay(2)], "inside an overlay"),
    ]
    .map(|(colours, text)| (colours, text.to_string()));
    let is_merged = analysis.rows.iter().any(|row| machine_and_netns(&row.key).0.is_some());
    let reading = format!(
        "Width is time, left to right is the packets' path. From the bottom: {}, network namespace and direction, level \
         (encapsulation headers around the packet), device, layer, stage.",
        if is_merged { "all nodes, machine" } else { "node" }
    );
    draw(options, &lines, &legend, &reading)
}

/// What was lost, and what is left out.
fn subtitle(analysis: &Analysis) -> String {
    let mut parts = vec![format!("lost: {}", losses(analysis))];
    if !analysis.complete {
        parts.push("the recording ended abruptly".into());
    }
    parts.push(format!("in no stage: {}", percent(analysis.other_share())));
    parts.extend(
        analysis.left_out.iter().map(|(stage, share)| format!("{stage}, {}, is left out", percent(*share))),
    );
    parts.join(" | ")
}

/// Folded stacks and the colours of their frames. A suffix that inferno strips tells a layer from a stage or a device of
/// the same name.
fn stacks(analysis: &Analysis) -> (String, PaletteMap) {
    let mut frames = Frames::<u128>::default();
    let mut colours = PaletteMap::default();
    let prefix = analysis.netns_prefix();
    let mut root = format!("node {}", analysis.header.node);
    if !prefix.is_empty() {
        root += &format!(" (namespaces {prefix}…)");
    }
    for row in &analysis.rows {
        let netns = row.key.netns.as_ref().map(|netns| netns.strip_prefix(&prefix).unwrap_or(netns).into());
        let key = Key { netns, ..row.key.clone() };
        let mut names = Vec::new();
        for (tells, name) in stack(&root, &key) {
            let mark = match tells {
                Tells::Where | Tells::Level(_) => "_[w]",
                Tells::Layer => "_[i]",
                Tells::Stage => "",
            };
            let marked = format!("{name}{mark}");
            colours.insert(&marked, colour(tells, &name, &key));
            names.push(marked);
        }
        frames.add(&names, row.raw.sum());
    }
    colours.insert("", PLACE);
    (frames.folded(&|ns| ns.to_string()), colours)
}

/// The flame graph of the second recording of a difference.
pub(super) fn diff(diff: &Diff) -> Result<Vec<u8>> {
    ensure!(
        diff.second.end_to_end.sum() > 0,
        "no packet finished its path during the second recording: there is nothing to draw"
    );
    let total = diff.total();
    let mut options = options();
    options.count_name = format!("ns {}", diff.per.name());
    options.title = format!(
        "{} {}: {} in the first recording, {} in the second",
        signed_time(total.delta(diff.per)),
        diff.per.name(),
        time(total.first.each(diff.per)),
        time(total.second.each(diff.per))
    );
    let side = |analysis: &Analysis| {
        format!(
            "{} (node {}, kernel {}, {} packets, {} records lost)",
            analysis.file,
            analysis.header.node,
            analysis.header.kernel,
            count(analysis.packets()),
            count(analysis.last.counters.lost_records)
        )
    };
    options.subtitle = Some(format!("first: {} | second: {}", side(&diff.first), side(&diff.second)));
    let reading = format!(
        "Width is the time {} in the second recording. From the bottom: direction, level (encapsulation headers \
         around the packet), layer, stage. Stages that only the first has are in the table.",
        diff.per.name()
    );
    draw(options, &folded::diff(diff), &difference("in the second"), &reading)
}

/// The flame graph of the slow packets, coloured by the difference to the ordinary ones.
pub(super) fn tail(tail: &Tail) -> Result<Vec<u8>> {
    ensure!(tail.is_comparison(), "there are not both slow and ordinary packets: there is nothing to draw");
    let mut options = options();
    options.count_name = "ns per packet".into();
    options.title = format!(
        "The slow packets: {} per packet, {} in ordinary ones",
        time(tail.slow.mean_ns as f64),
        time(tail.ordinary.mean_ns as f64)
    );
    options.subtitle = Some(format!(
        "{} slow packets (above {}), {} ordinary ones | {}",
        count(tail.slow.packets),
        time(tail.threshold_ns as f64),
        count(tail.ordinary.packets),
        subtitle(&tail.analysis)
    ));
    let reading = "Width is the time per slow packet, left to right is the packets' path. From the bottom: node, network \
                   namespace and direction, level (encapsulation headers around the packet), device, layer, stage.";
    draw(options, &folded::tail(tail), &difference("in slow packets"), reading)
}

/// The legend of inferno's difference colours.
fn difference(whose: &str) -> Vec<(Vec<Color>, String)> {
    let colour = |r, g, b| Color { r, g, b };
    vec![
        (vec![colour(255, 200, 200), colour(255, 130, 130), colour(255, 60, 60)], format!("slower {whose}")),
        (vec![colour(250, 250, 250)], "the same".into()),
        (vec![colour(200, 200, 255), colour(130, 130, 255), colour(60, 60, 255)], format!("faster {whose}")),
    ]
}

fn options() -> Options<'static> {
    let mut options = Options::default();
    options.count_name = "ns".into();
    options.name_type = "Stage:".into();
    options.bgcolors = Some(BackgroundColor::Grey);
    options.frame_height = 18;
    options.font_size = 11;
    options.font_type = "sans-serif".into();
    options.font_width = 0.52;
    options.text_truncate_direction = TextTruncateDirection::Right;
    // Keeps the order of the lines (inferno takes them from the last to the first) instead of sorting by name.
    options.flame_chart = true;
    options
}

fn draw(
    mut options: Options<'_>,
    folded: &str,
    legend: &[(Vec<Color>, String)],
    reading: &str,
) -> Result<Vec<u8>> {
    ensure!(
        width(folded) < DRAWABLE_MAX,
        "the packets' times add up to more than 146 years: the recording seems to be damaged"
    );
    let mut svg = Vec::new();
    flamegraph::from_lines(&mut options, folded.lines().rev(), &mut svg)
        .context("cannot draw the flame graph")?;
    let svg = String::from_utf8(svg).context("cannot draw the flame graph")?;
    Ok(with_legend(&svg, legend, reading).into_bytes())
}

/// The sum of all values of folded stacks.
fn width(folded: &str) -> f64 {
    let values = |line: &'_ str| line.rsplit(' ').map_while(|value| value.parse::<f64>().ok()).sum::<f64>();
    folded.lines().map(values).sum()
}

/// Extends the picture at the bottom and puts the legend there.
fn with_legend(svg: &str, legend: &[(Vec<Color>, String)], reading: &str) -> String {
    let Some(height) = attribute(svg, "height").and_then(|height| height.parse::<usize>().ok()) else {
        return svg.into();
    };
    let higher = height + LEGEND_HEIGHT;
    let mut items = String::new();
    let mut x = 10;
    for (colours, text) in legend {
        for Color { r, g, b } in colours {
            let y = height + 2;
            items += &format!(
                "<rect x=\"{x}\" y=\"{y}\" width=\"12\" height=\"12\" fill=\"rgb({r},{g},{b})\" stroke=\"#888\"/>"
            );
            x += 13;
        }
        items += &format!("<text x=\"{}\" y=\"{}\">{text}</text>", x + 4, height + 12);
        x += 24 + text.len() * 6;
    }
    items += &format!("<text x=\"10\" y=\"{}\">{reading}</text>", height + 32);
    svg.replacen(&format!("height=\"{height}\""), &format!("height=\"{higher}\""), 2)
        .replacen(&format!(" {height}\""), &format!(" {higher}\""), 1)
        .replacen("<style type=\"text/css\">", &format!("<style type=\"text/css\">{BORDERS}"), 1)
        .replacen("<svg id=\"frames\"", &format!("<g id=\"legend\">{items}</g><svg id=\"frames\""), 1)
}

/// The value of the first attribute of this name.
fn attribute<'a>(svg: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = svg.split_once(&format!(" {name}=\""))?;
    rest.split('"').next()
}
