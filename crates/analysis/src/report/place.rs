//! Where a row is, in words.

use crate::breakdown::Key;

/// `backlog-wait at eth0 of node2 (level 1)`.
pub fn place(key: &Key) -> String {
    let stage = key.stage.as_deref().unwrap_or_default();
    let named = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
    let place = match (named(&key.device), named(&key.netns)) {
        (Some(device), Some(netns)) => format!(" at {device} of {netns}"),
        (Some(device), None) => format!(" at {device}"),
        (None, Some(netns)) => format!(" in {netns}"),
        (None, None) => String::new(),
    };
    match (stage, key.level) {
        // Of the whole namespace.
        ("", None) => place.trim_start().to_owned(),
        _ => format!("{stage}{place} (level {})", key.level.unwrap_or(0)),
    }
}

/// The place of a row as cells of a table; a dash where something is unknown.
#[derive(Clone)]
pub(super) struct PlaceCells {
    pub stage: String,
    pub kind: &'static str,
    /// `L1`.
    pub level: String,
    /// Namespace and direction.
    pub netns: String,
    pub device: String,
}

impl PlaceCells {
    pub fn of(key: &Key) -> PlaceCells {
        let or_dash = |name: &Option<String>| match name.as_deref() {
            None | Some("") => "-".to_string(),
            Some(name) => name.to_string(),
        };
        let direction = key.direction.map(|direction| direction.name()).unwrap_or_default();
        PlaceCells {
            stage: or_dash(&key.stage),
            kind: key.kind,
            level: format!("L{}", key.level.unwrap_or(0)),
            netns: format!("{} {direction}", or_dash(&key.netns)).trim_end().into(),
            device: or_dash(&key.device),
        }
    }

    /// The cells in the order of the columns.
    pub fn cells(&self) -> [String; 5] {
        let PlaceCells { stage, kind, level, netns, device } = self.clone();
        [stage, kind.into(), level, netns, device]
    }
}
