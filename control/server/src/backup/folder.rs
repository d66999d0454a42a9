//! A backup's folder: files of mode 0600 in folders of mode 0700, each written whole.
//!
//! | File | Content |
//! |---|---|
//! | `checkpoint`, `tile/…`, `payloads/…`, `keys`, `control.pem` | an exported log, with every payload |
//! | `tables/<name>` | rows that do not follow from events, in the text format of PostgreSQL's COPY |
//! | `backup` | the signed manifest, written last |

use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rap_proto::Digest;
use rap_tlog::{
    TileId,
    tile::{bundle_from_bytes, hashes_from_bytes},
};
use sha2::{Digest as _, Sha256};

use super::BackupError;

/// The largest file that is read at once: a bundle of the largest payloads.
const MAX_FILE_BYTES: u64 = 17 * 1024 * 1024;
/// Tables are read in pieces of this size.
const PIECE_BYTES: usize = 256 * 1024;

pub(super) struct Folder(PathBuf);

/// A file that grows piece by piece, and its hash.
pub(super) struct Growing {
    path: PathBuf,
    file: fs::File,
    hash: Sha256,
}

impl Folder {
    pub(super) fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// A folder with nothing in it, made when it is not there.
    pub(super) fn empty(path: &Path) -> Result<Self, BackupError> {
        make_folder(path)?;
        let mut entries = fs::read_dir(path).map_err(|error| failed(path, error))?;
        if entries.next().is_some() {
            return Err(BackupError::FolderNotEmpty(path.to_owned()));
        }
        Ok(Self::at(path))
    }

    pub(super) fn write(&self, file: &str, content: &[u8]) -> Result<(), BackupError> {
        let mut growing = self.grow(file)?;
        growing.add(content)?;
        growing.finish().map(|_| ())
    }

    pub(super) fn grow(&self, file: &str) -> Result<Growing, BackupError> {
        let path = self.0.join(file);
        path.parent().map_or(Ok(()), make_folder)?;
        let opened = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = opened.map_err(|error| failed(&path, error))?;
        Ok(Growing { path, file, hash: Sha256::new() })
    }

    pub(super) fn read(&self, file: &str) -> Result<Vec<u8>, BackupError> {
        let path = self.0.join(file);
        let mut content = Vec::new();
        let opened = fs::File::open(&path).map_err(|error| failed(&path, error))?;
        let mut limited = opened.take(MAX_FILE_BYTES + 1);
        limited.read_to_end(&mut content).map_err(|error| failed(&path, error))?;
        if content.len() as u64 > MAX_FILE_BYTES {
            return Err(malformed(file));
        }
        Ok(content)
    }

    pub(super) fn hashes(&self, tile: TileId) -> Result<Vec<Digest>, BackupError> {
        let path = tile.path();
        let hashes = hashes_from_bytes(&self.read(&path)?);
        let hashes = hashes.filter(|hashes| hashes.len() == usize::from(tile.width));
        hashes.ok_or_else(|| malformed(&path))
    }

    pub(super) fn bundle(&self, path: &str, width: u16) -> Result<Vec<Vec<u8>>, BackupError> {
        let bytes = self.read(path)?;
        let entries = bundle_from_bytes(&bytes).map_err(|_| malformed(path))?;
        let entries: Vec<_> = entries.into_iter().map(<[u8]>::to_vec).collect();
        if entries.len() == usize::from(width) { Ok(entries) } else { Err(malformed(path)) }
    }

    /// A file of any size, piece by piece.
    pub(super) fn pieces(
        &self,
        file: &str,
    ) -> Result<impl Iterator<Item = Result<Vec<u8>, BackupError>>, BackupError> {
        let path = self.0.join(file);
        let mut opened = fs::File::open(&path).map_err(|error| failed(&path, error))?;
        let next = move || {
            let mut piece = vec![0; PIECE_BYTES];
            match opened.read(&mut piece) {
                Ok(0) => None,
                Ok(read) => {
                    piece.truncate(read);
                    Some(Ok(piece))
                }
                Err(error) => Some(Err(failed(&path, error))),
            }
        };
        Ok(std::iter::from_fn(next))
    }

    pub(super) fn hash(&self, file: &str) -> Result<Digest, BackupError> {
        let mut hash = Sha256::new();
        for piece in self.pieces(file)? {
            hash.update(piece?);
        }
        Ok(Digest::from_bytes(hash.finalize().into()))
    }
}

impl Growing {
    pub(super) fn add(&mut self, piece: &[u8]) -> Result<(), BackupError> {
        self.hash.update(piece);
        self.file.write_all(piece).map_err(|error| failed(&self.path, error))
    }

    /// Durable, and its hash.
    pub(super) fn finish(self) -> Result<Digest, BackupError> {
        self.file.sync_all().map_err(|error| failed(&self.path, error))?;
        Ok(Digest::from_bytes(self.hash.finalize().into()))
    }
}

/// Where the payloads of an entry tile stand.
pub(super) fn payload_path(entries: TileId) -> String {
    entries.path().replacen("tile/entries/", "payloads/", 1)
}

pub(super) fn table_path(name: &str) -> String {
    format!("tables/{name}")
}

fn make_folder(path: &Path) -> Result<(), BackupError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| failed(path, error))
}

fn failed(path: &Path, error: io::Error) -> BackupError {
    BackupError::Folder { path: path.to_owned(), error }
}

fn malformed(file: &str) -> BackupError {
    BackupError::NotIntact(format!("{file} is not in the expected form"))
}
