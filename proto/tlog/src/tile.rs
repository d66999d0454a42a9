//! Tiles: the tree and the entries in pieces of 256, as C2SP `tlog-tiles` lays them out.
//!
//! | Path | Content |
//! |---|---|
//! | `tile/<L>/<N>[.p/<W>]` | `W` hashes of level `L`, 32 bytes each |
//! | `tile/entries/<N>[.p/<W>]` | `W` entries, each behind its length as two bytes, big-endian |
//!
//! `<N>` is written in groups of three digits, all but the last with an `x`: `x001/x234/067`.

use rap_proto::Digest;
use tlog_tiles::Tile;

/// A tile spans this many levels of the tree.
pub const HEIGHT: u8 = 8;
/// A full tile's hashes or entries.
pub const WIDTH: u16 = 256;
/// The largest entry, in bytes: its length is written in two.
pub const MAX_ENTRY_BYTES: usize = u16::MAX as usize;
/// The highest level of a tree with 64 bits of leaves.
pub const MAX_LEVEL: u8 = 7;

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Content {
    /// Hashes of this level: 0 are leaf hashes.
    Hashes {
        level: u8,
    },
    Entries,
}

/// Which tile, and how much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TileId {
    pub content: Content,
    pub index: u64,
    /// 1 to [`WIDTH`]; less than that is a partial tile.
    pub width: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a tile's path")]
pub struct InvalidTilePath;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    #[error("the bundle ends within entry {entry}")]
    Truncated { entry: usize },
    #[error("entry {entry} has {bytes} bytes, more than {MAX_ENTRY_BYTES}")]
    TooLarge { entry: usize, bytes: usize },
}

impl TileId {
    /// The tiles of one level, or of the entries, for a tree of `size` leaves: full ones, then
    /// at most one partial.
    pub fn all(content: Content, size: u64) -> impl Iterator<Item = Self> + Clone {
        let items = match content {
            Content::Hashes { level } => size.checked_shr(u32::from(level * HEIGHT)).unwrap_or(0),
            Content::Entries => size,
        };
        let width = u64::from(WIDTH);
        let partial = u16::try_from(items % width).ok().filter(|width| *width > 0);
        let full = (0..items / width).map(move |index| Self { content, index, width: WIDTH });
        full.chain(partial.map(|rest| Self { content, index: items / width, width: rest }))
    }

    /// The levels that a tree of `size` leaves has hashes in.
    pub fn levels(size: u64) -> impl Iterator<Item = u8> {
        (0..=MAX_LEVEL).filter(move |level| size >> (level * HEIGHT) > 0)
    }

    /// Whether a tree of `size` leaves has all of this tile.
    pub fn fits(&self, size: u64) -> bool {
        let level = match self.content {
            Content::Hashes { level } => level,
            Content::Entries => 0,
        };
        let items = size >> (level * HEIGHT);
        let last = self.index.checked_mul(u64::from(WIDTH));
        last.and_then(|first| first.checked_add(u64::from(self.width)))
            .is_some_and(|end| end <= items)
    }

    /// The index of its first leaf or hash within the level.
    pub fn first(&self) -> u64 {
        self.index * u64::from(WIDTH)
    }

    pub fn path(&self) -> String {
        // The library writes the paths of the checksum database: with the height, and `data`.
        let path = self.tile().path();
        let rest = path.strip_prefix("tile/8/").unwrap_or(&path);
        match rest.strip_prefix("data/") {
            Some(place) => format!("tile/entries/{place}"),
            None => format!("tile/{rest}"),
        }
    }

    pub fn from_path(path: &str) -> Result<Self, InvalidTilePath> {
        let rest = path.strip_prefix("tile/").ok_or(InvalidTilePath)?;
        let (kind, place) = rest.split_once('/').ok_or(InvalidTilePath)?;
        let level = kind.parse::<u8>().is_ok_and(|level| level <= MAX_LEVEL);
        // The library panics at a level or a width that no tile has.
        let empty = place.rsplit_once(".p/").is_some_and(|(_, width)| width.parse() == Ok(0_u32));
        if empty || !(level || kind == "entries") {
            return Err(InvalidTilePath);
        }
        let kind = if level { kind } else { "data" };
        let tile = Tile::from_path(&format!("tile/{HEIGHT}/{kind}/{place}"));
        Ok(Self::of(&tile.map_err(|_| InvalidTilePath)?))
    }

    /// The library's tile, whose `width` is what a proof needs of it.
    pub(crate) fn of(tile: &Tile) -> Self {
        let content =
            if tile.is_data() { Content::Entries } else { Content::Hashes { level: tile.level() } };
        let width = u16::try_from(tile.width()).unwrap_or(WIDTH);
        Self { content, index: tile.level_index(), width }
    }

    pub(crate) fn tile(&self) -> Tile {
        let (level, is_data) = match self.content {
            Content::Hashes { level } => (level, false),
            Content::Entries => (0, true),
        };
        Tile::new(HEIGHT, level, self.index, u32::from(self.width), is_data)
    }
}

/// The bytes of a tile of hashes.
pub fn hashes_to_bytes(hashes: &[Digest]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.as_bytes()).copied().collect()
}

/// The hashes of a tile; `None` when the bytes are not whole hashes.
pub fn hashes_from_bytes(bytes: &[u8]) -> Option<Vec<Digest>> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    rest.is_empty().then(|| hashes.iter().copied().map(Digest::from_bytes).collect())
}

/// The bytes of an entry bundle.
pub fn bundle_to_bytes<'a>(
    entries: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<u8>, BundleError> {
    let mut bundle = Vec::new();
    for (number, entry) in entries.into_iter().enumerate() {
        let too_large = BundleError::TooLarge { entry: number, bytes: entry.len() };
        let length = u16::try_from(entry.len()).map_err(|_| too_large)?;
        bundle.extend_from_slice(&length.to_be_bytes());
        bundle.extend_from_slice(entry);
    }
    Ok(bundle)
}

/// The entries of a bundle.
pub fn bundle_from_bytes(mut bytes: &[u8]) -> Result<Vec<&[u8]>, BundleError> {
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        let truncated = BundleError::Truncated { entry: entries.len() };
        let (length, rest) = bytes.split_first_chunk().ok_or(truncated)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (entry, rest) = rest.split_at_checked(length).ok_or(truncated)?;
        entries.push(entry);
        bytes = rest;
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(level: u8, index: u64, width: u16) -> TileId {
        TileId { content: Content::Hashes { level }, index, width }
    }

    #[test]
    fn paths_are_those_of_the_specification() {
        let entries = |index, width| TileId { content: Content::Entries, index, width };
        for (tile, path) in [
            (hashes(0, 0, 256), "tile/0/000"),
            (hashes(0, 273, 112), "tile/0/273.p/112"),
            (hashes(1, 1, 17), "tile/1/001.p/17"),
            (hashes(0, 1_234_067, 256), "tile/0/x001/x234/067"),
            (entries(1_234_067, 256), "tile/entries/x001/x234/067"),
            (entries(0, 1), "tile/entries/000.p/1"),
        ] {
            assert_eq!(tile.path(), path);
            assert_eq!(TileId::from_path(path), Ok(tile));
        }
    }

    #[test]
    fn other_paths_are_refused() {
        for path in [
            "",
            "tile/",
            "tile/0/",
            "tile/0/0",
            "tile/0/0000",
            "tile/00/000",
            "tile/0/000.p/0",
            "tile/0/000.p/00",
            "tile/64/000",
            "tile/255/000",
            "tile/0/000.p/256",
            "tile/0/000.p/257",
            "tile/0/000.p/-1",
            "tile/8/000",
            "tile/-1/000",
            "tile/data/000",
            "tile/8/0/000",
            "tile/0/x000/../000",
            "tile/entries/x000/000",
            "/tile/0/000",
            "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
        ] {
            assert_eq!(TileId::from_path(path), Err(InvalidTilePath), "{path}");
        }
    }

    #[test]
    fn a_tree_has_full_tiles_and_at_most_one_partial_in_each_level() {
        let size = 65_536 + 300;
        let level = |level| {
            TileId::all(Content::Hashes { level }, size).map(|tile| tile.path()).collect::<Vec<_>>()
        };
        assert_eq!(level(0).len(), 258);
        assert_eq!(level(0)[256..], ["tile/0/256", "tile/0/257.p/44"]);
        assert_eq!(level(1), ["tile/1/000", "tile/1/001.p/1"]);
        assert_eq!(level(2), ["tile/2/000.p/1"]);
        assert_eq!(TileId::levels(size).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(TileId::levels(0).count(), 0);
        assert_eq!(TileId::levels(u64::MAX).last(), Some(MAX_LEVEL));
    }

    #[test]
    fn a_tile_fits_only_where_all_of_it_is_there() {
        assert!(hashes(0, 0, 256).fits(256));
        assert!(!hashes(0, 0, 256).fits(255));
        assert!(hashes(1, 0, 1).fits(256));
        assert!(!hashes(1, 0, 2).fits(511));
        assert!(!hashes(0, u64::MAX, 1).fits(u64::MAX));
    }

    #[test]
    fn a_bundle_gives_back_its_entries() {
        let largest = vec![7; MAX_ENTRY_BYTES];
        let entries: [&[u8]; 3] = [b"one", b"", &largest];
        let bundle = bundle_to_bytes(entries).expect("each fits");
        assert_eq!(bundle_from_bytes(&bundle).expect("a bundle"), entries);
        let cut = bundle_from_bytes(&bundle[..bundle.len() - 1]);
        assert_eq!(cut, Err(BundleError::Truncated { entry: 2 }));
        assert_eq!(bundle_from_bytes(&[0]), Err(BundleError::Truncated { entry: 0 }));
        let larger = vec![7; MAX_ENTRY_BYTES + 1];
        let bytes = MAX_ENTRY_BYTES + 1;
        let refused = bundle_to_bytes([b"one".as_slice(), &larger]);
        assert_eq!(refused, Err(BundleError::TooLarge { entry: 1, bytes }));
    }
}
