//! Container networks that were detected on the machine that recorded.

use serde::{Deserialize, Serialize};

/// A container network, or an addition to one, that was detected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Detection {
    /// As people call it: `flannel`.
    pub name: String,
    /// Which of its kinds: `vxlan, VNI 1, port 8472`; may be empty.
    pub details: String,
    /// Whether it comes with a network (`kube-proxy`) or is one.
    #[serde(rename = "beside")]
    pub is_addition: bool,
    /// What led to it, and where: `flannel.1 (vxlan) in node1`.
    #[serde(rename = "because")]
    pub evidence: Vec<String>,
}

/// A sentence about what was detected.
pub fn sentence(found: &[Detection]) -> String {
    let text = |is_addition: bool| -> Vec<String> {
        let one = |detection: &Detection| match detection.details.as_str() {
            "" => detection.name.clone(),
            details => format!("{} ({details})", detection.name),
        };
        found.iter().filter(|detection| detection.is_addition == is_addition).map(one).collect()
    };
    match (text(false).join(" and "), text(true).join(" and ")) {
        (networks, additions) if networks.is_empty() && additions.is_empty() => {
            "nothing here is known as a container network".to_owned()
        }
        (networks, additions) if additions.is_empty() => format!("this looks like {networks}"),
        (networks, additions) if networks.is_empty() => format!("this looks like {additions}"),
        (networks, additions) => format!("this looks like {networks} with {additions}"),
    }
}

/// The same of a recording with this filter: with one of network namespaces, nothing else was looked at.
pub fn sentence_for(found: &[Detection], filter: &str) -> String {
    if found.is_empty() && filter.split(", ").any(|part| part.starts_with("netns ")) {
        return "no container network is recognised: only the namespaces of --netns were looked at"
            .to_owned();
    }
    sentence(found)
}

/// What led to it: each thing once, with how many namespaces have it if these are several.
pub fn reasons(found: &[Detection]) -> String {
    let mut all: Vec<(&str, Vec<&str>)> = Vec::new();
    for reason in found.iter().flat_map(|detection| &detection.evidence) {
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
