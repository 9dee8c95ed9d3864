//! A flame graph for documents: one fixed width, no script, and only namespaces, levels and layers. Frames that are too
//! narrow for their names have numbers, with a legend below.

use anyhow::{Result, ensure};
use inferno::flamegraph::color::Color;
use maud::{Markup, html};

use super::{
    frames::Tells,
    page::graph::Frame,
    palette::{OTHER, PLACE, WAIT, colour, layer},
    units::{count, percent, time},
};
use crate::breakdown::{Analysis, Key};

/// Pixels, as a README is wide.
const WIDTH: f64 = 830.0;
const MARGIN: f64 = 6.0;
/// Pixels of a row of frames, with the gap above it.
const STEP: f64 = 24.0;
/// The same for layers: numbers stand at two heights by turns, so that neighbours do not run into each other.
const LAYER_STEP: f64 = 38.0;
/// Pixels above the frames: title and subtitle.
const HEADING: f64 = 48.0;
/// Pixels of a letter at most, on average.
const LETTER: f64 = 6.2;
/// Pixels of a digit of a number.
const DIGIT: f64 = 5.6;
/// Pixels by which a number may be wider than its frame.
const BESIDE: f64 = 5.0;
/// Layers that are less of the whole are put together, in each namespace and level.
const LEAST: f64 = 0.004;
const REST: &str = "others";
/// Columns and pixels of the key.
const COLUMNS: usize = 5;
const KEY_STEP: f64 = 19.0;

/// A frame's name in the key, its colour, and its time in all places, in ns.
struct Entry {
    name: String,
    colour: Color,
    ns: f64,
}

/// The picture as an SVG.
///
/// # Errors
///
/// There are no packets.
pub(super) fn report(analysis: &Analysis) -> Result<Vec<u8>> {
    ensure!(
        analysis.end_to_end.sum() > 0,
        "no packet finished its path during the recording: there is nothing to draw"
    );
    let root = frames(analysis);
    let key = key(&root);
    let mut drawn = Vec::new();
    let bottom = HEADING + LAYER_STEP + 2.0 * STEP;
    let scale = (WIDTH - 2.0 * MARGIN) / root.ns;
    let mut from = MARGIN;
    for place in &root.children {
        draw(place, &Place { scale, from, bottom, key: &key }, &mut drawn);
        from += place.ns * scale;
    }
    let rows = key.len().div_ceil(COLUMNS);
    let height = bottom + 12.0 + KEY_STEP * rows as f64 + 8.0;
    let header = &analysis.header;
    let title = format!(
        "Where {} packets spent their time: {} each",
        count(analysis.packets()),
        time(analysis.end_to_end.mean())
    );
    let subtitle = format!(
        "node {}, kernel {}, probe set {} | bottom to top: network namespace and direction, level, layer",
        header.node, header.kernel, header.probe_set
    );
    let svg = html! {
        svg xmlns="http://www.w3.org/2000/svg" width=(WIDTH) height=(height) viewBox=(format!("0 0 {WIDTH} {height}"))
            font-family="Helvetica, Arial, sans-serif" font-size="11" role="img" aria-label=(title) {
            rect width="100%" height="100%" fill="#fafafa" {}
            text x=(WIDTH / 2.0) y="20" font-size="15" text-anchor="middle" { (title) }
            text x=(WIDTH / 2.0) y="37" text-anchor="middle" fill="#555" { (subtitle) }
            @for frame in &drawn { (frame) }
            @for (number, entry) in key.iter().enumerate() { (key_entry(number, entry, bottom + 12.0, root.ns)) }
        }
    };
    Ok((svg.into_string() + "\n").into_bytes())
}

/// Namespaces and directions, in each the levels, in each the layers; waiting apart from work.
fn frames(analysis: &Analysis) -> Frame {
    let prefix = analysis.netns_prefix();
    let mut root = Frame::new("", PLACE);
    for row in &analysis.rows {
        let key = &row.key;
        let netns = key.netns.as_deref().unwrap_or_default();
        let direction = key.direction.map_or("", |direction| direction.name());
        let place = format!("{} {direction}", netns.strip_prefix(&prefix).unwrap_or(netns));
        let level = key.level.unwrap_or_default();
        let level_name = format!("level {level}");
        let level_colour = colour(Tells::Level(level), &level_name, key);
        let stack = [(place, PLACE), (level_name, level_colour), layer_of(key)];
        root.add(&stack, row.raw.sum() as f64, 0.0);
    }
    let least = LEAST * root.ns;
    for level in root.children.iter_mut().flat_map(|place| &mut place.children) {
        let (kept, small): (Vec<Frame>, Vec<Frame>) =
            std::mem::take(&mut level.children).into_iter().partition(|frame| frame.ns >= least);
        level.children = kept;
        let ns = small.iter().map(|frame| frame.ns).sum::<f64>();
        if ns > 0.0 {
            let mut rest = Frame::new(REST, OTHER);
            rest.ns = ns;
            level.children.push(rest);
        }
    }
    root
}

fn layer_of(key: &Key) -> (String, Color) {
    let name = key.layer.as_deref().unwrap_or_default();
    if key.kind == "wait" { (format!("{name} wait"), WAIT) } else { (name.into(), layer(name)) }
}

/// The layers, the largest first.
fn key(root: &Frame) -> Vec<Entry> {
    let mut key: Vec<Entry> = Vec::new();
    let levels = root.children.iter().flat_map(|place| &place.children);
    for frame in levels.flat_map(|level| &level.children) {
        match key.iter_mut().find(|entry| entry.name == frame.name) {
            Some(entry) => entry.ns += frame.ns,
            None => key.push(Entry { name: frame.name.clone(), colour: frame.colour, ns: frame.ns }),
        }
    }
    // What is put together comes last.
    key.sort_by(|a, b| (a.name == REST).cmp(&(b.name == REST)).then(b.ns.total_cmp(&a.ns)));
    key
}

/// Where a frame is drawn.
struct Place<'a> {
    /// Pixels per ns.
    scale: f64,
    /// Left and lower edge, pixels.
    from: f64,
    bottom: f64,
    key: &'a [Entry],
}

fn draw(frame: &Frame, place: &Place<'_>, out: &mut Vec<Markup>) {
    let width = frame.ns * place.scale;
    let step = if frame.children.is_empty() { LAYER_STEP } else { STEP };
    let top = place.bottom - step;
    let label = label(&frame.name, width, place.key);
    let is_number = label.parse::<usize>().is_ok();
    let by_turns = if out.len().is_multiple_of(2) { 7.0 } else { -7.0 };
    let middle = top + step / 2.0 + 3.5 + if is_number { by_turns } else { 0.0 };
    out.push(html! {
        rect x=(pixels(place.from)) y=(pixels(top)) width=(pixels(width)) height=(pixels(step - 1.0))
            fill=(rgb(frame.colour)) stroke="#fafafa" stroke-width="0.8" {
            title { (frame.name) ": " (time(frame.ns)) }
        }
        @if !label.is_empty() {
            text x=(pixels(place.from + width / 2.0)) y=(pixels(middle)) text-anchor="middle" { (label) }
        }
    });
    let mut from = place.from;
    for child in &frame.children {
        draw(child, &Place { from, bottom: top, ..*place }, out);
        from += child.ns * place.scale;
    }
}

/// The name, or a short form of it, or its number in the key; nothing where not even that has room.
fn label(name: &str, width: f64, key: &[Entry]) -> String {
    let length = |text: &str| text.chars().count() as f64;
    let fits = |text: &str| length(text) * LETTER + 4.0 <= width;
    if fits(name) {
        return name.to_owned();
    }
    if let Some(at) = key.iter().position(|entry| entry.name == name) {
        let number = (at + 1).to_string();
        // There is room beside it.
        return if length(&number) * DIGIT <= width + BESIDE { number } else { String::new() };
    }
    let short = match name.strip_prefix("level ") {
        Some(level) => format!("L{level}"),
        None => name.split(' ').next().unwrap_or(name).to_owned(),
    };
    if fits(&short) { short } else { String::new() }
}

fn key_entry(number: usize, entry: &Entry, top: f64, whole_ns: f64) -> Markup {
    let column = (WIDTH - 2.0 * MARGIN) / COLUMNS as f64;
    let x = MARGIN + column * (number % COLUMNS) as f64;
    let y = top + KEY_STEP * (number / COLUMNS) as f64;
    html! {
        rect x=(pixels(x)) y=(pixels(y)) width="18" height="15" fill=(rgb(entry.colour)) {}
        text x=(pixels(x + 9.0)) y=(pixels(y + 11.5)) text-anchor="middle" { (number + 1) }
        text x=(pixels(x + 23.0)) y=(pixels(y + 11.5)) { (entry.name) " " (percent(entry.ns / whole_ns)) }
    }
}

fn pixels(pixels: f64) -> String {
    format!("{pixels:.1}")
}

fn rgb(Color { r, g, b }: Color) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<Entry> {
        ["socket wait", "ip"].map(|name| Entry { name: name.into(), colour: WAIT, ns: 1.0 }).into()
    }

    #[test]
    fn a_label_is_what_has_room() {
        let key = entries();
        assert_eq!(label("socket wait", 100.0, &key), "socket wait");
        assert_eq!(label("socket wait", 50.0, &key), "1");
        assert_eq!(label("ip", 10.0, &key), "2");
        assert_eq!(label("level 1", 20.0, &key), "L1");
        assert_eq!(label("ip", 0.5, &key), "");
        assert_eq!(label("pod1 egress", 40.0, &key), "pod1");
    }

    #[test]
    fn the_largest_layer_is_number_one_and_the_rest_comes_last() {
        let mut root = Frame::new("", PLACE);
        for (name, ns) in [("ip", 1.0), (REST, 9.0), ("nat", 2.0), ("ip", 3.0)] {
            let stack = ["pod egress", "level 0", name].map(|name| (name.to_owned(), PLACE));
            root.add(&stack, ns, 0.0);
        }
        let names: Vec<String> = key(&root).into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["ip", "nat", REST]);
    }
}
