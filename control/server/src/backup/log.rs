//! The log's part of a backup: an exported log with every payload.

use std::collections::BTreeMap;

use bytes::Bytes;
use rap_events::{
    Envelope, EventCodec as _,
    authority::AuthorityEvent,
    entry,
    export::{Verification, next_width},
};
use rap_log_postgres::backup::LogReader;
use rap_pki::pem;
use rap_proto::{Digest, Signer as _, beat::FIRST_AUTHORITY_EPOCH};
use rap_tlog::{
    Frontier, TileId, TreeHead, VerifierKey,
    tile::{Content, WIDTH, bundle_to_bytes, hashes_to_bytes},
};

use super::{
    BackupError,
    folder::{Folder, payload_path},
};
use crate::custody::Custody;

/// Writes the first `size` events, and their signed head last. Every event of that moment is
/// read and must give the tree that the database has.
pub(super) async fn write(
    reader: &mut LogReader,
    custody: &Custody,
    folder: &Folder,
    size: u64,
) -> Result<TreeHead, BackupError> {
    let whole = reader.frontier().clone();
    let (mut frontier, mut sealed) = (Frontier::default(), Frontier::default());
    let mut levels: BTreeMap<u8, Vec<Digest>> = BTreeMap::new();
    let mut epoch = FIRST_AUTHORITY_EPOCH;
    while frontier.size() < whole.size() {
        let (after, is_sealed) = (frontier.size(), frontier.size() < size);
        let end = if is_sealed { size } else { whole.size() };
        let width = next_width(after, end);
        let events = reader.events(after, usize::from(width)).await?;
        if events.len() < usize::from(width) {
            return Err(not_the_tree());
        }
        let leaves: Vec<Digest> = events.iter().map(entry::leaf).collect();
        for leaf in &leaves {
            for tile in frontier.push(*leaf) {
                levels.entry(tile.level + 1).or_default().push(tile.root);
            }
        }
        if is_sealed {
            write_tile(folder, after / u64::from(WIDTH), &events, &leaves)?;
            sealed = frontier.clone();
            epoch = events.iter().filter_map(stated_epoch).last().unwrap_or(epoch);
        }
    }
    if frontier != whole {
        return Err(not_the_tree());
    }
    write_levels(folder, size, &levels)?;
    write_head(custody, folder, &sealed, epoch)
}

/// The authority epoch that an event states, if it is one that does.
fn stated_epoch(event: &Envelope) -> Option<u64> {
    match AuthorityEvent::from_envelope(event) {
        Ok(AuthorityEvent::Stated(stated)) => Some(stated.statement.epoch),
        _ => None,
    }
}

fn not_the_tree() -> BackupError {
    let text = "the log is not what its tree commits to; `rap audit replay` names the position";
    BackupError::NotIntact(text.to_owned())
}

fn write_tile(
    folder: &Folder,
    index: u64,
    events: &[Envelope],
    leaves: &[Digest],
) -> Result<(), BackupError> {
    let width = u16::try_from(events.len()).unwrap_or(WIDTH);
    let tile = |content| TileId { content, index, width };
    let entries: Vec<_> = events.iter().map(entry::encode).collect();
    let unbundled = |error: &dyn std::fmt::Display| BackupError::NotIntact(error.to_string());
    let bundle = bundle_to_bytes(entries.iter().map(Vec::as_slice));
    folder.write(&tile(Content::Entries).path(), &bundle.map_err(|error| unbundled(&error))?)?;
    folder.write(&tile(Content::Hashes { level: 0 }).path(), &hashes_to_bytes(leaves))?;
    let payloads = bundle_to_bytes(events.iter().map(|event| &*event.payload));
    let path = payload_path(tile(Content::Entries));
    folder.write(&path, &payloads.map_err(|error| unbundled(&error))?)
}

fn write_levels(
    folder: &Folder,
    size: u64,
    levels: &BTreeMap<u8, Vec<Digest>>,
) -> Result<(), BackupError> {
    for (level, hashes) in levels {
        for tile in TileId::all(Content::Hashes { level: *level }, size) {
            let first = usize::try_from(tile.first()).unwrap_or(usize::MAX);
            let of_tile = &hashes[first..first + usize::from(tile.width)];
            folder.write(&tile.path(), &hashes_to_bytes(of_tile))?;
        }
    }
    Ok(())
}

fn write_head(
    custody: &Custody,
    folder: &Folder,
    sealed: &Frontier,
    epoch: u64,
) -> Result<TreeHead, BackupError> {
    let head = TreeHead {
        cluster: custody.cluster,
        size: sealed.size(),
        root: sealed.root(),
        said_epoch: Some(epoch),
    };
    let public = custody.control.public_key();
    let keys = [
        VerifierKey::p256(custody.cluster, public),
        VerifierKey::ed25519(custody.cluster, &custody.head_key()),
    ];
    folder.write("keys", keys.map(|key| format!("{key}\n")).concat().as_bytes())?;
    folder.write("control.pem", pem::encode_public_key(&public.to_spki()).as_bytes())?;
    folder.write("checkpoint", &head.sign(&custody.control, &custody.head_key()))?;
    Ok(head)
}

/// The head that a backup was sealed with, if this cluster's control key signed it.
pub(super) fn open_head(custody: &Custody, folder: &Folder) -> Result<TreeHead, BackupError> {
    let key = VerifierKey::p256(custody.cluster, custody.control.public_key());
    TreeHead::open(&folder.read("checkpoint")?, custody.cluster, &[key])
        .map_err(|error| BackupError::NotTrusted(error.to_string()))
}

/// Gives every event to `sink`, tile by tile, once it is proven to be what the head commits to.
pub(super) async fn read(
    folder: &Folder,
    head: &TreeHead,
    mut sink: impl AsyncFnMut(Vec<Envelope>) -> Result<(), BackupError>,
) -> Result<(), BackupError> {
    let mut verification = Verification::new(head.clone(), None);
    while verification.taken() < head.size {
        sink(read_tile(folder, &mut verification, head.size)?).await?;
    }
    let flawed = |flaw: rap_events::export::Flaw| BackupError::NotIntact(flaw.to_string());
    for tile in verification.tiles_above() {
        verification.check_tile(tile, &folder.hashes(tile)?).map_err(flawed)?;
    }
    verification.finish().map_err(flawed)?;
    Ok(())
}

fn read_tile(
    folder: &Folder,
    verification: &mut Verification,
    size: u64,
) -> Result<Vec<Envelope>, BackupError> {
    let taken = verification.taken();
    let (index, width) = (taken / u64::from(WIDTH), next_width(taken, size));
    let tile = |content| TileId { content, index, width };
    let entries = folder.bundle(&tile(Content::Entries).path(), width)?;
    let leaves = folder.hashes(tile(Content::Hashes { level: 0 }))?;
    let payloads = folder.bundle(&payload_path(tile(Content::Entries)), width)?;
    let mut events = Vec::with_capacity(entries.len());
    for ((bytes, leaf), payload) in entries.iter().zip(&leaves).zip(payloads) {
        let entry = verification
            .take(bytes, Some(leaf), Some(&payload))
            .map_err(|flaw| BackupError::NotIntact(flaw.to_string()))?;
        events.push(entry.with_payload(Bytes::from(payload)));
    }
    Ok(events)
}
