//! Tracks. Slices of a track have to lie in each other or one after the other: packets that are at one place at once are on
//! tracks of the same name, which viewers show as one.

use std::collections::HashMap;

use super::{
    messages::TrackDescriptor,
    visits::{Place, Visit},
};

/// The track of the node.
pub const ROOT: u64 = 1;

#[derive(Default)]
pub struct Lanes {
    /// By place: each lane's track, and until when it is taken.
    lanes: HashMap<u32, Vec<(u64, u64)>>,
    /// Tracks of machines, namespaces and devices, by their names from the outermost on.
    groups: HashMap<Vec<String>, u64>,
    tracks: u64,
}

impl Lanes {
    /// The track of a visit, and the tracks that have to be described before it. Visits of a place come in the order of
    /// their starts.
    pub fn track(&mut self, place: &Place, visit: &Visit) -> (u64, Vec<TrackDescriptor>) {
        let lanes = self.lanes.entry(visit.place).or_default();
        if let Some(lane) = lanes.iter_mut().find(|(_, until)| *until <= visit.start_ns) {
            lane.1 = visit.end_ns;
            return (lane.0, Vec::new());
        }
        let mut new = Vec::new();
        let parent = self.group(place, &mut new);
        let uuid = self.next();
        let name = place.cpu.map_or("unknown CPU".to_owned(), |cpu| format!("CPU {cpu}"));
        new.push(TrackDescriptor { uuid, name, parent_uuid: Some(parent) });
        self.lanes.entry(visit.place).or_default().push((uuid, visit.end_ns));
        (uuid, new)
    }

    fn next(&mut self) -> u64 {
        self.tracks += 1;
        ROOT + self.tracks
    }

    /// The track of the place's device.
    fn group(&mut self, place: &Place, new: &mut Vec<TrackDescriptor>) -> u64 {
        let names = place.machine.iter().chain([&place.netns, &place.device]);
        let (mut path, mut parent) = (Vec::new(), ROOT);
        for name in names {
            path.push(name.clone());
            parent = match self.groups.get(&path) {
                Some(&uuid) => uuid,
                None => {
                    let uuid = self.next();
                    self.groups.insert(path.clone(), uuid);
                    new.push(TrackDescriptor { uuid, name: name.clone(), parent_uuid: Some(parent) });
                    uuid
                }
            };
        }
        parent
    }
}
