//! Traffic that runs while a recording begins.

use std::net::SocketAddr;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use overlay_trace_lab::dataplanes::{Netns, Running};
use overlay_trace_lab::traffic::{self, Kind, PORT, Protocol, Server, Spec, Stop, TrafficReport};

use crate::machine;
use crate::networks::moderate;

/// How long packets take between the nodes: longer than a recording waits, when it begins, for what was sent
/// before.
const DELAY: Duration = Duration::from_millis(500);
/// When the traffic ends at the latest: a recording may take minutes to begin where much else runs.
const LONGEST: Duration = Duration::from_secs(900);
/// How long the recording sees it.
const WATCHED: Duration = Duration::from_millis(1500);

/// Requests over UDP from the lab's client to its server, with a delay behind node1's NIC.
pub struct InFlight {
    stop: Stop,
    client: JoinHandle<Result<TrafficReport>>,
    node: Netns,
    _server: Server,
}

impl InFlight {
    /// Begins; when this returns, packets are in flight.
    pub fn begin(running: &Running) -> Result<InFlight> {
        let node = running.netns("node1")?.clone();
        let delay = format!("tc qdisc replace dev eth0 root netem delay {}ms limit 10000", DELAY.as_millis());
        if let Some(lack) = machine::run_in(&node, &delay)? {
            bail!("packets cannot be delayed here: {lack}");
        }
        let (server, client, stop) = (running.server()?, running.client()?, Stop::new());
        let target = SocketAddr::new(server.address, PORT);
        let _server = server.netns.run(|| Server::start(target))??;
        let spec = Spec { rate: 100.0, duration: LONGEST, ..moderate(Kind::Rr, Protocol::Udp) };
        let until = stop.clone();
        let client = thread::spawn(move || client.netns.run(|| traffic::run(&spec, target, &until))?);
        // The announcement takes a few trips over the delayed line, then the requests begin.
        thread::sleep(DELAY * 4);
        Ok(InFlight { stop, client, node, _server })
    }

    /// Stops sending, and waits until everything has arrived.
    pub fn end(self) -> Result<()> {
        self.stop.set();
        let report = self.client.join().map_err(|_| anyhow!("the client has failed"))??;
        thread::sleep(DELAY);
        machine::run_in(&self.node, "tc qdisc del dev eth0 root")?;
        if report.received == 0 {
            bail!("no request was answered");
        }
        Ok(())
    }
}

/// Watches it.
pub fn watch(_: &Running, _: &Stop) -> Result<Vec<TrafficReport>> {
    thread::sleep(WATCHED);
    Ok(Vec::new())
}
