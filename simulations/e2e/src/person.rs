//! Somebody who types commands on the client host.

use std::{
    ffi::OsStr,
    fs,
    io::Write as _,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use tokio::time::timeout;

use crate::{Lab, Space};

/// How long one command may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// A person, or rather a home directory with what `rap` keeps in it.
#[derive(Debug, Clone)]
pub struct Person {
    lab: Arc<Lab>,
    home: PathBuf,
    programs: PathBuf,
    variables: Vec<(String, String)>,
}

/// What became of a command.
#[derive(Debug)]
pub struct Run {
    words: String,
    /// 255 and more for a signal.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Person {
    /// `programs` is the folder with the fabric's programs, `variables` the environment that
    /// every command gets.
    pub fn new(
        lab: Arc<Lab>,
        home: PathBuf,
        programs: &Path,
        variables: Vec<(String, String)>,
    ) -> Self {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&home).expect("our folder");
        Self { lab, home, programs: programs.to_owned(), variables }
    }

    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The same person with one more variable in the environment.
    #[must_use]
    pub fn with(&self, name: &str, value: impl Into<String>) -> Self {
        let mut person = self.clone();
        person.variables.push((name.to_owned(), value.into()));
        person
    }

    /// A command as this person types it on the client host.
    pub fn command(&self, program: &str) -> Command {
        let program = match self.programs.join(program) {
            own if own.is_file() => own.to_string_lossy().into_owned(),
            _ => program.to_owned(),
        };
        let mut command = self.lab.command(Space::Client, &program);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}:/usr/sbin", self.programs.display()));
        command.env("HOME", &self.home).env("RAP_HOME", self.home.join("rap"));
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.current_dir(&self.home);
        command
    }

    /// Runs `rap` to its end.
    pub async fn rap(&self, arguments: &[&str]) -> Run {
        self.run("rap", arguments).await
    }

    /// Runs `rap` to its end with something on its standard input.
    pub async fn rap_with_input(&self, arguments: &[&str], input: &str) -> Run {
        let mut command = self.command("rap");
        command.args(arguments);
        run(command, input).await
    }

    /// Runs a program to its end.
    pub async fn run(&self, program: &str, arguments: &[impl AsRef<OsStr>]) -> Run {
        let mut command = self.command(program);
        command.args(arguments);
        run(command, "").await
    }
}

impl Run {
    /// What it printed.
    ///
    /// # Panics
    /// When it failed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.code == 0, "{self}");
        self.stdout
    }

    /// What it printed, as JSON.
    ///
    /// # Panics
    /// When it failed, or printed something else.
    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        let parsed = serde_json::from_str(&self.stdout);
        assert!(self.code == 0 && parsed.is_ok(), "{self}");
        parsed.expect("just looked at")
    }

    /// What it said about its failure.
    ///
    /// # Panics
    /// When it ended with another code.
    #[track_caller]
    pub fn fails(self, code: i32) -> String {
        assert!(self.code == code, "expected exit code {code}: {self}");
        self.stderr
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { words, code, stdout, stderr } = self;
        write!(f, "`{words}` ended with {code}\nstdout: {stdout}\nstderr: {stderr}")
    }
}

/// Runs a command to its end.
///
/// # Panics
/// When it cannot be started, or takes too long.
pub(crate) async fn run(mut command: Command, input: &str) -> Run {
    let words: Vec<_> = command.get_args().skip(6).map(OsStr::to_string_lossy).collect();
    let words = words.join(" ");
    let (reader, mut writer) = std::io::pipe().expect("pipes are to be had");
    command.stdin(reader).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut command = tokio::process::Command::from(command);
    let child = command.kill_on_drop(true).spawn();
    let child = child.unwrap_or_else(|error| panic!("`{words}`: {error}"));
    // The command holds the pipe's other end, which would keep it open.
    drop(command);
    writer.write_all(input.as_bytes()).expect("a little input fits into a pipe");
    drop(writer);
    let output = timeout(PATIENCE, child.wait_with_output()).await;
    let output = output.unwrap_or_else(|_| panic!("`{words}` took more than {PATIENCE:?}"));
    let output = output.expect("a child can be waited for");
    Run {
        words,
        code: output.status.code().unwrap_or(255),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
