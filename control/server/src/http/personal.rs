//! What is about a person: sealed on its way into the log, opened where it is shown to people.

use std::collections::BTreeSet;

use rap_control_core::state::{ApiToken, Login, User};
use rap_events::{
    Aggregate, EventCodec as _, Personal,
    api_token::{self, ApiTokenEvent},
    keys, login,
    personal::{ERASED, OpenError, SEALED, SubjectCipher},
    user::{self, UserEvent, UserRejection},
};
use rap_proto::{ApiTokenId, UserId};
use uuid::Uuid;

use super::{
    call::Call,
    failure::{Failure, internal, rejected},
};
use crate::{subjects::Held, work::Work};

/// A text about a person as people are shown it.
pub(super) struct Shown {
    /// The text; [`ERASED`] of a person who was erased; [`SEALED`] where `sealed` is set.
    pub(super) text: String,
    /// Whether it is there and cannot be opened: the person's key is of another state directory, or what is
    /// stored is not what was sealed.
    pub(super) sealed: bool,
}

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
    let refused = UserRejection::TextNotPlain;
    Personal::seal_text(text, id.uuid(), user::DISPLAY_NAME, &key, refused)
        .map_err(|reason| rejected::<user::User>(&reason))
}

/// Seals what becomes known of a person who has an account, for `place`. An account without a key
/// is from before each had one, and is given one. Where the key cannot be unwrapped, or was given and
/// is lost, the text is left out: that is for whoever keeps the state directory or the database to mend,
/// and no reason to refuse a command for what only a list would show.
///
/// The append must hold the user's stream at the revision that was looked at: an erasure that
/// destroys the key meanwhile must come before the command or after it.
pub(super) async fn seal<A: Aggregate>(
    call: &Call,
    work: &mut Work,
    (user, place): (UserId, &str),
    text: &str,
    refused: A::Rejection,
) -> Result<Personal<String>, Failure> {
    if text.is_empty() {
        return Ok(Personal::default());
    }
    let key = match call.app.subjects.find(vec![user.uuid()]).await?.remove(&user.uuid()) {
        Some(Held::Key(key)) => key,
        Some(Held::Foreign) => return Ok(Personal::default()),
        None if call.key_given => {
            tracing::error!(%user, "the key of a person was given, and the database has it no more");
            return Ok(Personal::default());
        }
        None => {
            let (key, kept) = call.app.subjects.make(user.uuid());
            work.claim(keys::subject_key(user));
            work.change_subject(kept);
            key
        }
    };
    Personal::seal_text(text, user.uuid(), place, &key, refused)
        .map_err(|reason| rejected::<A>(&reason))
}

/// The display names of accounts, in their order.
pub(super) async fn display_names(call: &Call, users: &[User]) -> Result<Vec<Shown>, Failure> {
    let names = users.iter().map(|user| (user.id, &user.display_name));
    open(call, user::DISPLAY_NAME, names).await
}

/// What the caller's logins were opened from, each by its device.
pub(super) async fn devices(call: &Call, logins: &[Login]) -> Result<Vec<Shown>, Failure> {
    let devices = logins.iter().map(|login| (login.user, &login.device));
    open(call, login::DEVICE, devices).await
}

/// The labels of API tokens, in their order.
pub(super) async fn labels(call: &Call, tokens: &[ApiToken]) -> Result<Vec<Shown>, Failure> {
    let labels = tokens.iter().map(|token| (token.user, &token.label));
    open(call, api_token::LABEL, labels).await
}

/// The display name that an account was created with, from the event of that creation.
pub(super) async fn display_name_of_creation(call: &Call, id: UserId) -> Result<Shown, Failure> {
    match first_event::<user::User>(call, id.uuid()).await? {
        UserEvent::Created(created) => {
            open_one(call, user::DISPLAY_NAME, (id, &created.display_name)).await
        }
        _ => Err(internal().into()),
    }
}

/// The label that an API token was created with, from the event of that creation.
pub(super) async fn label_of_creation(call: &Call, id: ApiTokenId) -> Result<Shown, Failure> {
    match first_event::<api_token::ApiToken>(call, id.uuid()).await? {
        ApiTokenEvent::Created(created) => {
            open_one(call, api_token::LABEL, (created.user, &created.label)).await
        }
        ApiTokenEvent::Revoked(_) => Err(internal().into()),
    }
}

async fn first_event<A: Aggregate>(call: &Call, id: Uuid) -> Result<A::Event, Failure> {
    let events = call.app.log.read_stream(&A::stream(id), 0, 1).await?;
    let first = events.first().and_then(|event| A::Event::from_envelope(event).ok());
    first.ok_or_else(|| internal().into())
}

async fn open_one(
    call: &Call,
    place: &str,
    field: (UserId, &Personal<String>),
) -> Result<Shown, Failure> {
    let shown = open(call, place, std::iter::once(field)).await?;
    shown.into_iter().next().ok_or_else(|| internal().into())
}

/// Opens one field of each of these persons, in their order.
async fn open<'a>(
    call: &Call,
    place: &str,
    fields: impl Iterator<Item = (UserId, &'a Personal<String>)> + Clone,
) -> Result<Vec<Shown>, Failure> {
    let sealed = fields.clone().filter(|(_, value)| matches!(value, Personal::Sealed(_)));
    let subjects: BTreeSet<Uuid> = sealed.map(|(user, _)| user.uuid()).collect();
    let keys = call.app.subjects.find(subjects.into_iter().collect()).await?;
    let is_erased = |user| call.state.users().get(user).is_some_and(|user| user.erased);
    let shown = |(user, value): (UserId, &Personal<String>)| {
        if is_erased(user) {
            return Shown::erased();
        }
        let key: Option<&dyn SubjectCipher> = match keys.get(&user.uuid()) {
            Some(Held::Foreign) if matches!(value, Personal::Sealed(_)) => return Shown::sealed(),
            Some(Held::Key(key)) => Some(key),
            Some(Held::Foreign) | None => None,
        };
        match value.open(user.uuid(), place, key) {
            Ok(text) => Shown { text, sealed: false },
            Err(OpenError::Erased) => Shown::erased(),
            Err(OpenError::Damaged) => {
                call.app.subjects.name_damaged(user.uuid(), place);
                Shown::sealed()
            }
        }
    };
    Ok(fields.map(shown).collect())
}

impl Shown {
    fn erased() -> Self {
        Self { text: ERASED.to_owned(), sealed: false }
    }

    fn sealed() -> Self {
        Self { text: SEALED.to_owned(), sealed: true }
    }
}
