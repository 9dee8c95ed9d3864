//! The drivers' own counts of packets, and the drivers' names, in all network namespaces.

use std::{
    collections::HashMap,
    fs::File,
    io::{Read, Seek},
    os::{fd::AsRawFd, unix::net::UnixDatagram},
    thread,
};

use nix::sched::{CloneFlags, setns};

use super::netns;

/// The network devices of the thread's namespace, with their counters.
const TABLE: &str = "/proc/thread-self/net/dev";

/// A device: inode number of its network namespace, and name.
pub type Device = (u32, String);

/// What a driver has counted since the device was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriverCount {
    pub received: u64,
    pub sent: u64,
}

/// What the driver of a device has counted, and its name (`ethtool -i`): empty if it has none.
pub type NamedCount = (DriverCount, String);

/// What was opened in a network namespace, and stays in it: the kernel keeps the namespace meanwhile.
struct Opened {
    inode: u32,
    table: File,
    socket: UnixDatagram,
}

/// Network namespaces whose devices' counters can be read. None of them can go away while this lives: it is not to be kept.
pub struct DriverCounts {
    opened: Vec<Opened>,
}

impl DriverCounts {
    /// Opens what is read in each namespace that there is now, in a thread that enters them. Those that it cannot enter
    /// are left out.
    pub fn open() -> DriverCounts {
        let open = |namespace: netns::Namespace| {
            setns(&namespace.file, CloneFlags::CLONE_NEWNET).ok()?;
            let (table, socket) = (File::open(TABLE).ok()?, UnixDatagram::unbound().ok()?);
            Some(Opened { inode: namespace.inode, table, socket })
        };
        let all = move || netns::all().into_iter().filter_map(open).collect();
        DriverCounts { opened: thread::spawn(all).join().unwrap_or_default() }
    }

    /// The counters of all devices.
    pub fn read(&self) -> HashMap<Device, DriverCount> {
        let mut counts = HashMap::new();
        for Opened { inode, table, .. } in &self.opened {
            let (mut table, mut text) = (table, String::new());
            if table.rewind().is_ok() && table.read_to_string(&mut text).is_ok() {
                let devices = text.lines().filter_map(parse);
                counts.extend(devices.map(|(name, count)| ((*inode, name.to_owned()), count)));
            }
        }
        counts
    }

    /// The counters of these devices, as far as they are there.
    pub fn of(&self, devices: Vec<Device>) -> HashMap<Device, NamedCount> {
        let counts = self.read();
        let named = |device: Device| {
            let opened = self.opened.iter().find(|opened| opened.inode == device.0)?;
            let name = driver(&opened.socket, &device.1).unwrap_or_default();
            Some((device.clone(), (*counts.get(&device)?, name)))
        };
        devices.into_iter().filter_map(named).collect()
    }
}

/// A line of the table: the name, the counts of received packets (the second is their number), and then of sent ones.
fn parse(line: &str) -> Option<(&str, DriverCount)> {
    let (name, numbers) = line.split_once(':')?;
    let numbers: Vec<u64> =
        numbers.split_ascii_whitespace().map_while(|number| number.parse().ok()).collect();
    Some((name.trim(), DriverCount { received: *numbers.get(1)?, sent: *numbers.get(9)? }))
}

/// The name of a device's driver in the socket's namespace (`ETHTOOL_GDRVINFO`).
fn driver(socket: &UnixDatagram, device: &str) -> Option<String> {
    const ETHTOOL_GDRVINFO: u32 = 3;
    /// `struct ethtool_drvinfo`: the command, and the driver's name in 32 bytes.
    #[repr(C)]
    struct DriverInfo {
        command: u32,
        driver: [u8; 32],
        rest: [u8; 160],
    }
    let mut info = DriverInfo { command: ETHTOOL_GDRVINFO, driver: [0; 32], rest: [0; 160] };
    // SAFETY: a structure of integers and pointers, of which zeros are a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if device.len() >= request.ifr_name.len() {
        return None;
    }
    for (target, source) in request.ifr_name.iter_mut().zip(device.bytes()) {
        *target = source as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut info).cast();
    // SAFETY: the kernel reads the request, and writes a drvinfo (196 bytes) to where it points, which has that size.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    let end = info.driver.iter().position(|byte| *byte == 0)?;
    (result == 0 && end > 0).then(|| String::from_utf8_lossy(&info.driver[..end]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_devices_of_this_namespace_are_read_again() {
        let counts = DriverCounts::open();
        if !nix::unistd::geteuid().is_root() {
            return assert!(counts.opened.is_empty());
        }
        let own = std::fs::metadata("/proc/self/ns/net").unwrap();
        let lo = (std::os::unix::fs::MetadataExt::ino(&own) as u32, "lo".to_owned());
        let before = counts.read()[&lo];
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(b"one", socket.local_addr().unwrap()).unwrap();
        let after = counts.of(vec![lo.clone(), (0, "none".into())]);
        assert_eq!(after.len(), 1);
        let (after, _) = after[&lo];
        assert!(after.received > before.received && after.sent > before.sent, "{before:?} {after:?}");
    }

    #[test]
    fn a_line_of_the_table_has_two_counts() {
        let line = "  eth0: 1234  42431 0 0 0 0 0 7   987  31 0 0 0 0 0 0";
        assert_eq!(parse(line), Some(("eth0", DriverCount { received: 42_431, sent: 31 })));
        assert_eq!(parse(" face |bytes    packets errs"), None);
        assert_eq!(parse("eth0: 1 2"), None);
    }
}
