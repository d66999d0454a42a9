use rap_proto::UserId;

use super::UserRejection;
use crate::{
    Personal,
    aggregate::is_plain_text,
    personal::{MAX_SEALED_BYTES, SubjectCipher},
};

/// The place that a display name is sealed for.
pub const DISPLAY_NAME: &str = "user.display_name";

/// A person's name as it goes into the log. An empty one is about nobody, and stays as it is.
pub fn display_name(
    text: &str,
    user: UserId,
    cipher: &dyn SubjectCipher,
) -> Result<Personal<String>, UserRejection> {
    if !is_plain_text(text) {
        return Err(UserRejection::TextNotPlain);
    }
    if text.is_empty() {
        return Ok(Personal::default());
    }
    Ok(Personal::seal(&text.to_owned(), user.uuid(), DISPLAY_NAME, cipher))
}

/// What is new in the log is sealed, or says nothing.
pub(super) fn check(name: &Personal<String>) -> Result<(), UserRejection> {
    match name {
        Personal::Sealed(sealed) if sealed.len() <= MAX_SEALED_BYTES => Ok(()),
        Personal::Clear(text) if text.is_empty() => Ok(()),
        Personal::Sealed(_) | Personal::Clear(_) => Err(UserRejection::DisplayNameNotSealed),
    }
}
