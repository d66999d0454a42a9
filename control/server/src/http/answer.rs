//! Replies: how they are made, stored with their command, and made whole again.

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use rap_proto::{
    api::{self, Page, Problem, SecretText},
    codec,
    secret::{ApiSecret, InviteSecret, JoinSecret, LoginSecret, SecretKind},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use utoipa::ToSchema;

use super::{
    call::Call,
    endpoint::Gone,
    failure::{Failure, internal},
    personal,
};

/// A body of a reply.
pub(crate) trait Answer: Serialize + DeserializeOwned + ToSchema + 'static {
    /// What the `ETag` says.
    fn revision(&self) -> Option<u64> {
        None
    }

    /// Puts in what is never stored, made from the command, whose last event is at `position`:
    /// the same each time.
    async fn complete(self, _call: &Call, _position: u64) -> Result<Self, Failure> {
        Ok(self)
    }
}

/// A reply before headers are made from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    /// JSON; empty for none.
    pub(crate) body: String,
    pub(crate) revision: Option<u64>,
    /// The log position that a command reached; `None` of a read.
    pub(crate) position: Option<u64>,
    /// Whether the command recorded that it was refused; the body is then a problem.
    pub(crate) refused: bool,
}

/// What the log keeps of a reply, under the command's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StoredReply {
    /// JSON of an answer, or of a problem when the command recorded a refusal.
    body: String,
    revision: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    refused: bool,
}

/// A command that was appended.
#[derive(Debug)]
pub(crate) struct Done<R> {
    pub(crate) reply: Reply,
    pub(crate) body: std::marker::PhantomData<R>,
}

#[derive(Serialize)]
pub(crate) struct Listed<T>(pub(crate) Page<T>);

impl<R: Answer> Done<R> {
    /// Of a command that stores nothing: nobody but this replica remembers it.
    pub(crate) fn unstored(answer: &R) -> Self {
        Self { reply: Reply::command(answer), body: std::marker::PhantomData }
    }
}

/// What [`Reply::read`] can show.
pub(crate) trait Shown: Serialize {
    fn etag(&self) -> Option<u64>;
}

impl<A: Answer> Shown for A {
    fn etag(&self) -> Option<u64> {
        self.revision()
    }
}

impl<T: Serialize> Shown for Listed<T> {
    fn etag(&self) -> Option<u64> {
        None
    }
}

impl Reply {
    pub(crate) fn read<S: Shown>(shown: &S) -> Self {
        Self { body: json(shown), revision: shown.etag(), position: None, refused: false }
    }

    pub(crate) fn command<R: Answer>(answer: &R) -> Self {
        let body = if is_gone::<R>() { String::new() } else { json(answer) };
        Self { body, revision: answer.revision(), position: None, refused: false }
    }

    /// Of a command that changes nothing but the record of its refusal.
    pub(crate) fn refusal(problem: &Problem) -> Self {
        Self { body: json(problem), revision: None, position: None, refused: true }
    }

    pub(crate) fn to_stored(&self) -> Bytes {
        let Self { body, revision, refused, .. } = self.clone();
        let stored = StoredReply { body, revision, refused };
        Bytes::from(codec::encode(&stored))
    }

    pub(crate) fn from_stored(bytes: &[u8], position: u64) -> Result<Self, Failure> {
        let stored: StoredReply = codec::decode(bytes, rap_events::log::MAX_PAYLOAD_BYTES)
            .map_err(|_| Failure::Problem(internal()))?;
        let StoredReply { body, revision, refused } = stored;
        Ok(Self { body, revision, position: Some(position), refused })
    }
}

pub(crate) fn complete<R: Answer>(
    call: Call,
    body: String,
    position: u64,
) -> LocalBoxFuture<'static, Result<String, Failure>> {
    Box::pin(async move {
        if is_gone::<R>() {
            return Ok(String::new());
        }
        let answer: R = serde_json::from_str(&body).map_err(|_| Failure::Problem(internal()))?;
        Ok(json(&answer.complete(&call, position).await?))
    })
}

pub(crate) fn complete_nothing(
    _: Call,
    body: String,
    _: u64,
) -> LocalBoxFuture<'static, Result<String, Failure>> {
    Box::pin(std::future::ready(Ok(body)))
}

/// Stands where a secret will be put, in what is stored.
pub(crate) fn blank() -> SecretText {
    SecretText::new("")
}

fn json<S: Serialize>(value: &S) -> String {
    serde_json::to_string(value).expect("every body is expressible in JSON")
}

fn is_gone<R: 'static>() -> bool {
    std::any::TypeId::of::<R>() == std::any::TypeId::of::<Gone>()
}

fn derived<K: SecretKind>(call: &Call) -> SecretText {
    SecretText::new(call.secret::<K>().reveal())
}

macro_rules! plain {
    ($($body:ty),* $(,)?) => {$( impl Answer for $body {} )*};
}

macro_rules! revised {
    ($($body:ty),* $(,)?) => {$(
        impl Answer for $body {
            fn revision(&self) -> Option<u64> {
                Some(self.revision)
            }
        }
    )*};
}

plain!(
    Gone,
    api::Explained,
    api::Me,
    api::Cluster,
    api::Replay,
    api::Rebuild,
    api::LogKeys,
    api::Inclusion,
    api::Decided,
);
revised!(
    api::Changed,
    api::User,
    api::Organization,
    api::Member,
    api::Pool,
    api::Resource,
    api::Policy,
    api::VpnConnection,
    api::Node,
    api::JoinToken,
    api::ApiToken,
    api::Session,
    api::Quotas,
    api::Leases,
    api::Bandwidth,
    api::Carriers,
    api::PlatformCarriers,
    api::PlatformPaths,
    api::PlatformStale,
    api::PlatformMesh,
);

impl Answer for api::LoggedIn {
    async fn complete(self, call: &Call, _: u64) -> Result<Self, Failure> {
        let servers = call.app.servers.clone();
        Ok(Self { secret: derived::<LoginSecret>(call), servers, ..self })
    }
}

impl Answer for api::UserCreated {
    fn revision(&self) -> Option<u64> {
        Some(self.user.revision)
    }

    async fn complete(self, call: &Call, _: u64) -> Result<Self, Failure> {
        let invitation = self.invitation.map(|_| derived::<InviteSecret>(call));
        let shown = personal::display_name_of_creation(call, self.user.id).await?;
        let user = api::User { display_name: shown.text, sealed: shown.sealed, ..self.user };
        Ok(Self { user, invitation, ..self })
    }
}

impl Answer for api::Invited {
    fn revision(&self) -> Option<u64> {
        Some(self.revision)
    }

    async fn complete(self, call: &Call, _: u64) -> Result<Self, Failure> {
        Ok(Self { invitation: derived::<InviteSecret>(call), ..self })
    }
}

impl Answer for api::ApiTokenCreated {
    fn revision(&self) -> Option<u64> {
        Some(self.token.revision)
    }

    async fn complete(self, call: &Call, _: u64) -> Result<Self, Failure> {
        let shown = personal::label_of_creation(call, self.token.id).await?;
        let token = api::ApiToken { label: shown.text, sealed: shown.sealed, ..self.token };
        Ok(Self { token, secret: derived::<ApiSecret>(call) })
    }
}

impl Answer for api::JoinTokenCreated {
    fn revision(&self) -> Option<u64> {
        Some(self.token.revision)
    }

    async fn complete(self, call: &Call, _: u64) -> Result<Self, Failure> {
        Ok(Self { secret: derived::<JoinSecret>(call), ..self })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_stored_form_is_frozen() {
        let reply = Reply {
            body: r#"{"revision":7}"#.to_owned(),
            revision: Some(7),
            position: None,
            refused: false,
        };
        let stored = reply.to_stored();
        let mut golden = b"\x82\xa4body\xae".to_vec();
        golden.extend(br#"{"revision":7}"#);
        golden.extend(b"\xa8revision\x07");
        assert_eq!(stored, golden);
        let read = Reply::from_stored(&golden, 9).unwrap();
        assert_eq!(read, Reply { position: Some(9), ..reply });

        let problem = Problem::new(api::ProblemCode::AccessDenied, "no");
        let refusal = Reply::refusal(&problem);
        let read = Reply::from_stored(&refusal.to_stored(), 9).unwrap();
        assert!(read.refused);
        assert_eq!(serde_json::from_str::<Problem>(&read.body).unwrap(), problem);
    }
}
