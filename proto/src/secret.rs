//! Bearer secrets: 256 random bits behind a prefix that says what they open.

use std::{fmt, marker::PhantomData};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use crate::Digest;

/// What a secret opens. The prefix makes a leaked one recognisable to scanners.
pub trait SecretKind {
    const PREFIX: &'static str;
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {}

        impl SecretKind for $name {
            const PREFIX: &'static str = $prefix;
        }
    )*};
}

kinds! {
    /// Lets one host ask for enrollment, once.
    JoinSecret = "rapj_",
    /// Lets the first platform owner set up a fresh installation, once.
    SetupCode = "rapsetup_",
    /// A person's login.
    LoginSecret = "raps_",
    /// A program's access to the API.
    ApiSecret = "rapa_",
    /// Lets a user choose a first password, once.
    InviteSecret = "rapi_",
}

/// A bearer secret; its text form is shown once and only its digest is ever stored.
pub struct Secret<K> {
    bytes: [u8; 32],
    kind: PhantomData<K>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a secret of the expected kind")]
pub struct ParseSecretError;

impl<K: SecretKind> Secret<K> {
    pub const fn from_random(bytes: [u8; 32]) -> Self {
        Self { bytes, kind: PhantomData }
    }

    pub fn parse(text: &str) -> Result<Self, ParseSecretError> {
        let body = text.strip_prefix(K::PREFIX).ok_or(ParseSecretError)?;
        let decoded = URL_SAFE_NO_PAD.decode(body).map_err(|_| ParseSecretError)?;
        let bytes = decoded.try_into().map_err(|_| ParseSecretError)?;
        Ok(Self::from_random(bytes))
    }

    /// The text to show once. There is no `Display`, so that no log line prints it by accident.
    pub fn reveal(&self) -> String {
        format!("{}{}", K::PREFIX, URL_SAFE_NO_PAD.encode(self.bytes))
    }

    /// What is stored. A secret of 256 random bits needs no salt and no slow hash.
    pub fn digest(&self) -> Digest {
        Digest::of_parts(&[K::PREFIX.as_bytes(), &self.bytes])
    }

    /// Compares in constant time.
    pub fn matches(&self, stored: &Digest) -> bool {
        self.digest().as_bytes().ct_eq(stored.as_bytes()).into()
    }
}

impl<K> Drop for Secret<K> {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl<K: SecretKind> fmt::Debug for Secret<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", K::PREFIX)
    }
}
