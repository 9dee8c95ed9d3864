//! Changes of a recording.

use crate::chunks::{Chunk, Parts};
use overlay_trace_format::format::Chunk as Kind;
use serde_json::{Map, Value, json};

/// What is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Records,
    /// Everything in JSON but the header.
    Names,
    Header,
    /// Their order and number, lengths, and bytes without right checksums.
    Chunks,
}

/// Numbers that look random, the same for the same beginning.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64, case: u64) -> Random {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ case);
        for _ in 0..4 {
            random.any();
        }
        random
    }

    pub fn any(&mut self) -> u64 {
        // xorshift64*
        self.0 |= u64::from(self.0 == 0);
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.any() >> 33) as usize % end
    }

    fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }

    /// A number at which something may happen.
    fn number(&mut self) -> u64 {
        let near = self.any() % 3;
        match self.below(4) {
            0 => near,
            1 => (1u64 << self.below(64)).wrapping_sub(1).wrapping_add(near),
            2 => u64::MAX - near,
            _ => self.any(),
        }
    }
}

/// Changes the recording, and returns its bytes.
pub fn mutate(parts: &mut Parts, target: Target, random: &mut Random) -> Vec<u8> {
    for _ in 0..1 + random.below(4) {
        match target {
            Target::Chunks => of_chunks(parts, random),
            Target::Records => of_records(parts, random),
            Target::Header => of_json(parts, random, |kind| kind == Kind::Header),
            Target::Names => of_json(parts, random, |kind| kind != Kind::Header && !kind.has_records()),
        }
    }
    let mut bytes = parts.bytes();
    if target == Target::Chunks && random.below(3) == 0 {
        for _ in 0..1 + random.below(3) {
            let at = random.below(bytes.len());
            bytes[at] = random.any() as u8;
        }
        if random.below(2) == 0 {
            bytes.truncate(random.below(bytes.len()));
        }
    }
    bytes
}

fn of_chunks(parts: &mut Parts, random: &mut Random) {
    let chunks = &mut parts.chunks;
    if chunks.is_empty() {
        return;
    }
    let (at, to) = (random.below(chunks.len()), random.below(chunks.len()));
    match random.below(6) {
        0 => drop(chunks.remove(at)),
        1 => chunks.insert(to, chunks[at].clone()),
        2 => chunks.swap(at, to),
        3 => {
            let length = random.below(chunks[at].payload.len() + 1);
            chunks[at].payload.truncate(length);
        }
        4 => chunks[at].kind = random.below(13) as u32,
        _ => chunks[at].payload = chunks[to].payload.clone(),
    }
}

/// Words of records take other values: their headers' fields, and the codes and values of paths.
fn of_records(parts: &mut Parts, random: &mut Random) {
    let Some(chunk) = chosen(parts, random, |kind| kind == Kind::Records) else { return };
    let payload = &mut chunk.payload;
    if payload.len() < 8 {
        return;
    }
    let word = random.below(payload.len() / 8) * 8;
    match random.below(5) {
        // A half of a word: two of a path's words, or a field of four bytes.
        0 => {
            let half = word + 4 * random.below(2);
            let stage = random.below(256) as u32;
            let code = random.one_of(&[0xf0u32, 0xf1, 0xf2, 0xf3, 0xff, stage]);
            payload[half..half + 4].copy_from_slice(&(code << 24 | random.any() as u32 >> 8).to_ne_bytes());
        }
        1 => payload[word..word + 8].copy_from_slice(&random.number().to_ne_bytes()),
        2 => payload[word + random.below(8)] = random.any() as u8,
        3 => {
            let from = random.below(payload.len() / 8) * 8;
            let copied: [u8; 8] = payload[from..from + 8].try_into().expect("eight bytes");
            payload[word..word + 8].copy_from_slice(&copied);
        }
        _ => {
            payload.drain(word..word + 8);
        }
    }
}

fn of_json(parts: &mut Parts, random: &mut Random, is_wanted: fn(Kind) -> bool) {
    let Some(chunk) = chosen(parts, random, is_wanted) else { return };
    let Ok(mut value) = serde_json::from_slice(&chunk.payload) else { return };
    of_value(&mut value, random);
    chunk.payload = serde_json::to_vec(&value).expect("a JSON value");
}

/// A chunk of a wanted kind.
fn chosen<'a>(
    parts: &'a mut Parts,
    random: &mut Random,
    is_wanted: fn(Kind) -> bool,
) -> Option<&'a mut Chunk> {
    let is_it = |chunk: &&mut Chunk| Kind::from_u32(chunk.kind).is_some_and(is_wanted);
    let mut all: Vec<&mut Chunk> = parts.chunks.iter_mut().filter(is_it).collect();
    if all.is_empty() {
        return None;
    }
    let at = random.below(all.len());
    Some(all.swap_remove(at))
}

/// Walks to some place of the value and changes it.
fn of_value(value: &mut Value, random: &mut Random) {
    let stays = random.below(5) == 0;
    match value {
        Value::Array(values) if !values.is_empty() && !stays => {
            let at = random.below(values.len());
            of_value(&mut values[at], random);
        }
        Value::Object(object) if !object.is_empty() && !stays => {
            let at = random.below(object.len());
            if let Some((_, value)) = object.iter_mut().nth(at) {
                of_value(value, random);
            }
        }
        Value::Array(values) => of_array(values, random),
        Value::Object(object) => of_object(object, random),
        other => *other = any(random),
    }
}

fn of_array(values: &mut Vec<Value>, random: &mut Random) {
    if values.is_empty() {
        return values.push(any(random));
    }
    let (at, to) = (random.below(values.len()), random.below(values.len()));
    match random.below(4) {
        0 => drop(values.remove(at)),
        1 => values.swap(at, to),
        2 => {
            let copies = random.one_of(&[1, 2, 300]);
            values.extend(vec![values[at].clone(); copies]);
        }
        _ => values[at] = any(random),
    }
}

fn of_object(object: &mut Map<String, Value>, random: &mut Random) {
    let keys: Vec<String> = object.keys().cloned().collect();
    match random.below(3) {
        0 if !keys.is_empty() => drop(object.remove(&random.one_of(&keys))),
        1 if !keys.is_empty() => {
            let taken = object[&random.one_of(&keys)].clone();
            object.insert(random.one_of(&keys), taken);
        }
        _ => drop(object.insert(random.number().to_string(), any(random))),
    }
}

fn any(random: &mut Random) -> Value {
    match random.below(8) {
        0 => Value::Null,
        1 => Value::Bool(random.below(2) == 0),
        2 => json!([]),
        3 => json!({}),
        4 => json!(-(random.number() as i64 / 2)),
        5 => json!(random.one_of(&[0.0, -1.5, 1e300, 1e-300])),
        6 => json!(random.one_of(&[
            "",
            "\u{1b}[31m",
            "\nFORGED",
            "other",
            "wait",
            "work",
            "up",
            "down",
            "dropped",
            "socket",
            "p99",
            "=1",
            "a;b 1",
            "<x>",
        ])),
        _ => json!(random.number()),
    }
}
