//! What container networks this machine looks like it has: told by its devices, chains, sets, routes and virtual
//! servers, as the rules in `rules.rs` know them. Nothing is changed by looking, and no kernel module is loaded.

mod facts;
mod look;
mod matching;
mod netfilter;
mod rules;

use std::fs::File;

use serde::{Deserialize, Serialize};

use crate::sys::netns;
pub use facts::Facts;

/// Something that was recognised.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Likeness {
    /// As people call it: `flannel`.
    pub name: String,
    /// Which of its kinds: `vxlan, VNI 1, port 8472`; may be empty.
    pub details: String,
    /// Whether it comes with a network (`kube-proxy`) or is one.
    pub beside: bool,
    /// What led to it, and where: `flannel.1 (vxlan) in node1`.
    pub because: Vec<String>,
}

/// Looks into these network namespaces, given by name, path or process, or into all there are.
pub fn look(given: &[String]) -> Vec<Likeness> {
    let namespaces: Vec<(String, File)> = netns::all()
        .into_iter()
        .filter(|place| {
            given.is_empty()
                || given.iter().any(|given| netns::inode(given).is_ok_and(|own| own == place.inode))
        })
        .map(|place| (place.name, place.file))
        .collect();
    matching::likenesses(&look::facts(namespaces))
}

/// A sentence about what was recognised.
pub fn sentence(found: &[Likeness]) -> String {
    let text = |beside: bool| -> Vec<String> {
        let one = |likeness: &Likeness| match likeness.details.as_str() {
            "" => likeness.name.clone(),
            details => format!("{} ({details})", likeness.name),
        };
        found.iter().filter(|likeness| likeness.beside == beside).map(one).collect()
    };
    match (text(false).join(" and "), text(true).join(" and ")) {
        (networks, besides) if networks.is_empty() && besides.is_empty() => {
            "nothing here is known as a container network".to_owned()
        }
        (networks, besides) if besides.is_empty() => format!("this looks like {networks}"),
        (networks, besides) if networks.is_empty() => format!("this looks like {besides}"),
        (networks, besides) => format!("this looks like {networks} with {besides}"),
    }
}

/// What led to it: each thing once, with how many namespaces have it if these are several.
pub fn reasons(found: &[Likeness]) -> String {
    let mut all: Vec<(&str, Vec<&str>)> = Vec::new();
    for reason in found.iter().flat_map(|likeness| &likeness.because) {
        let (what, place) = reason.rsplit_once(" in ").unwrap_or((reason, ""));
        match all.iter_mut().find(|(known, _)| *known == what) {
            Some((_, places)) if places.contains(&place) => {}
            Some((_, places)) => places.push(place),
            None => all.push((what, vec![place])),
        }
    }
    let text = |(what, places): &(&str, Vec<&str>)| match places[..] {
        [place] => format!("{what} in {place}"),
        [first, ..] => format!("{what} in {first} and {} more", places.len() - 1),
        [] => (*what).to_owned(),
    };
    all.iter().map(text).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
