//! Whose output cannot be written says so in one sentence, and with an exit code: a full disk, a reader that has gone.

#[path = "../../crates/analysis/tests/support/mod.rs"]
mod support;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_overlay-trace");

/// A file of a disk that is full.
fn full() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

/// A pipe that nobody reads any more.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// A server that answers test traffic.
struct Server(Child, String);

impl Server {
    fn start() -> Server {
        let mut child = Command::new(PROGRAM)
            .args(["traffic", "serve", "--listen", "127.0.0.1:0", "--duration", "60s"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("ready ").unwrap().to_owned();
        Server(child, address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn fails(arguments: &[&str], output: Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().last().unwrap_or_default();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
    assert!(last.starts_with("overlay-trace: ") && last.contains("standard output"), "{arguments:?}: {said}");
    assert_eq!(said.lines().count(), 1, "{arguments:?}: {said}");
}

#[test]
fn output_that_cannot_be_written_is_said_by_every_command() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("a.otr");
    support::write(&file, true, true);
    let file = file.to_str().unwrap();
    let server = Server::start();
    let traffic = ["--to", &server.1, "--duration", "100ms"];
    let mut commands: Vec<Vec<&str>> = vec![
        vec!["--help"],
        vec!["--version"],
        vec!["lab", "run", "--help"],
        vec!["report", file],
        vec!["report", file, "--format", "json"],
        vec!["report", file, "--format", "svg"],
        vec!["diff", file, file],
        vec!["tail", file],
        vec!["what-if", file],
        vec!["export", file, "--format", "perfetto"],
        vec!["export", file, "--format", "speedscope"],
        vec!["export", file, "--format", "pprof"],
        vec!["export", file, "--format", "folded"],
        vec!["export", file, "--format", "pcapng"],
        vec!["export", file, "--format", "parquet"],
        vec!["export", file, "--format", "jsonl"],
        vec!["stages"],
        vec!["stages", "--format", "json"],
        vec!["book", "labs"],
        vec!["lab", "list"],
        vec!["doctor"],
        vec!["traffic", "serve", "--listen", "127.0.0.1:0"],
        [&["traffic", "rr"][..], &traffic].concat(),
        [&["traffic", "rr", "--json"][..], &traffic].concat(),
        [&["traffic", "bulk"][..], &traffic].concat(),
        [&["traffic", "stream"][..], &traffic].concat(),
    ];
    if nix::unistd::geteuid().is_root() {
        commands.push(vec!["lab", "show", "host"]);
    }
    for arguments in commands {
        for stdout in [full(), closed()] {
            fails(&arguments, Command::new(PROGRAM).args(&arguments).stdout(stdout).output().unwrap());
        }
    }
}

#[test]
fn nothing_panics_where_nobody_reads_the_errors() {
    for stderr in [full, closed] {
        for (arguments, code) in
            [(&["report", "/nonexistent"][..], 1), (&["lab", "down", "host"], 1), (&["no-such"], 2)]
        {
            let status =
                Command::new(PROGRAM).args(arguments).stderr(stderr()).stdout(stderr()).status().unwrap();
            assert_eq!(status.code(), Some(code), "{arguments:?}");
        }
    }
}
