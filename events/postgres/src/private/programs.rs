//! Where PostgreSQL's server programs are: on PATH, or where Debian keeps them.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

const DEBIAN: &str = "/usr/lib/postgresql";

/// The two programs that a private server needs, of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Programs {
    pub(super) initdb: PathBuf,
    pub(super) postgres: PathBuf,
}

impl Programs {
    /// Beside the two, where they really are: PATH may lead to them by links.
    pub(super) fn basebackup(&self) -> PathBuf {
        let postgres = fs::canonicalize(&self.postgres).unwrap_or_else(|_| self.postgres.clone());
        postgres.with_file_name("pg_basebackup")
    }

    pub(super) fn find() -> Option<Self> {
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path).find_map(|folder| Self::of_folder(&folder)).or_else(Self::debian)
    }

    /// The newest of Debian's versions.
    fn debian() -> Option<Self> {
        let mut versions: Vec<(u32, PathBuf)> = fs::read_dir(DEBIAN)
            .ok()?
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let version = entry.file_name().to_str()?.parse().ok()?;
                Some((version, entry.path().join("bin")))
            })
            .collect();
        versions.sort();
        versions.iter().rev().find_map(|(_, folder)| Self::of_folder(folder))
    }

    fn of_folder(folder: &Path) -> Option<Self> {
        let programs = Self { initdb: folder.join("initdb"), postgres: folder.join("postgres") };
        (programs.initdb.is_file() && programs.postgres.is_file()).then_some(programs)
    }
}
