//! A lab that stands.

use std::net::{IpAddr, SocketAddr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self, UnixListener};

use anyhow::{Context, Result, anyhow, bail};

use super::cgroup;
use super::daemon::Daemon;
use super::expand::{Action, prefix, script};
use super::system::System;
use super::wire::Wire;
use super::{Knobs, Lab, Netns, Place, Tool, Towards, ready, tools};
use crate::traffic::{self, Stop};
use overlay_trace_probe::FilterOptions;

/// Where traffic comes from or goes to.
#[derive(Clone, Debug)]
pub struct End {
    pub netns: Netns,
    pub address: IpAddr,
}

/// What makes the tools of iproute2 read their commands from the standard input.
const BATCH: &[&str] = &["-batch", "-"];

/// A lab that stands, until this is dropped.
#[derive(Debug)]
pub struct Running {
    lab: &'static Lab,
    knobs: Knobs,
    namespaces: Vec<Netns>,
    notes: Vec<&'static str>,
    wire: Option<Wire>,
    daemons: Vec<Daemon>,
    _lock: UnixListener,
}

impl Running {
    /// Builds the lab and waits until its client reaches its server. What a killed run of the same lab left
    /// behind is removed first. After a failure, or a `stop`, nothing is left.
    ///
    /// # Errors
    ///
    /// One sentence: what the machine lacks, or which line was refused and why.
    pub fn up(lab: &'static Lab, knobs: Knobs, stop: &Stop) -> Result<Running> {
        let system = System::inspect()?;
        system.check(lab, &knobs)?;
        let lock = lock(lab)?;
        delete(Netns::with_prefix(&prefix(lab)))?;
        cgroup::remove_leftover(&cgroup_name(lab))?;
        let notes = system.notes(lab);
        let mut running = Running {
            lab,
            knobs,
            namespaces: Vec::new(),
            notes,
            wire: None,
            daemons: Vec::new(),
            _lock: lock,
        };
        if let Err(error) = running.build(&system, stop) {
            running.knobs.keep = false;
            return Err(error);
        }
        Ok(running)
    }

    fn build(&mut self, system: &System, stop: &Stop) -> Result<()> {
        for name in self.lab.namespaces {
            stop.check()?;
            self.namespaces.push(Netns::create(format!("{}{name}", prefix(self.lab)))?);
        }
        for action in script(self.lab, &self.knobs, system) {
            stop.check()?;
            self.carry_out(&action, system).map_err(|error| {
                anyhow!("the lab {} could not be built, in {}: {error:#}", self.lab.name, action.namespace)
            })?;
        }
        if let Some((one, other)) = self.lab.wire_ends().filter(|_| self.knobs.wire) {
            self.wire = Some(Wire::between(self.netns(one)?, self.netns(other)?)?);
        }
        for v6 in if self.lab.has_ipv6(system) { &[false, true][..] } else { &[false] } {
            ready::wait(&self.end(&self.lab.client, *v6)?, &self.end(&self.lab.server, *v6)?, stop)?;
        }
        Ok(())
    }

    fn carry_out(&mut self, action: &Action, system: &System) -> Result<()> {
        let netns = &self.netns(action.namespace)?.clone();
        if let Some(daemons) = Daemon::start(self, netns, action, system)? {
            self.daemons.extend(daemons);
            return Ok(());
        }
        let restore = |family: &str| format!("{family}tables-{}-restore", system.iptables);
        let (tool, arguments): (String, &[&str]) = match action.tool {
            Tool::Sysctl => return netns.run(|| tools::assign(&action.lines))?,
            Tool::Ovs => return netns.run(|| tools::each("ovs-dpctl", &action.lines))?,
            Tool::Ip if action.v6 => ("ip".to_string(), &["-6", "-batch", "-"]),
            Tool::Ip => ("ip".to_string(), BATCH),
            Tool::Bridge => ("bridge".to_string(), BATCH),
            Tool::Tc => ("tc".to_string(), BATCH),
            Tool::Ipset => ("ipset".to_string(), &["restore"]),
            Tool::Ipvs => ("ipvsadm".to_string(), &["--restore"]),
            Tool::Wireguard(device) => ("wg".to_string(), &["setconf", device, "/proc/self/fd/0"]),
            Tool::Iptables => (restore(if action.v6 { "ip6" } else { "ip" }), &["--noflush", "--wait"]),
            // These have been started.
            Tool::Bird | Tool::Relay | Tool::Classifier | Tool::SocketPrograms | Tool::Cni => return Ok(()),
        };
        feed(netns, &tool, arguments, &action.lines)
    }

    /// The name of its cgroup, if it has one.
    pub(super) fn cgroup(&self) -> String {
        cgroup_name(self.lab)
    }

    /// The lab.
    pub fn lab(&self) -> &'static Lab {
        self.lab
    }

    /// The knobs that it was built with.
    pub fn knobs(&self) -> &Knobs {
        &self.knobs
    }

    /// From now on traffic goes over this family ([`Knobs::ipv6`]).
    pub fn set_ipv6(&mut self, ipv6: bool) {
        self.knobs.ipv6 = ipv6;
    }

    /// What is not as the real system would have it, a sentence each.
    pub fn notes(&self) -> &[&'static str] {
        &self.notes
    }

    /// What passes through the lab, and nothing else of this machine, is to be recorded.
    pub fn filter(&self) -> FilterOptions {
        let netns = self.namespaces().iter().map(|netns| netns.name().to_string()).collect();
        FilterOptions { netns, ..FilterOptions::default() }
    }

    /// All its namespaces.
    pub fn namespaces(&self) -> &[Netns] {
        &self.namespaces
    }

    /// The namespace of a short name, as `node1`.
    ///
    /// # Errors
    ///
    /// When the lab has none of that name.
    pub fn netns(&self, short: &str) -> Result<&Netns> {
        let name = format!("{}{short}", prefix(self.lab));
        self.namespaces
            .iter()
            .find(|netns| netns.name() == name)
            .with_context(|| format!("the lab {} has no namespace {short}", self.lab.name))
    }

    /// Where traffic comes from.
    ///
    /// # Errors
    ///
    /// When it has no address of the family.
    pub fn client(&self) -> Result<End> {
        self.end(&self.lab.client, self.knobs.ipv6)
    }

    /// Where traffic goes to; its address is the pod's own.
    ///
    /// # Errors
    ///
    /// When it has no address of the family.
    pub fn server(&self) -> Result<End> {
        self.end(&self.lab.server, self.knobs.ipv6)
    }

    /// Where the traffic server listens.
    ///
    /// # Errors
    ///
    /// When there is no address of the family.
    pub fn listens(&self) -> Result<SocketAddr> {
        let address = match self.lab.towards {
            Towards::ServiceItself => self.service()?,
            _ => self.server()?.address,
        };
        Ok(SocketAddr::new(address, traffic::PORT))
    }

    /// Where the client sends to, to reach a server that listens where [`Running::listens`] says: there, or to
    /// the Service address in front of it ([`Knobs::service`]).
    ///
    /// # Errors
    ///
    /// When there is no address of the family.
    pub fn target(&self) -> Result<SocketAddr> {
        let address = match self.lab.towards {
            Towards::Server if !self.knobs.service => self.server()?.address,
            Towards::HostPort => super::definitions::NODE2[usize::from(self.knobs.ipv6)].parse()?,
            _ => self.service()?,
        };
        Ok(SocketAddr::new(address, traffic::PORT))
    }

    fn service(&self) -> Result<IpAddr> {
        Ok(super::definitions::SERVICE[usize::from(self.knobs.ipv6)].parse()?)
    }

    fn end(&self, place: &Place, v6: bool) -> Result<End> {
        let address = place
            .address(v6)
            .with_context(|| format!("the lab {} has no address of that family", self.lab.name))?;
        Ok(End { netns: self.netns(place.namespace)?.clone(), address })
    }

    /// Takes the lab down; dropping it does the same, and can tell nobody what went wrong.
    ///
    /// # Errors
    ///
    /// When a namespace could not be deleted.
    pub fn down(mut self) -> Result<()> {
        self.take_down()
    }

    fn take_down(&mut self) -> Result<()> {
        self.wire = None;
        self.daemons.clear();
        if self.knobs.keep { Ok(()) } else { delete(self.namespaces.drain(..).rev()) }
    }
}

fn feed(netns: &Netns, tool: &str, arguments: &[&str], lines: &str) -> Result<()> {
    let mut command = tools::command(tool)?;
    command.args(arguments);
    netns.run(|| tools::feed(&mut command, lines))?.context(tool.to_string())
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.take_down() {
            eprintln!("overlay-trace: {error:#}");
        }
    }
}

/// Removes what is left of a lab that was kept or whose run was killed; returns how many namespaces that
/// were.
///
/// # Errors
///
/// When the lab is in use, or something cannot be removed.
pub fn remove_leftovers(lab: &'static Lab) -> Result<usize> {
    let _lock = lock(lab)?;
    let left = Netns::with_prefix(&prefix(lab));
    let count = left.len();
    delete(left)?;
    cgroup::remove_leftover(&cgroup_name(lab))?;
    Ok(count)
}

/// The name of the lab's cgroup, if it has one.
fn cgroup_name(lab: &Lab) -> String {
    format!("ot-{}", lab.name)
}

/// Deletes all of them, also when one fails.
fn delete(namespaces: impl IntoIterator<Item = Netns>) -> Result<()> {
    let failures: Vec<String> = namespaces
        .into_iter()
        .filter_map(|netns| netns.delete().err())
        .map(|error| format!("{error:#}"))
        .collect();
    if failures.is_empty() { Ok(()) } else { bail!("not everything was removed: {}", failures.join("; ")) }
}

/// Holds the lab's name, so that two runs do not remove each other's namespaces: a socket of that name that
/// nobody connects to. The kernel lets go of it when the process ends, however it ends.
fn lock(lab: &Lab) -> Result<UnixListener> {
    let name = net::SocketAddr::from_abstract_name(format!("overlay-trace-lab-{}", lab.name))?;
    UnixListener::bind_addr(&name)
        .map_err(|_| anyhow!("the lab {} is in use by another run: wait for it, or stop it", lab.name))
}
