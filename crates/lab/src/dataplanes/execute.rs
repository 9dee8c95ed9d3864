//! Executes the actions that set a lab up.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::bird::Bird;
use super::cgroup_programs::CgroupPrograms;
use super::cni::Attachment;
use super::netns::Netns;
use super::step::{Action, Tool};
use super::tc_programs::TcProgram;
use super::tools;
use super::udp_tunnel::UdpTunnel;

/// Makes the tools of iproute2 read their commands from standard input.
const BATCH: &[&str] = &["-batch", "-"];

/// A daemon or BPF program of a lab, which ends when it is dropped.
pub trait Daemon: fmt::Debug + Send + Sync {}
impl Daemon for Bird {}
impl Daemon for Attachment {}
impl Daemon for UdpTunnel {}
impl Daemon for TcProgram {}
impl Daemon for CgroupPrograms {}

/// Where an action is executed.
pub struct Target {
    pub netns: Netns,
    /// The first pod of the node whose namespace this is.
    pub pod: Option<Netns>,
    /// The name of the lab's cgroup.
    pub cgroup: String,
    /// The lab's own folder, for files of its daemons.
    pub folder: PathBuf,
    /// The iptables variant, `legacy` or `nft`.
    pub iptables: &'static str,
}

/// Executes an action; returns the daemons that it started.
pub fn execute(action: &Action, target: &Target) -> Result<Vec<Box<dyn Daemon>>> {
    let Target { netns, pod, cgroup, folder, iptables } = target;
    let lines = &action.lines;
    match action.tool {
        Tool::Bird => return Ok(vec![Box::new(Bird::start(netns, lines, folder)?)]),
        Tool::Cni => {
            let pod = pod.as_ref().with_context(|| format!("{} has no pod", netns.name()))?;
            return Ok(vec![Box::new(Attachment::add(netns, pod, lines, folder, iptables)?)]);
        }
        Tool::UdpTunnel => return start_each(lines, |line| UdpTunnel::start(netns, line)),
        Tool::TcPrograms => return start_each(lines, |line| TcProgram::attach(netns, line)),
        Tool::CgroupPrograms => return start_each(lines, |line| CgroupPrograms::join(cgroup, line)),
        Tool::Sysctl => netns.run(|| tools::write_sysctls(lines))?,
        Tool::Ovs => netns.run(|| tools::run_each("ovs-dpctl", lines))?,
        Tool::Ip if action.v6 => feed(netns, "ip", &["-6", "-batch", "-"], lines),
        Tool::Ip => feed(netns, "ip", BATCH, lines),
        Tool::Bridge => feed(netns, "bridge", BATCH, lines),
        Tool::Tc => feed(netns, "tc", BATCH, lines),
        Tool::Ipset => feed(netns, "ipset", &["restore"], lines),
        Tool::Ipvs => feed(netns, "ipvsadm", &["--restore"], lines),
        Tool::Wireguard(device) => feed(netns, "wg", &["setconf", device, "/proc/self/fd/0"], lines),
        Tool::Iptables => {
            let family = if action.v6 { "ip6" } else { "ip" };
            feed(netns, &format!("{family}tables-{iptables}-restore"), &["--noflush", "--wait"], lines)
        }
    }?;
    Ok(Vec::new())
}

/// Starts one daemon per line. When one fails, those before it end.
fn start_each<D: Daemon + 'static>(
    lines: &str,
    start: impl Fn(&str) -> Result<D>,
) -> Result<Vec<Box<dyn Daemon>>> {
    lines.lines().map(|line| Ok(Box::new(start(line)?) as Box<dyn Daemon>)).collect()
}

fn feed(netns: &Netns, tool: &str, arguments: &[&str], lines: &str) -> Result<()> {
    let mut command = tools::command(tool)?;
    command.args(arguments);
    netns.run(|| tools::feed(&mut command, lines))?.context(tool.to_string())
}
