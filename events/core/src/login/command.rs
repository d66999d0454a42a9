use rap_proto::{Digest, Timestamp, UserId};

use super::LoginCloseReason;
use crate::{Personal, Sensitive};

/// How long a login may last: 30 days.
pub const MAX_LOGIN_MS: u64 = 30 * 24 * 3_600_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginCommand {
    /// The password was verified.
    Open {
        user: UserId,
        secret: Sensitive<Digest>,
        expires_at: Timestamp,
        /// Sealed for [`super::DEVICE`], or empty.
        device: Personal<String>,
    },
    Close {
        reason: LoginCloseReason,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LoginRejection {
    #[error("the login exists already")]
    AlreadyExists,
    #[error("there is no such login")]
    NotFound,
    #[error("a login lasts for more than no time and for 30 days at most")]
    LifetimeOutOfRange,
    #[error("a device label is at most 256 bytes without control characters")]
    TextNotPlain,
    #[error("a device label is stored sealed, or is empty")]
    DeviceNotSealed,
}
