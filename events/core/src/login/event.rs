use rap_proto::{Digest, Timestamp, UserId};
use serde::{Deserialize, Serialize};

use crate::{Personal, Sensitive, aggregate::events};

/// The place that a device's label is sealed for.
pub const DEVICE: &str = "login.device";

events! {
    /// What happened to a login.
    LoginEvent:
    Opened(LoginOpened) = "login.opened" / 2, from 1 by LoginOpenedV1;
    Closed(LoginClosed) = "login.closed" / 1;
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginOpened {
    pub user: UserId,
    pub secret: Sensitive<Digest>,
    pub expires_at: Timestamp,
    /// What the client calls itself; may be empty. It is sealed under the user's key.
    pub device: Personal<String>,
}

/// As it was written while devices stood there in clear.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LoginOpenedV1 {
    user: UserId,
    secret: Sensitive<Digest>,
    expires_at: Timestamp,
    device: String,
}

impl From<LoginOpenedV1> for LoginOpened {
    fn from(LoginOpenedV1 { user, secret, expires_at, device }: LoginOpenedV1) -> Self {
        Self { user, secret, expires_at, device: Personal::Clear(device) }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginClosed {
    pub reason: LoginCloseReason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoginCloseReason {
    /// The person signed out.
    SignedOut,
    /// Somebody with authority ended it.
    Revoked,
    /// The user was disabled.
    UserDisabled,
    /// The password was changed.
    PasswordChanged,
}
