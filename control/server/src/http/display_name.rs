//! Display names: sealed on their way into the log, opened where they are shown to people.

use std::collections::BTreeMap;

use rap_control_core::state::User;
use rap_events::{
    Aggregate as _, EventCodec as _, Personal,
    personal::{ERASED, OpenError, SubjectCipher},
    user::{self, UserEvent},
};
use rap_proto::UserId;
use uuid::Uuid;

use super::{
    call::Call,
    failure::{Failure, internal, rejected},
};
use crate::{subjects::SubjectKey, work::Work};

/// Seals a new account's display name under a key that the work keeps with it.
pub(super) fn seal(
    call: &Call,
    work: &mut Work,
    id: UserId,
    text: &str,
) -> Result<Personal<String>, Failure> {
    if text.is_empty() {
        return Ok(Personal::default());
    }
    let (key, kept) = call.app.subjects.make(id.uuid());
    work.change_subject(kept);
    user::display_name(text, id, &key).map_err(|reason| rejected::<user::User>(&reason))
}

/// The display names of accounts, in their order; [`ERASED`] for those that were erased.
pub(super) async fn open_all(call: &Call, users: &[User]) -> Result<Vec<String>, Failure> {
    let sealed = users.iter().filter(|user| matches!(user.display_name, Personal::Sealed(_)));
    let sealed: Vec<Uuid> = sealed.map(|user| user.id.uuid()).collect();
    let keys =
        if sealed.is_empty() { BTreeMap::new() } else { call.app.subjects.find(sealed).await? };
    let shown = |user: &User| match user.erased {
        true => Ok(ERASED.to_owned()),
        false => open(&user.display_name, user.id, keys.get(&user.id.uuid())),
    };
    users.iter().map(shown).collect()
}

/// The display name that an account was created with, from the event of that creation.
pub(super) async fn of_creation(call: &Call, id: UserId) -> Result<String, Failure> {
    let stream = user::User::stream(id.uuid());
    let events = call.app.log.read_stream(&stream, 0, 1).await?;
    let first = events.first().and_then(|event| UserEvent::from_envelope(event).ok());
    let Some(UserEvent::Created(created)) = first else { return Err(internal().into()) };
    let keys = call.app.subjects.find(vec![id.uuid()]).await?;
    open(&created.display_name, id, keys.get(&id.uuid()))
}

fn open(name: &Personal<String>, id: UserId, key: Option<&SubjectKey>) -> Result<String, Failure> {
    let cipher = key.map(|key| -> &dyn SubjectCipher { key });
    match name.open(id.uuid(), user::DISPLAY_NAME, cipher) {
        Ok(text) => Ok(text),
        Err(OpenError::Erased) => Ok(ERASED.to_owned()),
        Err(error @ OpenError::Damaged) => {
            tracing::error!(%error, user = %id, "a display name cannot be opened");
            Err(internal().into())
        }
    }
}
