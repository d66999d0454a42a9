//! Checks an exported log: every entry against its place, its stream and the tree.
//!
//! The caller reads the files; a [`Verification`] takes their content in order, from the first
//! entry on, and names the first position at which something is not as the tree says. It trusts
//! nothing but the tree head that it was given, whose signature is the caller's to check.

use std::collections::BTreeMap;

use rap_proto::Digest;
use rap_tlog::{
    Completed, Frontier, TreeHead, leaf_hash,
    tile::{Content, TileId, WIDTH},
};

use crate::{
    entry::{self, Entry, EntryError},
    log::StreamId,
};

/// What is wrong with an exported log, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    #[error("position {position}: the entry is not what the tree commits to")]
    NotTheLeaf { position: u64 },
    #[error("position {position}: the entry says that it stands at {found}")]
    Misplaced { position: u64, found: u64 },
    #[error("position {position}: {stream} goes on with revision {found} where {due} is due")]
    Revision { position: u64, stream: StreamId, due: u64, found: u64 },
    #[error("position {position}: the payload is not what the entry commits to")]
    Payload { position: u64 },
    #[error("position {position}: {error}")]
    Unreadable { position: u64, error: EntryError },
    #[error("the log ends before position {position}, and the tree head has {size}")]
    Missing { position: u64, size: u64 },
    #[error("{tile}: a hash is not that of the tile below, which begins at position {position}")]
    Tile { tile: String, position: u64 },
    #[error("the {size} events do not give the root of the tree head")]
    Root { size: u64 },
    #[error("the log is not the one of which {size} events were known before")]
    Forked { size: u64 },
}

/// One exported log on its way through the checks.
#[derive(Debug)]
pub struct Verification {
    head: TreeHead,
    /// A head of the same log that is known from elsewhere.
    known: Option<TreeHead>,
    /// Earlier heads that came with the export: their roots, by their sizes.
    earlier: BTreeMap<u64, Digest>,
    frontier: Frontier,
    revisions: BTreeMap<StreamId, u64>,
    completed: Vec<Completed>,
}

impl Verification {
    pub fn new(head: TreeHead, known: Option<TreeHead>) -> Self {
        Self {
            head,
            known,
            earlier: BTreeMap::new(),
            frontier: Frontier::default(),
            revisions: BTreeMap::new(),
            completed: Vec::new(),
        }
    }

    /// This log must have had this head too. Said before its last entry is taken.
    pub fn expect(&mut self, earlier: &TreeHead) -> Result<(), Flaw> {
        let size = earlier.size;
        match self.earlier.insert(size, earlier.root) {
            Some(other) if other != earlier.root => Err(Flaw::Forked { size }),
            _ if size == 0 => self.check_known(),
            _ => Ok(()),
        }
    }

    /// How many entries were taken.
    pub fn taken(&self) -> u64 {
        self.frontier.size()
    }

    /// Takes the next entry with the leaf hash that the export has for it, and its payload if
    /// it was exported.
    pub fn take(
        &mut self,
        bytes: &[u8],
        leaf: Option<&Digest>,
        payload: Option<&[u8]>,
    ) -> Result<Entry, Flaw> {
        let position = self.taken() + 1;
        let hash = leaf_hash(bytes);
        // What an entry says of itself tells better than its hash that it was moved.
        let entry = entry::decode(bytes).map_err(|error| Flaw::Unreadable { position, error });
        if let Ok(Entry { position: found, .. }) = entry
            && found != position
        {
            return Err(Flaw::Misplaced { position, found });
        }
        if leaf != Some(&hash) {
            return Err(Flaw::NotTheLeaf { position });
        }
        let entry = entry?;
        self.check_revision(&entry)?;
        if payload.is_some_and(|payload| Digest::of(payload) != entry.payload) {
            return Err(Flaw::Payload { position });
        }
        self.completed.extend(self.frontier.push(hash));
        self.check_known()?;
        Ok(entry)
    }

    fn check_revision(&mut self, entry: &Entry) -> Result<(), Flaw> {
        let last = self.revisions.entry(entry.stream.clone()).or_insert(0);
        *last += 1;
        if entry.revision == *last {
            return Ok(());
        }
        let (position, stream) = (entry.position, entry.stream.clone());
        Err(Flaw::Revision { position, stream, due: *last, found: entry.revision })
    }

    fn check_known(&self) -> Result<(), Flaw> {
        let size = self.taken();
        let known = self.known.iter().filter(|known| known.size == size).map(|known| &known.root);
        let mut roots = known.chain(self.earlier.get(&size)).peekable();
        if roots.peek().is_none() {
            return Ok(());
        }
        let root = self.frontier.root();
        if roots.all(|known| *known == root) { Ok(()) } else { Err(Flaw::Forked { size }) }
    }

    /// The tiles above the leaves that the export must have.
    pub fn tiles_above(&self) -> Vec<TileId> {
        let levels = TileId::levels(self.head.size).filter(|level| *level > 0);
        levels.flat_map(|level| TileId::all(Content::Hashes { level }, self.head.size)).collect()
    }

    /// Checks a tile above the leaves against the tiles below it.
    pub fn check_tile(&self, tile: TileId, hashes: &[Digest]) -> Result<(), Flaw> {
        let Content::Hashes { level } = tile.content else { return Ok(()) };
        let below = self.completed.iter().filter(|below| below.level + 1 == level);
        let expected = below.skip_while(|below| below.index < tile.first());
        let mut expected = expected.map(|below| below.root);
        for (hash, index) in hashes.iter().zip(tile.first()..) {
            if expected.next() != Some(*hash) {
                let position = (index << (8 * u32::from(level))) + 1;
                return Err(Flaw::Tile { tile: tile.path(), position });
            }
        }
        Ok(())
    }

    /// Whether what was taken is all of the tree.
    pub fn finish(self) -> Result<TreeHead, Flaw> {
        let size = self.head.size;
        if self.taken() < size {
            return Err(Flaw::Missing { position: self.taken() + 1, size });
        }
        if self.taken() > size || self.frontier.root() != self.head.root {
            return Err(Flaw::Root { size });
        }
        match self.known {
            Some(known) if known.size > size => {
                Err(Flaw::Missing { position: size + 1, size: known.size })
            }
            _ => Ok(self.head),
        }
    }
}

/// How many entries the next tile has, for a tree of `size` of which `taken` were read.
pub fn next_width(taken: u64, size: u64) -> u16 {
    let left = size.saturating_sub(taken).min(u64::from(WIDTH));
    u16::try_from(left).unwrap_or(WIDTH)
}
