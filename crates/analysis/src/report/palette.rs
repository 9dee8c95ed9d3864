//! The colours of flame graphs: the same stage has the same colour in every graph. Work is warm, by layer;
//! waiting is blue; what says where a packet was is grey.

use std::hash::{BuildHasher, BuildHasherDefault};

use inferno::flamegraph::color::Color;
use overlay_trace_common::stage::{Kind, Layer};
use rustc_hash::FxHasher;

use super::frames::Tells;
use crate::breakdown::Key;

/// Work has one of so many hues: see [`Layer::hue`].
const HUES: u64 = 27;

/// The colour of waiting in legends.
pub const WAIT: Color = Color { r: 96, g: 156, b: 222 };
/// The colour of `other`.
pub const OTHER: Color = Color { r: 150, g: 150, b: 150 };
/// The colour of frames that say where.
pub const PLACE: Color = Color { r: 224, g: 222, b: 216 };

/// The colour of a frame of an analysis.
pub fn colour(tells: Tells, name: &str, key: &Key) -> Color {
    let of_layer = key.layer.as_deref().map_or_else(|| layer(Layer::Ip.name()), layer);
    match tells {
        Tells::Where => PLACE,
        Tells::Level(level) => overlay(level),
        // Pale, since what is above it can be work or waiting.
        Tells::Layer => mix(of_layer, PLACE),
        Tells::Stage if key.kind == Kind::Wait.name() => shade(WAIT, name),
        Tells::Stage => shade(of_layer, name),
    }
}

/// The colour halfway between two.
fn mix(a: Color, b: Color) -> Color {
    let half = |a: u8, b: u8| a.midpoint(b);
    Color { r: half(a.r, b.r), g: half(a.g, b.g), b: half(a.b, b.b) }
}

/// The colour of a level's frame: the more headers the darker.
pub fn overlay(level: u8) -> Color {
    let darker = 34 * level.min(4);
    Color { r: PLACE.r - darker, g: PLACE.g - darker, b: PLACE.b - darker / 3 }
}

/// The warm colour of a layer.
pub fn layer(name: &str) -> Color {
    let layer = Layer::from_name(name);
    if layer == Some(Layer::Other) {
        return OTHER;
    }
    let number = layer.and_then(Layer::hue).map_or_else(|| hash(name) % HUES, u64::from);
    // Steps of a golden section through the hues from red to yellow: neighbouring numbers differ most.
    let hue = (number as f64 * 0.618).fract() * 62.0 - 6.0;
    let lightness = [0.60, 0.70, 0.52][number as usize % 3];
    hsl(hue.rem_euclid(360.0), 0.82, lightness)
}

/// A colour slightly lighter or darker, by a name.
fn shade(colour: Color, name: &str) -> Color {
    let by = (hash(name) % 29) as i16 - 14;
    let shift = |part: u8| (i16::from(part) + by).clamp(0, 255) as u8;
    Color { r: shift(colour.r), g: shift(colour.g), b: shift(colour.b) }
}

fn hash(name: &str) -> u64 {
    BuildHasherDefault::<FxHasher>::default().hash_one(name) >> 20
}

/// A colour from hue (0 to 360), saturation and lightness (0 to 1).
fn hsl(hue: f64, saturation: f64, lightness: f64) -> Color {
    let amplitude = saturation * lightness.min(1.0 - lightness);
    let part = |offset: f64| {
        let k = (offset + hue / 30.0) % 12.0;
        let value = lightness - amplitude * (k - 3.0).min(9.0 - k).clamp(-1.0, 1.0);
        (value * 255.0).round() as u8
    };
    Color { r: part(0.0), g: part(8.0), b: part(4.0) }
}
