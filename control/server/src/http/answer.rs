//! Replies: how they are made, stored with their command, and made whole again.

use bytes::Bytes;
use rap_proto::{
    api::{self, Page, SecretText},
    codec,
    secret::{ApiSecret, InviteSecret, JoinSecret, LoginSecret, SecretKind},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use utoipa::ToSchema;

use super::{
    call::Call,
    endpoint::Gone,
    failure::{Failure, internal},
};

/// A body of a reply.
pub(crate) trait Answer: Serialize + DeserializeOwned + ToSchema + 'static {
    /// What the `ETag` says.
    fn revision(&self) -> Option<u64> {
        None
    }

    /// Puts in what is never stored, derived from the command: the same each time.
    fn complete(&mut self, _call: &Call) {}
}

/// A reply before headers are made from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    /// JSON; empty for none.
    pub(crate) body: String,
    pub(crate) revision: Option<u64>,
    /// The log position that a command reached; `None` of a read.
    pub(crate) position: Option<u64>,
}

/// What the log keeps of a reply, under the command's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StoredReply {
    body: String,
    revision: Option<u64>,
}

/// A command that was appended.
#[derive(Debug)]
pub(crate) struct Done<R> {
    pub(crate) reply: Reply,
    pub(crate) body: std::marker::PhantomData<R>,
}

#[derive(Serialize)]
pub(crate) struct Listed<T>(pub(crate) Page<T>);

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
        Self { body: json(shown), revision: shown.etag(), position: None }
    }

    pub(crate) fn command<R: Answer>(answer: &R) -> Self {
        let body = if is_gone::<R>() { String::new() } else { json(answer) };
        Self { body, revision: answer.revision(), position: None }
    }

    pub(crate) fn to_stored(&self) -> Bytes {
        let stored = StoredReply { body: self.body.clone(), revision: self.revision };
        Bytes::from(codec::encode(&stored))
    }

    pub(crate) fn from_stored(bytes: &[u8], position: u64) -> Result<Self, Failure> {
        let stored: StoredReply = codec::decode(bytes, rap_events::log::MAX_PAYLOAD_BYTES)
            .map_err(|_| Failure::Problem(internal()))?;
        Ok(Self { body: stored.body, revision: stored.revision, position: Some(position) })
    }
}

pub(crate) fn complete<R: Answer>(call: &Call, body: &str) -> Result<String, Failure> {
    if is_gone::<R>() {
        return Ok(String::new());
    }
    let mut answer: R = serde_json::from_str(body).map_err(|_| Failure::Problem(internal()))?;
    answer.complete(call);
    Ok(json(&answer))
}

pub(crate) fn complete_nothing(_: &Call, body: &str) -> Result<String, Failure> {
    Ok(body.to_owned())
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

plain!(Gone, api::Me, api::Cluster, api::Replay);
revised!(
    api::Changed,
    api::User,
    api::Organization,
    api::Member,
    api::Pool,
    api::Resource,
    api::Policy,
    api::Node,
    api::JoinToken,
    api::ApiToken,
    api::Session,
);

impl Answer for api::LoggedIn {
    fn complete(&mut self, call: &Call) {
        self.secret = derived::<LoginSecret>(call);
    }
}

impl Answer for api::UserCreated {
    fn revision(&self) -> Option<u64> {
        Some(self.user.revision)
    }

    fn complete(&mut self, call: &Call) {
        if self.invitation.is_some() {
            self.invitation = Some(derived::<InviteSecret>(call));
        }
    }
}

impl Answer for api::Invited {
    fn revision(&self) -> Option<u64> {
        Some(self.revision)
    }

    fn complete(&mut self, call: &Call) {
        self.invitation = derived::<InviteSecret>(call);
    }
}

impl Answer for api::ApiTokenCreated {
    fn revision(&self) -> Option<u64> {
        Some(self.token.revision)
    }

    fn complete(&mut self, call: &Call) {
        self.secret = derived::<ApiSecret>(call);
    }
}

impl Answer for api::JoinTokenCreated {
    fn revision(&self) -> Option<u64> {
        Some(self.token.revision)
    }

    fn complete(&mut self, call: &Call) {
        self.secret = derived::<JoinSecret>(call);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_stored_form_is_frozen() {
        let reply =
            Reply { body: r#"{"revision":7}"#.to_owned(), revision: Some(7), position: None };
        let stored = reply.to_stored();
        let mut golden = b"\x82\xa4body\xae".to_vec();
        golden.extend(br#"{"revision":7}"#);
        golden.extend(b"\xa8revision\x07");
        assert_eq!(stored, golden);
        let read = Reply::from_stored(&golden, 9).unwrap();
        assert_eq!(read, Reply { position: Some(9), ..reply });
    }
}
