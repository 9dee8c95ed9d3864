//! `record --on`: recorders on several machines at once, over the system's ssh client, and their recordings merged.
//!
//! On each machine `record --relay` runs. It says on its standard output when it records, records until its standard input
//! ends, and then writes the recording to its standard output. So nothing is left there, also where the connection breaks.

use std::{
    ffi::{OsStr, OsString},
    io::{self, Write},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::Stdio,
    thread,
};

use anyhow::{Context, Result, bail, ensure};
use overlay_trace_format::{OutputFile, Readers, check_output, printable};
use overlay_trace_lab::say;
use overlay_trace_merge::Options;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::oneshot,
};

use super::{merge::merge_to, unprivileged::with_files};

/// What a recorder says when it records.
pub const READY: &str = "overlay-trace: recording";

/// Where recorders run, and how they are reached.
#[derive(clap::Args)]
pub struct On {
    /// Record on these machines at once, over ssh, and merge: HOST,HOST,… as ssh knows them. The options apply on each of
    /// them, COMMAND runs here. The recordings are kept beside the merged one
    #[arg(long = "on", value_name = "HOSTS", value_delimiter = ',', value_parser = host)]
    pub hosts: Vec<String>,
    /// With --on: the ssh client and its options
    #[arg(long, default_value = "ssh", value_name = "COMMAND")]
    ssh: String,
    /// With --on: how overlay-trace is called there, such as "sudo overlay-trace"
    #[arg(long, default_value = "overlay-trace", value_name = "COMMAND")]
    remote_program: String,
}

/// The options that are not passed on, each with a value of its own.
const OWN_OPTIONS: [&str; 5] = ["--on", "--ssh", "--remote-program", "--output", "-o"];
/// Those without a value.
const OWN_FLAGS: [&str; 2] = ["--force", "--keep-going"];

/// What ssh would take for an option is none of its hosts.
fn host(text: &str) -> Result<String, String> {
    match text {
        "" => Err("expected the names of machines with commas between them".to_owned()),
        _ if text.starts_with('-') => Err(format!("{text} is no name of a machine")),
        _ => Ok(text.to_owned()),
    }
}

/// The options of this call that the recorders on other machines get: all but where the result goes and what is run here.
fn passed_on(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments = arguments.into_iter().skip_while(|argument| argument != "record").skip(1);
    let mut passed = Vec::new();
    while let Some(argument) = arguments.next().filter(|argument| argument != "--") {
        let text = argument.to_string_lossy();
        let has_value = |name: &str| {
            text.strip_prefix(name).is_some_and(|rest| rest.starts_with('=') || !name.starts_with("--"))
        };
        if OWN_OPTIONS.contains(&&*text) {
            arguments.next();
        } else if !OWN_FLAGS.contains(&&*text) && !OWN_OPTIONS.iter().any(|name| has_value(name)) {
            passed.push(argument);
        }
    }
    passed
}

/// A word as a shell takes it.
fn quoted(word: &OsStr) -> OsString {
    let mut quoted = b"'".to_vec();
    for byte in word.as_bytes() {
        match byte {
            b'\'' => quoted.extend(b"'\\''"),
            other => quoted.push(*other),
        }
    }
    quoted.push(b'\'');
    OsStr::from_bytes(&quoted).to_owned()
}

/// The file of a machine's own recording, beside the merged one.
fn beside(output: &Path, host: &str) -> PathBuf {
    let is_plain = |sign: &char| sign.is_ascii_alphanumeric() || "._-".contains(*sign);
    let host: String = host.chars().map(|sign| if is_plain(&sign) { sign } else { '_' }).collect();
    output.with_extension(format!("{host}.otr"))
}

/// A machine on which a recorder runs.
struct Machine {
    host: String,
    file: PathBuf,
    child: Child,
    /// Its end ends the recording.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// Recorders on all machines.
pub struct Machines(Vec<Machine>);

impl Machines {
    /// Starts recorders, and waits until all of them record.
    ///
    /// # Errors
    ///
    /// A file exists; ssh cannot be started; a machine, which is named, does not record.
    pub async fn start(on: &On, output: &Path, force: bool) -> Result<Machines> {
        let arguments = passed_on(std::env::args_os());
        check_output(output, force)?;
        let mut machines = Vec::new();
        for host in &on.hosts {
            let file = beside(output, host);
            ensure!(
                machines.iter().all(|other: &Machine| other.file != file),
                "{host} is named twice, or is not told from another machine by its letters and digits"
            );
            check_output(&file, force)?;
            machines.push(Machine::start(on, host, file, &arguments)?);
        }
        for machine in &mut machines {
            machine.ready().await?;
            say(&format!("{} records", printable(&machine.host)));
        }
        Ok(Machines(machines))
    }

    /// Ends the recordings, fetches them, and merges them to one at `output`. Returns whether all of that was possible; what
    /// was not is named, and the recordings that could be fetched are kept.
    pub async fn finish(mut self, output: &PathBuf, force: bool) -> bool {
        // All end now, and not one when the one before has been fetched.
        self.0.iter_mut().for_each(|machine| drop(machine.input.take()));
        let (all, mut files) = (self.0.len(), Vec::new());
        for mut machine in self.0 {
            match machine.fetch(force).await {
                Ok(()) => files.push(machine.file),
                Err(error) => say(&format!("{}: {error:#}", printable(&machine.host))),
            }
        }
        let is_complete = files.len() == all;
        let merged = merged(&files, output, force);
        match &merged {
            Ok(text) => say(text.trim_end()),
            Err(error) => say(&format!("the recordings are not merged: {error:#}")),
        }
        files.iter().for_each(|file| say(&format!("kept: {}", file.display())));
        is_complete && merged.is_ok()
    }
}

/// Merges recordings, and says what was joined.
fn merged(files: &[PathBuf], output: &PathBuf, force: bool) -> Result<String> {
    ensure!(files.len() > 1, "there are not two of them");
    let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    Ok(merge_to(&files, &Options::default(), output, force)?.text())
}

impl Machine {
    fn start(on: &On, host: &str, file: PathBuf, arguments: &[OsString]) -> Result<Machine> {
        let mut remote = OsString::from(&on.remote_program);
        remote.push(" record --relay");
        for argument in arguments {
            remote.push(" ");
            remote.push(quoted(argument));
        }
        let mut words = on.ssh.split_whitespace();
        let ssh = words.next().context("--ssh needs the name of a program")?;
        // Of a group of its own: Ctrl-C is for this program, which then ends the recordings.
        let mut command = Command::new(ssh);
        command.args(words).arg(host).arg(remote).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {ssh}"))?;
        let messages = child.stderr.take().context("no standard error")?;
        let name = printable(host).into_owned();
        tokio::spawn(async move {
            let mut lines = BufReader::new(messages).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                say(&format!("{name}: {}", printable(&line)));
            }
        });
        let input = Some(child.stdin.take().context("no standard input")?);
        let output = BufReader::new(child.stdout.take().context("no standard output")?);
        Ok(Machine { host: host.to_owned(), file, child, input, output })
    }

    /// Waits until the recorder records.
    async fn ready(&mut self) -> Result<()> {
        let mut line = String::new();
        let is_said = self.output.read_line(&mut line).await;
        if is_said.is_ok() && line.trim_end() == READY {
            return Ok(());
        }
        drop(self.input.take());
        let status = self.child.wait().await?;
        bail!("{} does not record ({status}): its message is above", printable(&self.host));
    }

    /// Writes what the recorder has recorded to the machine's file.
    async fn fetch(&mut self, force: bool) -> Result<()> {
        let mut file = with_files(|| OutputFile::create(&self.file, force, Readers::Owner))
            .with_context(|| format!("cannot create {}", self.file.display()))?;
        let (mut buffer, mut bytes) = (vec![0; 1 << 16], 0);
        loop {
            let length = self.output.read(&mut buffer).await.context("the connection broke")?;
            if length == 0 {
                break;
            }
            file.file
                .write_all(&buffer[..length])
                .with_context(|| format!("cannot write {}", self.file.display()))?;
            bytes += length;
        }
        let status = self.child.wait().await?;
        ensure!(bytes > 0, "it sent no recording ({status})");
        // The recording came; what its recorder says of it is above.
        if !status.success() {
            say(&format!("{}: the recorder ended with {status}", printable(&self.host)));
        }
        Ok(())
    }
}

/// Tells when the standard input ends. The thread ends with the process.
pub fn end_of_input() -> oneshot::Receiver<()> {
    let (send, receive) = oneshot::channel();
    let _ = thread::Builder::new().name("input".into()).spawn(move || {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        let _ = send.send(());
    });
    receive
}

/// Says to the one that has started this recorder that it records.
pub fn say_ready() -> Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{READY}").and_then(|()| output.flush()).context("nobody waits for this recording")
}

/// Writes the recording to the standard output.
pub fn send(file: &Path) -> Result<()> {
    let mut file = std::fs::File::open(file).context("the recording cannot be read again")?;
    io::copy(&mut file, &mut io::stdout().lock()).map(drop).context("the recording cannot be sent")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_concerns_this_machine_is_not_passed_on() {
        let call = "overlay-trace record --on a,b -o x.otr --probes light --force --output=y.otr --ssh=z --netns n1 -- on -o";
        let passed = passed_on(call.split(' ').map(OsString::from));
        assert_eq!(passed, ["--probes", "light", "--netns", "n1"]);
        assert!(passed_on(["overlay-trace", "record", "--on=a", "-ox.otr"].map(OsString::from)).is_empty());
    }

    #[test]
    fn a_word_comes_out_of_a_shell_as_it_went_in() {
        for word in ["plain", "with space", "it's", "$(reboot)", "", "a\nb"] {
            let mut script = OsString::from("printf %s ");
            script.push(quoted(OsStr::new(word)));
            let output = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
            assert_eq!(output.stdout, word.as_bytes());
        }
    }

    #[test]
    fn each_machine_has_a_file_of_its_own() {
        let of = |host| beside(Path::new("/tmp/run.otr"), host);
        assert_eq!(of("root@10.0.0.1"), Path::new("/tmp/run.root_10.0.0.1.otr"));
        assert_eq!(of("../../etc/x"), Path::new("/tmp/run..._.._etc_x.otr"));
        assert!(host("-oProxyCommand=x").is_err() && host("").is_err());
    }
}
