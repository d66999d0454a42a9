//! A program that runs beside the test, with its output in a file.

use std::{
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::timeout;

use crate::until;

/// How many lines of its output a program shows when the test fails.
const LAST_LINES: usize = 25;

/// A running program. Killed when dropped; during a panic it shows its last words first.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: tokio::process::Child,
}

impl Process {
    /// Starts `command`; its output is added to `<logs>/<name>.log`.
    pub fn start(name: &str, command: Command, logs: &Path) -> Self {
        let log = logs.join(format!("{name}.log"));
        let output =
            || -> io::Result<File> { OpenOptions::new().create(true).append(true).open(&log) };
        let open = || output().unwrap_or_else(|error| panic!("{}: {error}", log.display()));
        let mut command = tokio::process::Command::from(command);
        command.stdin(Stdio::null()).stdout(open()).stderr(open()).kill_on_drop(true);
        let child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        Self { name: name.to_owned(), log, child }
    }

    /// Ends it at once, as a power cut would (SIGKILL).
    pub async fn kill(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill().await;
    }

    /// Asks it to end (SIGTERM).
    ///
    /// # Panics
    /// When it has not ended within `patience`.
    pub async fn stop(&mut self, patience: Duration) -> ExitStatus {
        if let Some(pid) = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let ended = timeout(patience, self.child.wait()).await;
        let ended = ended.unwrap_or_else(|_| panic!("{} goes on after SIGTERM", self.name));
        ended.expect("a child can be waited for")
    }

    /// Everything that it has said.
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The first line of its output from which `pick` takes something.
    ///
    /// # Panics
    /// When there is none within `patience`, or the program ends before.
    pub async fn says<T>(
        &mut self,
        what: &str,
        patience: Duration,
        pick: impl Fn(&str) -> Option<T>,
    ) -> T {
        let described = format!("{} says {what}", self.name);
        until(&described, patience, async || {
            if let Some(found) = self.output().lines().find_map(&pick) {
                return Some(found);
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("{} ended ({status}) before it said {what}", self.name);
            }
            None
        })
        .await
    }

    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Whether it has ended, and how.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let output = self.output();
            let lines: Vec<&str> = output.lines().collect();
            let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
            eprintln!("--- the last words of {}:\n{}\n---", self.name, last.join("\n"));
        }
    }
}
