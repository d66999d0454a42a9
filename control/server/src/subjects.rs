//! The keys of subjects, the persons whom personal fields are about. Each has one of its own, which
//! lies beside the log, wrapped under a key that follows from the state directory: neither the
//! database nor a copy of it opens anything by itself.
//!
//! AES-256-GCM (NIST SP 800-38D) throughout: twelve random bytes of nonce, the ciphertext, sixteen
//! bytes of tag.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use rap_events::{
    log::ReadError,
    personal::{MAX_SUBJECTS, SubjectChange, SubjectCipher, SubjectKeys},
};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::clock;

const KEY_BYTES: usize = 32;
/// The most persons that the server's log names for one reason.
const MAX_NAMED: usize = 1_000;

/// Where the keys are, and what unwraps them.
pub(crate) struct Subjects {
    keys: Arc<dyn SubjectKeys>,
    wrapping: SubjectKey,
    /// Whose keys were found to be of another state directory.
    foreign: Named,
    /// Of whom something was found that is not what was sealed there.
    damaged: Named,
}

/// Whom the server's log names for one reason.
#[derive(Default)]
struct Named(Mutex<BTreeSet<Uuid>>);

/// One subject's key.
pub(crate) struct SubjectKey(Box<LessSafeKey>);

/// What there is of a subject's key.
pub(crate) enum Held {
    Key(SubjectKey),
    /// It was wrapped with another state directory: what it sealed is not erased, and cannot be
    /// opened here.
    Foreign,
}

impl Subjects {
    pub(crate) fn new(keys: Arc<dyn SubjectKeys>, wrapping: &[u8; KEY_BYTES]) -> Self {
        Self {
            keys,
            wrapping: SubjectKey::new(wrapping),
            foreign: Named::default(),
            damaged: Named::default(),
        }
    }

    /// A key for a new subject, and what keeps it together with the events that it seals.
    pub(crate) fn make(&self, subject: Uuid) -> (SubjectKey, SubjectChange) {
        let fresh = Zeroizing::new(clock::random::<KEY_BYTES>());
        let wrapped = self.wrapping.seal(&fresh[..], subject.as_bytes()).into();
        (SubjectKey::new(&fresh), SubjectChange::Keep { subject, wrapped })
    }

    /// The keys that are there; those that were destroyed are absent.
    pub(crate) async fn find(
        &self,
        subjects: Vec<Uuid>,
    ) -> Result<BTreeMap<Uuid, Held>, ReadError> {
        let mut found = BTreeMap::new();
        // One that is not asked about would be taken for erased.
        for asked in subjects.chunks(MAX_SUBJECTS) {
            for (subject, key) in self.keys.keys(asked.to_vec()).await? {
                let held = match self.unwrapped(subject, &key) {
                    Some(key) => Held::Key(key),
                    None => {
                        self.name_foreign(subject);
                        Held::Foreign
                    }
                };
                found.insert(subject, held);
            }
        }
        Ok(found)
    }

    /// Says in the server's log whose key cannot be unwrapped, once for each; returns whether it
    /// was said now.
    fn name_foreign(&self, subject: Uuid) -> bool {
        self.foreign.name(subject, || {
            tracing::error!(
                %subject,
                "the key of a person was wrapped with another state directory: what it sealed is \
                 shown to nobody until `derivation.key` is restored from a copy of that directory"
            );
        })
    }

    /// Says of whom something is not what was sealed in this place, in the same way.
    pub(crate) fn name_damaged(&self, subject: Uuid, place: &str) -> bool {
        self.damaged.name(subject, || {
            tracing::error!(%subject, place, "what is stored of a person is not what was sealed there");
        })
    }

    fn unwrapped(&self, subject: Uuid, wrapped: &[u8]) -> Option<SubjectKey> {
        let key = Zeroizing::new(self.wrapping.open(wrapped, subject.as_bytes())?);
        Some(SubjectKey::new(key.as_slice().try_into().ok()?))
    }
}

impl Named {
    fn name(&self, subject: Uuid, say: impl FnOnce()) -> bool {
        let mut named = self.0.lock().expect("no holder of the lock panics");
        if named.len() == MAX_NAMED || !named.insert(subject) {
            return false;
        }
        say();
        if named.len() == MAX_NAMED {
            tracing::error!("further persons are not named for the same reason");
        }
        true
    }
}

impl SubjectKey {
    fn new(bytes: &[u8; KEY_BYTES]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, bytes).expect("the key has its length");
        Self(Box::new(LessSafeKey::new(key)))
    }
}

impl SubjectCipher for SubjectKey {
    fn seal(&self, value: &[u8], context: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE_LEN] = clock::random();
        let mut sealed = value.to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        self.0
            .seal_in_place_append_tag(unique, Aad::from(context), &mut sealed)
            .expect("a value is far below what one nonce can seal");
        [&nonce[..], &sealed].concat()
    }

    fn open(&self, sealed: &[u8], context: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut value = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.0.open_in_place(nonce, Aad::from(context), &mut value).ok()?;
        Some(opened.to_vec())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rap_events::{
        Append, Log as _, MemoryLog, Personal, personal::OpenError, user::DISPLAY_NAME,
    };
    use rap_proto::CommandId;
    use serde_bytes::ByteBuf;

    use super::*;

    const ALICE: Uuid = Uuid::from_u128(1);
    const BOB: Uuid = Uuid::from_u128(2);

    fn subjects(log: &Arc<MemoryLog>, wrapping: u8) -> Subjects {
        Subjects::new(log.clone(), &[wrapping; KEY_BYTES])
    }

    async fn store(log: &MemoryLog, number: u128, change: SubjectChange) {
        let append = Append {
            subjects: vec![change],
            ..Append::plain(CommandId::from_u128(number), clock::now(), Vec::new())
        };
        log.append(append).await.unwrap();
    }

    /// Made by another program: nonces of ones and twos.
    const WRAPPED: &str = concat!(
        "0101010101010101010101017fe880be99b6e507d8ddd528793e7938a1f21dfd",
        "119e321a51384a6b6fbd3fb23f6402393e30f932efdfe44b2fe6f1be",
    );
    const SEALED: &str =
        concat!("0202020202020202020202025f558a1d3d27ce00ee147ea2e68572f81fb81ff7", "0153",);

    fn bytes(hex: &str) -> Vec<u8> {
        let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(digits).collect()
    }

    #[test]
    fn the_sealed_and_the_wrapped_form_are_frozen() {
        let subjects = subjects(&Arc::new(MemoryLog::new()), 7);
        let key = subjects.unwrapped(ALICE, &bytes(WRAPPED)).unwrap();
        let name = Personal::<String>::Sealed(ByteBuf::from(bytes(SEALED)));
        assert_eq!(name.open(ALICE, DISPLAY_NAME, Some(&key)), Ok("Alice".to_owned()));
        assert_eq!(name.open(BOB, DISPLAY_NAME, Some(&key)), Err(OpenError::Damaged));
    }

    #[tokio::test]
    async fn a_subjects_key_opens_what_it_sealed_until_it_is_destroyed() {
        let log = Arc::new(MemoryLog::new());
        let subjects = subjects(&log, 1);
        let (key, kept) = subjects.make(ALICE);
        let sealed = key.seal(b"Alice", b"place");
        assert!(!sealed.windows(5).any(|bytes| bytes == b"Alice"));
        assert_ne!(key.seal(b"Alice", b"place"), sealed, "each has its nonce");
        store(&log, 1, kept).await;

        let found = subjects.find(vec![ALICE, BOB]).await.unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), [&ALICE]);
        let strangers = (10..).map(Uuid::from_u128).take(MAX_SUBJECTS);
        let beyond = subjects.find(strangers.chain([ALICE]).collect()).await.unwrap();
        assert_eq!(beyond.keys().collect::<Vec<_>>(), [&ALICE], "nobody is left out");
        let Held::Key(key) = &found[&ALICE] else { panic!("it is of this state directory") };
        assert_eq!(key.open(&sealed, b"place").as_deref(), Some(&b"Alice"[..]));
        assert_eq!(key.open(&sealed, b"another place"), None);
        assert_eq!(key.open(&sealed[..11], b"place"), None);
        let (other, _) = subjects.make(ALICE);
        assert_eq!(other.open(&sealed, b"place"), None, "another key opens nothing");

        store(&log, 2, SubjectChange::Destroy { subject: ALICE }).await;
        assert!(subjects.find(vec![ALICE]).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_key_is_unwrapped_for_its_subject_and_by_its_state_directory_only() {
        let log = Arc::new(MemoryLog::new());
        let (_, kept) = subjects(&log, 1).make(ALICE);
        let moved = match kept.clone() {
            SubjectChange::Keep { wrapped, .. } => SubjectChange::Keep { subject: BOB, wrapped },
            SubjectChange::Destroy { .. } => unreachable!("a key is kept"),
        };
        store(&log, 1, kept).await;
        store(&log, 2, moved).await;
        let foreign = async |wrapping: u8| {
            let found = subjects(&log, wrapping).find(vec![ALICE, BOB]).await.unwrap();
            let foreign = found.iter().filter(|(_, held)| matches!(held, Held::Foreign));
            foreign.map(|(subject, _)| *subject).collect::<Vec<_>>()
        };
        assert_eq!(foreign(1).await, [BOB]);
        assert_eq!(foreign(2).await, [ALICE, BOB]);
    }

    #[test]
    fn a_key_of_another_state_directory_is_named_once_and_so_many_at_most() {
        let subjects = subjects(&Arc::new(MemoryLog::new()), 1);
        let all = || (0..).map(Uuid::from_u128).take(MAX_NAMED + 1);
        assert!(subjects.name_foreign(ALICE) && !subjects.name_foreign(ALICE));
        let named = all().filter(|subject| subjects.name_foreign(*subject)).count();
        assert_eq!(named, MAX_NAMED - 1);
        assert!(!all().any(|subject| subjects.name_foreign(subject)));
        let damaged = || subjects.name_damaged(ALICE, DISPLAY_NAME);
        assert!(damaged() && !damaged(), "for another reason");
    }
}
