use rap_proto::{Digest, Name, PlatformRole, Timestamp};

use super::RefusedAction;
use crate::{Personal, Sensitive};

/// How long an invitation may be open: 7 days.
pub const MAX_INVITATION_MS: u64 = 7 * 24 * 3_600_000;
/// The longest password verifier, in bytes.
pub const MAX_VERIFIER_BYTES: usize = 512;
/// How many refusals of one user are recorded within one day (UTC): whoever goes on asking fills
/// no log.
pub const MAX_RECORDED_REFUSALS: u32 = 16;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserCommand {
    /// Claims [`crate::keys::user_name`].
    Create {
        name: Name,
        /// Sealed for [`super::DISPLAY_NAME`], or empty.
        display_name: Personal<String>,
    },
    Invite {
        secret: Sensitive<Digest>,
        expires_at: Timestamp,
    },
    /// `presented` is the digest of the secret that was shown.
    AcceptInvitation {
        presented: Sensitive<Digest>,
        verifier: Sensitive<String>,
    },
    /// The old password was verified, or the caller may set it without.
    ChangePassword {
        verifier: Sensitive<String>,
    },
    GrantPlatformRole {
        role: PlatformRole,
    },
    RevokePlatformRole {
        role: PlatformRole,
    },
    Disable {
        reason: String,
    },
    Enable,
    /// Its append destroys the person's key.
    Erase,
    /// The user asked for what is not there, or is not for that user. Nothing follows beyond
    /// [`MAX_RECORDED_REFUSALS`] of a day.
    RecordAccessRefused {
        action: RefusedAction,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UserRejection {
    #[error("the user exists already")]
    AlreadyExists,
    #[error("there is no such user")]
    NotFound,
    #[error("the user is disabled")]
    Disabled,
    #[error("the user was erased")]
    Erased,
    #[error("a display name is stored sealed, or is empty")]
    DisplayNameNotSealed,
    #[error("the invitation is not valid: used, replaced, expired or never made")]
    InvitationInvalid,
    #[error("an invitation is open for 7 days at most")]
    InvitationTooLong,
    #[error("not an Argon2id verifier")]
    NotAVerifier,
    #[error("a text is at most 256 bytes without control characters")]
    TextNotPlain,
}
