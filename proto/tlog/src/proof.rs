//! Proofs cut from tiles: that a leaf is in a tree (RFC 6962, section 2.1.1), and that a tree
//! only grew out of an earlier one (section 2.1.2).
//!
//! A caller asks for the plan, reads the tiles that it names, and then for the proof. Whoever
//! checks a proof needs neither.

use std::{cell::RefCell, collections::BTreeMap};

use rap_proto::Digest;
use tlog_tiles::{Error, Hash, HashReader, Tile};

use crate::{
    digest, hash,
    tile::{HEIGHT, TileId, hashes_to_bytes},
};

/// The most hashes in one proof: two for each of 64 levels.
pub const MAX_HASHES: usize = 128;

/// The hashes of the tiles that a plan named.
pub type Tiles = BTreeMap<TileId, Vec<Digest>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProveError {
    #[error("a tree of {size} leaves has no leaf {index}")]
    NoSuchLeaf { index: u64, size: u64 },
    #[error("a tree of {size} leaves did not grow out of one of {earlier}")]
    NotEarlier { earlier: u64, size: u64 },
    /// A tile of the plan is not among those given, or is too short.
    #[error("a tile that the plan names is missing")]
    MissingTile,
}

/// The proof does not show what it is said to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the proof does not hold")]
pub struct Refuted;

/// The tiles that [`prove_inclusion`] needs.
pub fn plan_inclusion(index: u64, size: u64) -> Result<Vec<TileId>, ProveError> {
    let plan = Plan::default();
    tlog_tiles::prove_record(size, index, &plan)
        .map_err(|_| ProveError::NoSuchLeaf { index, size })?;
    Ok(plan.tiles())
}

/// That leaf `index` is in the tree of `size` leaves.
pub fn prove_inclusion(index: u64, size: u64, tiles: &Tiles) -> Result<Vec<Digest>, ProveError> {
    if index >= size {
        return Err(ProveError::NoSuchLeaf { index, size });
    }
    let proof = tlog_tiles::prove_record(size, index, &Given(tiles));
    proof.map(digests).map_err(|_| ProveError::MissingTile)
}

/// Checks that the tree of `size` leaves with `root` has `leaf` at `index`.
pub fn check_inclusion(
    proof: &[Digest],
    (size, root): (u64, &Digest),
    (index, leaf): (u64, &Digest),
) -> Result<(), Refuted> {
    if proof.len() > MAX_HASHES {
        return Err(Refuted);
    }
    tlog_tiles::check_record(&hashes(proof), size, hash(root), index, hash(leaf))
        .map_err(|_| Refuted)
}

/// The tiles that [`prove_consistency`] needs.
pub fn plan_consistency(earlier: u64, size: u64) -> Result<Vec<TileId>, ProveError> {
    if earlier == 0 || earlier == size {
        return Ok(Vec::new());
    }
    let plan = Plan::default();
    tlog_tiles::prove_tree(size, earlier, &plan)
        .map_err(|_| ProveError::NotEarlier { earlier, size })?;
    Ok(plan.tiles())
}

/// That the tree of `size` leaves begins with the tree of `earlier` leaves. From the empty tree
/// every tree grows, and the proof of that is empty.
pub fn prove_consistency(
    earlier: u64,
    size: u64,
    tiles: &Tiles,
) -> Result<Vec<Digest>, ProveError> {
    if earlier > size {
        return Err(ProveError::NotEarlier { earlier, size });
    }
    if earlier == 0 || earlier == size {
        return Ok(Vec::new());
    }
    let proof = tlog_tiles::prove_tree(size, earlier, &Given(tiles));
    proof.map(digests).map_err(|_| ProveError::MissingTile)
}

/// Checks that the later tree begins with the earlier one, each given as size and root.
pub fn check_consistency(
    proof: &[Digest],
    (earlier, earlier_root): (u64, &Digest),
    (size, root): (u64, &Digest),
) -> Result<(), Refuted> {
    match earlier {
        0 if proof.is_empty() => Ok(()),
        0 => Err(Refuted),
        _ if proof.len() > MAX_HASHES => Err(Refuted),
        _ => tlog_tiles::check_tree(&hashes(proof), size, hash(root), earlier, hash(earlier_root))
            .map_err(|_| Refuted),
    }
}

/// Notes what is asked for and answers with nothing in particular.
#[derive(Default)]
struct Plan(RefCell<Vec<u64>>);

impl Plan {
    /// One tile for each place, as wide as the widest need.
    fn tiles(self) -> Vec<TileId> {
        let mut widths = BTreeMap::new();
        for index in self.0.into_inner() {
            let tile = TileId::of(&Tile::from_index(HEIGHT, index));
            let width = widths.entry((tile.content, tile.index)).or_insert(0);
            *width = tile.width.max(*width);
        }
        let tile = |((content, index), width)| TileId { content, index, width };
        widths.into_iter().map(tile).collect()
    }
}

impl HashReader for Plan {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, Error> {
        self.0.borrow_mut().extend_from_slice(indexes);
        Ok(vec![Hash::default(); indexes.len()])
    }
}

struct Given<'a>(&'a Tiles);

impl HashReader for Given<'_> {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, Error> {
        indexes.iter().map(|index| self.hash_at(*index)).collect()
    }
}

impl Given<'_> {
    fn hash_at(&self, index: u64) -> Result<Hash, Error> {
        let wanted = TileId::of(&Tile::from_index(HEIGHT, index));
        let widest = TileId { width: u16::MAX, ..wanted };
        let mut found = self.0.range(wanted..=widest);
        let (tile, hashes) = found.next().ok_or(Error::InvalidTile)?;
        tile.tile().hash_at_index(&hashes_to_bytes(hashes), index)
    }
}

fn hashes(digests: &[Digest]) -> Vec<Hash> {
    digests.iter().map(hash).collect()
}

fn digests(hashes: Vec<Hash>) -> Vec<Digest> {
    hashes.into_iter().map(digest).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Frontier, leaf_hash, tile::Content};

    /// A tree with its tiles as a log would keep them.
    struct Tree {
        leaves: Vec<Digest>,
        /// The roots of full tiles, by the level of the tile.
        above: BTreeMap<u8, Vec<Digest>>,
        roots: Vec<Digest>,
    }

    impl Tree {
        fn of(size: u64) -> Self {
            let mut frontier = Frontier::default();
            let mut tree =
                Self { leaves: vec![], above: BTreeMap::new(), roots: vec![frontier.root()] };
            for number in 0..size {
                let leaf = leaf_hash(&number.to_be_bytes());
                for tile in frontier.push(leaf) {
                    tree.above.entry(tile.level).or_default().push(tile.root);
                }
                tree.leaves.push(leaf);
                tree.roots.push(frontier.root());
            }
            tree
        }

        fn read(&self, plan: Vec<TileId>) -> Tiles {
            let read = |tile: TileId| {
                let Content::Hashes { level } = tile.content else { panic!("no entries") };
                let all = if level == 0 { &self.leaves } else { &self.above[&(level - 1)] };
                let first = usize::try_from(tile.first()).expect("a small tree");
                (tile, all[first..first + usize::from(tile.width)].to_vec())
            };
            plan.into_iter().map(read).collect()
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn what_is_proven_holds_and_nothing_else_does(size in 1_u64..2_000, part in 0.0..1.0) {
            let tree = Tree::of(size);
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let index = (size as f64 * part) as u64;
            let at = |n: u64| usize::try_from(n).expect("a small tree");
            let (root, leaf) = (&tree.roots[at(size)], &tree.leaves[at(index)]);

            let tiles = tree.read(plan_inclusion(index, size).expect("a leaf"));
            let proof = prove_inclusion(index, size, &tiles).expect("a proof");
            prop_assert_eq!(check_inclusion(&proof, (size, root), (index, leaf)), Ok(()));
            let other = leaf_hash(b"other");
            prop_assert!(check_inclusion(&proof, (size, root), (index, &other)).is_err());
            prop_assert!(check_inclusion(&proof, (size, &other), (index, leaf)).is_err());

            let earlier = index + 1;
            let tiles = tree.read(plan_consistency(earlier, size).expect("earlier"));
            let proof = prove_consistency(earlier, size, &tiles).expect("a proof");
            let before = (earlier, &tree.roots[at(earlier)]);
            prop_assert_eq!(check_consistency(&proof, before, (size, root)), Ok(()));
            prop_assert!(check_consistency(&proof, (earlier, &other), (size, root)).is_err());
            if earlier < size {
                prop_assert!(check_consistency(&proof, before, (size, &other)).is_err());
            }
        }
    }

    #[test]
    fn large_trees_are_proven_from_few_tiles() {
        let size = 70_000;
        let tree = Tree::of(size);
        let plan = plan_inclusion(3, size).expect("a leaf");
        assert!(plan.len() <= 5, "{plan:?}");
        let proof = prove_inclusion(3, size, &tree.read(plan)).expect("a proof");
        let root = tree.roots.last().expect("a root");
        assert_eq!(check_inclusion(&proof, (size, root), (3, &tree.leaves[3])), Ok(()));
    }

    #[test]
    fn what_cannot_be_proven_is_said() {
        assert_eq!(plan_inclusion(5, 5), Err(ProveError::NoSuchLeaf { index: 5, size: 5 }));
        let not_earlier = ProveError::NotEarlier { earlier: 6, size: 5 };
        assert_eq!(plan_consistency(6, 5), Err(not_earlier));
        assert_eq!(prove_consistency(6, 5, &Tiles::new()), Err(not_earlier));
        assert_eq!(prove_inclusion(0, 5, &Tiles::new()), Err(ProveError::MissingTile));
        assert_eq!(prove_consistency(2, 5, &Tiles::new()), Err(ProveError::MissingTile));
    }

    #[test]
    fn every_tree_grows_from_the_empty_one_and_from_itself() {
        let tree = Tree::of(3);
        let (root, empty) = (&tree.roots[3], &tree.roots[0]);
        assert_eq!(prove_consistency(0, 3, &Tiles::new()), Ok(vec![]));
        assert_eq!(check_consistency(&[], (0, empty), (3, root)), Ok(()));
        assert_eq!(check_consistency(&[*root], (0, empty), (3, root)), Err(Refuted));
        assert_eq!(check_consistency(&[], (3, root), (3, root)), Ok(()));
        assert_eq!(check_consistency(&[], (3, empty), (3, root)), Err(Refuted));
        let endless = vec![*root; MAX_HASHES + 1];
        assert_eq!(check_consistency(&endless, (2, root), (3, root)), Err(Refuted));
        assert_eq!(check_inclusion(&endless, (3, root), (1, root)), Err(Refuted));
    }
}
