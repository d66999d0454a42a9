//! `rap audit verify`: checks an exported log, or one proof, without asking anybody.

use std::path::Path;

use rap_events::{
    entry,
    export::{Flaw, Verification, next_width},
    witnessed::Witnesses,
};
use rap_proto::Digest;
use rap_tlog::{
    ProofFile, TileId, TreeHead, VerifierKey,
    tile::{Content, WIDTH},
};
use serde::Serialize;

use super::folder::{Folder, cluster_of, open_head, payload_path, read};
use crate::{
    command::Context,
    failure::{Exit, Failure},
};

/// What was found to be true.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Verified {
    /// The log's name.
    log: String,
    size: u64,
    root: Digest,
    /// How many payloads were there and are what their entries commit to.
    payloads: u64,
    /// The earlier size of the same log that it was found to begin with.
    #[serde(skip_serializing_if = "Option::is_none")]
    begins_with: Option<u64>,
    /// How many of the nodes that could co-sign this log did.
    cosigned_by: String,
    /// The position up to which as many nodes as were asked for, or one, saw this log.
    #[serde(skip_serializing_if = "Option::is_none")]
    cosigned_to: Option<u64>,
}

/// What a log is checked against, beside itself.
pub(super) struct Demands<'a> {
    /// Keys that are known from elsewhere; without any, the export's own.
    pub(super) keys: &'a [VerifierKey],
    pub(super) known: Option<&'a Path>,
    /// How many nodes must have co-signed it.
    pub(super) witnesses: Option<usize>,
}

/// What one proof shows.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    log: String,
    size: u64,
    position: u64,
    event: String,
    stream: String,
    revision: u64,
    at: rap_proto::Timestamp,
}

pub(super) fn run(context: &Context, path: &Path, demands: &Demands<'_>) -> Result<(), Failure> {
    if path.is_dir() { folder(context, path, demands) } else { proof(context, path, demands) }
}

fn folder(context: &Context, path: &Path, demands: &Demands<'_>) -> Result<(), Failure> {
    let from = Folder::at(path);
    let keys = if demands.keys.is_empty() {
        eprintln!(
            "checked with the export's own keys; --key takes one that you know from elsewhere"
        );
        from.keys()?
    } else {
        demands.keys.to_vec()
    };
    let note = from.read("checkpoint")?;
    let head = open_head(&note, &keys)?;
    let known = demands.known;
    let known_head = known.map(|known| known_head(known, &keys)).transpose()?;
    let begins_with = known_head.as_ref().map(|known| known.size);
    let mut verification = Verification::new(head.clone(), known_head);
    let cosigned = cosigned_heads(&from, &head, note, &keys)?;
    for (earlier, _) in &cosigned {
        verification.expect(earlier).map_err(flawed)?;
    }
    let (mut payloads, mut witnesses) = (0, Witnesses::default());
    while verification.taken() < head.size {
        payloads += take_tile(&from, &mut verification, &mut witnesses, head.size)
            .map_err(|failure| where_it_forked(failure, &from, known))?;
    }
    for tile in verification.tiles_above() {
        verification.check_tile(tile, &from.hashes(tile)?).map_err(flawed)?;
    }
    let head = verification.finish().map_err(flawed)?;
    for (earlier, note) in &cosigned {
        witnesses.count(earlier, note).map_err(|error| {
            let size = earlier.size;
            Failure::new(Exit::Failed, format!("the tree head of {size} events: {error}"))
        })?;
    }
    let cosigned_to = enough(&witnesses, demands.witnesses)?;
    context.one(&Verified {
        log: rap_tlog::head::origin(head.cluster),
        size: head.size,
        root: head.root,
        payloads,
        begins_with,
        cosigned_by: format!("{} of {} nodes", witnesses.cosigned(), witnesses.known()),
        cosigned_to,
    })
}

/// The export's own head and the earlier ones that came with it.
fn cosigned_heads(
    from: &Folder,
    head: &TreeHead,
    note: Vec<u8>,
    keys: &[VerifierKey],
) -> Result<Vec<(TreeHead, Vec<u8>)>, Failure> {
    let mut heads = vec![(head.clone(), note)];
    for note in from.cosigned()? {
        let earlier = open_head(&note, keys)?;
        // An export that is under way may have newer ones than its checkpoint.
        if earlier.size <= head.size {
            heads.push((earlier, note));
        }
    }
    Ok(heads)
}

/// The position up to which enough nodes saw the log.
fn enough(witnesses: &Witnesses, demanded: Option<usize>) -> Result<Option<u64>, Failure> {
    let Some(demanded) = demanded else { return Ok(witnesses.seen_by(1)) };
    match witnesses.seen_by(demanded) {
        Some(position) => Ok(Some(position)),
        None => {
            let (cosigned, known) = (witnesses.cosigned(), witnesses.known());
            let text = format!("{cosigned} of {known} nodes co-signed this log, not {demanded}");
            Err(Failure::new(Exit::Failed, text)
                .hint("nodes co-sign within two minutes; export again into the same folder"))
        }
    }
}

/// Takes the next tile of entries; returns how many of its payloads were checked.
fn take_tile(
    from: &Folder,
    verification: &mut Verification,
    witnesses: &mut Witnesses,
    size: u64,
) -> Result<u64, Failure> {
    let (index, width) =
        (verification.taken() / u64::from(WIDTH), next_width(verification.taken(), size));
    let tile = |content| TileId { content, index, width };
    let entries = tile(Content::Entries);
    let missing = |failure: Failure| {
        failure.hint(format!("the export ends before position {}", verification.taken() + 1))
    };
    let bytes = from.bundle(&entries.path(), width).map_err(missing)?;
    let leaves = from.hashes(tile(Content::Hashes { level: 0 })).map_err(missing)?;
    let payloads = from.bundle(&payload_path(entries), width).map_err(missing)?;
    let mut checked = 0;
    for ((entry, leaf), payload) in bytes.iter().zip(&leaves).zip(&payloads) {
        let payload = (!payload.is_empty()).then_some(payload.as_slice());
        checked += u64::from(payload.is_some());
        let entry = verification.take(entry, Some(leaf), payload).map_err(flawed)?;
        witnesses.take(&entry, payload);
    }
    Ok(checked)
}

/// With another export at hand, a fork is told by its first event.
fn where_it_forked(failure: Failure, from: &Folder, known: Option<&Path>) -> Failure {
    let Some(other) = known.filter(|known| known.is_dir()).map(Folder::at) else { return failure };
    match first_difference(from, &other) {
        Some(position) => failure.hint(format!("the two logs differ from position {position} on")),
        None => failure,
    }
}

/// The first position at which two exports have different leaves, in tiles that both have.
fn first_difference(one: &Folder, other: &Folder) -> Option<u64> {
    for index in 0.. {
        let tile = |width| TileId { content: Content::Hashes { level: 0 }, index, width };
        let read = |folder: &Folder| folder.widest(tile).unwrap_or_default();
        let (these, those) = (read(one), read(other));
        if let Some(at) = these.iter().zip(&those).position(|(this, that)| this != that) {
            return Some(tile(WIDTH).first() + at as u64 + 1);
        }
        if these.len() < usize::from(WIDTH) || those.len() < usize::from(WIDTH) {
            return None;
        }
    }
    None
}

/// A tree head from a file, or the one of another export.
fn known_head(path: &Path, keys: &[VerifierKey]) -> Result<TreeHead, Failure> {
    let file = if path.is_dir() { path.join("checkpoint") } else { path.to_owned() };
    open_head(&read(&file)?, keys)
}

fn flawed(flaw: Flaw) -> Failure {
    Failure::new(Exit::Failed, format!("the log is not intact: {flaw}"))
        .hint("keep this copy, and compare it with the log itself and with other copies")
}

fn proof(context: &Context, path: &Path, demands: &Demands<'_>) -> Result<(), Failure> {
    let keys = demands.keys;
    if keys.is_empty() {
        return Err(Failure::usage("a proof is checked with the log's key: --key KEY")
            .hint("an export has it in its file keys"));
    }
    let invalid = |error: &dyn std::fmt::Display| Failure::new(Exit::Failed, error.to_string());
    let file = ProofFile::from_bytes(&read(path)?).map_err(|error| invalid(&error))?;
    let head = file.check(cluster_of(keys)?, keys).map_err(|error| invalid(&error))?;
    let entry = entry::decode(&file.entry).map_err(|error| invalid(&error))?;
    if entry.position != file.index + 1 {
        return Err(invalid(&Flaw::Misplaced { position: file.index + 1, found: entry.position }));
    }
    context.one(&Shown {
        log: rap_tlog::head::origin(head.cluster),
        size: head.size,
        position: entry.position,
        event: entry.event_type,
        stream: entry.stream.to_string(),
        revision: entry.revision,
        at: entry.at,
    })
}
