//! Which pod or container a network namespace belongs to.

use serde::{Deserialize, Serialize};

use super::printable::{NAME_MAX, cut, printable};

/// The most containers of a pod that are named.
const CONTAINERS_MAX: usize = 64;

/// The characters of the random parts of names that Kubernetes' controllers give: no vowels, and no digits that look like
/// letters.
const RANDOM: &str = "bcdfghjklmnpqrstvwxz2456789";

/// The pod, or the container outside of Kubernetes, that a network namespace belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// The pod's namespace in Kubernetes; empty outside of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The pod's name; of a container outside of Kubernetes its own.
    pub name: String,
    /// The containers that share the network namespace, in the order of their names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<String>,
    /// The service of Docker (swarm or compose) that the container belongs to; empty for none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service: String,
}

impl Pod {
    /// What people call it: `NAMESPACE/POD`, or the container's name.
    pub fn shown(&self) -> String {
        if self.namespace.is_empty() {
            self.name.clone()
        } else {
            format!("{}/{}", self.namespace, self.name)
        }
    }

    /// What it is a replica of: a service of Docker, or the pod's name without the suffixes that Kubernetes' controllers
    /// give (`web-6d4cf56db6-x2x9k`, `web-x2x9k` and `web-0` are of `web`). The name of a pod that no controller has made may
    /// look alike.
    pub fn workload(&self) -> &str {
        if !self.service.is_empty() {
            return &self.service;
        }
        if self.namespace.is_empty() {
            return &self.name;
        }
        let Some((owner, last)) = self.name.rsplit_once('-') else { return &self.name };
        let is_ordinal = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
        let is_random = |text: &str| text.chars().all(|char| RANDOM.contains(char));
        if last.len() != 5 || !is_random(last) {
            return if is_ordinal { owner } else { &self.name };
        }
        match owner.rsplit_once('-') {
            Some((deployment, hash)) if (8..=10).contains(&hash.len()) && is_random(hash) => deployment,
            _ => owner,
        }
    }

    /// Makes its names printable, and cuts what is too long.
    pub fn clean(&mut self) {
        self.containers.truncate(CONTAINERS_MAX);
        let names = [&mut self.namespace, &mut self.name, &mut self.service];
        for name in names.into_iter().chain(&mut self.containers) {
            *name = printable(name).into_owned();
            cut(name, NAME_MAX);
        }
    }
}

/// Which pods are meant. Of options of one kind one must match, and of each kind that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct PodFilter {
    /// Only packets that pass through the network of this pod (NAMESPACE/NAME, or NAME in any namespace); can be given
    /// several times
    #[arg(long, value_name = "POD")]
    pub pod: Vec<String>,
    /// Only packets that pass through the network of this container, which is that of its whole pod; can be given several
    /// times
    #[arg(long, value_name = "NAME")]
    pub container: Vec<String>,
    /// Only packets that pass through the network of a replica of this Deployment, StatefulSet, DaemonSet (by the pods'
    /// names) or Docker service (NAMESPACE/NAME, or NAME); can be given several times
    #[arg(long, value_name = "NAME")]
    pub workload: Vec<String>,
}

impl PodFilter {
    /// Whether every packet is meant.
    pub fn is_empty(&self) -> bool {
        self.pod.is_empty() && self.container.is_empty() && self.workload.is_empty()
    }

    /// Whether this pod is meant.
    pub fn has(&self, pod: &Pod) -> bool {
        let any =
            |given: &[String], is_it: &dyn Fn(&String) -> bool| given.is_empty() || given.iter().any(is_it);
        any(&self.pod, &|given| is_named(given, &pod.namespace, &pod.name))
            && any(&self.container, &|given| pod.containers.contains(given))
            && any(&self.workload, &|given| is_named(given, &pod.namespace, pod.workload()))
    }
}

/// Whether `given` is the name, or the namespace with the name.
fn is_named(given: &str, namespace: &str, name: &str) -> bool {
    match given.split_once('/') {
        Some((of, given)) => of == namespace && given == name,
        None => given == name,
    }
}

impl std::fmt::Display for PodFilter {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        let kinds = [("pod", &self.pod), ("container", &self.container), ("workload", &self.workload)];
        let given = kinds.iter().filter(|(_, given)| !given.is_empty());
        let parts: Vec<String> =
            given.map(|(kind, given)| format!("{kind} {}", printable(&given.join(" or ")))).collect();
        out.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(namespace: &str, name: &str) -> Pod {
        Pod {
            namespace: namespace.into(),
            name: name.into(),
            containers: vec!["app".into(), "sidecar".into()],
            ..Pod::default()
        }
    }

    #[test]
    fn a_workload_is_a_pods_name_without_what_controllers_add() {
        for (name, workload) in [
            ("web-6d4cf56db6-x2x9k", "web"),
            ("coredns-autoscaler-5d78c9869d-7h9tk", "coredns-autoscaler"),
            ("kube-proxy-x2x9k", "kube-proxy"),
            ("db-0", "db"),
            ("db-primary", "db-primary"),
            ("job-with-apple", "job-with-apple"),
            ("plain", "plain"),
        ] {
            assert_eq!(pod("default", name).workload(), workload, "{name}");
        }
        assert_eq!(pod("", "db-0").workload(), "db-0");
        assert_eq!(Pod { service: "stack_web".into(), ..pod("", "stack_web.1.abc") }.workload(), "stack_web");
    }

    #[test]
    fn a_filter_matches_by_each_kind_that_is_given() {
        let filter = |pod: &[&str], container: &[&str], workload: &[&str]| {
            let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            PodFilter { pod: list(pod), container: list(container), workload: list(workload) }
        };
        let web = pod("shop", "web-6d4cf56db6-x2x9k");
        assert!(filter(&[], &[], &[]).has(&web) && filter(&[], &[], &[]).is_empty());
        assert!(filter(&["shop/web-6d4cf56db6-x2x9k"], &["app"], &["web"]).has(&web));
        assert!(filter(&[], &[], &["other", "shop/web"]).has(&web));
        assert!(!filter(&["default/web-6d4cf56db6-x2x9k"], &[], &[]).has(&web));
        assert!(!filter(&[], &["db"], &["web"]).has(&web));
        assert_eq!(filter(&["a", "b\x1b"], &[], &["w"]).to_string(), "pod a or b\\x1b, workload w");
    }

    #[test]
    fn names_of_a_pod_are_made_printable_and_cut() {
        let mut hostile = pod("a\x1b[2J", &"x".repeat(5000));
        hostile.containers = vec!["c\n".into(); 1000];
        hostile.clean();
        assert_eq!((hostile.namespace.as_str(), hostile.containers.len()), ("a\\x1b[2J", CONTAINERS_MAX));
        assert!(hostile.name.chars().count() == NAME_MAX + 1 && hostile.containers[0] == "c\\x0a");
    }
}
