//! The state directory on a real file system.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use rap_agent_core::disk::{Disk, DiskError, StateFile};
use rap_proto::Digest;
use rustix::fs::{FlockOperation, flock};

const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// The most sections that are looked for when unused ones are removed.
const MAX_LISTED: usize = 1_024;

/// The files below one directory, which this process alone uses until the last clone is gone.
#[derive(Debug, Clone)]
pub(crate) struct FileDisk {
    root: PathBuf,
    _lock: Arc<File>,
}

#[derive(Debug, thiserror::Error)]
pub enum OpenDiskError {
    #[error("cannot use the state directory {path}: {error}")]
    Unusable { path: PathBuf, error: io::Error },
    #[error("another agent is using the state directory {path}")]
    InUse { path: PathBuf },
}

impl FileDisk {
    /// Opens the directory, and makes it when it is absent.
    pub(crate) fn open(root: &Path) -> Result<Self, OpenDiskError> {
        let unusable = |error| OpenDiskError::Unusable { path: root.to_owned(), error };
        for directory in [root, &root.join("sections"), &root.join("run")] {
            make_directory(directory).map_err(unusable)?;
        }
        let lock = open_options().open(root.join("lock")).map_err(unusable)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { root: root.to_owned(), _lock: Arc::new(lock) }),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                Err(OpenDiskError::InUse { path: root.to_owned() })
            }
            Err(error) => Err(unusable(error.into())),
        }
    }

    /// Where sockets live.
    pub(crate) fn run_dir(&self) -> PathBuf {
        self.root.join("run")
    }

    fn path(&self, file: StateFile) -> PathBuf {
        self.root.join(file.path())
    }
}

impl Disk for FileDisk {
    fn read(&self, file: StateFile) -> Result<Option<Vec<u8>>, DiskError> {
        let handle = match File::open(self.path(file)) {
            Ok(handle) => handle,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(file, &error)),
        };
        let limit = file.limit();
        let mut bytes = Vec::new();
        handle
            .take(limit as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| failed(file, &error))?;
        if bytes.len() > limit {
            return Err(DiskError::TooLarge { file: file.path(), limit });
        }
        Ok(Some(bytes))
    }

    fn replace(&mut self, file: StateFile, bytes: &[u8]) -> Result<(), DiskError> {
        let path = self.path(file);
        replace(&path, bytes).map_err(|error| failed(file, &error))
    }

    fn append(&mut self, file: StateFile, bytes: &[u8]) -> Result<(), DiskError> {
        let append = || {
            let mut handle = OpenOptions::new()
                .append(true)
                .create(true)
                .mode(FILE_MODE)
                .open(self.path(file))?;
            handle.write_all(bytes)?;
            handle.sync_data()
        };
        append().map_err(|error| failed(file, &error))
    }

    fn remove(&mut self, file: StateFile) -> Result<(), DiskError> {
        match fs::remove_file(self.path(file)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(file, &error)),
            _ => Ok(()),
        }
    }

    fn sections(&self) -> Result<Vec<Digest>, DiskError> {
        let failed = |error: io::Error| DiskError::Failed {
            file: "sections".to_owned(),
            message: error.to_string(),
        };
        let entries = fs::read_dir(self.root.join("sections")).map_err(failed)?;
        let names = entries.take(MAX_LISTED).filter_map(Result::ok).map(|entry| entry.file_name());
        Ok(names.filter_map(|name| name.to_str()?.parse().ok()).collect())
    }
}

/// The new file beside the old one, flushed, renamed over it, and the directory flushed.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    // Not `with_extension`: the floors of two connections differ in nothing else.
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let mut handle = open_options().truncate(true).open(&beside)?;
    handle.write_all(bytes)?;
    handle.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(directory)?.sync_all()
}

fn open_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(FILE_MODE);
    options
}

fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path)
}

fn failed(file: StateFile, error: &io::Error) -> DiskError {
    DiskError::Failed { file: file.path(), message: error.to_string() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn files_are_private_and_replaced_whole() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("state");
        let mut disk = FileDisk::open(&root).unwrap();
        assert_eq!(disk.read(StateFile::Floor).unwrap(), None);
        disk.replace(StateFile::Floor, b"one").unwrap();
        disk.replace(StateFile::Floor, b"second").unwrap();
        assert_eq!(disk.read(StateFile::Floor).unwrap().unwrap(), b"second");
        disk.append(StateFile::Spool, b"a").unwrap();
        disk.append(StateFile::Spool, b"b").unwrap();
        assert_eq!(disk.read(StateFile::Spool).unwrap().unwrap(), b"ab");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&root), 0o700);
        assert_eq!(mode(&root.join("floor")), 0o600);
        assert_eq!(mode(&root.join("spool")), 0o600);
        disk.remove(StateFile::Floor).unwrap();
        disk.remove(StateFile::Floor).unwrap();
        assert_eq!(disk.read(StateFile::Floor).unwrap(), None);
    }

    #[test]
    fn the_floors_of_two_connections_do_not_get_in_each_others_way() {
        let directory = tempfile::tempdir().unwrap();
        let disk = FileDisk::open(directory.path()).unwrap();
        std::thread::scope(|scope| {
            for connection in 1..=2 {
                let mut disk = disk.clone();
                scope.spawn(move || {
                    let connection = rap_proto::VpnConnectionId::from_u128(connection);
                    let file = StateFile::LeaseFloor(connection);
                    for round in 0..50 {
                        let content = format!("{connection} in round {round}");
                        disk.replace(file, content.as_bytes()).unwrap();
                        assert_eq!(disk.read(file).unwrap().unwrap(), content.as_bytes());
                    }
                });
            }
        });
    }

    #[test]
    fn sections_are_found_by_their_digest_and_leftovers_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let mut disk = FileDisk::open(directory.path()).unwrap();
        let digest = Digest::of(b"x");
        disk.replace(StateFile::Section(digest), b"x").unwrap();
        fs::write(directory.path().join("sections/torn.new"), b"x").unwrap();
        assert_eq!(disk.sections().unwrap(), [digest]);
    }

    #[test]
    fn one_directory_serves_one_agent() {
        let directory = tempfile::tempdir().unwrap();
        let first = FileDisk::open(directory.path()).unwrap();
        let second = FileDisk::open(directory.path());
        assert!(matches!(second, Err(OpenDiskError::InUse { .. })));
        drop(first);
        FileDisk::open(directory.path()).unwrap();
    }

    #[test]
    fn oversized_files_are_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let mut disk = FileDisk::open(directory.path()).unwrap();
        let bytes = vec![0; StateFile::Floor.limit() + 1];
        disk.replace(StateFile::Floor, &bytes).unwrap();
        assert!(matches!(disk.read(StateFile::Floor), Err(DiskError::TooLarge { .. })));
    }
}
