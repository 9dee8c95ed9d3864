//! Bundles: what a runtime gives to `runc` to run, a folder for each container. containerd, CRI-O and podman keep them.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
};

use overlay_trace_format::Pod;
use serde::Deserialize;

use super::{Labels, Places, PodNetns, entries, read_file};

/// Where containerd keeps bundles: a folder for each of its namespaces, in it one for each container.
const CONTAINERD: &str = "/run/containerd/io.containerd.runtime.v2.task";
/// Where CRI-O and podman do.
const STORAGE: &str = "/run/containers/storage/overlay-containers";
/// The names of podman's containers.
const STORAGE_NAMES: &str = "/var/lib/containers/storage/overlay-containers/containers.json";

pub(super) const FOLDERS: [&str; 2] = [CONTAINERD, STORAGE];

/// The annotations of the two runtimes that serve the kubelet.
struct Keys {
    kind: &'static str,
    pod: &'static str,
    namespace: &'static str,
    container: &'static str,
    sandbox: &'static str,
}

const KEYS: [Keys; 2] = [
    Keys {
        kind: "io.kubernetes.cri.container-type",
        pod: "io.kubernetes.cri.sandbox-name",
        namespace: "io.kubernetes.cri.sandbox-namespace",
        container: "io.kubernetes.cri.container-name",
        sandbox: "io.kubernetes.cri.sandbox-id",
    },
    Keys {
        kind: "io.kubernetes.cri-o.ContainerType",
        pod: "io.kubernetes.cri-o.KubeName",
        namespace: "io.kubernetes.cri-o.Namespace",
        container: "io.kubernetes.container.name",
        sandbox: "io.kubernetes.cri-o.SandboxID",
    },
];

/// The part of a bundle's `config.json` that is used.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    annotations: Labels,
    linux: Linux,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Linux {
    namespaces: Vec<Namespace>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Namespace {
    #[serde(rename = "type")]
    kind: String,
    path: PathBuf,
}

/// What a bundle says.
#[derive(Clone)]
enum Bundle {
    /// The container that holds a pod's namespaces. `None` with hostNetwork.
    Sandbox { pod: Pod, netns: Option<PathBuf> },
    /// A container of a pod.
    Member { sandbox: String, container: String },
    /// A container outside of Kubernetes. Without a path its first process tells its namespace.
    Alone { name: Option<String>, netns: Option<PathBuf> },
}

/// The bundles so far, by folder: none of them changes.
#[derive(Default)]
pub(super) struct Bundles {
    known: HashMap<PathBuf, Option<Bundle>>,
}

impl Bundles {
    /// The namespaces of all bundles.
    pub fn read(&mut self, places: &Places) -> Vec<PodNetns> {
        let folders = folders(places);
        let there: HashSet<&PathBuf> = folders.iter().map(|(folder, _)| folder).collect();
        self.known.retain(|folder, _| there.contains(folder));
        for (folder, _) in &folders {
            if !self.known.contains_key(folder) {
                // Written before the container is made: one that cannot be read now may be tomorrow.
                if let Ok(config) = read_file(&folder.join("config.json")) {
                    self.known.insert(folder.clone(), bundle(&config));
                }
            }
        }
        let names = names_of_podman(places, &folders);
        let with_bundle = folders.iter().filter_map(|(folder, id)| {
            Some((folder.as_path(), id.as_str(), self.known.get(folder)?.as_ref()?))
        });
        let all: Vec<(&Path, &str, &Bundle)> = with_bundle.collect();
        let mut members: HashMap<&str, Vec<String>> = HashMap::new();
        for (_, _, bundle) in &all {
            if let Bundle::Member { sandbox, container } = bundle {
                members.entry(sandbox).or_default().push(container.clone());
            }
        }
        all.iter()
            .filter_map(|(folder, id, bundle)| namespace(places, folder, id, bundle, &members, &names))
            .collect()
    }
}

/// The folders of bundles, with the containers' ids.
fn folders(places: &Places) -> Vec<(PathBuf, String)> {
    let containerd = places.at(CONTAINERD);
    let tasks = entries(&containerd).into_iter().flat_map(|namespace| {
        let namespace = containerd.join(namespace);
        entries(&namespace).into_iter().map(move |id| (namespace.join(&id), id))
    });
    let storage = places.at(STORAGE);
    let stored = entries(&storage).into_iter().map(|id| (storage.join(&id).join("userdata"), id));
    tasks.chain(stored).collect()
}

/// The namespace of a bundle, if it has one of its own.
fn namespace(
    places: &Places,
    folder: &Path,
    id: &str,
    bundle: &Bundle,
    members: &HashMap<&str, Vec<String>>,
    names: &HashMap<String, String>,
) -> Option<PodNetns> {
    let (pod, path) = match bundle {
        Bundle::Member { .. } => return None,
        Bundle::Sandbox { pod, netns } => {
            let containers = members.get(id).cloned().unwrap_or_default();
            (Pod { containers, ..pod.clone() }, netns.clone()?)
        }
        Bundle::Alone { name, netns } => {
            let name = name.clone().or_else(|| names.get(id).cloned())?;
            let path = netns.clone().or_else(|| of_first_process(places, folder, id))?;
            (Pod { containers: vec![name.clone()], name, ..Pod::default() }, path)
        }
    };
    Some(PodNetns { identity: places.namespace(&path)?, path, pod })
}

/// The namespace of the container's first process, if the process is the container's still: its number may have been
/// reused.
fn of_first_process(places: &Places, folder: &Path, id: &str) -> Option<PathBuf> {
    let text = read_file(&folder.join("init.pid")).ok()?;
    let process: u32 = std::str::from_utf8(&text).ok()?.trim().parse().ok()?;
    let process = places.at(&format!("/proc/{process}"));
    let cgroup = fs::read_to_string(process.join("cgroup")).ok()?;
    cgroup.contains(id).then(|| process.join("ns/net"))
}

/// What a bundle's `config.json` says; `None` if it is of no use.
fn bundle(config: &[u8]) -> Option<Bundle> {
    let Config { mut annotations, linux } = serde_json::from_slice(config).ok()?;
    let netns = linux.namespaces.into_iter().find(|namespace| namespace.kind == "network");
    let path = netns.as_ref().map(|namespace| namespace.path.clone());
    let path = path.filter(|path| !path.as_os_str().is_empty());
    for keys in &KEYS {
        let Some(kind) = annotations.remove(keys.kind) else { continue };
        let mut take = |key: &str| annotations.remove(key);
        return match kind.as_str() {
            "sandbox" => {
                let (namespace, name) = (take(keys.namespace)?, take(keys.pod)?);
                Some(Bundle::Sandbox { pod: Pod { namespace, name, ..Pod::default() }, netns: path })
            }
            _ => Some(Bundle::Member { sandbox: take(keys.sandbox)?, container: take(keys.container)? }),
        };
    }
    // Without an entry the container is in the network namespace of who runs the runtime: the node's.
    netns?;
    Some(Bundle::Alone { name: annotations.remove("nerdctl/name"), netns: path })
}

#[derive(Deserialize)]
struct Stored {
    id: String,
    #[serde(default)]
    names: Vec<String>,
}

/// The names of podman's containers by their ids, if there are any bundles of it.
fn names_of_podman(places: &Places, folders: &[(PathBuf, String)]) -> HashMap<String, String> {
    let storage = places.at(STORAGE);
    if !folders.iter().any(|(folder, _)| folder.starts_with(&storage)) {
        return HashMap::new();
    }
    let list = read_file(&places.at(STORAGE_NAMES)).unwrap_or_default();
    let stored: Vec<Stored> = serde_json::from_slice(&list).unwrap_or_default();
    stored.into_iter().filter_map(|Stored { id, names }| Some((id, names.into_iter().next()?))).collect()
}
