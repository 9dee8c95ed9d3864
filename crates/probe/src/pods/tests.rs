//! The layouts of the runtimes, as files below a folder of the test.

use std::{
    io::{Read, Write},
    os::unix::{fs::symlink, net::UnixListener},
};

use serde_json::json;
use tempfile::TempDir;

use super::*;

/// A node without containers. Its files of namespaces are links to those of this process.
struct Node(TempDir);

impl Node {
    fn new() -> Node {
        Node(TempDir::new().unwrap())
    }

    fn places(&self) -> Places {
        Places { root: self.0.path().into(), host: None }
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.places().at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A namespace's file: the test's own namespace.
    fn netns(&self, path: &str) -> String {
        let path = self.places().at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink("/proc/self/ns/net", &path).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn read(&self) -> Vec<PodNetns> {
        let places = self.places();
        assert!(Pods::has_runtime(&places));
        within_limit(move || Pods::new(places).read()).unwrap()
    }

    /// The only pod, whose namespace must be the test's own.
    fn pod(&self) -> Pod {
        let found = self.read();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(u64::from(found[0].identity.inode), own_inode());
        found[0].pod.clone()
    }
}

fn own_inode() -> u64 {
    fs::metadata("/proc/self/ns/net").unwrap().ino()
}

fn config(annotations: serde_json::Value, netns: Option<&str>) -> String {
    let network = netns.map(|path| json!({"type": "network", "path": path}));
    let namespaces: Vec<_> = [json!({"type": "pid"})].into_iter().chain(network).collect();
    json!({"ociVersion": "1.1.0", "annotations": annotations, "linux": {"namespaces": namespaces}})
        .to_string()
}

const TASKS: &str = "/run/containerd/io.containerd.runtime.v2.task";

fn containerd_sandbox(node: &Node, netns: Option<&str>) {
    let annotations = json!({
        "io.kubernetes.cri.container-type": "sandbox",
        "io.kubernetes.cri.sandbox-id": "5a",
        "io.kubernetes.cri.sandbox-name": "web-6d4cf56db6-x2x9k",
        "io.kubernetes.cri.sandbox-namespace": "shop",
        "io.kubernetes.cri.sandbox-uid": "0d6a8b2e-5f3c-4d1e-9a7b-1c2d3e4f5a6b",
    });
    node.file(&format!("{TASKS}/k8s.io/5a/config.json"), &config(annotations, netns));
}

#[test]
fn a_pod_of_containerd_has_its_names_and_its_containers() {
    let node = Node::new();
    let path = node.netns("/run/netns/cni-1");
    containerd_sandbox(&node, Some(&path));
    for (id, name) in [("c2", "sidecar\u{1b}[2J"), ("c1", "app")] {
        let annotations = json!({
            "io.kubernetes.cri.container-type": "container",
            "io.kubernetes.cri.container-name": name,
            "io.kubernetes.cri.sandbox-id": "5a",
        });
        node.file(&format!("{TASKS}/k8s.io/{id}/config.json"), &config(annotations, Some("/proc/1/ns/net")));
    }
    let pod = node.pod();
    assert_eq!((pod.shown().as_str(), pod.workload()), ("shop/web-6d4cf56db6-x2x9k", "web"));
    assert_eq!(pod.containers, ["app", "sidecar\\x1b[2J"]);
}

#[test]
fn a_pod_in_the_nodes_own_network_is_none() {
    let node = Node::new();
    containerd_sandbox(&node, None);
    assert!(node.read().is_empty());
    // A path to the node's own namespace is no other thing.
    let node = Node::new();
    containerd_sandbox(&node, Some(&node.netns("/run/netns/cni-1")));
    let places = Places { host: Some(own_inode()), ..node.places() };
    assert!(within_limit(move || Pods::new(places).read()).unwrap().is_empty());
}

#[test]
fn pods_of_cri_o_are_found() {
    let node = Node::new();
    let path = node.netns("/run/netns/9c");
    let storage = "/run/containers/storage/overlay-containers";
    let annotations = json!({
        "io.kubernetes.cri-o.ContainerType": "sandbox",
        "io.kubernetes.cri-o.KubeName": "db-0",
        "io.kubernetes.cri-o.Namespace": "shop",
        "io.kubernetes.cri-o.SandboxID": "5b",
    });
    node.file(&format!("{storage}/5b/userdata/config.json"), &config(annotations, Some(&path)));
    let annotations = json!({
        "io.kubernetes.cri-o.ContainerType": "container",
        "io.kubernetes.container.name": "postgres",
        "io.kubernetes.cri-o.SandboxID": "5b",
    });
    node.file(&format!("{storage}/c1/userdata/config.json"), &config(annotations, Some(&path)));
    let pod = node.pod();
    assert_eq!((pod.shown().as_str(), pod.workload()), ("shop/db-0", "db"));
    assert_eq!(pod.containers, ["postgres"]);
}

#[test]
fn containers_of_podman_have_the_names_of_its_storage() {
    let node = Node::new();
    let path = node.netns("/run/netns/netns-1");
    let annotations = json!({"io.container.manager": "libpod"});
    let storage = "containers/storage/overlay-containers";
    node.file(&format!("/run/{storage}/ab/userdata/config.json"), &config(annotations, Some(&path)));
    assert!(node.read().is_empty());
    let names = json!([{"id": "ab", "names": ["cache"], "layer": "x"}, {"id": "cd"}]);
    node.file(&format!("/var/lib/{storage}/containers.json"), &names.to_string());
    assert_eq!(node.pod().shown(), "cache");
}

#[test]
fn a_container_without_a_path_is_found_by_its_first_process() {
    let node = Node::new();
    let annotations = json!({"nerdctl/name": "cache"});
    let bundle = format!("{TASKS}/default/ab12");
    let network = json!({"annotations": annotations, "linux": {"namespaces": [{"type": "network"}]}});
    node.file(&format!("{bundle}/config.json"), &network.to_string());
    node.file(&format!("{bundle}/init.pid"), "77");
    node.netns("/proc/77/ns/net");
    // Another process has got its number.
    node.file("/proc/77/cgroup", "0::/system.slice/cron.service\n");
    assert!(node.read().is_empty());
    node.file("/proc/77/cgroup", "0::/default/ab12\n");
    assert_eq!(node.pod().shown(), "cache");
}

#[test]
fn pods_are_found_by_control_groups_and_folders_of_logs() {
    let node = Node::new();
    node.file("/var/log/pods/shop_web-0_0d6a8b2e-5f3c-4d1e-9a7b-1c2d3e4f5a6b/app/0.log", "");
    node.file("/proc/88/cgroup", "0::/kubepods/pod0d6a8b2e-5f3c-4d1e-9a7b-1c2d3e4f5a6b/ff\n");
    node.netns("/proc/88/ns/net");
    let pod = node.pod();
    assert_eq!((pod.shown().as_str(), &*pod.containers), ("shop/web-0", &["app".to_owned()][..]));
}

/// Answers as Docker's engine does.
fn engine(node: &Node, answers: Vec<(&'static str, serde_json::Value)>) {
    let socket = node.places().at(docker::SOCKET);
    fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap();
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let path = request.split(' ').nth(1).unwrap();
            let answer = answers.iter().find(|(of, _)| *of == path);
            let text = match answer {
                Some((_, body)) => format!("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{body}"),
                None => "HTTP/1.0 404 Not Found\r\n\r\n{}".to_owned(),
            };
            stream.write_all(text.as_bytes()).unwrap();
        }
    });
}

#[test]
fn containers_of_docker_have_their_names_and_services() {
    let node = Node::new();
    let path = node.netns("/run/docker/netns/0123456789ab");
    let labels = json!({"com.docker.swarm.service.name": "stack_web"});
    let listed = json!([
        {"Id": "ab", "Names": ["/stack_web.1.xyz"], "Labels": labels},
        {"Id": "cd", "Names": ["/with-host"], "Labels": null},
    ]);
    engine(
        &node,
        vec![
            ("/containers/json", listed),
            ("/containers/ab/json", json!({"NetworkSettings": {"SandboxKey": path}})),
            (
                "/containers/cd/json",
                json!({"NetworkSettings": {"SandboxKey": "/var/run/docker/netns/default"}}),
            ),
        ],
    );
    let pod = node.pod();
    assert_eq!((pod.shown().as_str(), pod.workload()), ("stack_web.1.xyz", "stack_web"));
    let node = Node::new();
    node.file(docker::SOCKET, "");
    node.netns("/run/docker/netns/1-x2x9k");
    assert_eq!(node.pod().shown(), "docker-network:1-x2x9k");
}

#[test]
fn a_runtimes_file_that_is_a_link_a_pipe_or_too_long_is_not_read() {
    let node = Node::new();
    let at = |name: &str| node.places().at(name);
    node.file("/secret", "x");
    symlink(at("/secret"), at("/link")).unwrap();
    nix::unistd::mkfifo(&at("/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::File::create(at("/long")).unwrap().set_len(FILE_MAX + 1).unwrap();
    for name in ["/link", "/pipe", "/long"] {
        assert!(read_file(&at(name)).is_err(), "{name}");
    }
    assert_eq!(read_file(&at("/secret")).unwrap(), b"x");
    // Nonsense in a bundle is no pod.
    node.file(&format!("{TASKS}/k8s.io/5a/config.json"), "{\"annotations\": 7}");
    node.file(&format!("{TASKS}/k8s.io/5b/config.json"), "\u{0}");
    assert!(node.read().is_empty());
}
