//! Socket load balancing, as Cilium's: programs at a cgroup that this process is in for as long as the lab
//! stands, and with it the commands that it starts.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use aya::Ebpf;
use aya::programs::{CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSockAddr};
use overlay_trace_common::lab::LabSettings;

use super::classifier;

/// The programs that translate a Service's address, and back.
const SOCKET_PROGRAMS: [&str; 4] = ["connect4", "sendmsg4", "recvmsg4", "getpeername4"];
/// Those that look at each packet, as systemd's.
const PACKET_PROGRAMS: [(&str, CgroupSkbAttachType); 2] =
    [("ingress", CgroupSkbAttachType::Ingress), ("egress", CgroupSkbAttachType::Egress)];
/// Links are always beside others, and take no mode.
const LINK: CgroupAttachMode = CgroupAttachMode::Single;
/// How often an emptied cgroup is tried to be removed: the kernel may still be leaving it.
const ATTEMPTS: u32 = 50;
const RETRY: Duration = Duration::from_millis(10);

/// A cgroup with programs, and this process in it until this is dropped.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    /// Where the process was before.
    before: PathBuf,
    _programs: Ebpf,
}

impl Cgroup {
    /// Creates the cgroup of this name for what a line tells of, `service=ADDRESS:PORT server=ADDRESS:PORT`, and joins
    /// it.
    pub fn join(name: &str, line: &str) -> Result<Cgroup> {
        let root = root().context("no cgroup2 is mounted")?;
        let before = own(&root)?;
        let path = root.join(name);
        remove(&path)?;
        fs::create_dir(&path).with_context(|| format!("cannot create the cgroup {}", path.display()))?;
        match attach(&path, line).and_then(|programs| enter(&path).map(|()| programs)) {
            Ok(programs) => Ok(Cgroup { path, before, _programs: programs }),
            Err(error) => {
                // The first error is the one to tell.
                let _ = remove(&path);
                Err(error)
            }
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The cgroup of before may be gone; what is mounted stays.
        let left = enter(&self.before).or_else(|_| root().map_or(Ok(()), |root| enter(&root)));
        if let Err(error) = left.and_then(|()| remove(&self.path)) {
            eprintln!("overlay-trace: {error:#}");
        }
    }
}

/// Removes the cgroup of this name that a killed run has left behind; true if there was one.
pub fn remove_leftover(name: &str) -> Result<bool> {
    let Some(path) = root().map(|root| root.join(name)).filter(|path| path.exists()) else {
        return Ok(false);
    };
    remove(&path).map(|()| true)
}

/// Where the one hierarchy of cgroups is mounted.
pub fn root() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mut all = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mount = all.find(|fields| fields.get(2) == Some(&"cgroup2"))?;
    Some(PathBuf::from(mount[1]))
}

/// The cgroup that this process is in.
fn own(root: &Path) -> Result<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup").context("cannot read /proc/self/cgroup")?;
    let path =
        text.lines().find_map(|line| line.strip_prefix("0::")).context("this process is in no cgroup")?;
    Ok(root.join(path.trim_start_matches('/')))
}

fn enter(path: &Path) -> Result<()> {
    let file = path.join("cgroup.procs");
    fs::write(&file, "0").with_context(|| format!("cannot write {}", file.display()))
}

fn remove(path: &Path) -> Result<()> {
    for _ in 0..ATTEMPTS {
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
    let mut object = classifier::load(&settings(line)?)?;
    let cgroup = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    for name in SOCKET_PROGRAMS {
        let program: &mut CgroupSockAddr = find(&mut object, name)?.try_into()?;
        program.load().with_context(|| format!("the kernel refuses {name}"))?;
        program.attach(&cgroup, LINK).with_context(|| format!("{name} cannot be attached"))?;
    }
    for (name, direction) in PACKET_PROGRAMS.into_iter().filter(|_| line.contains("packets=seen")) {
        let program: &mut CgroupSkb = find(&mut object, name)?.try_into()?;
        program.load().with_context(|| format!("the kernel refuses {name}"))?;
        program.attach(&cgroup, direction, LINK).with_context(|| format!("{name} cannot be attached"))?;
    }
    Ok(object)
}

fn find<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut aya::programs::Program> {
    object.program_mut(name).with_context(|| format!("there is no program {name}"))
}

fn settings(line: &str) -> Result<LabSettings> {
    let mut settings = LabSettings::default();
    for word in line.split_whitespace() {
        let (name, value) = word.split_once('=').context("a setting is NAME=VALUE")?;
        match name {
            "service" => (settings.service, settings.service_port) = in_packet(value)?,
            "server" => (settings.server, settings.server_port) = in_packet(value)?,
            "packets" => {}
            _ => bail!("`{word}` is no setting"),
        }
    }
    Ok(settings)
}

/// Address and port as they lie in a packet.
fn in_packet(text: &str) -> Result<(u32, u32)> {
    let address: SocketAddrV4 = text.parse().with_context(|| format!("{text} is no address with a port"))?;
    Ok((u32::from_ne_bytes(address.ip().octets()), u32::from(address.port().to_be())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_becomes_what_lies_in_a_packet() {
        let settings = settings("service=10.96.77.77:7700 server=10.244.2.2:7701").unwrap();
        assert_eq!(settings.service.to_ne_bytes(), [10, 96, 77, 77]);
        assert_eq!((settings.server_port as u16).to_ne_bytes(), 7701u16.to_be_bytes());
        assert!(super::settings("service=nowhere").is_err() && super::settings("client=10.0.0.1:1").is_err());
    }
}
