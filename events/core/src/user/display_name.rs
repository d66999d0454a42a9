use rap_proto::UserId;

use super::UserRejection;
use crate::{Personal, aggregate::is_plain_text, personal::SubjectCipher};

/// The place that a display name is sealed for.
pub const DISPLAY_NAME: &str = "user.display_name";

/// A person's name as it goes into the log.
pub fn display_name(
    text: &str,
    user: UserId,
    cipher: &dyn SubjectCipher,
) -> Result<Personal<String>, UserRejection> {
    if !is_plain_text(text) {
        return Err(UserRejection::TextNotPlain);
    }
    Ok(Personal::seal_text(text, user.uuid(), DISPLAY_NAME, cipher))
}
