//! The right edge of a growing tree: enough to go on from, in at most 64 hashes.

use rap_proto::Digest;
use tlog_tiles::{EMPTY_HASH, node_hash};

use crate::{digest, hash, tile::HEIGHT};

const HASH_BYTES: usize = 32;

/// The roots of the complete subtrees that a tree is made of, largest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    /// INVARIANT: one for each bit that is set in `size`, the highest bit first.
    subtrees: Vec<Digest>,
}

/// A tile that a leaf completed: the root over its 256 hashes, which is one hash of the level
/// above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completed {
    pub level: u8,
    pub index: u64,
    pub root: Digest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes are not the frontier of {size} leaves")]
pub struct InvalidFrontier {
    size: u64,
    bytes: usize,
}

impl Frontier {
    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf by its hash, and returns the tiles that it completes, the lowest first.
    pub fn push(&mut self, leaf: Digest) -> Vec<Completed> {
        let mut completed = Vec::new();
        let mut node = hash(&leaf);
        let mut height = 0;
        while self.size >> height & 1 == 1 {
            let left = self.subtrees.pop().expect("one subtree for each bit of the size");
            node = node_hash(hash(&left), node);
            height += 1;
            if height % HEIGHT == 0 {
                let (level, index) = (height / HEIGHT - 1, self.size >> height);
                completed.push(Completed { level, index, root: digest(node) });
            }
        }
        self.subtrees.push(digest(node));
        self.size += 1;
        completed
    }

    /// The root of the tree; of the empty tree, the hash of nothing.
    pub fn root(&self) -> Digest {
        let mut subtrees = self.subtrees.iter().rev();
        let Some(smallest) = subtrees.next() else { return digest(EMPTY_HASH) };
        digest(subtrees.fold(hash(smallest), |right, left| node_hash(hash(left), right)))
    }

    /// The subtrees' roots one behind the other, 32 bytes each.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.subtrees.iter().flat_map(|root| root.as_bytes()).copied().collect()
    }

    /// What [`Frontier::to_bytes`] gave for a tree of `size` leaves.
    pub fn from_bytes(size: u64, bytes: &[u8]) -> Result<Self, InvalidFrontier> {
        if bytes.len() != size.count_ones() as usize * HASH_BYTES {
            return Err(InvalidFrontier { size, bytes: bytes.len() });
        }
        let (roots, _) = bytes.as_chunks::<HASH_BYTES>();
        Ok(Self { size, subtrees: roots.iter().copied().map(Digest::from_bytes).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leaf_hash;

    /// The leaves and roots of the test vectors that Certificate Transparency's implementations
    /// share.
    const LEAVES: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];
    const ROOTS: [&str; 9] = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    #[test]
    fn the_roots_are_those_of_certificate_transparency() {
        let mut frontier = Frontier::default();
        assert_eq!(frontier.root().to_string(), ROOTS[0]);
        for (leaf, root) in LEAVES.iter().zip(&ROOTS[1..]) {
            assert_eq!(frontier.push(leaf_hash(leaf)), []);
            assert_eq!(frontier.root().to_string(), *root);
        }
        assert_eq!(frontier.size(), 8);
    }

    #[test]
    fn a_frontier_goes_on_from_its_bytes() {
        let mut whole = Frontier::default();
        for number in 0_u32..300 {
            let again = Frontier::from_bytes(whole.size(), &whole.to_bytes()).expect("its bytes");
            assert_eq!(again, whole);
            whole.push(leaf_hash(&number.to_be_bytes()));
        }
    }

    #[test]
    fn bytes_of_another_size_are_refused() {
        let mut frontier = Frontier::default();
        (0_u8..3).for_each(|leaf| drop(frontier.push(leaf_hash(&[leaf]))));
        for size in [0, 1, 2, 4, 7] {
            assert!(Frontier::from_bytes(size, &frontier.to_bytes()).is_err(), "{size}");
        }
        assert!(Frontier::from_bytes(3, &frontier.to_bytes()[1..]).is_err());
    }

    #[test]
    fn every_256th_leaf_completes_a_tile_and_every_65_536th_two() {
        let mut frontier = Frontier::default();
        let mut completed = Vec::new();
        for number in 0_u32..1 << 16 {
            completed.extend(frontier.push(leaf_hash(&number.to_be_bytes())));
        }
        let places: Vec<_> = completed.iter().map(|tile| (tile.level, tile.index)).collect();
        let lowest = (0..256).map(|index| (0, index));
        assert_eq!(places, lowest.chain([(1, 0)]).collect::<Vec<_>>());
        assert_eq!(completed.last().map(|tile| tile.root), Some(frontier.root()));
    }
}
