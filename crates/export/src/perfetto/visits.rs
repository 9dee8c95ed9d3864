//! What a packet does between coming to a place and leaving it.

use std::{collections::HashMap, ops::Range};

use anyhow::{Result, ensure};
use overlay_trace_analysis::{breakdown::Key, report::frames::machine_and_netns};
use overlay_trace_common::record::RecordHeader;
use overlay_trace_format::Recording;

use crate::packet::{Packet, for_each, named};

/// A viewer shows no more than some millions of slices, and all of them are in memory.
const SPANS_MAX: usize = 5_000_000;

/// A CPU at a device of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// Only merged recordings have machines.
    pub machine: Option<String>,
    pub netns: String,
    pub device: String,
    pub cpu: Option<u16>,
}

/// What a span is.
pub struct Name {
    pub stage: String,
    pub layer: String,
    pub kind: &'static str,
    pub level: u8,
}

/// A packet at a place.
pub struct Visit {
    pub place: u32,
    pub packet: u32,
    pub start_ns: u64,
    pub end_ns: u64,
    /// In [`Visits::spans`].
    pub spans: Range<usize>,
    /// Whether the path ends here.
    pub is_last: bool,
}

#[derive(Default)]
pub struct Visits {
    /// Place by place, in the order of their starts.
    pub all: Vec<Visit>,
    pub places: Vec<Place>,
    pub packets: Vec<RecordHeader>,
    /// The time in ns, and the number of a name.
    pub spans: Vec<(u64, u32)>,
    pub names: Vec<Name>,
    place_numbers: HashMap<Place, u32>,
    name_numbers: HashMap<(String, u8), u32>,
}

impl Visits {
    /// # Errors
    ///
    /// The recording cannot be read, or has more spans than a viewer can show.
    pub fn of(recording: &Recording) -> Result<Visits> {
        let mut visits = Visits::default();
        for_each(recording, |packet| {
            visits.add(packet);
            ensure!(
                visits.spans.len() <= SPANS_MAX,
                "the recording has more than {SPANS_MAX} spans, too many for one Perfetto trace: take a piece of it first \
                 (`overlay-trace cut`)"
            );
            Ok(())
        })?;
        let Visits { all, places, .. } = &mut visits;
        all.sort_by(|a, b| {
            let of = |visit: &Visit| (&places[visit.place as usize], visit.start_ns);
            of(a).cmp(&of(b))
        });
        Ok(visits)
    }

    fn add(&mut self, packet: &Packet<'_>) {
        let number = self.packets.len() as u32;
        let mut now = packet.header.start_ns;
        let mut open: Option<Visit> = None;
        for (span, key) in &packet.spans {
            let place = self.place(key, span.cpu);
            if open.as_ref().is_none_or(|visit| visit.place != place) {
                self.all.extend(open.take());
            }
            let at = self.spans.len();
            let name = self.name(key);
            self.spans.push((span.ns, name));
            let spans = at..at;
            let visit = open.get_or_insert(Visit {
                place,
                packet: number,
                start_ns: now,
                end_ns: now,
                spans,
                is_last: false,
            });
            now = now.saturating_add(span.ns);
            visit.end_ns = now;
            visit.spans.end = at + 1;
        }
        self.all.extend(open.map(|visit| Visit { is_last: true, ..visit }));
        self.packets.push(*packet.header);
    }

    fn place(&mut self, key: &Key, cpu: Option<u16>) -> u32 {
        let (machine, netns) = machine_and_netns(key);
        let place = Place {
            machine: machine.map(str::to_owned),
            netns: netns.filter(|netns| !netns.is_empty()).unwrap_or("unknown namespace").to_owned(),
            device: named(&key.device).unwrap_or("no device").to_owned(),
            cpu,
        };
        let next = self.places.len() as u32;
        let number = *self.place_numbers.entry(place.clone()).or_insert(next);
        if number == next {
            self.places.push(place);
        }
        number
    }

    fn name(&mut self, key: &Key) -> u32 {
        let (stage, level) = (key.stage.clone().unwrap_or_default(), key.level.unwrap_or(0));
        let next = self.names.len() as u32;
        let number = *self.name_numbers.entry((stage.clone(), level)).or_insert(next);
        if number == next {
            let layer = key.layer.clone().unwrap_or_default();
            self.names.push(Name { stage, layer, kind: key.kind, level });
        }
        number
    }
}
