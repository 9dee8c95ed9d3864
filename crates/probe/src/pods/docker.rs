//! Docker's containers, by its engine's socket, and the namespaces of its own that hold overlay networks.

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use overlay_trace_format::Pod;
use serde::{Deserialize, de::DeserializeOwned};

use super::{ENTRIES_MAX, FILE_MAX, Labels, Places, PodNetns, entries};

pub(super) const SOCKET: &str = "/run/docker.sock";
/// Where it keeps network namespaces: those of containers, and of overlay networks.
const NAMESPACES: &str = "/run/docker/netns";

/// For each answer of the engine.
const TIMEOUT: Duration = Duration::from_millis(500);

/// Labels that name what a container is a replica of, the best first.
const SERVICES: [&str; 2] = ["com.docker.swarm.service.name", "com.docker.compose.service"];

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    #[serde(default)]
    names: Vec<String>,
    /// `null` where there are none.
    labels: Option<Labels>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    network_settings: NetworkSettings,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    #[serde(default)]
    sandbox_key: PathBuf,
}

/// The namespaces' files of Docker's containers, by the containers' ids.
#[derive(Default)]
pub(super) struct Docker {
    sandboxes: HashMap<String, PathBuf>,
}

impl Docker {
    pub fn read(&mut self, places: &Places) -> Vec<PodNetns> {
        let socket = places.at(SOCKET);
        let listed: Vec<Listed> = get(&socket, "/containers/json").unwrap_or_default();
        self.sandboxes.retain(|id, _| listed.iter().any(|listed| listed.id == *id));
        let containers = listed.into_iter().take(ENTRIES_MAX);
        let mut found: Vec<PodNetns> =
            containers.filter_map(|listed| self.namespace(places, &socket, listed)).collect();
        found.extend(networks(places));
        found
    }

    fn namespace(&mut self, places: &Places, socket: &Path, listed: Listed) -> Option<PodNetns> {
        let Listed { id, names, labels } = listed;
        // A container that is started again has another one.
        let known = self.sandboxes.get(&id).filter(|path| path.exists()).cloned();
        let path = known.or_else(|| {
            let is_id = id.bytes().all(|byte| byte.is_ascii_hexdigit());
            let inspected: Inspected =
                get(socket, &format!("/containers/{id}/json")).ok().filter(|_| is_id)?;
            Some(inspected.network_settings.sandbox_key)
        })?;
        let identity = places.namespace(&path)?;
        self.sandboxes.insert(id, path.clone());
        let labels = labels.unwrap_or_default();
        let name = names.first()?.trim_start_matches('/').to_owned();
        let service = SERVICES.iter().find_map(|label| labels.get(*label)).cloned().unwrap_or_default();
        // A pod of the kubelet that Docker runs (cri-dockerd).
        let pod = |label: &str| labels.get(label).cloned().unwrap_or_default();
        let (namespace, of) = (pod("io.kubernetes.pod.namespace"), pod("io.kubernetes.pod.name"));
        let name = if of.is_empty() { name } else { of };
        Some(PodNetns {
            identity,
            path,
            pod: Pod { namespace, containers: vec![name.clone()], name, service },
        })
    }
}

/// The namespaces that hold overlay networks (`1-x2x9k…`), load balancers (`lb_…`) and the ingress of a swarm.
fn networks(places: &Places) -> Vec<PodNetns> {
    let folder = places.at(NAMESPACES);
    let is_network = |name: &String| name.contains('-') || name.starts_with("lb_") || name == "ingress_sbox";
    let named = entries(&folder).into_iter().filter(is_network);
    named
        .filter_map(|name| {
            let path = folder.join(&name);
            let pod = Pod { name: format!("docker-network:{name}"), ..Pod::default() };
            Some(PodNetns { identity: places.namespace(&path)?, path, pod })
        })
        .collect()
}

/// Asks the engine.
fn get<T: DeserializeOwned>(socket: &Path, path: &str) -> io::Result<T> {
    let mut engine = UnixStream::connect(socket)?;
    engine.set_read_timeout(Some(TIMEOUT))?;
    engine.set_write_timeout(Some(TIMEOUT))?;
    // Of HTTP/1.0 an answer is not cut into chunks, and ends with the connection.
    engine.write_all(format!("GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    engine.take(FILE_MAX).read_to_end(&mut answer)?;
    let body = answer.windows(4).position(|end| end == b"\r\n\r\n").map(|at| &answer[at + 4..]);
    let is_right = answer.starts_with(b"HTTP/1.") && answer.get(9..12) == Some(b"200");
    let body = body.filter(|_| is_right).ok_or(io::ErrorKind::InvalidData)?;
    Ok(serde_json::from_slice(body)?)
}
