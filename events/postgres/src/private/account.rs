//! Whom the server runs as: PostgreSQL refuses root, so root lends it another account.

use std::{
    fs, io,
    io::Write as _,
    os::unix::{
        fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, chown},
        process::CommandExt as _,
    },
    path::Path,
    process::Command,
};

use super::{PrivateError, folder};

/// The accounts that root tries, best first.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Account {
    /// The account of this process.
    Own,
    /// Another, because this process is root.
    Lent { name: String, uid: u32, gid: u32 },
}

impl Account {
    pub(super) fn choose() -> Result<Self, PrivateError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Own);
        }
        let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
        CANDIDATES
            .iter()
            .find_map(|name| Self::lent(&accounts, name))
            .ok_or(PrivateError::NoAccount)
    }

    /// The name that the server sees when this process connects.
    pub(super) fn current_name() -> String {
        let own = rustix::process::geteuid().as_raw();
        let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
        entries(&accounts)
            .find(|(_, uid, _)| *uid == own)
            .map_or_else(|| own.to_string(), |(name, ..)| name.to_owned())
    }

    /// The name that a server sees when another one of this account connects.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Own => Self::current_name(),
            Self::Lent { name, .. } => name.clone(),
        }
    }

    fn lent(accounts: &str, wanted: &str) -> Option<Self> {
        let (name, uid, gid) = entries(accounts).find(|(name, ..)| *name == wanted)?;
        Some(Self::Lent { name: name.to_owned(), uid, gid })
    }

    pub(super) fn apply(&self, command: &mut Command) {
        if let Self::Lent { uid, gid, .. } = self {
            command.uid(*uid).gid(*gid);
        }
    }

    /// Makes a folder that only the server's account (and root) can enter.
    pub(super) fn make_folder(&self, path: &Path) -> Result<(), PrivateError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.and_then(|()| self.give(path)).map_err(folder("cannot make", path))
    }

    /// Writes a file that only the server's account (and root) can read.
    pub(super) fn write_file(&self, path: &Path, content: &str) -> Result<(), PrivateError> {
        let write = || -> io::Result<()> {
            let mut options = fs::OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            options.open(path)?.write_all(content.as_bytes())?;
            self.give(path)
        };
        write().map_err(folder("cannot write", path))
    }

    fn give(&self, path: &Path) -> io::Result<()> {
        match self {
            Self::Own => Ok(()),
            Self::Lent { uid, gid, .. } => chown(path, Some(*uid), Some(*gid)),
        }
    }

    /// Whether the account can pass through every folder above `path`.
    pub(super) fn check_reachable(&self, path: &Path) -> Result<(), PrivateError> {
        let Self::Lent { name, uid, gid } = self else { return Ok(()) };
        for above in path.ancestors().skip(1) {
            let metadata = fs::metadata(above).map_err(folder("cannot use", above))?;
            let bit = match () {
                () if metadata.uid() == *uid => 0o100,
                () if metadata.gid() == *gid => 0o010,
                () => 0o001,
            };
            if metadata.mode() & bit == 0 {
                let path = above.to_owned();
                return Err(PrivateError::Unreachable { account: name.clone(), path });
            }
        }
        Ok(())
    }
}

/// Name, uid and gid of each line of passwd(5).
fn entries(accounts: &str) -> impl Iterator<Item = (&str, u32, u32)> {
    accounts.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some((name, uid, gid))
    })
}
