//! Programs that are part of a lab: they end with it.

use anyhow::Result;

use super::cgroup::Cgroup;
use super::classifier::Classifier;
use super::cni::Attachment;
use super::expand::Action;
use super::process::Bird;
use super::relay::Relay;
use super::{Netns, Running, System, Tool};

/// A program that is part of the lab; it ends when this is dropped.
#[derive(Debug)]
pub enum Daemon {
    Bird { _bird: Bird },
    Relay { _relay: Relay },
    Classifier { _classifier: Classifier },
    Cgroup { _cgroup: Cgroup },
    Cni { _attachment: Attachment },
}

impl Daemon {
    /// Starts what an action tells of; `None` if it tells of no program.
    pub fn start(
        running: &Running,
        netns: &Netns,
        action: &Action,
        system: &System,
    ) -> Result<Option<Vec<Daemon>>> {
        let whole = |daemon: Daemon| Ok(Some(vec![daemon]));
        let each = |start: &dyn Fn(&str) -> Result<Daemon>| action.lines.lines().map(start).collect();
        let daemons: Result<Vec<Daemon>> = match action.tool {
            Tool::Bird => return whole(Daemon::Bird { _bird: Bird::start(netns, &action.lines)? }),
            Tool::Cni => {
                let pod = running.netns(&action.namespace.replace("node", "pod"))?;
                let attachment = Attachment::add(netns, pod, &action.lines, system.iptables)?;
                return whole(Daemon::Cni { _attachment: attachment });
            }
            Tool::Relay => each(&|line| Ok(Daemon::Relay { _relay: Relay::start(netns, line)? })),
            Tool::Classifier => {
                each(&|line| Ok(Daemon::Classifier { _classifier: Classifier::attach(netns, line)? }))
            }
            Tool::SocketPrograms => {
                let name = running.cgroup();
                each(&|line| Ok(Daemon::Cgroup { _cgroup: Cgroup::join(&name, line)? }))
            }
            _ => return Ok(None),
        };
        daemons.map(Some)
    }
}
