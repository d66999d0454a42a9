//! Somebody who types commands on the client host.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, ChildStdout},
    time::timeout,
};

use crate::{Lab, Process, Space};

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

/// A command in the foreground: one types lines and reads lines.
#[derive(Debug)]
pub struct Talk {
    words: String,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
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

    /// The same person without a variable in the environment.
    #[must_use]
    pub fn without(&self, name: &str) -> Self {
        let mut person = self.clone();
        person.variables.retain(|(variable, _)| variable != name);
        person
    }

    /// The same person with the programs of another folder.
    #[must_use]
    pub fn with_programs(&self, programs: &Path) -> Self {
        Self { programs: programs.to_owned(), ..self.clone() }
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

    /// Starts a program and talks to it.
    pub fn talk(&self, program: &str, arguments: &[impl AsRef<OsStr>]) -> Talk {
        let mut command = self.command(program);
        command.args(arguments);
        let words = words(&command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut command = tokio::process::Command::from(command);
        let child = command.kill_on_drop(true).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("`{words}`: {error}"));
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        Talk { words, child, stdin, stdout: BufReader::new(stdout.expect("it is a pipe")) }
    }

    /// Starts a program that runs beside the test; its output is `<name>.log` in `logs`.
    pub fn start(&self, name: &str, program: &str, arguments: &[&str], logs: &Path) -> Process {
        let mut command = self.command(program);
        command.args(arguments);
        Process::start(name, command, logs)
    }

    /// Runs a program to its end.
    pub async fn run(&self, program: &str, arguments: &[impl AsRef<OsStr>]) -> Run {
        let mut command = self.command(program);
        command.args(arguments);
        run(command, "").await
    }
}

impl Talk {
    /// Types a line.
    pub async fn type_line(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("standard input is open");
        stdin.write_all(format!("{line}\n").as_bytes()).await.expect("somebody reads it");
    }

    /// The next line that it prints, `None` at its end.
    ///
    /// # Panics
    /// When none comes within `patience`.
    pub async fn line(&mut self, patience: Duration) -> Option<String> {
        let mut line = String::new();
        let read = timeout(patience, self.stdout.read_line(&mut line)).await;
        let read = read.unwrap_or_else(|_| panic!("`{}` is silent for {patience:?}", self.words));
        (read.expect("a pipe can be read") > 0).then(|| line.trim_end().to_owned())
    }

    /// Closes its standard input and waits for its end.
    ///
    /// # Panics
    /// When it has not ended within `patience`.
    pub async fn finish(mut self, patience: Duration) -> Run {
        drop(self.stdin.take());
        let mut errors = self.child.stderr.take().expect("standard error is a pipe");
        let (mut stdout, mut stderr) = (String::new(), String::new());
        let reading = futures_util::future::join3(
            self.stdout.read_to_string(&mut stdout),
            errors.read_to_string(&mut stderr),
            self.child.wait(),
        );
        let ended = timeout(patience, reading).await;
        let (_, _, status) =
            ended.unwrap_or_else(|_| panic!("`{}` goes on for {patience:?}", self.words));
        let status = status.expect("a child can be waited for");
        Run { words: self.words, code: status.code().unwrap_or(255), stdout, stderr }
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
    let words = words(&command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut command = tokio::process::Command::from(command);
    let child = command.kill_on_drop(true).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("`{words}`: {error}"));
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    // Whoever does not read its input may close it.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
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

/// A command's words behind those that put it on its host.
fn words(command: &Command) -> String {
    let words = command.get_args().skip_while(|word| *word != "--").skip(1);
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
