//! The thread that keeps what looking up names and attaching to later modules needs; all others drop it.

use std::{
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::{
    hop_names::HopNames,
    late_probes::LateProbes,
    modules::Modules,
    sys::{
        capabilities::{CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_SYSLOG, Number},
        driver_counts::DriverCounts,
        lookup::Lookup,
    },
    translations::Translations,
    tunnels::TunnelWatcher,
    worker::Worker,
    worker_message::{Request, WorkerMessage},
};

/// To attach probes, to read addresses of the kernel, and to enter namespaces and see those of processes.
const CAPABILITIES: [Number; 5] = [CAP_BPF, CAP_PERFMON, CAP_SYSLOG, CAP_SYS_ADMIN, CAP_SYS_PTRACE];

/// How often new hops are read: often enough to find a short-lived pod alive. Whatever takes longer than that is done by
/// a thread that this one starts and does not wait for.
const INTERVAL: Duration = Duration::from_millis(50);
/// How often modules are checked.
const MODULES_INTERVAL: Duration = Duration::from_millis(100);

/// What the thread works with.
pub struct PrivilegedParts {
    pub hop_names: HopNames,
    pub tunnels: TunnelWatcher,
    /// The modules that the attach plan was made with.
    pub modules: Modules,
    pub late_probes: LateProbes,
    pub requests: Receiver<Request>,
    pub messages: Sender<WorkerMessage>,
}

struct Privileged {
    parts: PrivilegedParts,
    translations: Translations,
    modules_checked: Instant,
    /// Attaches the probes of modules.
    attaching: Option<JoinHandle<()>>,
    /// Addresses without a name so far.
    addresses: Vec<u64>,
}

/// Starts the thread. It is to be stopped when no packet is tracked any more: it reports the last names and the kernel's
/// counters at its end.
///
/// # Errors
///
/// The thread cannot be created.
pub fn start(parts: PrivilegedParts) -> Result<Worker> {
    let privileged = Privileged {
        parts,
        translations: Translations::new(),
        modules_checked: Instant::now(),
        attaching: None,
        addresses: Vec::new(),
    };
    Worker::start("privileged", &CAPABILITIES, move |stop| privileged.work(stop))
}

impl Privileged {
    fn work(mut self, stop: &AtomicBool) {
        loop {
            let is_last = stop.load(Ordering::Relaxed);
            let found = match self.look(is_last) {
                Ok(found) => found,
                Err(error) => return tracing::warn!("the names of devices cannot be read: {error:#}"),
            };
            // The reader may have ended with an error.
            let is_received = found.into_iter().all(|message| self.parts.messages.send(message).is_ok());
            if is_last || !is_received {
                return;
            }
            self.parts.hop_names.wait(INTERVAL);
        }
    }

    /// What is new since the last call.
    fn look(&mut self, is_last: bool) -> Result<Vec<WorkerMessage>> {
        let mut found = Vec::new();
        let requests: Vec<Request> = self.parts.requests.try_iter().collect();
        // Those that are asked about, too.
        let hops = self.parts.hop_names.update(is_last)?;
        if !hops.is_empty() {
            found.push(WorkerMessage::Hops(hops));
        }
        let clients = self.translations.look(is_last);
        if !clients.is_empty() {
            found.push(WorkerMessage::Translations(clients));
        }
        if is_last {
            found.push(WorkerMessage::Notes(self.parts.hop_names.notes()));
            found.push(self.parts.hop_names.kernel_counters());
        } else {
            found.extend(self.answer(requests));
            self.parts.tunnels.update();
            self.check_modules();
        }
        Ok(found)
    }

    /// Gives the names of addresses, of those that were asked for before, too.
    fn answer(&mut self, requests: Vec<Request>) -> Option<WorkerMessage> {
        for request in requests {
            match request {
                Request::AddressNames(addresses) => self.addresses.extend(addresses),
                Request::DriverCounts(hops, answer) => {
                    let devices = self.parts.hop_names.devices(&hops);
                    // The one who asked waits for some time only.
                    Lookup::start(move || answer.send(DriverCounts::open().of(devices)));
                }
            }
        }
        if self.addresses.is_empty() {
            return None;
        }
        let names = self.parts.late_probes.address_names(&self.addresses)?;
        self.addresses.clear();
        Some(WorkerMessage::Names(names))
    }

    fn check_modules(&mut self) {
        let is_attaching = self.attaching.as_ref().is_some_and(|thread| !thread.is_finished());
        if is_attaching || self.modules_checked.elapsed() < MODULES_INTERVAL {
            return;
        }
        self.modules_checked = Instant::now();
        if self.parts.modules.have_been_added() {
            self.attaching = self.parts.late_probes.attach(self.parts.messages.clone());
        }
    }
}
