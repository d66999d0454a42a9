use rap_proto::UserId;

use super::LoginRejection;
use crate::{Personal, aggregate::is_plain_text, personal::SubjectCipher};

/// The place that a device's label is sealed for.
pub const DEVICE: &str = "login.device";

/// A device's label as it goes into the log, under the key of the user who logs in.
pub fn device(
    text: &str,
    user: UserId,
    cipher: &dyn SubjectCipher,
) -> Result<Personal<String>, LoginRejection> {
    if !is_plain_text(text) {
        return Err(LoginRejection::TextNotPlain);
    }
    Ok(Personal::seal_text(text, user.uuid(), DEVICE, cipher))
}
