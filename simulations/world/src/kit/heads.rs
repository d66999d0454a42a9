//! Signed tree heads. The real code signs and opens each once for all runs of a thread, and the same
//! is remembered: several nodes see one head, a node that starts again sees what it saw, and every
//! log begins with the same head. A signature is by far the most that a step of a world costs.
//!
//! What is refused is looked at each time.

use std::{cell::RefCell, collections::BTreeMap};

use rap_proto::{ClusterId, Digest};
use rap_tlog::{OpenHeadError, TreeHead, VerifierKey};

use super::keys;

/// The most heads that a thread remembers of each kind; with one more it begins anew.
const MAX_REMEMBERED: usize = 1_000;

type Signed = BTreeMap<(ClusterId, u64, Digest, Option<u64>), Vec<u8>>;

/// By its bytes: whose log it had to be of, whose signature was looked for, and what it says.
type Opened = BTreeMap<Vec<u8>, (ClusterId, Vec<VerifierKey>, TreeHead)>;

thread_local! {
    static SIGNED: RefCell<Signed> = const { RefCell::new(BTreeMap::new()) };
    static OPENED: RefCell<Opened> = const { RefCell::new(BTreeMap::new()) };
}

/// As control signs it.
pub fn sign(head: &TreeHead) -> Vec<u8> {
    let TreeHead { cluster, size, root, said_epoch } = *head;
    SIGNED.with_borrow_mut(|signed| {
        let key = (cluster, size, root, said_epoch);
        if let Some(note) = signed.get(&key) {
            return note.clone();
        }
        let note = head.sign(keys::control(), keys::head());
        remember(signed, key, note.clone());
        note
    })
}

/// Answers as [`TreeHead::open`] does.
pub fn open(
    note: &[u8],
    cluster: ClusterId,
    keys: &[VerifierKey],
) -> Result<TreeHead, OpenHeadError> {
    OPENED.with_borrow_mut(|opened| {
        if let Some((of, by, head)) = opened.get(note)
            && (*of, by.as_slice()) == (cluster, keys)
        {
            return Ok(head.clone());
        }
        let head = TreeHead::open(note, cluster, keys)?;
        remember(opened, note.to_vec(), (cluster, keys.to_vec(), head.clone()));
        Ok(head)
    })
}

fn remember<K: Ord, V>(known: &mut BTreeMap<K, V>, key: K, value: V) {
    if known.len() >= MAX_REMEMBERED {
        known.clear();
    }
    known.insert(key, value);
}

#[cfg(test)]
mod tests {
    use rap_proto::{Signer as _, key::LocalKey};

    use super::*;

    fn head(size: u64) -> TreeHead {
        let root = Digest::of(&size.to_be_bytes());
        TreeHead { cluster: keys::CLUSTER, size, root, said_epoch: Some(1) }
    }

    fn key(of: &LocalKey) -> VerifierKey {
        VerifierKey::p256(keys::CLUSTER, of.public_key())
    }

    #[test]
    fn what_is_remembered_is_what_the_real_code_says() {
        for _ in 0..2 {
            let note = sign(&head(7));
            assert_eq!(note, head(7).sign(keys::control(), keys::head()));
            assert_eq!(open(&note, keys::CLUSTER, &[key(keys::control())]), Ok(head(7)));
            let stranger = key(keys::replica(0));
            let refused = open(&note, keys::CLUSTER, &[stranger]);
            assert_eq!(refused, Err(OpenHeadError::NotTrusted));
            assert_eq!(open(&note, keys::CLUSTER, &[]), Err(OpenHeadError::NotTrusted));
            let other = ClusterId::from_u128(9);
            let refused = open(&note, other, &[key(keys::control())]);
            assert_eq!(refused, TreeHead::open(&note, other, &[key(keys::control())]));
            let mut false_one = note;
            *false_one.last_mut().expect("it is not empty") ^= 1;
            assert!(open(&false_one, keys::CLUSTER, &[key(keys::control())]).is_err());
        }
    }

    #[test]
    fn no_more_than_the_limit_is_remembered() {
        let mut known = BTreeMap::new();
        (0..=MAX_REMEMBERED).for_each(|number| remember(&mut known, number, ()));
        assert_eq!(known.len(), 1);
        (0..MAX_REMEMBERED).for_each(|number| remember(&mut known, number, ()));
        assert!(known.len() <= MAX_REMEMBERED);
    }
}
