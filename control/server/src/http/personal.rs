//! What is about a person: sealed on its way into the log, opened where it is shown to people.

use std::collections::{BTreeMap, BTreeSet};

use rap_control_core::state::{Login, User};
use rap_events::{
    Aggregate as _, EventCodec as _, Personal, login,
    personal::{ERASED, OpenError, SubjectCipher},
    user::{self, UserEvent},
};
use rap_proto::UserId;
use uuid::Uuid;

use super::{
    call::Call,
    failure::{Failure, internal, rejected},
};
use crate::{
    subjects::{SubjectError, SubjectKey},
    work::Work,
};

/// Seals a new account's display name under a key that the work keeps with it, for what else comes
/// to be known of the person.
pub(super) fn seal_display_name(
    call: &Call,
    work: &mut Work,
    id: UserId,
    text: &str,
) -> Result<Personal<String>, Failure> {
    let (key, kept) = call.app.subjects.make(id.uuid());
    work.change_subject(kept);
    user::display_name(text, id, &key).map_err(|reason| rejected::<user::User>(&reason))
}

/// Seals what a device calls itself under its user's key. An account that has none is from before
/// each had one: what nobody could erase is left out. So it is where the key cannot be unwrapped: that is for
/// whoever keeps the state directory to mend, and no reason to let nobody in.
///
/// The append must hold the user's stream at the revision that was looked at: an erasure that
/// destroys the key meanwhile must come before the login or after it.
pub(super) async fn seal_device(
    call: &Call,
    user: UserId,
    text: &str,
) -> Result<Personal<String>, Failure> {
    if text.is_empty() {
        return Ok(Personal::default());
    }
    let keys = match call.app.subjects.find(vec![user.uuid()]).await {
        Err(error @ SubjectError::NotOurs(_)) => {
            tracing::error!(%error, "a login's device is left out");
            return Ok(Personal::default());
        }
        found => found?,
    };
    let Some(key) = keys.get(&user.uuid()) else { return Ok(Personal::default()) };
    login::device(text, user, key).map_err(|reason| rejected::<login::Login>(&reason))
}

/// The display names of accounts, in their order; [`ERASED`] for those that were erased.
pub(super) async fn display_names(call: &Call, users: &[User]) -> Result<Vec<String>, Failure> {
    let sealed = users.iter().filter(|user| matches!(user.display_name, Personal::Sealed(_)));
    let sealed: Vec<Uuid> = sealed.map(|user| user.id.uuid()).collect();
    let keys =
        if sealed.is_empty() { BTreeMap::new() } else { call.app.subjects.find(sealed).await? };
    let shown = |user: &User| match user.erased {
        true => Ok(ERASED.to_owned()),
        false => {
            let place = (user.id, user::DISPLAY_NAME);
            open(&user.display_name, place, keys.get(&user.id.uuid()))
        }
    };
    users.iter().map(shown).collect()
}

/// The display name that an account was created with, from the event of that creation.
pub(super) async fn display_name_of_creation(call: &Call, id: UserId) -> Result<String, Failure> {
    let stream = user::User::stream(id.uuid());
    let events = call.app.log.read_stream(&stream, 0, 1).await?;
    let first = events.first().and_then(|event| UserEvent::from_envelope(event).ok());
    let Some(UserEvent::Created(created)) = first else { return Err(internal().into()) };
    let keys = call.app.subjects.find(vec![id.uuid()]).await?;
    open(&created.display_name, (id, user::DISPLAY_NAME), keys.get(&id.uuid()))
}

/// What the caller's logins were opened from, each by its device.
pub(super) async fn devices(call: &Call, logins: &[Login]) -> Result<Vec<String>, Failure> {
    let sealed = logins.iter().filter(|login| matches!(login.device, Personal::Sealed(_)));
    let users: BTreeSet<Uuid> = sealed.map(|login| login.user.uuid()).collect();
    let keys = call.app.subjects.find(users.into_iter().collect()).await?;
    let shown = |login: &Login| {
        open(&login.device, (login.user, login::DEVICE), keys.get(&login.user.uuid()))
    };
    logins.iter().map(shown).collect()
}

fn open(
    value: &Personal<String>,
    (id, field): (UserId, &str),
    key: Option<&SubjectKey>,
) -> Result<String, Failure> {
    let cipher = key.map(|key| -> &dyn SubjectCipher { key });
    match value.open(id.uuid(), field, cipher) {
        Ok(text) => Ok(text),
        Err(OpenError::Erased) => Ok(ERASED.to_owned()),
        Err(error @ OpenError::Damaged) => {
            tracing::error!(%error, user = %id, field, "what was sealed cannot be opened");
            Err(internal().into())
        }
    }
}
