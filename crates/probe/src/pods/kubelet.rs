//! Pods of whatever runtime, by the control groups of processes, which have the pods' UIDs in their names, and the
//! kubelet's folders of logs, which have the UIDs beside the pods' names.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use overlay_trace_format::Pod;

use super::{Places, PodNetns, entries, read_file};

pub(super) const LOGS: &str = "/var/log/pods";

/// Pods with a process that is not in the node's own network namespace.
pub(super) fn read(places: &Places) -> Vec<PodNetns> {
    let logs = places.at(LOGS);
    let pods: HashMap<String, Pod> =
        entries(&logs).iter().filter_map(|folder| logged(&logs, folder)).collect();
    if pods.is_empty() {
        return Vec::new();
    }
    let proc = places.at("/proc");
    let processes = entries(&proc).into_iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    let mut found: HashMap<String, PodNetns> = HashMap::new();
    for process in processes {
        let folder = proc.join(process);
        let cgroup = read_file(&folder.join("cgroup")).unwrap_or_default();
        let Some(uid) = uid(&String::from_utf8_lossy(&cgroup)) else { continue };
        let Some(pod) = pods.get(&uid).filter(|_| !found.contains_key(&uid)) else { continue };
        let path: PathBuf = folder.join("ns/net");
        if let Some(identity) = places.namespace(&path) {
            found.insert(uid, PodNetns { identity, path, pod: pod.clone() });
        }
    }
    found.into_values().collect()
}

/// The UID and the pod of a folder of logs, `NAMESPACE_POD_UID`: no other part has a `_` in it. In it is a folder for each
/// container.
fn logged(logs: &Path, folder: &str) -> Option<(String, Pod)> {
    let mut parts = folder.splitn(3, '_');
    let (namespace, name, uid) = (parts.next()?, parts.next()?, parts.next()?);
    let containers = entries(&logs.join(folder));
    let pod = Pod { namespace: namespace.into(), name: name.into(), containers, ..Pod::default() };
    Some((uid.to_owned(), pod))
}

/// The UID of the pod that a control group is of. systemd's names have `_` for `-` in it.
fn uid(cgroup: &str) -> Option<String> {
    let at = cgroup.find("kubepods")?;
    let uids = cgroup[at..].split(['/', '\n']).filter_map(|part| {
        let (_, uid) = part.trim_end_matches(".slice").rsplit_once("pod")?;
        let is_uid =
            uid.len() >= 32 && uid.bytes().all(|byte| byte.is_ascii_hexdigit() || b"-_".contains(&byte));
        is_uid.then(|| uid.replace('_', "-"))
    });
    uids.into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_uid_is_in_the_name_of_its_control_group() {
        let id = "f".repeat(64);
        let expected = Some("0d6a8b2e-5f3c-4d1e-9a7b-1c2d3e4f5a6b".to_owned());
        for cgroup in [
            format!("0::/kubepods/burstable/pod0d6a8b2e-5f3c-4d1e-9a7b-1c2d3e4f5a6b/{id}\n"),
            format!(
                "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0d6a8b2e_5f3c_4d1e_9a7b_1c2d3e4f5a6b.slice/cri-containerd-{id}.scope"
            ),
            format!("12:pids:/x\n0::/kubelet/kubepods/pod0d6a8b2e-5f3c-4d1e-9a7b-1c2d3e4f5a6b/{id}"),
        ] {
            assert_eq!(uid(&cgroup), expected, "{cgroup}");
        }
        assert_eq!(uid("0::/user.slice/podman-123.scope"), None);
        assert_eq!(uid(&format!("0::/docker/{id}")), None);
    }
}
