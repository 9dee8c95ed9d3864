//! A lab that is up.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, anyhow, ensure};

use super::cgroup_programs;
use super::claim::Claim;
use super::endpoint::Endpoint;
use super::execute::{Daemon, Target, execute};
use super::host_state::{self, Before};
use super::knobs::{Knobs, Wire};
use super::lab::{EndpointSpec, Lab, TrafficTarget};
use super::netns::Netns;
use super::nic;
use super::requirements::System;
use super::script::script;
use super::step::{Action, Tool};
use super::tap_link::TapLink;
use super::variables::SERVICE;
use super::wait_ready;
use crate::say;
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
    /// The machine's NICs that are lent to this lab.
    nics: Vec<String>,
    daemons: Vec<Box<dyn Daemon>>,
    /// `None` when it has been taken down.
    claim: Option<Claim>,
}

impl Running {
    /// Builds the lab and waits until its client reaches its server. Leftovers of a killed run of the same lab
    /// are removed first. After a failure, or a `stop`, nothing is left behind. What it changes outside of the lab's
    /// namespaces, [`foretell`](super::foretell) says before.
    ///
    /// # Errors
    ///
    /// One sentence: the lab stands already ([`Knobs::replace`]), what the machine lacks
    /// ([`Unavailable`](super::Unavailable)), or which line a tool rejected and why.
    pub fn up(lab: &'static Lab, knobs: Knobs, stop: &Stop) -> Result<Running> {
        System::look()?.check(lab, &knobs)?;
        let mut claim = Claim::take(lab.name)?;
        ensure!(
            knobs.replace || !claim.is_kept(),
            "the lab {0} stands already, it was kept: remove it with `overlay-trace lab down {0}`, or build it anew with \
             --replace",
            lab.name
        );
        claim.remove()?;
        let nics = match &knobs.wire {
            Wire::Nics(names) => nic::choose(names, 2 * knobs.uplink.nics)?,
            Wire::Veth | Wire::Taps => Vec::new(),
        };
        claim.begin()?;
        let mut running = Running {
            lab,
            knobs,
            namespaces: Vec::new(),
            notes: Vec::new(),
            tap_link: None,
            nics,
            daemons: Vec::new(),
            claim: Some(claim),
        };
        let before = Before::now();
        let built = running.build(&before, stop);
        if let Err(error) = built.and(before.note_changes()) {
            running.knobs.keep = false;
            return Err(error);
        }
        Ok(running)
    }

    fn build(&mut self, before: &Before, stop: &Stop) -> Result<()> {
        let system = System::try_out();
        before.note_changes()?;
        let system = system?;
        let possible = system.check(self.lab, &self.knobs);
        before.note_changes()?;
        possible?;
        self.notes = system.notes(self.lab);
        for name in self.lab.namespaces {
            stop.check()?;
            let netns = Netns::create(format!("{}{name}", self.lab.netns_prefix()))?;
            self.claim()?.add_namespace(&netns)?;
            self.namespaces.push(netns);
        }
        if let Some((one, other)) = self.lab.wire_ends().filter(|_| !self.nics.is_empty()) {
            let uplink = self.knobs.uplink;
            for (names, end) in self.nics.chunks(uplink.nics).zip([one, other]) {
                nic::lend(names, self.netns(end)?, uplink.lines)?;
            }
        }
        for action in script(self.lab, &self.knobs, &system) {
            stop.check()?;
            self.execute(&action, &system).map_err(|error| {
                anyhow!(
                    "cannot build the lab {}, in namespace {}: {error:#}",
                    self.lab.name,
                    action.namespace
                )
            })?;
        }
        if let Some((one, other)) = self.lab.wire_ends().filter(|_| self.knobs.wire == Wire::Taps) {
            self.tap_link = Some(TapLink::between(self.netns(one)?, self.netns(other)?)?);
        }
        for v6 in if self.lab.has_ipv6(&system) { &[false, true][..] } else { &[false] } {
            let client = self.endpoint(&self.lab.client, *v6)?;
            wait_ready::wait(&client, &self.endpoint(&self.lab.server, *v6)?, stop)?;
        }
        Ok(())
    }

    fn claim(&mut self) -> Result<&mut Claim> {
        self.claim.as_mut().context("the lab has been taken down")
    }

    fn execute(&mut self, action: &Action, system: &System) -> Result<()> {
        let target = Target {
            netns: self.netns(action.namespace)?.clone(),
            pod: self.netns(&action.namespace.replace("node", "pod")).ok().cloned(),
            cgroup: cgroup_name(self.lab),
            folder: self.claim()?.folder().to_owned(),
            iptables: system.iptables,
        };
        if action.tool == Tool::CgroupPrograms {
            let cgroup = cgroup_programs::create(&target.cgroup)?;
            self.claim()?.add_cgroup(cgroup)?;
        }
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
        let Some(mut claim) = self.claim.take() else { return Ok(()) };
        if self.knobs.keep { claim.keep() } else { remove(claim, self.lab).map(drop) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.take_down() {
            say(&format!("overlay-trace: {error:#}"));
        }
    }
}

/// Removes a lab that was kept or whose run was killed; returns the number of namespaces removed. What the lab has
/// not made itself stays, whatever its name.
///
/// # Errors
///
/// When there is nothing to remove, the lab is in use, or something cannot be removed.
pub fn remove_leftovers(lab: &'static Lab) -> Result<usize> {
    let claim = Claim::take(lab.name)?;
    ensure!(claim.is_left(), "the lab {} does not stand: there is nothing to remove", lab.name);
    remove(claim, lab)
}

/// Removes everything that the lab has made, and puts back what it has changed.
fn remove(mut claim: Claim, lab: &Lab) -> Result<usize> {
    let removed = claim.remove();
    drop(claim);
    host_state::put_back(lab.name)?;
    removed
}

/// The name of the lab's cgroup, where a lab has one.
fn cgroup_name(lab: &Lab) -> String {
    format!("ot-{}", lab.name)
}
