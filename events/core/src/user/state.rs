use std::collections::BTreeSet;

use rap_proto::{Digest, Name, PlatformRole, Timestamp};

use crate::{Personal, Sensitive};

const DAY_MS: i64 = 24 * 3_600_000;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct User {
    /// `None` before the user was created.
    pub name: Option<Name>,
    pub display_name: Personal<String>,
    /// `None` until a password was chosen.
    pub verifier: Option<Sensitive<String>>,
    pub invitation: Option<Invitation>,
    pub platform_roles: BTreeSet<PlatformRole>,
    pub disabled: bool,
    pub erased: bool,
    pub refusals: Refusals,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    pub secret: Sensitive<Digest>,
    pub expires_at: Timestamp,
}

/// How many refusals were recorded on the latest day that had any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Refusals {
    /// Days since 1970, in UTC.
    pub day: i64,
    pub count: u32,
}

impl Refusals {
    /// With one more at `at`. A clock that went back does not start an earlier day anew.
    pub(super) fn and(self, at: Timestamp) -> Self {
        let day = at.unix_millis().div_euclid(DAY_MS);
        if day > self.day { Self { day, count: 1 } } else { Self { count: self.count + 1, ..self } }
    }
}
