//! A packet's path over time: one lane per place, in the order of its arrival there.

use inferno::flamegraph::color::Color;
use maud::{Markup, html};

use crate::report::units::time;

/// Pixels of a lane, of the name above its bars, and of the time axis below all.
const LANE: usize = 30;
const NAME: usize = 14;
const AXIS: usize = 20;
/// The least width of a bar in percent, so that it can be seen and pointed at.
const WIDTH_MIN: f64 = 0.15;
/// Intervals of the time axis.
const TICKS: u32 = 4;

/// A span of time at one place.
pub struct Bar {
    pub place: String,
    /// Since the start, in ns.
    pub at_ns: u64,
    pub ns: u64,
    pub colour: Color,
    /// Its name, shown where there is room.
    pub name: String,
    /// Its text under the pointer.
    pub tells: String,
}

/// The picture of `whole_ns`, as wide as the page.
pub fn lanes(bars: &[Bar], whole_ns: u64, about: &str) -> Markup {
    let mut places: Vec<&str> = Vec::new();
    for bar in bars {
        if !places.contains(&bar.place.as_str()) {
            places.push(&bar.place);
        }
    }
    let percent = |ns: u64| 100.0 * ns as f64 / whole_ns.max(1) as f64;
    let bottom = places.len() * LANE;
    html! {
        svg xmlns="http://www.w3.org/2000/svg" width="100%" height=(bottom + AXIS) role="img" aria-label=(about) {
            @for (lane, place) in places.iter().enumerate() {
                text.place x="0" y=(lane * LANE + NAME - 3) { (place) }
                rect.lane x="0" y=(lane * LANE + NAME) width="100%" height=(LANE - NAME - 1) {}
                @for bar in bars.iter().filter(|bar| bar.place == *place) {
                    @let Color { r, g, b } = bar.colour;
                    @let width = percent(bar.ns).max(WIDTH_MIN);
                    @let x = percent(bar.at_ns).min(100.0 - width);
                    svg x=(format!("{x:.3}%")) y=(lane * LANE + NAME) width=(format!("{width:.3}%")) height=(LANE - NAME - 1) {
                        title { (bar.tells) }
                        rect width="100%" height="100%" fill={ "rgb(" (r) "," (g) "," (b) ")" } {}
                        text x="3" y="12" { (bar.name) }
                    }
                }
            }
            @for tick in 0..=TICKS {
                @let ns = whole_ns as f64 * f64::from(tick) / f64::from(TICKS);
                @let anchor = if tick == 0 { "start" } else if tick == TICKS { "end" } else { "middle" };
                text.place x={ (100 * tick / TICKS) "%" } y=(bottom + AXIS - 6) text-anchor=(anchor) { (time(ns)) }
            }
        }
    }
}
