//! Every target over its seeds and over a few thousand mutations of them, without a fuzzer.

#![allow(clippy::unwrap_used)]

mod seeds;

use std::{collections::BTreeSet, fs, path::PathBuf};

use crate::{MAX_INPUT_BYTES, TARGETS, find};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("seeds")
}

fn seeds_of(target: &str) -> Vec<Vec<u8>> {
    let mut files: Vec<_> =
        fs::read_dir(folder().join(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|path| fs::read(path).unwrap()).collect()
}

/// `RAP_UPDATE_GOLDEN=1` writes the seeds anew.
#[test]
fn the_seeds_are_made_from_the_frozen_formats() {
    let made = seeds::all();
    if std::env::var_os("RAP_UPDATE_GOLDEN").is_some() {
        for ((target, name), bytes) in &made {
            fs::create_dir_all(folder().join(target)).unwrap();
            fs::write(folder().join(target).join(name), bytes).unwrap();
        }
    }
    for ((target, name), bytes) in &made {
        let stored = fs::read(folder().join(target).join(name)).unwrap_or_default();
        assert_eq!(&stored, bytes, "seeds/{target}/{name}");
    }
}

#[test]
fn every_target_has_seeds_within_the_greatest_input() {
    for target in TARGETS {
        let seeds = seeds_of(target.name);
        assert!(!seeds.is_empty(), "{}", target.name);
        assert!(seeds.iter().all(|seed| seed.len() <= MAX_INPUT_BYTES));
    }
    let names: BTreeSet<_> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names.len(), TARGETS.len());
    assert!(find("codec").is_some() && find("nothing").is_none());
}

#[test]
fn targets_hold_over_seeds_and_their_mutations() {
    for target in TARGETS {
        (target.run)(&[]);
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for seed in seeds_of(target.name) {
            (target.run)(&seed);
            for _ in 0..200 {
                (target.run)(&mutated(&seed, &mut random));
            }
        }
    }
}

/// Cuts, flips, repeats and overwrites: what libFuzzer does first, the same in every run.
fn mutated(seed: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len().max(1));
        match random.below(5) {
            0 => bytes.truncate(at),
            1 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            2 if !bytes.is_empty() => bytes[at] = [0, 0x7f, 0x80, 0xff][random.below(4)],
            3 => bytes.insert(at.min(bytes.len()), random.below(256) as u8),
            _ => {
                let piece = bytes[at.min(bytes.len())..].to_vec();
                bytes.extend(piece.into_iter().take(64));
            }
        }
    }
    bytes
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) as usize % bound
    }
}
