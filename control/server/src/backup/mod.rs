//! `rap-control backup`, `restore` and `archive`: a log on its way out of its database, and back.
//!
//! A backup is read within one transaction that writes nothing, proven while it is written, and
//! signed last. A restore proves all of it before it touches the database, which must be empty,
//! and stores it in one transaction. The cluster's keys are in neither: they are the state
//! directory's, which whoever restores must have.

mod folder;
mod log;

use std::{
    io,
    path::{Path, PathBuf},
};

use rap_events::backup::BackupManifest;
use rap_log_postgres::backup::{
    BackupError as ReaderError, LogReader, RestoreError, Restorer, TABLES,
};
use rap_proto::{
    Digest, Signer as _,
    signed::{self, Trusted},
};
use rap_tlog::TreeHead;

use crate::{
    clock,
    config::Store,
    custody::{Custody, CustodyError},
};
use folder::{Folder, table_path};

const MANIFEST: &str = "backup";

/// What was written or restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// The number of events.
    pub size: u64,
    pub root: Digest,
}

#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error(transparent)]
    Custody(#[from] CustodyError),
    #[error("{path}: {error}")]
    Folder { path: PathBuf, error: io::Error },
    /// Name another folder.
    #[error("{0} is not empty")]
    FolderNotEmpty(PathBuf),
    /// Keep everything as it is, and have a person look.
    #[error("not intact: {0}")]
    NotIntact(String),
    /// Another cluster's, or signed with keys that this state directory does not have.
    #[error("not signed by this cluster's control key: {0}")]
    NotTrusted(String),
    #[error("the log has {size} events; there is none at position {position}")]
    NotThatLong { position: u64, size: u64 },
    #[error(transparent)]
    Database(#[from] ReaderError),
    #[error(transparent)]
    Restore(#[from] RestoreError),
}

/// Writes everything that a restore needs beside the state directory into an empty folder.
pub async fn backup(store: &Store, to: &Path) -> Result<Kept, BackupError> {
    let custody = Custody::existing(&store.state_dir)?;
    let folder = Folder::empty(to)?;
    let mut reader = LogReader::open(&store.database).await?;
    let size = reader.frontier().size();
    let head = log::write(&mut reader, &custody, &folder, size).await?;
    let mut manifest = BackupManifest {
        cluster: custody.cluster,
        size: head.size,
        root: head.root,
        made_at: clock::now(),
        tables: std::collections::BTreeMap::new(),
    };
    for table in TABLES {
        let mut file = folder.grow(&table_path(table.name))?;
        reader.table(table, |piece| file.add(piece)).await?;
        manifest.tables.insert(table.name.to_owned(), file.finish()?);
    }
    // Last: a folder without it is not a whole backup.
    folder.write(MANIFEST, &signed::seal(&manifest, &[&custody.control]))?;
    Ok(kept(&head))
}

/// Proves a backup, and stores it in an empty database.
pub async fn restore(store: &Store, from: &Path) -> Result<Kept, BackupError> {
    let custody = Custody::existing(&store.state_dir)?;
    let folder = Folder::at(from);
    let (head, manifest) = opened(&custody, &folder)?;
    log::read(&folder, &head, async |_| Ok(())).await?;
    check_tables(&folder, &manifest)?;
    let mut restorer = Restorer::open(&store.database).await?;
    // Proven once more while it is stored: what was proven is what is stored.
    log::read(&folder, &head, async |events| Ok(restorer.events(events).await?)).await?;
    // What an older release did not write was not there.
    for table in TABLES.iter().filter(|table| manifest.tables.contains_key(table.name)) {
        restorer.table(table, folder.pieces(&table_path(table.name))?).await?;
    }
    check_tables(&folder, &manifest)?;
    restorer.finish().await?;
    Ok(kept(&head))
}

/// Writes the events below `before` as an exported log that verifies by itself.
pub async fn archive(store: &Store, before: u64, to: &Path) -> Result<Kept, BackupError> {
    let custody = Custody::existing(&store.state_dir)?;
    let mut reader = LogReader::open(&store.database).await?;
    let (sealed, size) = (before.saturating_sub(1), reader.frontier().size());
    if sealed == 0 || sealed > size {
        return Err(BackupError::NotThatLong { position: before, size });
    }
    let folder = Folder::empty(to)?;
    let head = log::write(&mut reader, &custody, &folder, sealed).await?;
    log::read(&folder, &log::open_head(&custody, &folder)?, async |_| Ok(())).await?;
    Ok(kept(&head))
}

fn kept(head: &TreeHead) -> Kept {
    Kept { size: head.size, root: head.root }
}

/// The head and the manifest, both signed by this cluster and of one moment.
fn opened(custody: &Custody, folder: &Folder) -> Result<(TreeHead, BackupManifest), BackupError> {
    let trusted = Trusted::one(custody.control.public_key());
    let manifest = signed::open::<BackupManifest>(&folder.read(MANIFEST)?, &trusted)
        .map_err(|error| BackupError::NotTrusted(error.to_string()))?
        .into_inner();
    if manifest.cluster != custody.cluster {
        return Err(BackupError::NotTrusted("it is another cluster's".to_owned()));
    }
    let head = log::open_head(custody, folder)?;
    if (head.size, head.root) != (manifest.size, manifest.root) {
        return Err(BackupError::NotIntact("the checkpoint is not the manifest's".to_owned()));
    }
    Ok((head, manifest))
}

fn check_tables(folder: &Folder, manifest: &BackupManifest) -> Result<(), BackupError> {
    for (name, written) in &manifest.tables {
        if TABLES.iter().all(|table| table.name != name) {
            let text = format!("it has a table {name}, which a newer release wrote");
            return Err(BackupError::NotIntact(text));
        }
        let path = table_path(name);
        if *written != folder.hash(&path)? {
            return Err(BackupError::NotIntact(format!("{path} is not what was written")));
        }
    }
    Ok(())
}
