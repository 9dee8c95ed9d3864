//! A flame graph within a page, as wide as the page.
//!
//! The flame graphs of `--format svg` are drawn by inferno. Pages need another renderer: inferno's pictures have a fixed
//! width, fill it with their own total, and use ids and a script that allow one of them per document; a page shows several
//! on one scale, and its script zooms and searches all of them.

use std::collections::{HashMap, HashSet};

use inferno::flamegraph::color::Color;
use maud::{Markup, html};

use crate::report::palette::PLACE;

/// Pixels from one frame to the one above it.
const STEP: usize = 19;
/// Frames that are less of the picture's width than this are not drawn: they could be seen only after much zooming.
const VISIBLE: f64 = 0.00003;
/// The frames of a picture have at most so many bytes: the narrowest are left out, however many a recording has.
const BYTES_MAX: usize = 1 << 20;

/// A frame with the frames above it, from left to right.
pub struct Frame {
    pub name: String,
    pub colour: Color,
    /// Its width, in ns.
    pub ns: f64,
    /// The time that it is compared with, in ns; 0 where nothing is compared.
    pub other_ns: f64,
    pub children: Vec<Frame>,
    /// Where each child is, by name.
    index: HashMap<String, usize>,
}

impl Frame {
    /// An empty frame.
    pub fn new(name: impl Into<String>, colour: Color) -> Frame {
        Frame {
            name: name.into(),
            colour,
            ns: 0.0,
            other_ns: 0.0,
            children: Vec::new(),
            index: HashMap::new(),
        }
    }

    /// Adds time to a stack, and to all frames of it.
    pub fn add(&mut self, stack: &[(String, Color)], ns: f64, other_ns: f64) {
        self.ns += ns;
        self.other_ns += other_ns;
        let Some(((name, colour), rest)) = stack.split_first() else { return };
        let at = match self.index.get(name) {
            Some(&at) => at,
            None => {
                self.index.insert(name.clone(), self.children.len());
                self.children.push(Frame::new(name.clone(), *colour));
                self.children.len() - 1
            }
        };
        self.children[at].add(rest, ns, other_ns);
    }

    /// Adds a row of a difference: the names of its frames, its time and the time that it is compared with, in ns. The
    /// colours follow from [`colour_by_change`](Frame::colour_by_change).
    pub fn add_row(&mut self, names: Vec<String>, ns: f64, other_ns: f64) {
        let stack: Vec<_> = names.into_iter().map(|name| (name, PLACE)).collect();
        self.add(&stack, ns, other_ns);
    }

    /// The largest difference of a leaf, in ns.
    fn largest_change(&self) -> f64 {
        let own = if self.children.is_empty() { (self.ns - self.other_ns).abs() } else { 0.0 };
        self.children.iter().map(Frame::largest_change).fold(own, f64::max)
    }

    /// Colours the frames by difference: red is slower, blue is faster, and the strength of the colour is the fraction of
    /// the largest difference.
    pub fn colour_by_change(&mut self) {
        let whole = (self.ns - self.other_ns).abs();
        self.colour_by(self.largest_change().max(whole).max(1.0));
    }

    fn colour_by(&mut self, most_ns: f64) {
        let part = ((self.ns - self.other_ns) / most_ns).clamp(-1.0, 1.0);
        let pale = (245.0 - 190.0 * part.abs().sqrt()) as u8;
        self.colour = match part {
            part if part.abs() < 0.004 => Color { r: 245, g: 245, b: 245 },
            part if part > 0.0 => Color { r: 255, g: pale, b: pale },
            _ => Color { r: pale, g: pale, b: 255 },
        };
        self.children.iter_mut().for_each(|child| child.colour_by(most_ns));
    }

    fn depth(&self) -> usize {
        1 + self.children.iter().map(Frame::depth).max().unwrap_or(0)
    }
}

/// The picture; its whole width is `scale_ns`. `tell` gives the text of a frame, which follows the names of the frames
/// below it and its own.
pub fn graph(root: &Frame, scale_ns: f64, about: &str, tell: &dyn Fn(&Frame) -> String) -> Markup {
    let height = root.depth() * STEP;
    let mut drawn = Vec::new();
    draw(root, &Place { scale_ns, from_ns: 0.0, bottom: height, path: "", tell }, &mut drawn);
    html! {
        svg.flame xmlns="http://www.w3.org/2000/svg" width="100%" height=(height) role="img" aria-label=(about) {
            @for frame in widest(drawn, BYTES_MAX) { (frame) }
        }
    }
}

/// The widest frames that together have at most `bytes`, in their order.
fn widest(frames: Vec<(f64, Markup)>, bytes: usize) -> Vec<Markup> {
    let mut by_width: Vec<usize> = (0..frames.len()).collect();
    by_width.sort_by(|&a, &b| frames[b].0.total_cmp(&frames[a].0));
    let mut sum = 0;
    let fits = |at: &usize| {
        sum += frames[*at].1.0.len();
        sum <= bytes
    };
    let kept: HashSet<usize> = by_width.into_iter().take_while(fits).collect();
    let numbered = frames.into_iter().enumerate();
    numbered.filter(|(at, _)| kept.contains(at)).map(|(_, (_, frame))| frame).collect()
}

struct Place<'a> {
    scale_ns: f64,
    /// Where the frame starts on the scale.
    from_ns: f64,
    /// Its lower edge, pixels.
    bottom: usize,
    /// The frames below it, by name.
    path: &'a str,
    tell: &'a dyn Fn(&Frame) -> String,
}

fn draw(frame: &Frame, place: &Place<'_>, out: &mut Vec<(f64, Markup)>) {
    if frame.ns < VISIBLE * place.scale_ns {
        return;
    }
    let part = |ns: f64| format!("{:.4}%", 100.0 * ns / place.scale_ns.max(1.0));
    let Color { r, g, b } = frame.colour;
    let path =
        if place.path.is_empty() { frame.name.clone() } else { format!("{}, {}", place.path, frame.name) };
    let drawn = html! {
        svg x=(part(place.from_ns)) y=(place.bottom - STEP) width=(part(frame.ns)) height=(STEP - 1) {
            title { (path) ": " ((place.tell)(frame)) }
            rect width="100%" height="100%" fill={ "rgb(" (r) "," (g) "," (b) ")" } {}
            text x="3" y="13" { (frame.name) }
        }
    };
    out.push((frame.ns, drawn));
    let mut from_ns = place.from_ns;
    for child in &frame.children {
        let above = Place { from_ns, bottom: place.bottom - STEP, path: &path, ..*place };
        draw(child, &above, out);
        from_ns += child.ns;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_frames_are_left_out_first() {
        let frame = |ns: f64| (ns, html! { (ns) });
        let frames = || vec![frame(9.0), frame(1.0), frame(5.0)];
        let texts =
            |bytes| -> Vec<String> { widest(frames(), bytes).into_iter().map(Markup::into_string).collect() };
        assert_eq!(texts(3), ["9", "1", "5"]);
        assert_eq!(texts(2), ["9", "5"]);
        assert!(texts(0).is_empty());
    }
}
