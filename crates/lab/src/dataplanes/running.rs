//! A lab that is up.

use std::net::{IpAddr, SocketAddr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self, UnixListener};

use anyhow::{Context, Result, anyhow, bail};

use super::cgroup_programs;
use super::endpoint::Endpoint;
use super::execute::{Daemon, Target, execute};
use super::knobs::Knobs;
use super::lab::{EndpointSpec, Lab, TrafficTarget};
use super::netns::Netns;
use super::requirements::System;
use super::script::script;
use super::step::Action;
use super::tap_link::TapLink;
use super::variables::SERVICE;
use super::wait_ready;
use crate::traffic::{self, Stop};
use overlay_trace_probe::FilterOptions;

/// A lab that is up until this value is dropped.
#[derive(Debug)]
pub struct Running {
    lab: &'static Lab,
    knobs: Knobs,
    namespaces: Vec<Netns>,
    notes: Vec<&'static str>,
    tap_link: Option<TapLink>,
    daemons: Vec<Box<dyn Daemon>>,
    _lock: UnixListener,
}

impl Running {
    /// Builds the lab and waits until its client reaches its server. Leftovers of a killed run of the same lab
    /// are removed first. After a failure, or a `stop`, nothing is left behind.
    ///
    /// # Errors
    ///
    /// One sentence: what the machine lacks, or which line a tool rejected and why.
    pub fn up(lab: &'static Lab, knobs: Knobs, stop: &Stop) -> Result<Running> {
        let system = System::inspect()?;
        system.check(lab, &knobs)?;
        let lock = lock(lab)?;
        delete(Netns::with_prefix(&lab.netns_prefix()))?;
        cgroup_programs::remove_leftover(&cgroup_name(lab))?;
        let notes = system.notes(lab);
        let mut running = Running {
            lab,
            knobs,
            namespaces: Vec::new(),
            notes,
            tap_link: None,
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
            self.namespaces.push(Netns::create(format!("{}{name}", self.lab.netns_prefix()))?);
        }
        for action in script(self.lab, &self.knobs, system) {
            stop.check()?;
            self.execute(&action, system).map_err(|error| {
                anyhow!(
                    "cannot build the lab {}, in namespace {}: {error:#}",
                    self.lab.name,
                    action.namespace
                )
            })?;
        }
        if let Some((one, other)) = self.lab.wire_ends().filter(|_| self.knobs.wire) {
            self.tap_link = Some(TapLink::between(self.netns(one)?, self.netns(other)?)?);
        }
        for v6 in if self.lab.has_ipv6(system) { &[false, true][..] } else { &[false] } {
            let client = self.endpoint(&self.lab.client, *v6)?;
            wait_ready::wait(&client, &self.endpoint(&self.lab.server, *v6)?, stop)?;
        }
        Ok(())
    }

    fn execute(&mut self, action: &Action, system: &System) -> Result<()> {
        let target = Target {
            netns: self.netns(action.namespace)?.clone(),
            pod: self.netns(&action.namespace.replace("node", "pod")).ok().cloned(),
            cgroup: cgroup_name(self.lab),
            iptables: system.iptables,
        };
        self.daemons.extend(execute(action, &target)?);
        Ok(())
    }

    /// The lab.
    pub fn lab(&self) -> &'static Lab {
        self.lab
    }

    /// The parameters that it was built with.
    pub fn knobs(&self) -> &Knobs {
        &self.knobs
    }

    /// From now on traffic goes over this IP family ([`Knobs::ipv6`]).
    pub fn set_ipv6(&mut self, ipv6: bool) {
        self.knobs.ipv6 = ipv6;
    }

    /// The differences between this lab and the real system, one sentence each.
    pub fn notes(&self) -> &[&'static str] {
        &self.notes
    }

    /// A recording filter that selects the packets of this lab and no others of this machine.
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
    /// When the lab has no namespace of that name.
    pub fn netns(&self, short: &str) -> Result<&Netns> {
        let name = format!("{}{short}", self.lab.netns_prefix());
        self.namespaces
            .iter()
            .find(|netns| netns.name() == name)
            .with_context(|| format!("the lab {} has no namespace {short}", self.lab.name))
    }

    /// The traffic client.
    ///
    /// # Errors
    ///
    /// When it has no address of the IP family.
    pub fn client(&self) -> Result<Endpoint> {
        self.endpoint(&self.lab.client, self.knobs.ipv6)
    }

    /// The traffic server; its address is the pod's own.
    ///
    /// # Errors
    ///
    /// When it has no address of the IP family.
    pub fn server(&self) -> Result<Endpoint> {
        self.endpoint(&self.lab.server, self.knobs.ipv6)
    }

    /// The address on which the traffic server listens.
    ///
    /// # Errors
    ///
    /// When there is no address of the IP family.
    pub fn listen_address(&self) -> Result<SocketAddr> {
        let address = match self.lab.target {
            TrafficTarget::DirectServerReturn => self.service()?,
            _ => self.server()?.address,
        };
        Ok(SocketAddr::new(address, traffic::PORT))
    }

    /// The destination that the client sends to: [`Running::listen_address`], or the Service address in front of
    /// it ([`Knobs::service`]).
    ///
    /// # Errors
    ///
    /// When there is no address of the IP family.
    pub fn target(&self) -> Result<SocketAddr> {
        let address = match self.lab.target {
            TrafficTarget::Server if !self.knobs.service => self.server()?.address,
            TrafficTarget::HostPort => self.endpoint(&EndpointSpec::NODE2, self.knobs.ipv6)?.address,
            _ => self.service()?,
        };
        Ok(SocketAddr::new(address, traffic::PORT))
    }

    fn service(&self) -> Result<IpAddr> {
        Ok(SERVICE[usize::from(self.knobs.ipv6)].parse()?)
    }

    fn endpoint(&self, spec: &EndpointSpec, v6: bool) -> Result<Endpoint> {
        let address = spec
            .address(v6)
            .with_context(|| format!("the lab {} has no address of that IP family", self.lab.name))?;
        Ok(Endpoint { netns: self.netns(spec.namespace)?.clone(), address })
    }

    /// Takes the lab down. Dropping it does the same, but cannot return an error.
    ///
    /// # Errors
    ///
    /// When a namespace could not be deleted.
    pub fn down(mut self) -> Result<()> {
        self.take_down()
    }

    fn take_down(&mut self) -> Result<()> {
        self.tap_link = None;
        self.daemons.clear();
        if self.knobs.keep { Ok(()) } else { delete(self.namespaces.drain(..).rev()) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.take_down() {
            eprintln!("overlay-trace: {error:#}");
        }
    }
}

/// Removes the leftovers of a lab that was kept or whose run was killed; returns the number of namespaces
/// removed.
///
/// # Errors
///
/// When the lab is in use, or something cannot be removed.
pub fn remove_leftovers(lab: &'static Lab) -> Result<usize> {
    let _lock = lock(lab)?;
    let left = Netns::with_prefix(&lab.netns_prefix());
    let count = left.len();
    delete(left)?;
    cgroup_programs::remove_leftover(&cgroup_name(lab))?;
    Ok(count)
}

/// The name of the lab's cgroup, where a lab has one.
fn cgroup_name(lab: &Lab) -> String {
    format!("ot-{}", lab.name)
}

/// Deletes all namespaces, also when one of them fails.
fn delete(namespaces: impl IntoIterator<Item = Netns>) -> Result<()> {
    let failures: Vec<String> = namespaces
        .into_iter()
        .filter_map(|netns| netns.delete().err())
        .map(|error| format!("{error:#}"))
        .collect();
    if failures.is_empty() { Ok(()) } else { bail!("cannot remove everything: {}", failures.join("; ")) }
}

/// Locks the lab, so that two runs do not remove each other's namespaces: binds an abstract Unix socket of the
/// lab's name. The kernel releases it when the process ends, however it ends.
fn lock(lab: &Lab) -> Result<UnixListener> {
    let name = net::SocketAddr::from_abstract_name(format!("overlay-trace-lab-{}", lab.name))?;
    UnixListener::bind_addr(&name)
        .map_err(|_| anyhow!("the lab {} is in use by another run: wait for it, or stop it", lab.name))
}
