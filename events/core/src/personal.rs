//! What the log holds about a person, under a key of that person's own.
//!
//! The key lies outside the log. An event holds the ciphertext, the tree commits to it, and the
//! state is folded from it: none of them needs the key, so destroying it erases the value and
//! breaks no proof. The cipher is a port, because a core crate draws no randomness.

use std::{collections::BTreeMap, fmt};

use futures_util::future::BoxFuture;
use rap_proto::codec;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_bytes::ByteBuf;
use uuid::Uuid;

use crate::{Sensitive, aggregate::is_plain_text, log::ReadError};

/// What is shown in the place of a value whose key was destroyed.
pub const ERASED: &str = "erased";
/// What is shown in the place of a value that is nobody's to see there.
pub const PERSONAL: &str = "personal";
/// What is shown in the place of a value whose key is there and cannot be unwrapped.
pub const SEALED: &str = "sealed";
/// The largest sealed value, in bytes.
pub const MAX_SEALED_BYTES: usize = 1_024;
/// The most subjects whose keys are asked for at once.
pub const MAX_SUBJECTS: usize = 1_000;
/// The most subject keys that one append keeps and destroys together.
pub const MAX_SUBJECT_CHANGES_PER_APPEND: usize = 64;
/// The largest wrapped key, in bytes.
pub const MAX_WRAPPED_KEY_BYTES: usize = 256;

/// A value about a person.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Personal<T> {
    /// The ciphertext of the value's MessagePack, in the cipher's own form.
    Sealed(ByteBuf),
    /// As events of an older schema have it.
    Clear(T),
}

/// Why a value is not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The key was destroyed: say [`ERASED`] in the value's place.
    #[error("the value was erased")]
    Erased,
    /// The key is there, and the value is not what it sealed for this place: have a person look.
    #[error("the value is not what was sealed here")]
    Damaged,
}

/// One person's key, at work: authenticated encryption.
pub trait SubjectCipher {
    /// `context` is authenticated and not stored.
    fn seal(&self, value: &[u8], context: &[u8]) -> Vec<u8>;

    /// `None` unless this key sealed it with this context.
    fn open(&self, sealed: &[u8], context: &[u8]) -> Option<Vec<u8>>;
}

/// What an append does to the key of a subject, in the same transaction as its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubjectChange {
    /// Keeps the key that the append's events are sealed under. An earlier one of this subject is
    /// destroyed, and with it what it had sealed.
    Keep { subject: Uuid, wrapped: Sensitive<Vec<u8>> },
    /// For good. Destroying a key that is not there does nothing.
    Destroy { subject: Uuid },
}

/// The keys that appends keep, wrapped: what lies here opens nothing by itself.
pub trait SubjectKeys: Send + Sync {
    /// The keys of at most [`MAX_SUBJECTS`] subjects; those that have none are absent.
    fn keys(
        &self,
        subjects: Vec<Uuid>,
    ) -> BoxFuture<'_, Result<BTreeMap<Uuid, Vec<u8>>, ReadError>>;
}

impl SubjectChange {
    pub fn subject(&self) -> Uuid {
        match self {
            Self::Keep { subject, .. } | Self::Destroy { subject } => *subject,
        }
    }

    /// The wrapped key that the change leaves behind, if any.
    pub fn left(&self) -> Option<&[u8]> {
        match self {
            Self::Keep { wrapped, .. } => Some(wrapped.expose()),
            Self::Destroy { .. } => None,
        }
    }
}

impl<T: Serialize + DeserializeOwned + Clone> Personal<T> {
    /// `field` is the value's place, such as `user.display_name`: what was sealed for one place
    /// or person opens at no other.
    pub fn seal(value: &T, subject: Uuid, field: &str, cipher: &dyn SubjectCipher) -> Self {
        let sealed = cipher.seal(&codec::encode(value), &context(subject, field));
        Self::Sealed(ByteBuf::from(sealed))
    }

    /// `cipher` is the subject's key; `None` when there is none any more.
    pub fn open(
        &self,
        subject: Uuid,
        field: &str,
        cipher: Option<&dyn SubjectCipher>,
    ) -> Result<T, OpenError> {
        match self {
            Self::Clear(value) => Ok(value.clone()),
            Self::Sealed(sealed) => {
                let cipher = cipher.ok_or(OpenError::Erased)?;
                let value = cipher.open(sealed, &context(subject, field));
                let value = value.ok_or(OpenError::Damaged)?;
                codec::decode(&value, MAX_SEALED_BYTES).map_err(|_| OpenError::Damaged)
            }
        }
    }
}

impl Personal<String> {
    /// As [`Personal::seal`], of a text that may stand in an event; `refused` for any other. An
    /// empty one is about nobody, and stays as it is.
    pub fn seal_text<R>(
        text: &str,
        subject: Uuid,
        field: &str,
        cipher: &dyn SubjectCipher,
        refused: R,
    ) -> Result<Self, R> {
        if !is_plain_text(text) {
            return Err(refused);
        }
        if text.is_empty() {
            return Ok(Self::default());
        }
        Ok(Self::seal(&text.to_owned(), subject, field, cipher))
    }

    /// Whether a new event may hold it: what is new in the log is sealed, or says nothing.
    pub fn is_kept(&self) -> bool {
        match self {
            Self::Sealed(sealed) => sealed.len() <= MAX_SEALED_BYTES,
            Self::Clear(text) => text.is_empty(),
        }
    }
}

fn context(subject: Uuid, field: &str) -> Vec<u8> {
    [b"rap personal v1\0".as_slice(), subject.as_bytes().as_slice(), field.as_bytes()].concat()
}

impl<T> fmt::Debug for Personal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl<T: Default> Default for Personal<T> {
    fn default() -> Self {
        Self::Clear(T::default())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::aggregate::MAX_TEXT_BYTES;

    /// Authenticates nothing of value; enough to see what is asked of it.
    struct Toy(u8);

    impl SubjectCipher for Toy {
        fn seal(&self, value: &[u8], context: &[u8]) -> Vec<u8> {
            let sealed = value.iter().map(|byte| byte ^ self.0);
            context.iter().copied().chain(sealed).collect()
        }

        fn open(&self, sealed: &[u8], context: &[u8]) -> Option<Vec<u8>> {
            Some(sealed.strip_prefix(context)?.iter().map(|byte| byte ^ self.0).collect())
        }
    }

    const SUBJECT: Uuid = Uuid::from_u128(7);
    const FIELD: &str = "user.display_name";

    #[test]
    fn a_value_opens_with_its_key_in_its_place_only() {
        let sealed = Personal::seal(&"Alice".to_owned(), SUBJECT, FIELD, &Toy(9));
        assert_eq!(sealed.open(SUBJECT, FIELD, Some(&Toy(9))), Ok("Alice".to_owned()));
        assert_eq!(sealed.open(SUBJECT, FIELD, None), Err(OpenError::Erased));
        let damaged = Err(OpenError::Damaged);
        assert_eq!(sealed.open(SUBJECT, FIELD, Some(&Toy(8))), damaged);
        assert_eq!(sealed.open(Uuid::from_u128(8), FIELD, Some(&Toy(9))), damaged);
        assert_eq!(sealed.open(SUBJECT, "user.name", Some(&Toy(9))), damaged);
    }

    #[test]
    fn what_was_never_sealed_needs_no_key_and_neither_form_shows_itself() {
        let clear = Personal::Clear("Alice".to_owned());
        assert_eq!(clear.open(SUBJECT, FIELD, None), Ok("Alice".to_owned()));
        let sealed = Personal::seal(&"Alice".to_owned(), SUBJECT, FIELD, &Toy(0));
        assert_eq!(format!("{clear:?}{sealed:?}"), "……");
    }

    #[test]
    fn a_text_is_sealed_unless_it_is_empty_and_is_one_short_line() {
        let seal = |text: &str| Personal::seal_text(text, SUBJECT, FIELD, &Toy(9), "refused");
        let longest = "a".repeat(MAX_TEXT_BYTES);
        for text in ["Alice", &longest] {
            let sealed = seal(text).unwrap();
            assert_eq!(sealed.open(SUBJECT, FIELD, Some(&Toy(9))).as_deref(), Ok(text));
            assert!(matches!(sealed, Personal::Sealed(_)) && sealed.is_kept());
        }
        assert_eq!(seal(""), Ok(Personal::default()));
        for text in ["A\u{7}", "a\tb", &format!("{longest}a")] {
            assert_eq!(seal(text), Err("refused"));
        }
    }

    #[test]
    fn a_value_that_is_too_large_is_not_read() {
        let large = "a".repeat(MAX_SEALED_BYTES + 1);
        let sealed = Personal::seal(&large, SUBJECT, FIELD, &Toy(9));
        assert_eq!(sealed.open(SUBJECT, FIELD, Some(&Toy(9))), Err(OpenError::Damaged));
    }
}
