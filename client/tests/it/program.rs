//! Running `rap`, with a home of its own.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

pub(crate) const RAP: &str = env!("CARGO_BIN_EXE_rap");

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout
    }

    /// What it said about a failure with that exit code.
    #[track_caller]
    pub(crate) fn fails(self, code: i32) -> String {
        assert_eq!(self.code, code, "{self:?}");
        self.stderr
    }
}

/// Somebody with a home directory, and nothing of ours in the environment.
pub(crate) struct Person {
    home: PathBuf,
    variables: Vec<(String, String)>,
    _folder: Option<TempDir>,
}

impl Person {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("rap");
        Self { home, variables: Vec::new(), _folder: Some(folder) }
    }

    #[cfg(feature = "dev")]
    pub(crate) fn at(home: PathBuf) -> Self {
        Self { home, variables: Vec::new(), _folder: None }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let ours = |(name, _): &(String, String)| name.starts_with("RAP_");
        for (name, _) in std::env::vars().filter(ours) {
            command.env_remove(name);
        }
        command.env("RAP_HOME", &self.home).env_remove("TRACEPARENT");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn rap(&self, words: &[&str]) -> Run {
        run(self.command(RAP).args(words))
    }
}

pub(crate) fn run(command: &mut Command) -> Run {
    let output = command.output().unwrap();
    Run {
        code: output.status.code().unwrap_or(255),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
