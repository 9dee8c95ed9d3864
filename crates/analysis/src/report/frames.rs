//! Stacks of flame graphs, from the root to the leaf: node, in merged recordings the machine, namespace and direction,
//! level, device, layer, stage.

use std::collections::HashMap;

use overlay_trace_format::MACHINE_SEPARATOR;

use crate::breakdown::Key;

/// A tree of frames with values at its leaves. Siblings keep the order in which they were added: that of the packets'
/// path.
#[derive(Default)]
pub struct Frames<N> {
    name: String,
    value: N,
    children: Vec<Frames<N>>,
    /// Where each child is, by name: a node can have tens of thousands of devices.
    index: HashMap<String, usize>,
}

impl<N: Default + Copy> Frames<N> {
    /// Adds a stack with its value.
    pub fn add(&mut self, stack: &[String], value: N) {
        let Some((name, rest)) = stack.split_first() else {
            self.value = value;
            return;
        };
        let at = match self.index.get(name) {
            Some(&at) => at,
            None => {
                self.index.insert(name.clone(), self.children.len());
                self.children.push(Frames { name: name.clone(), ..Frames::default() });
                self.children.len() - 1
            }
        };
        self.children[at].add(rest, value);
    }

    /// One line per leaf: the names of its stack, then its value as formatted by `show`.
    pub fn folded(&self, show: &impl Fn(N) -> String) -> String {
        let mut out = String::new();
        self.fold("", show, &mut out);
        out
    }

    fn fold(&self, prefix: &str, show: &impl Fn(N) -> String, out: &mut String) {
        for child in &self.children {
            let stack =
                if prefix.is_empty() { child.name.clone() } else { format!("{prefix};{}", child.name) };
            if child.children.is_empty() {
                *out += &format!("{stack} {}\n", show(child.value));
            }
            child.fold(&stack, show, out);
        }
    }
}

/// What a frame stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tells {
    /// Node, machine, namespace and direction, device.
    Where,
    Level(u8),
    Layer,
    Stage,
}

/// A row's stack under the frame `root`.
pub fn stack(root: &str, key: &Key) -> Vec<(Tells, String)> {
    let mut stack = vec![(Tells::Where, root.to_string())];
    let direction = key.direction.map(|direction| direction.name());
    let (machine, netns) = machine_and_netns(key);
    stack.extend(machine.map(|machine| (Tells::Where, machine.to_string())));
    let place = match (netns, direction) {
        (Some(""), Some(direction)) => Some(format!("unknown namespace {direction}")),
        (Some(netns), Some(direction)) => Some(format!("{netns} {direction}")),
        (None, Some(direction)) => Some(direction.into()),
        _ => None,
    };
    stack.extend(place.map(|place| (Tells::Where, place)));
    stack.extend(key.level.map(|level| (Tells::Level(level), format!("level {level}"))));
    let device = |device: &String| if device.is_empty() { "no device".into() } else { device.clone() };
    stack.extend(key.device.as_ref().map(|name| (Tells::Where, device(name))));
    stack.extend(key.layer.clone().map(|layer| (Tells::Layer, layer)));
    stack.push((Tells::Stage, leaf(key)));
    stack.into_iter().map(|(tells, frame)| (tells, frame_name(tells, &frame))).collect()
}

/// The machine, which only merged recordings name, and the namespace on it.
pub fn machine_and_netns(key: &Key) -> (Option<&str>, Option<&str>) {
    let Some(netns) = key.netns.as_deref() else { return (None, None) };
    match netns.split_once(MACHINE_SEPARATOR) {
        Some((machine, netns)) => (Some(machine), Some(netns)),
        None => (None, Some(netns)),
    }
}

/// A name as a frame of a folded stack, where `;` ends a frame, and the numbers behind the last space are the values.
fn frame_name(tells: Tells, name: &str) -> String {
    let mut name = name.replace(';', ",");
    while let Some((before, last)) = name.rsplit_once(' ').filter(|_| tells == Tells::Stage)
        && last.parse::<f64>().is_ok()
    {
        name = format!("{before}_{last}");
    }
    name
}

/// The names of a row's frames without a root.
pub fn names(key: &Key) -> Vec<String> {
    stack("", key).into_iter().skip(1).map(|(_, name)| name).collect()
}

/// The leaf: the stage. The waiting of a stage of work is a frame of its own.
fn leaf(key: &Key) -> String {
    match &key.stage {
        Some(stage) if key.kind == "wait" && !stage.ends_with("-wait") => format!("{stage} (waiting)"),
        Some(stage) => stage.clone(),
        None => key.kind.into(),
    }
}
