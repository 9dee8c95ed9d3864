//! `top`: where packets spend their time now, in the terminal; or a recording, played again.

mod draw;
mod keys;
mod view;

use std::{
    collections::VecDeque,
    io::{IsTerminal, stdin, stdout},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use overlay_trace_format::{Counters, RING_MIN};
use overlay_trace_lab::say;
use overlay_trace_monitor::{Aggregation, Devices, Follower, Replay, Tick};
use overlay_trace_probe::{FilterOptions, Session, SessionOptions, sys::capabilities::drop_in_thread};
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use tempfile::TempDir;

use super::{live::announce, probes::Probes, unprivileged};
use view::{Picture, View};

/// How often the screen changes by itself.
const TICK: Duration = Duration::from_secs(1);
/// Times and rates are those of so many ticks.
const WINDOW: usize = 5;
/// More rows are of no use on a screen.
const SERIES_MAX: usize = 10_000;
/// So many bytes of packets are on disk between the recorder and this.
const KEPT: u64 = 8 * RING_MIN;

#[derive(clap::Args)]
pub struct Top {
    /// Recording to play again; without it the running system is shown
    file: Option<PathBuf>,
    /// Probe set to attach
    #[arg(long, value_enum, default_value = "auto", value_name = "SET", conflicts_with = "file")]
    probes: Probes,
    #[command(flatten)]
    filter: FilterOptions,
}

/// Where packets come from.
enum Source {
    Live(Box<Live>),
    File(Box<Replay>),
}

struct Live {
    session: Session,
    follower: Follower,
    /// Where the recorder's packets are until they have been read.
    _folder: TempDir,
}

impl Top {
    pub fn run(self) -> Result<ExitCode> {
        ensure!(
            stdin().is_terminal() && stdout().is_terminal(),
            "top needs a terminal: `overlay-trace report` writes to files and pipes"
        );
        let source = self.source()?;
        let mut screen = Screen::new(source);
        let mut terminal = ratatui::try_init().context("the terminal cannot be drawn on")?;
        let result = screen.run(&mut terminal);
        ratatui::restore();
        result?;
        if let Source::Live(live) = screen.source {
            live.session.stop()?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn source(self) -> Result<Source> {
        if let Some(file) = &self.file {
            ensure!(
                self.filter == FilterOptions::default(),
                "the options that choose packets are for the running system: they have no effect on {}",
                file.display()
            );
            unprivileged::begin()?;
            let [recording] = unprivileged::open([file], None)?;
            return Ok(Source::File(Box::new(Replay::new(recording))));
        }
        let folder = tempfile::Builder::new().prefix("overlay-trace-top-").tempdir()?;
        let ring = folder.path().join("ring");
        say("attaching the probes");
        let session = Session::start(SessionOptions {
            set: self.probes.set(),
            filter: self.filter,
            ring: Some((ring.clone(), KEPT)),
            ..SessionOptions::default()
        })?;
        announce(&session);
        drop_in_thread("main", &[]);
        let follower = Follower::new(&ring);
        Ok(Source::Live(Box::new(Live { session, follower, _folder: folder })))
    }
}

struct Screen {
    source: Source,
    begin: Instant,
    /// The last ticks, the oldest first.
    ticks: VecDeque<Aggregation>,
    counters: Counters,
    view: View,
}

impl Screen {
    fn new(source: Source) -> Screen {
        let view = View::new(match &source {
            Source::Live(live) => format!("live, probe set {}", live.session.set().0.name()),
            Source::File(replay) => {
                let header = &replay.recording().header;
                format!("{}, probe set {}", header.node, header.probe_set)
            }
        });
        Screen { source, begin: Instant::now(), ticks: VecDeque::new(), counters: Counters::default(), view }
    }

    fn run(&mut self, terminal: &mut ratatui::DefaultTerminal) -> Result<()> {
        let mut next = Instant::now();
        loop {
            if Instant::now() >= next {
                next = Instant::now() + TICK;
                self.tick()?;
            }
            terminal.draw(|frame| draw::draw(frame, &mut self.view))?;
            if event::poll(next.saturating_duration_since(Instant::now()))?
                && let Event::Key(key) = event::read()?
                && key.kind != KeyEventKind::Release
                && keys::press(&mut self.view, key)
            {
                return Ok(());
            }
        }
    }

    /// Takes in what is new, and shows it unless the picture is frozen.
    fn tick(&mut self) -> Result<()> {
        let now = self.begin.elapsed();
        let mut new = Aggregation::new(SERIES_MAX, Devices::Names);
        let mut last = None;
        let mut take = |tick: &Tick<'_>| {
            new.add(tick.analysis, tick.hops, now);
            last = Some(tick.last.counters.clone());
        };
        let (elapsed, has_ended) = match &mut self.source {
            Source::Live(live) => {
                ensure!(
                    !live.session.failed(),
                    "the recorder cannot go on: is the disk of temporary files full?"
                );
                live.follower.poll(take)?;
                (now, false)
            }
            Source::File(replay) => {
                let (_, has_ended) = replay.played();
                if !has_ended && !self.view.is_frozen {
                    replay.step(TICK, &mut take)?;
                }
                replay.played()
            }
        };
        self.counters = last.unwrap_or_else(|| self.counters.clone());
        // The end of a file stays on the screen.
        if has_ended && new.end_to_end.count() == 0 {
            return Ok(());
        }
        self.ticks.push_back(new);
        if self.ticks.len() > WINDOW {
            self.ticks.pop_front();
        }
        if !self.view.is_frozen {
            let picture = Picture::of(self.ticks.make_contiguous(), &self.counters, elapsed, has_ended);
            self.view.show(picture);
        }
        Ok(())
    }
}
