//! An exported log's folder: which file is what.
//!
//! | File | Content |
//! |---|---|
//! | `checkpoint` | the signed tree head |
//! | `tile/…` | the tree and its entries, in the layout of C2SP `tlog-tiles` |
//! | `payloads/…` | in bundles like those of the entries: what the entries commit to; empty where it is withheld |
//! | `cosigned/<size>` | tree heads of earlier moments with their cosignatures |
//! | `keys` | what the control plane says its log's keys are, one a line |
//! | `control.pem` | its P-256 key, for `openssl` |

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use rap_proto::{ClusterId, Digest};
use rap_tlog::{
    TileId, TreeHead, VerifierKey,
    tile::{WIDTH, bundle_from_bytes, hashes_from_bytes},
};

use crate::failure::{Exit, Failure};

/// The largest file that is read: a bundle of the largest payloads.
const MAX_FILE_BYTES: u64 = 17 * 1024 * 1024;

/// The most earlier tree heads that are read.
const MAX_COSIGNED: usize = 4_096;

pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Whether it is there already; a full tile never changes.
    pub(super) fn has(&self, file: &str) -> bool {
        self.0.join(file).exists()
    }

    /// All of it or nothing.
    pub(super) fn write(&self, file: &str, content: &[u8]) -> Result<(), Failure> {
        let path = self.0.join(file);
        let write = || -> io::Result<()> {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            let temporary = path.with_extension("new");
            let mut new = fs::File::create(&temporary)?;
            new.write_all(content)?;
            new.sync_all()?;
            fs::rename(temporary, &path)
        };
        write().map_err(|error| Failure::io(path.display(), &error))
    }

    pub(super) fn read(&self, file: &str) -> Result<Vec<u8>, Failure> {
        read(&self.0.join(file))
    }

    pub(super) fn hashes(&self, tile: TileId) -> Result<Vec<Digest>, Failure> {
        let path = tile.path();
        let hashes = hashes_from_bytes(&self.read(&path)?);
        let hashes = hashes.filter(|hashes| hashes.len() == usize::from(tile.width));
        hashes.ok_or_else(|| malformed(&path))
    }

    /// The widest tile that is there, of those that `tile` gives for a width.
    pub(super) fn widest(&self, tile: impl Fn(u16) -> TileId) -> Option<Vec<Digest>> {
        (1..=WIDTH).rev().find_map(|width| {
            let tile = tile(width);
            self.has(&tile.path()).then(|| self.hashes(tile).ok())?
        })
    }

    pub(super) fn bundle(&self, path: &str, width: u16) -> Result<Vec<Vec<u8>>, Failure> {
        let bytes = self.read(path)?;
        let entries = bundle_from_bytes(&bytes).map_err(|_| malformed(path))?;
        if entries.len() != usize::from(width) {
            return Err(malformed(path));
        }
        Ok(entries.into_iter().map(<[u8]>::to_vec).collect())
    }

    /// The tree heads of earlier moments, as they were signed and co-signed, in no order.
    pub(super) fn cosigned(&self) -> Result<Vec<Vec<u8>>, Failure> {
        let folder = self.0.join("cosigned");
        if !folder.exists() {
            return Ok(Vec::new());
        }
        let failed = |error: io::Error| Failure::io(folder.display(), &error);
        let files = fs::read_dir(&folder).map_err(failed)?.collect::<Result<Vec<_>, _>>();
        let files = files.map_err(failed)?;
        if files.len() > MAX_COSIGNED {
            return Err(Failure::new(Exit::Limit, format!("more than {MAX_COSIGNED} tree heads")));
        }
        files.iter().map(|file| read(&file.path())).collect()
    }

    /// The keys that came with the export.
    pub(super) fn keys(&self) -> Result<Vec<VerifierKey>, Failure> {
        let text = String::from_utf8(self.read("keys")?).map_err(|_| malformed("keys"))?;
        text.lines().map(|line| line.parse().map_err(|_| malformed("keys"))).collect()
    }
}

/// Where the payloads of an entry tile stand.
pub(super) fn payload_path(entries: TileId) -> String {
    entries.path().replacen("tile/entries/", "payloads/", 1)
}

/// The cluster whose log the keys are of.
pub(super) fn cluster_of(keys: &[VerifierKey]) -> Result<ClusterId, Failure> {
    let name = keys.first().and_then(|key| key.name().strip_prefix("rap.cluster/"));
    name.and_then(|id| id.parse().ok())
        .ok_or_else(|| Failure::usage("the keys are not those of a cluster's log"))
}

pub(super) fn open_head(note: &[u8], keys: &[VerifierKey]) -> Result<TreeHead, Failure> {
    TreeHead::open(note, cluster_of(keys)?, keys)
        .map_err(|error| Failure::new(Exit::Failed, error.to_string()))
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error: io::Error| Failure::io(path.display(), &error);
    let mut content = Vec::new();
    let file = fs::File::open(path).map_err(failed)?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut content).map_err(failed)?;
    if content.len() as u64 > MAX_FILE_BYTES {
        return Err(Failure::new(Exit::Limit, format!("{} is too large", path.display())));
    }
    Ok(content)
}

fn malformed(file: &str) -> Failure {
    Failure::new(Exit::Failed, format!("{file} is not in the expected form"))
}
