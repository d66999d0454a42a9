use std::collections::BTreeSet;

use rap_proto::{Digest, Name, PlatformRole, Timestamp};

use crate::Sensitive;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct User {
    /// `None` before the user was created.
    pub name: Option<Name>,
    pub display_name: String,
    /// `None` until a password was chosen.
    pub verifier: Option<Sensitive<String>>,
    pub invitation: Option<Invitation>,
    pub platform_roles: BTreeSet<PlatformRole>,
    pub disabled: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    pub secret: Sensitive<Digest>,
    pub expires_at: Timestamp,
}
