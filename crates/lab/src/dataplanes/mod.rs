//! The dataplanes of well-known container networks, built on this machine from network namespaces.
//!
//! A [`Lab`] is data: its namespaces and, per namespace, the commands to which the real system's agents
//! amount, in the syntax of the real tools. `lab show NAME` prints them with all variables filled in, so that
//! a reader sees exactly what flannel or Calico sets up. [`Running::up`] executes them, [`drive`] sends
//! traffic from the lab's client to its server, and dropping a [`Running`] removes everything again.
//!
//! A lab does not touch the machine's own network: every device is created inside a namespace of the lab, no
//! device leads out of it, and no namespace has a route to the outside. What the kernel changes outside of them
//! all the same, because it loads modules for a lab, [`foretell`] says; it is put back when the lab is down.
//! [`System::look`] and everything that only looks changes nothing.
//!
//! What a lab has made it knows by more than its name, and removes nothing else.

mod bird;
mod cgroup_programs;
mod claim;
mod cni;
mod definitions;
mod drive;
mod endpoint;
mod execute;
mod extra_services;
mod extract;
mod grouping;
mod host_state;
mod knobs;
mod lab;
mod link_kinds;
mod module_index;
mod netns;
mod nic;
mod presence;
mod private_folder;
mod requirements;
mod running;
mod script;
mod step;
pub mod tap;
mod tap_link;
mod tc_programs;
mod tools;
mod udp_tunnel;
mod variables;
mod wait_ready;

pub use drive::{command, default_plan, drive};
pub use endpoint::Endpoint;
pub use grouping::group_compatible;
pub use host_state::foretell;
pub use knobs::{Knobs, Uplink, Wire};
pub use lab::{EndpointSpec, Lab, Need, Part, TrafficTarget};
pub use netns::Netns;
pub use requirements::{System, Unavailable};
pub use running::{Running, remove_leftovers};
pub use script::script;
pub use step::{ALL_NAMESPACES, Action, Family, ServiceTable, Step, Tool, WireKind};

/// All labs.
pub fn all() -> &'static [Lab] {
    definitions::LABS
}

/// The lab of this name.
pub fn find(name: &str) -> Option<&'static Lab> {
    all().iter().find(|lab| lab.name == name)
}

#[cfg(test)]
mod tests;
