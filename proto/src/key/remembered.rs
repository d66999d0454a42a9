//! What a thread knows of signatures: which ones it made, and which ones it looked at and found
//! right. For simulations, whose processes all run on one thread: most of their time would be spent
//! in looking at what another process of the same world has just signed. A thread that does not ask
//! for it looks at each signature, also where this is compiled in for the sake of another crate.
//!
//! What is wrong is looked at each time, and nothing is right that was not found so: an answer is
//! never another one than without this.

use std::{cell::RefCell, collections::BTreeSet};

use sha2::{Digest as _, Sha256};

use super::PublicKey;

/// The most signatures that a thread remembers; with one more it begins anew.
const MAX_REMEMBERED: usize = 4_096;

/// SHA-256 of a key, its signature and what it signed. Of the message alone the length varies, and
/// it comes last.
type Name = [u8; 32];

thread_local! {
    /// Those that are right, once the thread asked for it.
    static RIGHT: RefCell<Option<BTreeSet<Name>>> = const { RefCell::new(None) };
}

/// From now on this thread remembers which signatures are right.
pub fn remember_signatures() {
    RIGHT.with_borrow_mut(|right| {
        right.get_or_insert_default();
    });
}

/// Whether the signature is right, which `verify` finds out where it is not known.
pub(super) fn holds(
    key: &PublicKey,
    message: &[u8],
    signature: &[u8; 64],
    verify: impl FnOnce() -> bool,
) -> bool {
    if !remembers() {
        return verify();
    }
    let name = name(key, message, signature);
    let known =
        RIGHT.with_borrow(|right| right.as_ref().is_some_and(|right| right.contains(&name)));
    let right = known || verify();
    if right && !known {
        remember(name);
    }
    right
}

/// The key made this signature.
pub(super) fn made(key: &PublicKey, message: &[u8], signature: &[u8; 64]) {
    if remembers() {
        remember(name(key, message, signature));
    }
}

fn remembers() -> bool {
    RIGHT.with_borrow(Option::is_some)
}

fn remember(name: Name) {
    RIGHT.with_borrow_mut(|right| {
        let Some(right) = right else { return };
        if right.len() >= MAX_REMEMBERED {
            right.clear();
        }
        right.insert(name);
    });
}

fn name(key: &PublicKey, message: &[u8], signature: &[u8; 64]) -> Name {
    let mut hash = Sha256::new();
    hash.update(key.to_spki());
    hash.update(signature);
    hash.update(message);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use crate::{Signer as _, key::LocalKey};

    use super::*;

    fn key(seed: u8) -> LocalKey {
        LocalKey::from_random(&[seed; 32]).expect("a small number is a key")
    }

    /// How often the same right signature is looked at in two questions.
    fn looks() -> u32 {
        let (own, mut looks) = (key(5).public_key(), 0);
        for _ in 0..2 {
            assert!(holds(&own, b"words", &[7; 64], || {
                looks += 1;
                true
            }));
        }
        looks
    }

    #[test]
    fn a_thread_that_did_not_ask_for_it_looks_each_time() {
        assert_eq!(looks(), 2);
        remember_signatures();
        assert_eq!(looks(), 1);
    }

    #[test]
    fn what_is_remembered_is_found_right_without_a_look_and_nothing_else_is() {
        remember_signatures();
        let (own, other) = (key(1), key(2));
        let signature = own.sign(b"words");
        let mut changed = signature;
        changed[40] ^= 1;
        for _ in 0..2 {
            let unseen = || unreachable!("it was made here");
            assert!(holds(&own.public_key(), b"words", &signature, unseen));
            assert!(own.public_key().verifies(b"words", &signature));
            assert!(!own.public_key().verifies(b"other words", &signature));
            assert!(!own.public_key().verifies(b"words", &changed));
            assert!(!other.public_key().verifies(b"words", &signature));
        }
    }

    #[test]
    fn what_was_looked_at_is_not_looked_at_again_and_what_is_wrong_is() {
        remember_signatures();
        let (own, signature) = (key(3).public_key(), [7; 64]);
        let mut looks = 0;
        for _ in 0..2 {
            assert!(!holds(&own, b"words", &signature, || {
                looks += 1;
                false
            }));
        }
        assert_eq!(looks, 2);
        for _ in 0..2 {
            assert!(holds(&own, b"words", &signature, || {
                looks += 1;
                true
            }));
        }
        assert_eq!(looks, 3);
    }

    #[test]
    fn no_more_than_the_limit_is_remembered() {
        remember_signatures();
        let own = key(4).public_key();
        for number in 0..=MAX_REMEMBERED {
            made(&own, &number.to_be_bytes(), &[0; 64]);
        }
        assert!(
            RIGHT.with_borrow(|right| right.as_ref().map(BTreeSet::len)) <= Some(MAX_REMEMBERED)
        );
    }
}
