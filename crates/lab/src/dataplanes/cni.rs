//! The CNI project's own plugins, called as a container runtime does: a program for each plugin of a list, the
//! configuration on its standard input, what it is for in its environment, its result on its standard output.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{io::Write, os::unix::process::CommandExt};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{Netns, tools};

/// Where distributions and Kubernetes put the plugins.
const FOLDERS: [&str; 2] = ["/opt/cni/bin", "/usr/lib/cni"];
/// The plugins that the labs use.
const PLUGINS: [&str; 5] = ["bridge", "ipvlan", "macvlan", "portmap", "host-local"];
/// The device that a pod gets.
const DEVICE: &str = "eth0";

/// A pod's attachment to a network, until this is dropped.
#[derive(Debug)]
pub struct Attachment {
    node: Netns,
    pod: Netns,
    /// The plugins' configurations, complete, in the order in which they were called.
    plugins: Vec<Value>,
    folder: PathBuf,
}

/// Why the plugins cannot be used.
pub fn lack() -> Option<String> {
    let missing = PLUGINS.iter().find(|name| find(name).is_none())?;
    Some(format!("the CNI plugin {missing} is missing: install the package containernetworking-plugins"))
}

fn find(plugin: &str) -> Option<PathBuf> {
    FOLDERS.iter().map(|folder| Path::new(folder).join(plugin)).find(|file| file.is_file())
}

impl Attachment {
    /// Adds the pod to the network that a configuration list tells of, as its node's runtime. What the plugins keep
    /// on disk goes to a folder of the lab's; where they call `iptables`, they get the one that labs use.
    pub fn add(node: &Netns, pod: &Netns, list: &str, iptables: &str) -> Result<Attachment> {
        let list: Value = serde_json::from_str(list).context("this is no configuration of CNI")?;
        let folder = std::env::temp_dir().join(format!("{}-cni", pod.name()));
        // What a killed run has left there says that the addresses are taken.
        let _ = fs::remove_dir_all(&folder);
        prepare(&folder, iptables).with_context(|| format!("cannot prepare {}", folder.display()))?;
        let mut attachment = Attachment { node: node.clone(), pod: pod.clone(), plugins: Vec::new(), folder };
        let mut result = Value::Null;
        for plugin in list["plugins"].as_array().context("the list has no plugins")? {
            let configuration = complete(plugin, &list, &result, &attachment.folder);
            attachment.plugins.push(configuration.clone());
            let output = attachment.call("ADD", &configuration)?;
            result = serde_json::from_str(&output).context("a plugin's result is not to be understood")?;
        }
        Ok(attachment)
    }

    fn call(&self, what: &str, configuration: &Value) -> Result<String> {
        let name = configuration["type"].as_str().context("a plugin has no type")?;
        let file = find(name).with_context(|| format!("there is no CNI plugin {name}"))?;
        let mut command = Command::new(&file);
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .env("CNI_COMMAND", what)
            .env("CNI_CONTAINERID", self.pod.name())
            .env("CNI_NETNS", self.pod.path())
            .env("CNI_IFNAME", DEVICE)
            .env("CNI_PATH", file.parent().unwrap_or(Path::new("/")))
            .env("PATH", format!("{}:{path}:/usr/sbin:/sbin", self.folder.display()))
            .process_group(0);
        self.node
            .run(|| talk(&mut command, &configuration.to_string()))?
            .with_context(|| format!("{name} {what}"))
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        for configuration in self.plugins.iter().rev() {
            // The namespaces are deleted, and with them whatever a plugin could not.
            if let Err(error) = self.call("DEL", configuration) {
                tracing::debug!("a CNI plugin did not clean up: {error:#}");
            }
        }
        // Nobody else uses it.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The folder with the command `iptables` of the wanted kind.
fn prepare(folder: &Path, iptables: &str) -> Result<()> {
    fs::create_dir_all(folder)?;
    for family in ["ip", "ip6"] {
        if let Some(file) = tools::find(&format!("{family}tables-{iptables}")) {
            symlink(file, folder.join(format!("{family}tables")))?;
        }
    }
    Ok(())
}

/// What the runtime adds to a plugin's own configuration.
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

/// Gives a plugin its configuration and takes its result, or its complaint.
fn talk(command: &mut Command, configuration: &str) -> Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("it cannot be started")?;
    if let Some(mut stdin) = child.stdin.take() {
        // A plugin that stops reading says why below.
        let _ = stdin.write_all(configuration.as_bytes());
    }
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let told: Value = serde_json::from_str(&text).unwrap_or_default();
    match told["msg"].as_str() {
        Some(message) => bail!("{message} {}", told["details"].as_str().unwrap_or_default()),
        None => bail!("{}", String::from_utf8_lossy(&output.stderr).trim()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_is_told_what_the_one_before_has_done() {
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
    fn what_a_plugin_complains_about_is_told() {
        let mut command = Command::new("sh");
        command.args(["-c", "cat > /dev/null; echo '{\"msg\":\"no address is free\"}'; exit 1"]);
        assert!(talk(&mut command, "{}").unwrap_err().to_string().contains("no address is free"));
    }
}
