//! Between a client and its entry, on ALPN `rap-client/1`.
//!
//! The client opens one bidirectional stream and sends [`Hello`]; the entry answers
//! [`HelloReply`]. That stream stays open for [`ClientControl`] and [`EntryControl`]. Each
//! further bidirectional stream is one channel: [`OpenChannel`], [`ChannelReply`], raw bytes; or it
//! begins with [`super::through::Ask`].
//!
//! Pictures and bulk have a connection each beside that, with ALPN `rap-channels-media/1` and
//! `rap-channels-bulk/1`. Every stream there is one channel, and says first which session it belongs to, in the
//! same words each time: [`JoinSession`].
//!
//! On TCP the first connection is that stream. A channel is a connection with ALPN
//! `rap-channel/1`, which says first which session it belongs to.

use serde::{Deserialize, Serialize};

use crate::{
    ChannelKind, Lane, PublicKey, SessionId, Signer, Timestamp, observation::EndReason,
    refusal::Refusal, token::Proof, wire::resume::Resume,
};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    #[serde(with = "serde_bytes")]
    pub token: Vec<u8>,
    pub proof: Proof,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HelloReply {
    Accepted {
        expires_at: Timestamp,
        /// The entry opens ways to egresses; see [`super::through`].
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        through: bool,
        /// The entry takes pictures and bulk on connections of their own; see [`super::channels_alpn`].
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        lanes: bool,
    },
    Refused(Refusal),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientControl {
    /// A newer token of the same session.
    Refresh(Hello),
    /// The client is done, also with its earlier connections of the session; that ends as `client_closed`.
    Close,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryControl {
    Refreshed {
        expires_at: Timestamp,
    },
    RefreshRefused(Refusal),
    /// The entry is leaving; open no new channels here.
    Draining,
    /// The session is over.
    Ended {
        reason: EndReason,
    },
}

/// A further connection of a client that this entry serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinSession {
    pub session: SessionId,
    /// Made over the session's id, in the place of a token, and over this connection.
    pub proof: Proof,
}

impl JoinSession {
    pub fn make(session: SessionId, exported: [u8; 32], key: &dyn Signer) -> Self {
        Self { session, proof: Proof::make(session.uuid().as_bytes(), exported, key) }
    }

    /// Whether the holder of `key` made it for the connection with this exported value.
    pub fn holds(&self, exported: &[u8; 32], key: &PublicKey) -> bool {
        self.proof.exported == *exported && self.proof.holds(self.session.uuid().as_bytes(), key)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenChannel {
    pub channel: ChannelKind,
    pub lane: Lane,
    /// W3C Trace Context, when the client traces.
    #[serde(default)]
    pub traceparent: Option<String>,
    /// Of a channel that can outlive the connection that it is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<Resume>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelReply {
    Opened,
    Refused(Refusal),
    /// Opened, or found again, as a channel that outlives this connection.
    Attached {
        received: u64,
    },
    /// There is no such channel any more.
    Gone,
}
