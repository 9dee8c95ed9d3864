//! Socket load balancing as in Cilium: BPF programs at a cgroup. This process, and the commands that it starts,
//! are in that cgroup while the lab is up.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use aya::Ebpf;
use aya::programs::{CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSockAddr};
use overlay_trace_common::lab::LabSettings;

use super::tc_programs;
use crate::say;

/// The programs that translate a Service address to the server's, and back.
const SOCKET_PROGRAMS: [&str; 4] = ["connect4", "sendmsg4", "recvmsg4", "getpeername4"];
/// The programs that run for each packet, as systemd attaches them (cgroup_skb).
const PACKET_PROGRAMS: [(&str, CgroupSkbAttachType); 2] =
    [("ingress", CgroupSkbAttachType::Ingress), ("egress", CgroupSkbAttachType::Egress)];
/// A BPF link always coexists with others, so the mode has no effect.
const LINK_MODE: CgroupAttachMode = CgroupAttachMode::Single;
/// The number of attempts to remove an emptied cgroup: the kernel may still be migrating tasks out of it.
const REMOVE_ATTEMPTS: u32 = 50;
const RETRY: Duration = Duration::from_millis(10);

/// A cgroup with BPF programs; this process is in it until this value is dropped.
#[derive(Debug)]
pub struct CgroupPrograms {
    path: PathBuf,
    /// The cgroup that the process was in before.
    previous: PathBuf,
    _programs: Ebpf,
}

impl CgroupPrograms {
    /// Attaches the programs of a line, `service=ADDRESS:PORT server=ADDRESS:PORT`, to the cgroup of this name, and
    /// joins it; it was made by [`create`]. With `packets=seen` the programs for each packet are attached too.
    pub fn join(name: &str, line: &str) -> Result<CgroupPrograms> {
        let root = root().context("no cgroup2 is mounted")?;
        let previous = current(&root)?;
        let path = root.join(name);
        match attach(&path, line).and_then(|programs| enter(&path).map(|()| programs)) {
            Ok(programs) => Ok(CgroupPrograms { path, previous, _programs: programs }),
            Err(error) => {
                // The first error is the one to report.
                let _ = remove(&path);
                Err(error)
            }
        }
    }
}

impl Drop for CgroupPrograms {
    fn drop(&mut self) {
        // The previous cgroup may have been removed; the root always exists.
        let left = enter(&self.previous).or_else(|_| root().map_or(Ok(()), |root| enter(&root)));
        if let Err(error) = left.and_then(|()| remove(&self.path)) {
            say(&format!("overlay-trace: {error:#}"));
        }
    }
}

/// Creates the cgroup of this name.
///
/// # Errors
///
/// When there is one of this name: whose it is is not known.
pub fn create(name: &str) -> Result<PathBuf> {
    let path = root().context("no cgroup2 is mounted")?.join(name);
    fs::create_dir(&path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            anyhow!("there is a cgroup {0} that no lab has made: remove it (`rmdir {0}`)", path.display())
        }
        _ => anyhow!("cannot create the cgroup {}: {error}", path.display()),
    })?;
    Ok(path)
}

/// The mount point of the cgroup2 hierarchy.
pub fn root() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mut all = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mount = all.find(|fields| fields.get(2) == Some(&"cgroup2"))?;
    Some(PathBuf::from(mount[1]))
}

/// The cgroup that this process is in.
fn current(root: &Path) -> Result<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup").context("cannot read /proc/self/cgroup")?;
    let path = text
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .context("this process is in no cgroup2 cgroup")?;
    Ok(root.join(path.trim_start_matches('/')))
}

fn enter(path: &Path) -> Result<()> {
    let file = path.join("cgroup.procs");
    fs::write(&file, "0").with_context(|| format!("cannot write {}", file.display()))
}

/// Removes a cgroup that is, or soon will be, empty.
pub fn remove(path: &Path) -> Result<()> {
    for _ in 0..REMOVE_ATTEMPTS {
        match fs::remove_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => thread::sleep(RETRY),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove the cgroup {}", path.display()));
            }
            _ => return Ok(()),
        }
    }
    bail!("the cgroup {} is still in use", path.display())
}

fn attach(path: &Path, line: &str) -> Result<Ebpf> {
    let Settings { translation, with_packet_programs } = parse(line)?;
    let mut object = tc_programs::load(&translation)?;
    let cgroup = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    for name in SOCKET_PROGRAMS {
        let program: &mut CgroupSockAddr = find(&mut object, name)?.try_into()?;
        program.load().with_context(|| format!("the kernel rejects the program {name}"))?;
        program.attach(&cgroup, LINK_MODE).with_context(|| format!("cannot attach {name}"))?;
    }
    for (name, direction) in PACKET_PROGRAMS.into_iter().filter(|_| with_packet_programs) {
        let program: &mut CgroupSkb = find(&mut object, name)?.try_into()?;
        program.load().with_context(|| format!("the kernel rejects the program {name}"))?;
        program.attach(&cgroup, direction, LINK_MODE).with_context(|| format!("cannot attach {name}"))?;
    }
    Ok(object)
}

fn find<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut aya::programs::Program> {
    object.program_mut(name).with_context(|| format!("there is no program {name}"))
}

/// The settings of a line.
#[derive(Default)]
struct Settings {
    translation: LabSettings,
    /// Attach [`PACKET_PROGRAMS`] too.
    with_packet_programs: bool,
}

fn parse(line: &str) -> Result<Settings> {
    let mut settings = Settings::default();
    let translation = &mut settings.translation;
    for word in line.split_whitespace() {
        match word.split_once('=').context("a setting is NAME=VALUE")? {
            ("service", value) => {
                (translation.service, translation.service_port) = network_order(value)?;
            }
            ("server", value) => (translation.server, translation.server_port) = network_order(value)?,
            ("packets", "seen") => settings.with_packet_programs = true,
            _ => bail!("`{word}` is not a known setting"),
        }
    }
    Ok(settings)
}

/// Address and port in network byte order.
fn network_order(text: &str) -> Result<(u32, u32)> {
    let address: SocketAddrV4 = text.parse().with_context(|| format!("{text} is not ADDRESS:PORT"))?;
    Ok((u32::from_ne_bytes(address.ip().octets()), u32::from(address.port().to_be())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_becomes_settings_in_network_byte_order() {
        let settings = parse("service=10.96.77.77:7700 server=10.244.2.2:7701").unwrap();
        assert_eq!(settings.translation.service.to_ne_bytes(), [10, 96, 77, 77]);
        assert_eq!((settings.translation.server_port as u16).to_ne_bytes(), 7701u16.to_be_bytes());
        assert!(!settings.with_packet_programs && parse("packets=seen").unwrap().with_packet_programs);
        assert!(parse("service=nowhere").is_err() && parse("client=10.0.0.1:1").is_err());
    }
}
