//! A lab's flame graph within the page: time per packet, on a scale that all labs share.

use inferno::flamegraph::color::Color;
use maud::{Markup, html};

use super::{Row, StageTime};
use crate::analysis::{Direction, Key};
use crate::report::frames::stack;
use crate::report::palette::colour;
use crate::report::units::{percent, time};

/// Pixels from one frame to the one above it.
const STEP: usize = 19;
/// Frames that are less of the picture's width than this are not drawn: they could not be seen.
const VISIBLE: f64 = 0.0003;

struct Frame {
    name: String,
    colour: Color,
    ns: f64,
    children: Vec<Frame>,
}

impl Frame {
    /// Adds time to a stack, and to all frames of it.
    fn add(&mut self, stack: &[(String, Color)], ns: f64) {
        self.ns += ns;
        let Some(((name, colour), rest)) = stack.split_first() else { return };
        let at = self.children.iter().position(|child| child.name == *name).unwrap_or_else(|| {
            self.children.push(Frame { name: name.clone(), colour: *colour, ns: 0.0, children: Vec::new() });
            self.children.len() - 1
        });
        self.children[at].add(rest, ns);
    }

    fn depth(&self) -> usize {
        1 + self.children.iter().map(Frame::depth).max().unwrap_or(0)
    }
}

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

/// The lab's frames without waiting in sockets, which is the reading program's: from itself over direction, level and layer to the stage.
fn frames(row: &Row) -> Frame {
    let mut root = Frame {
        name: row.lab.clone(),
        colour: Color { r: 238, g: 236, b: 231 },
        ns: 0.0,
        children: Vec::new(),
    };
    let stages = &row.measured.stages;
    for time in stages.rows.iter().filter(|time| !time.is_socket_wait()) {
        let key = key(time);
        let stack: Vec<(String, Color)> = stack("", &key)
            .into_iter()
            .skip(1)
            .map(|(tells, name)| {
                let colour = colour(tells, &name, &key);
                (name, colour)
            })
            .collect();
        root.add(&stack, stages.per_packet(time));
    }
    root
}

/// The picture; its whole width stands for `scale_ns` per packet.
pub(super) fn graph(row: &Row, scale_ns: f64) -> Markup {
    let root = frames(row);
    let height = root.depth() * STEP;
    let mut drawn = Vec::new();
    draw(&root, &Place { scale_ns, whole_ns: root.ns, from_ns: 0.0, bottom: height, path: "" }, &mut drawn);
    html! {
        svg xmlns="http://www.w3.org/2000/svg" width="100%" height=(height) role="img"
            aria-label={ "Flame graph of " (row.lab) } {
            @for frame in &drawn { (frame) }
        }
    }
}

struct Place<'a> {
    scale_ns: f64,
    whole_ns: f64,
    /// Where the frame begins on the scale.
    from_ns: f64,
    /// Its lower edge, pixels.
    bottom: usize,
    /// The frames below it, by name.
    path: &'a str,
}

fn draw(frame: &Frame, place: &Place<'_>, out: &mut Vec<Markup>) {
    if frame.ns < VISIBLE * place.scale_ns {
        return;
    }
    let part = |ns: f64| format!("{:.3}%", 100.0 * ns / place.scale_ns.max(1.0));
    let Color { r, g, b } = frame.colour;
    let path =
        if place.path.is_empty() { frame.name.clone() } else { format!("{}, {}", place.path, frame.name) };
    out.push(html! {
        svg x=(part(place.from_ns)) y=(place.bottom - STEP) width=(part(frame.ns)) height=(STEP - 1) {
            title { (path) ": " (time(frame.ns)) " per packet, " (percent(frame.ns / place.whole_ns.max(1.0))) }
            rect width="100%" height="100%" fill={ "rgb(" (r) "," (g) "," (b) ")" } {}
            text x="3" y="13" { (frame.name) }
        }
    });
    let mut from_ns = place.from_ns;
    for child in &frame.children {
        let above = Place { from_ns, bottom: place.bottom - STEP, path: &path, ..*place };
        draw(child, &above, out);
        from_ns += child.ns;
    }
}
