//! The names of network namespaces over time.
//!
//! The kernel reuses the inode number of a namespace that was deleted, so a name is valid for a number only during the
//! name's lifetime. The folder of named namespaces is watched, and past names are kept with the time of their end.

use std::{
    collections::HashMap,
    fs,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};

use super::{
    clock::monotonic_ns,
    netns::{self, NAMED},
};

/// A new file has no namespace until one is mounted on it: it is checked this often, for this long.
const MOUNT_INTERVAL: Duration = Duration::from_millis(2);
const MOUNT_TIMEOUT: Duration = Duration::from_secs(2);
/// A name that appears later than this after the first packet of a namespace is that of another namespace.
const LATE_NS: u64 = 500_000_000;

/// The name of the namespace of process 1.
pub const HOST: &str = "host";

/// The names of namespaces, with their lifetimes.
pub struct NetnsNames {
    folder: PathBuf,
    watch: Option<Inotify>,
    /// The folder is watched; it may not exist yet.
    watched: bool,
    /// Device number of the file system of namespaces.
    nsfs: u64,
    /// Files on which no namespace is mounted yet.
    unmounted: Vec<(String, Instant)>,
    /// The names that exist now, with the inode numbers of their namespaces.
    current: HashMap<String, u32>,
    /// By inode number, in the order of time.
    lifetimes: HashMap<u32, Vec<Lifetime>>,
}

/// A name that an inode number had; times are in ns of CLOCK_MONOTONIC.
struct Lifetime {
    name: String,
    /// The low half of the namespace's cookie, if it has one: it distinguishes namespaces of the same number.
    cookie: Option<u32>,
    /// When it was read.
    since_ns: u64,
    /// When it was removed; the maximum if it exists still.
    until_ns: u64,
}

impl Lifetime {
    fn new(name: &str, cookie: Option<u32>) -> Lifetime {
        Lifetime { name: name.to_owned(), cookie, since_ns: monotonic_ns(), until_ns: u64::MAX }
    }
}

impl NetnsNames {
    /// The names that there are now: `host` for the namespace of process 1, and those of `ip netns`.
    pub fn now() -> NetnsNames {
        NetnsNames::in_folder(Path::new(NAMED))
    }

    fn in_folder(folder: &Path) -> NetnsNames {
        let mut names = NetnsNames {
            folder: folder.to_owned(),
            // Without it the folder is read again each time.
            watch: Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok(),
            watched: false,
            nsfs: fs::metadata("/proc/self/ns/net").map_or(0, |own| own.dev()),
            unmounted: Vec::new(),
            current: HashMap::new(),
            lifetimes: HashMap::new(),
        };
        if let Ok(host) = fs::metadata("/proc/1/ns/net") {
            names
                .lifetimes
                .entry(host.ino() as u32)
                .or_default()
                .push(Lifetime::new(HOST, low_cookie("/proc/1/ns/net".as_ref())));
        }
        names.update();
        names
    }

    /// The name of the namespace with this inode number and cookie at a time of CLOCK_MONOTONIC.
    ///
    /// Without cookies: a number is reused only after its name was removed, so of several names the first one that
    /// existed at that time is the right one, even if it was read a moment (half a second) later.
    pub fn at(&self, inode: u32, cookie: u32, ns: u64) -> Option<&str> {
        let lifetimes = self.lifetimes.get(&inode)?;
        let by_cookie = lifetimes.iter().rfind(|life| life.cookie == Some(cookie));
        let by_time = || {
            let mut without = lifetimes.iter().filter(|life| life.cookie.is_none());
            without
                .find(|life| life.until_ns >= ns)
                .filter(|life| life.since_ns <= ns.saturating_add(LATE_NS))
        };
        by_cookie.or_else(by_time).map(|life| life.name.as_str())
    }

    /// Without cookies: the last name that the number is known to have had.
    pub fn last(&self, inode: u32) -> Option<&str> {
        let life = self.lifetimes.get(&inode)?.iter().rfind(|life| life.cookie.is_none());
        life.map(|life| life.name.as_str())
    }

    /// Waits for this time or until names change, and reads the changes.
    pub fn wait(&mut self, time: Duration) {
        let time = if self.unmounted.is_empty() { time } else { time.min(MOUNT_INTERVAL) };
        let timeout = PollTimeout::from(time.as_millis() as u16);
        match &self.watch {
            Some(watch) => {
                // A signal may interrupt it: the changes are read all the same.
                let _ = poll(&mut [PollFd::new(watch.as_fd(), PollFlags::POLLIN)], timeout);
            }
            None => std::thread::sleep(time),
        }
        self.update();
    }

    /// Reads what has changed.
    fn update(&mut self) {
        if !self.watched {
            self.watched = self.watch_folder();
            self.read_folder();
        } else {
            self.read_events();
        }
        let unmounted = std::mem::take(&mut self.unmounted);
        for (name, since) in unmounted {
            match self.namespace(&name) {
                Some(inode) => self.begin(&name, inode, low_cookie(&self.folder.join(&name))),
                None if since.elapsed() < MOUNT_TIMEOUT => self.unmounted.push((name, since)),
                None => {}
            }
        }
    }

    fn watch_folder(&self) -> bool {
        let events = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE_SELF;
        self.watch.as_ref().is_some_and(|watch| watch.add_watch(&self.folder, events).is_ok())
    }

    fn read_events(&mut self) {
        let appears = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        while let Some(Ok(events)) = self.watch.as_ref().map(Inotify::read_events) {
            for event in events {
                let name = event.name.map(|name| name.to_string_lossy().into_owned());
                match name {
                    Some(name) if event.mask.intersects(appears) => {
                        self.unmounted.push((name, Instant::now()))
                    }
                    Some(name) => self.end(&name),
                    // The queue of events has overflowed, or the folder was deleted.
                    None => {
                        self.watched &= event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW);
                        return self.read_folder();
                    }
                }
            }
        }
    }

    /// Compares the folder with what is known.
    fn read_folder(&mut self) {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let files: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        let gone: Vec<String> = self
            .current
            .iter()
            .filter(|(name, inode)| !files.contains(name) || self.namespace(name) != Some(**inode))
            .map(|(name, _)| name.clone())
            .collect();
        gone.iter().for_each(|name| self.end(name));
        for name in files {
            let known = self.current.contains_key(&name)
                || self.unmounted.iter().any(|(unmounted, _)| *unmounted == name);
            if !known {
                self.unmounted.push((name, Instant::now()));
            }
        }
    }

    /// The inode number of the namespace that is mounted on a file.
    fn namespace(&self, name: &str) -> Option<u32> {
        let metadata = fs::metadata(self.folder.join(name)).ok()?;
        (metadata.dev() == self.nsfs).then_some(metadata.ino() as u32)
    }

    fn begin(&mut self, name: &str, inode: u32, cookie: Option<u32>) {
        let lifetimes = self.lifetimes.entry(inode).or_default();
        let exists = |life: &Lifetime| life.until_ns == u64::MAX;
        // The host's own namespace keeps its name, and of two names for a namespace the first one counts.
        if !lifetimes.last().is_some_and(exists) {
            lifetimes.push(Lifetime::new(name, cookie));
            self.current.insert(name.to_owned(), inode);
        }
    }

    fn end(&mut self, name: &str) {
        self.unmounted.retain(|(unmounted, _)| unmounted != name);
        let Some(inode) = self.current.remove(name) else { return };
        let now = monotonic_ns();
        let lifetimes = self.lifetimes.get_mut(&inode).into_iter().flatten();
        lifetimes
            .filter(|life| life.name == name && life.until_ns == u64::MAX)
            .for_each(|life| life.until_ns = now);
    }
}

fn low_cookie(path: &Path) -> Option<u32> {
    netns::cookie(path).ok().map(|cookie| cookie as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nowhere() -> NetnsNames {
        NetnsNames::in_folder(Path::new("/nonexistent"))
    }

    #[test]
    fn a_number_has_the_name_that_it_had_at_the_time() {
        let mut names = nowhere();
        names.begin("pod-1", 7, None);
        let then = monotonic_ns();
        names.end("pod-1");
        let between = monotonic_ns() + 1;
        assert_eq!((names.at(7, 0, then), names.at(7, 0, between)), (Some("pod-1"), None));
        names.begin("pod-2", 7, None);
        assert_eq!((names.at(7, 0, then), names.at(7, 0, between)), (Some("pod-1"), Some("pod-2")));
        assert_eq!((names.last(7), names.at(8, 0, then)), (Some("pod-2"), None));
    }

    #[test]
    fn a_cookie_distinguishes_namespaces_of_one_number() {
        let mut names = nowhere();
        names.begin("pod-1", 7, Some(1));
        names.end("pod-1");
        names.begin("pod-2", 7, Some(2));
        let now = monotonic_ns();
        assert_eq!((names.at(7, 1, now), names.at(7, 2, 0)), (Some("pod-1"), Some("pod-2")));
        // The name of a third one was never read.
        assert_eq!((names.at(7, 3, now), names.last(7)), (None, None));
    }

    #[test]
    fn a_file_becomes_a_name_when_a_namespace_is_on_it() {
        let folder = tempfile::TempDir::new().unwrap();
        let mut names = NetnsNames::in_folder(folder.path());
        let file = folder.path().join("pod");
        fs::write(&file, "").unwrap();
        names.wait(Duration::from_millis(10));
        assert_eq!(names.unmounted.len(), 1);
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/proc/self/ns/net", &file).unwrap();
        names.wait(Duration::from_millis(10));
        let own = fs::metadata("/proc/self/ns/net").unwrap().ino() as u32;
        let host = fs::metadata("/proc/1/ns/net").is_ok_and(|host| host.ino() as u32 == own);
        assert_eq!(names.current.contains_key("pod"), !host);
        assert!(names.unmounted.is_empty() && names.lifetimes.contains_key(&own));
        fs::remove_file(&file).unwrap();
        names.wait(Duration::from_millis(10));
        assert!(names.current.is_empty());
    }
}
