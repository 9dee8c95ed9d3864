//! Calls CNI plugins as a container runtime does: one program per plugin of a configuration list, the
//! configuration on standard input, the parameters in the environment, the result on standard output.

use std::env;
use std::fs;
use std::iter;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{io::Write, os::unix::process::CommandExt};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::netns::Netns;
use super::{private_folder, tools};

/// The directories in which Kubernetes and distributions install plugins.
const PLUGIN_DIRECTORIES: [&str; 2] = ["/opt/cni/bin", "/usr/lib/cni"];
/// The plugins that the labs use.
const PLUGINS: [&str; 5] = ["bridge", "ipvlan", "macvlan", "portmap", "host-local"];
/// The pod's network device.
const DEVICE: &str = "eth0";

/// A pod's attachment to a network; dropping it detaches the pod.
#[derive(Debug)]
pub struct Attachment {
    node: Netns,
    pod: Netns,
    /// The plugins' complete configurations, in the order of the calls.
    plugins: Vec<Value>,
    folder: PathBuf,
}

/// Why the plugins cannot be used; `None` when they can.
pub fn missing_plugin() -> Option<String> {
    let missing = PLUGINS.iter().find(|name| find(name).is_none())?;
    Some(format!("the CNI plugin {missing} is missing: install the package containernetworking-plugins"))
}

fn find(plugin: &str) -> Option<PathBuf> {
    tools::find_in(&PLUGIN_DIRECTORIES.map(PathBuf::from), plugin)
}

impl Attachment {
    /// Adds the pod to the network of a configuration list, as the node's runtime does. The plugins' state on disk
    /// goes to a folder in `lab_folder`, which is also first in PATH and holds the iptables variant of the labs.
    pub fn add(
        node: &Netns,
        pod: &Netns,
        list: &str,
        lab_folder: &Path,
        iptables: &str,
    ) -> Result<Attachment> {
        let list: Value = serde_json::from_str(list).context("this is not a CNI configuration")?;
        let folder = lab_folder.join(format!("{}-cni", pod.name()));
        prepare(&folder, iptables).with_context(|| format!("cannot prepare {}", folder.display()))?;
        let mut attachment = Attachment { node: node.clone(), pod: pod.clone(), plugins: Vec::new(), folder };
        let mut result = Value::Null;
        for plugin in list["plugins"].as_array().context("the list has no plugins")? {
            let configuration = complete(plugin, &list, &result, &attachment.folder);
            attachment.plugins.push(configuration.clone());
            let output = attachment.call("ADD", &configuration)?;
            result = serde_json::from_str(&output).context("cannot parse a plugin's result")?;
        }
        Ok(attachment)
    }

    fn call(&self, operation: &str, configuration: &Value) -> Result<String> {
        let name = configuration["type"].as_str().context("a plugin has no type")?;
        let file = find(name).with_context(|| format!("there is no CNI plugin {name}"))?;
        let mut command = Command::new(&file);
        let path = iter::once(self.folder.clone()).chain(tools::search_path());
        command
            .env("CNI_COMMAND", operation)
            .env("CNI_CONTAINERID", self.pod.name())
            .env("CNI_NETNS", self.pod.path())
            .env("CNI_IFNAME", DEVICE)
            .env("CNI_PATH", file.parent().unwrap_or(Path::new("/")))
            .env("PATH", env::join_paths(path)?)
            .process_group(0);
        self.node
            .run(|| exchange(&mut command, &configuration.to_string()))?
            .with_context(|| format!("{name} {operation}"))
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        for configuration in self.plugins.iter().rev() {
            // The namespaces are deleted next, with everything that a plugin left in them.
            if let Err(error) = self.call("DEL", configuration) {
                tracing::debug!("a CNI plugin did not clean up: {error:#}");
            }
        }
        // Only this attachment uses it; what is left goes with the lab's folder.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Creates the folder, with the command `iptables` of this variant in it.
fn prepare(folder: &Path, iptables: &str) -> Result<()> {
    private_folder::create(folder)?;
    for family in ["ip", "ip6"] {
        if let Some(file) = tools::find(&format!("{family}tables-{iptables}")) {
            symlink(file, folder.join(format!("{family}tables")))?;
        }
    }
    Ok(())
}

/// A plugin's configuration with the fields that the runtime adds.
fn complete(plugin: &Value, list: &Value, before: &Value, folder: &Path) -> Value {
    let mut configuration = plugin.clone();
    configuration["cniVersion"] = list["cniVersion"].clone();
    configuration["name"] = list["name"].clone();
    if configuration["ipam"].is_object() {
        configuration["ipam"]["dataDir"] = json!(folder);
    }
    if !before.is_null() {
        configuration["prevResult"] = before.clone();
    }
    configuration
}

/// Gives a plugin its configuration and returns its result, or its error.
fn exchange(command: &mut Command, configuration: &str) -> Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start it")?;
    if let Some(mut stdin) = child.stdin.take() {
        // A plugin that stops reading reports why below.
        let _ = stdin.write_all(configuration.as_bytes());
    }
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let error: Value = serde_json::from_str(&text).unwrap_or_default();
    match error["msg"].as_str() {
        Some(message) => bail!("{message} {}", error["details"].as_str().unwrap_or_default()),
        None => bail!("{}", String::from_utf8_lossy(&output.stderr).trim()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_gets_the_result_of_the_previous_one() {
        let list = json!({ "cniVersion": "1.0.0", "name": "net" });
        let plugin = json!({ "type": "bridge", "ipam": { "type": "host-local" } });
        let first = complete(&plugin, &list, &Value::Null, Path::new("/tmp/folder"));
        assert_eq!(first["ipam"]["dataDir"], "/tmp/folder");
        assert_eq!((&first["name"], &first["cniVersion"]), (&json!("net"), &json!("1.0.0")));
        assert!(first.get("prevResult").is_none());
        let second = complete(&json!({ "type": "portmap" }), &list, &json!({ "ips": [] }), Path::new("/tmp"));
        assert!(second["prevResult"].is_object() && second.get("ipam").is_none());
    }

    #[test]
    fn the_error_of_a_plugin_is_returned() {
        let mut command = Command::new("sh");
        command.args(["-c", "cat > /dev/null; echo '{\"msg\":\"no address is free\"}'; exit 1"]);
        assert!(exchange(&mut command, "{}").unwrap_err().to_string().contains("no address is free"));
    }
}
