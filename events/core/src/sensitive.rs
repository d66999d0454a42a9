//! Values that belong into the log but never onto a screen.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A stored value that would help an attacker: the digest of a secret, a password verifier.
///
/// It is encoded like its content. `Debug` shows nothing of it, and
/// [`crate::catalogue::redacted_fields`] names the field for whoever shows events to people.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sensitive<T>(T);

impl<T> Sensitive<T> {
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The content, for comparing or verifying.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> From<T> for Sensitive<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T> fmt::Debug for Sensitive<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}
