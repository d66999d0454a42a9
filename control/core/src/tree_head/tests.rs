#![allow(clippy::unwrap_used)]

use rap_proto::{Signer as _, Timestamp, key::LocalKey};
use rap_tlog::{Frontier, HeadKey, leaf_hash};

use super::*;

const CLUSTER: ClusterId = ClusterId::from_u128(1);

/// The tree of so many leaves; those from `forked_at` on are another log's.
fn tree(size: u64, forked_at: u64) -> Frontier {
    let mut tree = Frontier::default();
    for number in 0..size {
        let other = number >= forked_at;
        tree.push(leaf_hash(&[u8::try_from(number).unwrap(), u8::from(other)]));
    }
    tree
}

fn head(size: u64, forked_at: u64) -> TreeHead {
    let root = tree(size, forked_at).root();
    TreeHead { cluster: CLUSTER, size, root, said_epoch: Some(2) }
}

/// The proof from the tree of two leaves to that of three: the third leaf.
fn two_to_three() -> Vec<Digest> {
    vec![leaf_hash(&[2, 0])]
}

const NEVER: u64 = u64::MAX;

#[test]
fn sizes_and_roots_tell_most_without_a_proof() {
    let now = tree(3, NEVER);
    let (size, root) = (now.size(), &now.root());
    let judge = |earlier: &TreeHead| succession(earlier, (size, root), None);
    assert_eq!(judge(&head(3, NEVER)), Succession::Same);
    assert_eq!(judge(&head(3, 1)), Succession::Refuted(LogRefusal::Forked));
    assert_eq!(judge(&head(4, NEVER)), Succession::Refuted(LogRefusal::Shorter));
    assert_eq!(judge(&head(2, NEVER)), Succession::Unproven);
}

#[test]
fn a_longer_log_grew_out_of_a_head_or_is_refuted_by_it() {
    let now = tree(3, NEVER);
    let (size, root) = (now.size(), &now.root());
    let judge =
        |earlier: &TreeHead, proof: &[Digest]| succession(earlier, (size, root), Some(proof));
    assert_eq!(judge(&head(2, NEVER), &two_to_three()), Succession::Grown);
    assert_eq!(judge(&head(2, 1), &two_to_three()), Succession::Refuted(LogRefusal::Forked));
    assert_eq!(judge(&head(2, NEVER), &[]), Succession::Refuted(LogRefusal::Forked));
    let long = vec![Digest::default(); proof::MAX_HASHES + 1];
    assert_eq!(judge(&head(2, NEVER), &long), Succession::Refuted(LogRefusal::Forked));
    assert_eq!(judge(&head(0, NEVER), &[]), Succession::Grown, "from nothing every log grows");
}

#[test]
fn a_proof_does_not_help_a_log_that_is_shorter_or_of_the_same_size() {
    let now = tree(2, NEVER);
    let judge =
        |earlier: &TreeHead| succession(earlier, (now.size(), &now.root()), Some(&two_to_three()));
    assert_eq!(judge(&head(3, NEVER)), Succession::Refuted(LogRefusal::Shorter));
    assert_eq!(judge(&head(2, 0)), Succession::Refuted(LogRefusal::Forked));
    assert_eq!(judge(&head(2, NEVER)), Succession::Same);
}

#[test]
fn only_what_was_signed_here_for_this_place_opens() {
    let key = |seed: u8| LocalKey::from_random(&[seed; 32]).unwrap();
    let (control, stranger, ed25519) = (key(1), key(2), HeadKey::from_seed(&[3; 32]));
    let kept = |size, note: Vec<u8>| SealedHead::new(size, note, Timestamp::default());
    let opened = |kept: SealedHead| open(&kept, CLUSTER, control.public_key(), 2);
    let head = head(3, NEVER);
    let note = head.sign(&control, &ed25519);
    assert_eq!(opened(kept(3, note.clone())), Ok(head.clone()));
    assert_eq!(opened(kept(2, note)), Err(NotOpened::Misplaced { kept: 2, signed: 3 }));
    let strangers = opened(kept(3, head.sign(&stranger, &ed25519)));
    assert_eq!(strangers, Err(NotOpened::Note(OpenHeadError::NotTrusted)));
    for (said_epoch, is_later) in [(None, false), (Some(1), false), (Some(3), true)] {
        let other = TreeHead { said_epoch, ..head.clone() };
        let expected = if is_later {
            Err(NotOpened::LaterEpoch { sealed: 3, present: 2 })
        } else {
            Ok(other.clone())
        };
        assert_eq!(opened(kept(3, other.sign(&control, &ed25519))), expected);
    }
    let others = TreeHead { cluster: ClusterId::from_u128(2), ..head };
    assert!(opened(kept(3, others.sign(&control, &ed25519))).is_err());
    assert_eq!(opened(kept(3, b"torn".to_vec())), Err(NotOpened::Note(OpenHeadError::Malformed)));
}

#[test]
fn every_obstacle_has_words_of_its_own() {
    for (number, obstacle) in Obstacle::ALL.iter().enumerate() {
        for other in &Obstacle::ALL[..number] {
            assert_ne!(obstacle.as_str(), other.as_str());
            assert_ne!(obstacle.explanation(), other.explanation());
        }
    }
}
