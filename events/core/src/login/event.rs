use rap_proto::{Digest, Timestamp, UserId};
use serde::{Deserialize, Serialize};

use crate::{Sensitive, aggregate::events};

events! {
    /// What happened to a login.
    LoginEvent:
    Opened(LoginOpened) = "login.opened" / 1;
    Closed(LoginClosed) = "login.closed" / 1;
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginOpened {
    pub user: UserId,
    pub secret: Sensitive<Digest>,
    pub expires_at: Timestamp,
    /// What the client calls itself; may be empty.
    pub device: String,
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
