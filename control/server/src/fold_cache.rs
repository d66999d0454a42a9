//! A fold cache: the state at some position, kept in the state directory so that a start need not
//! fold the whole log.
//!
//! It is a cache and never the truth. It counts only when the same program wrote it for the same
//! cluster, its content is whole, and the log's tree of today has grown out of the tree that it
//! was folded from. When anything does not match it is left aside, and the log is folded from the
//! beginning.

mod shelf;

use std::{fs, io, path::Path};

use rap_control_core::state::{FOLD_VERSION, MAX_STATE_BYTES, State};
use rap_events::{
    Log, entry,
    tree::{self, TreeError},
};
use rap_proto::{ClusterId, Digest, codec};
use rap_tlog::{Frontier, proof};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

pub(crate) use shelf::{Generation, Shelf};

use crate::{
    custody::{self, CustodyError},
    source::Source,
};

const FILE: &str = "fold_cache";
/// The shape of the file.
const FORMAT: u16 = 1;
/// A cache is written when a start had to fold at least so many events.
pub(crate) const WORTH_EVENTS: u64 = 1_000;
/// Room for what stands beside the state.
const OVERHEAD_BYTES: usize = 64 * 1024;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u16,
    fold: u32,
    program: String,
    cluster: ClusterId,
    position: u64,
    /// The roots of the complete subtrees at that position.
    frontier: ByteBuf,
    /// The hash of the state's bytes.
    digest: Digest,
    state: ByteBuf,
}

/// Why a cache was left aside.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("it is larger than {MAX_STATE_BYTES} bytes")]
    TooLarge,
    #[error("it is damaged")]
    Damaged,
    #[error("another release wrote it")]
    OtherProgram,
    #[error("it is of another cluster")]
    OtherCluster,
    #[error("the log did not grow out of what it was folded from")]
    OtherLog,
    #[error("the log cannot be asked: {0}")]
    Log(TreeError),
}

/// A state, and what it was folded from.
#[derive(Debug, Default)]
pub(crate) struct Folded {
    pub(crate) state: State,
    pub(crate) source: Source,
}

/// What an earlier start left, if that still counts.
pub(crate) async fn load(dir: &Path, cluster: ClusterId, log: &dyn Log) -> Option<Folded> {
    let path = dir.join(FILE);
    if !path.exists() {
        return None;
    }
    match read(&path, cluster, log).await {
        Ok(folded) => {
            let position = folded.state.position();
            tracing::info!(position, "the fold cache saves folding what is before");
            Some(folded)
        }
        Err(reason) => {
            tracing::warn!(%reason, "the fold cache is left aside; the whole log is folded");
            None
        }
    }
}

/// Why a state was not kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotKept {
    #[error("the tree is of {events} events, and the state of {position}")]
    OtherTree { events: u64, position: u64 },
    #[error(transparent)]
    Unwritten(#[from] CustodyError),
}

/// Keeps a state for the next start. Losing it costs time and nothing else.
pub(crate) fn store(
    dir: &Path,
    cluster: ClusterId,
    state: &State,
    frontier: &Frontier,
) -> Result<(), NotKept> {
    let (position, events) = (state.position(), frontier.size());
    if position != events {
        return Err(NotKept::OtherTree { events, position });
    }
    let bytes = state.to_bytes();
    let stored = Stored {
        format: FORMAT,
        fold: FOLD_VERSION,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        cluster,
        position,
        frontier: ByteBuf::from(frontier.to_bytes()),
        digest: Digest::of(&bytes),
        state: ByteBuf::from(bytes),
    };
    custody::write(&dir.join(FILE), &codec::encode(&stored))?;
    tracing::info!(position, "the fold cache was written");
    Ok(())
}

async fn read(path: &Path, cluster: ClusterId, log: &dyn Log) -> Result<Folded, Unusable> {
    let limit = MAX_STATE_BYTES + OVERHEAD_BYTES;
    if fs::metadata(path)?.len() > limit as u64 {
        return Err(Unusable::TooLarge);
    }
    let stored: Stored = codec::decode(&fs::read(path)?, limit).map_err(|_| Unusable::Damaged)?;
    let same = stored.format == FORMAT
        && stored.fold == FOLD_VERSION
        && stored.program == env!("CARGO_PKG_VERSION");
    if !same {
        return Err(Unusable::OtherProgram);
    }
    if stored.cluster != cluster {
        return Err(Unusable::OtherCluster);
    }
    if Digest::of(&stored.state) != stored.digest {
        return Err(Unusable::Damaged);
    }
    let state = State::from_bytes(&stored.state).map_err(|_| Unusable::Damaged)?;
    let frontier =
        Frontier::from_bytes(stored.position, &stored.frontier).map_err(|_| Unusable::Damaged)?;
    if state.position() != stored.position || state.cluster().id != Some(cluster) {
        return Err(Unusable::Damaged);
    }
    // Read before the tree is checked: what is proven then stood there now.
    let last = log.read(stored.position.saturating_sub(1), 1).await;
    let leaf = last.map_err(|error| Unusable::Log(error.into()))?.first().map(entry::leaf);
    check_log(log, &frontier).await?;
    Ok(Folded { state, source: Source::new(frontier, leaf) })
}

/// The log's tree must contain the one that was folded, event for event.
async fn check_log(log: &dyn Log, folded: &Frontier) -> Result<(), Unusable> {
    let unread = |error: TreeError| match error {
        TreeError::Prove(_) | TreeError::NoSuchTile => Unusable::OtherLog,
        error @ TreeError::Read(_) => Unusable::Log(error),
    };
    let tree = log.frontier().await.map_err(|error| unread(error.into()))?;
    if tree.size() < folded.size() {
        return Err(Unusable::OtherLog);
    }
    let consistency =
        tree::prove_consistency(log, folded.size(), tree.size()).await.map_err(unread)?;
    let (earlier, now) = ((folded.size(), &folded.root()), (tree.size(), &tree.root()));
    proof::check_consistency(&consistency, earlier, now).map_err(|_| Unusable::OtherLog)
}

#[cfg(test)]
mod tests;
