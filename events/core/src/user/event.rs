use rap_proto::{Digest, Name, PlatformRole, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Personal, Sensitive, aggregate::events};

/// The place that a display name is sealed for.
pub const DISPLAY_NAME: &str = "user.display_name";

events! {
    /// What happened to a user's account.
    UserEvent:
    Created(UserCreated) = "user.created" / 2, from 1 by UserCreatedV1;
    Invited(UserInvited) = "user.invited" / 1;
    PasswordChanged(PasswordChanged) = "user.password_changed" / 1;
    PlatformRoleGranted(PlatformRoleGranted) = "user.platform_role_granted" / 1;
    PlatformRoleRevoked(PlatformRoleRevoked) = "user.platform_role_revoked" / 1;
    Disabled(UserDisabled) = "user.disabled" / 1;
    Enabled(UserEnabled) = "user.enabled" / 1;
    AccessRefused(UserAccessRefused) = "user.access_refused" / 1;
    Erased(UserErased) = "user.erased" / 1;
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserCreated {
    /// What the user types to log in.
    pub name: Name,
    /// What others see; may be empty. It is sealed under the user's key.
    pub display_name: Personal<String>,
}

/// As it was written before there were keys of persons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UserCreatedV1 {
    name: Name,
    display_name: String,
}

impl From<UserCreatedV1> for UserCreated {
    fn from(UserCreatedV1 { name, display_name }: UserCreatedV1) -> Self {
        Self { name, display_name: Personal::Clear(display_name) }
    }
}

/// A secret was handed out with which the user may choose a password once. A newer invitation
/// replaces an older one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserInvited {
    pub secret: Sensitive<Digest>,
    pub expires_at: Timestamp,
}

/// The invitation that was open, if one was, is used up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PasswordChanged {
    /// An Argon2id hash in the PHC string format.
    pub verifier: Sensitive<String>,
    /// Whether an invitation stood in for the old password.
    pub by_invitation: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlatformRoleGranted {
    pub role: PlatformRole,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlatformRoleRevoked {
    pub role: PlatformRole,
}

/// The user can do nothing until enabled; logins, tokens and sessions end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserDisabled {
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserEnabled {}

/// The user asked for something that is not there, or is not that user's to have. What it was
/// called is left out: a foreign organization's names are in nobody else's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserAccessRefused {
    pub action: RefusedAction,
    pub refused_at: Timestamp,
}

/// The person's key is destroyed with it: nobody reads again what was sealed under it. The account
/// is disabled for good, and its name stays taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserErased {}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusedAction {
    RequestSession,
    RefreshSession,
}
