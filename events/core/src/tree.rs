//! The log's Merkle tree: the port that a log answers by, and what is read through it.
//!
//! Leaf `n` is [`entry::leaf`] of the event at position `n + 1`. An append moves the tree in the
//! transaction that stores its events, so the tree never says less or more than the log.

use futures_util::future::BoxFuture;
use rap_proto::Digest;
use rap_tlog::{
    Frontier, TileId,
    proof::{self, ProveError, Tiles},
    tile::{self, Content, HEIGHT, WIDTH},
};

use crate::{
    entry,
    log::{Envelope, Log, ReadError},
};

/// What every log answers about its tree.
pub trait Tree: Send + Sync {
    /// The right edge of the tree over all events.
    fn frontier(&self) -> BoxFuture<'_, Result<Frontier, ReadError>>;

    /// `count` hashes of `level` from the one at index `first`: leaf hashes at level 0, above
    /// it the roots of full tiles of the level below. Fewer when the tree ends before.
    fn hashes(
        &self,
        level: u8,
        first: u64,
        count: u16,
    ) -> BoxFuture<'_, Result<Vec<Digest>, ReadError>>;
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It was asked for more than the tree has.
    #[error(transparent)]
    Prove(#[from] ProveError),
    #[error("the tree has no such tile")]
    NoSuchTile,
}

/// Follows the tree beside a reader of the log, and notices where they part: an event that was
/// changed behind the log's back, or a tree that was.
#[derive(Debug, Clone, Default)]
pub struct TreeCheck {
    frontier: Frontier,
    altered: Option<u64>,
}

impl TreeCheck {
    /// Takes the next events of the log.
    pub async fn follow(&mut self, log: &dyn Log, events: &[Envelope]) -> Result<(), ReadError> {
        for events in events.chunks(usize::from(WIDTH)) {
            let stored = log.hashes(0, self.frontier.size(), WIDTH).await?;
            let mut stored = stored.iter();
            for event in events {
                let leaf = entry::leaf(event);
                if stored.next() != Some(&leaf) {
                    self.altered_at(event.position);
                }
                for tile in self.frontier.push(leaf) {
                    if log.hashes(tile.level + 1, tile.index, 1).await? != [tile.root] {
                        self.altered_at((tile.index << (HEIGHT * (tile.level + 1))) + 1);
                    }
                }
            }
        }
        Ok(())
    }

    /// The first position from which on the tree commits to something else, as far as events were
    /// taken.
    pub fn altered(&self) -> Option<u64> {
        self.altered
    }

    /// The root over the events that were taken.
    pub fn root(&self) -> Digest {
        self.frontier.root()
    }

    /// As [`TreeCheck::altered`], and where no event is left to be taken, the tree's newest hashes
    /// are compared as well.
    pub async fn finish(mut self, log: &dyn Log) -> Result<Option<u64>, ReadError> {
        let tree = log.frontier().await?;
        if tree.size() == self.frontier.size() && tree != self.frontier {
            self.altered_at(tree.size() / u64::from(WIDTH) * u64::from(WIDTH) + 1);
        }
        Ok(self.altered)
    }

    fn altered_at(&mut self, position: u64) {
        // Behind the first difference the trees differ in any case.
        self.altered.get_or_insert(position);
    }
}

/// The bytes of a tile, if the tree has all of it.
pub async fn read_tile(log: &dyn Log, id: TileId) -> Result<Vec<u8>, TreeError> {
    match id.content {
        Content::Hashes { level } => {
            let hashes = log.hashes(level, id.first(), id.width).await?;
            if hashes.len() < usize::from(id.width) {
                return Err(TreeError::NoSuchTile);
            }
            Ok(tile::hashes_to_bytes(&hashes))
        }
        Content::Entries => {
            let entries = read_entries(log, id).await?;
            let bundle = tile::bundle_to_bytes(entries.iter().map(Vec::as_slice));
            bundle.map_err(|error| {
                let detail = error.to_string();
                ReadError::Corrupt { position: id.first() + 1, detail }.into()
            })
        }
    }
}

async fn read_entries(log: &dyn Log, id: TileId) -> Result<Vec<Vec<u8>>, TreeError> {
    let wanted = usize::from(id.width);
    let events = log.read(id.first(), wanted).await?;
    if events.len() < wanted {
        return Err(TreeError::NoSuchTile);
    }
    Ok(events.iter().map(entry::encode).collect())
}

/// That the event at `position` is in the tree of `size` leaves.
pub async fn prove_inclusion(
    log: &dyn Log,
    position: u64,
    size: u64,
) -> Result<Vec<Digest>, TreeError> {
    let no_leaf = ProveError::NoSuchLeaf { index: position, size };
    let index = position.checked_sub(1).ok_or(no_leaf)?;
    let tiles = read_plan(log, proof::plan_inclusion(index, size)?).await?;
    Ok(proof::prove_inclusion(index, size, &tiles)?)
}

/// That the tree of `size` leaves begins with the one of `earlier` leaves.
pub async fn prove_consistency(
    log: &dyn Log,
    earlier: u64,
    size: u64,
) -> Result<Vec<Digest>, TreeError> {
    let tiles = read_plan(log, proof::plan_consistency(earlier, size)?).await?;
    Ok(proof::prove_consistency(earlier, size, &tiles)?)
}

/// The right edge of the tree over the first `size` events, whatever came after them.
pub async fn frontier_at(log: &dyn Log, size: u64) -> Result<Frontier, TreeError> {
    let levels: Vec<u8> = TileId::levels(size).collect();
    let mut roots = Vec::new();
    for level in levels.into_iter().rev() {
        // What is left of this level beside the full tiles, which are hashes of the next one.
        let hashes = size >> (level * HEIGHT);
        let first = hashes / u64::from(WIDTH) * u64::from(WIDTH);
        let count = u16::try_from(hashes - first).expect("less than a tile is wide");
        if count == 0 {
            continue;
        }
        let stored = log.hashes(level, first, count).await?;
        if stored.len() < usize::from(count) {
            return Err(TreeError::NoSuchTile);
        }
        let mut rest = Frontier::default();
        stored.into_iter().for_each(|hash| drop(rest.push(hash)));
        roots.extend(rest.to_bytes());
    }
    Frontier::from_bytes(size, &roots).map_err(|_| TreeError::NoSuchTile)
}

async fn read_plan(log: &dyn Log, plan: Vec<TileId>) -> Result<Tiles, TreeError> {
    let mut tiles = Tiles::new();
    for id in plan {
        let Content::Hashes { level } = id.content else { continue };
        tiles.insert(id, log.hashes(level, id.first(), id.width.min(WIDTH)).await?);
    }
    Ok(tiles)
}
