use std::collections::{BTreeMap, BTreeSet};

use rap_proto::{NodeId, OrganizationId, PublicKey, Timestamp, UserId};

use super::Presence;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Session {
    pub phase: Phase,
    pub organization: Option<OrganizationId>,
    pub user: Option<UserId>,
    pub client_key: Option<PublicKey>,
    /// The entries that any of its tokens named: those that may say where it lives.
    pub entries: BTreeSet<NodeId>,
    /// The egresses that any of its tokens named: those that may say that it was reached.
    pub egresses: BTreeSet<NodeId>,
    /// When its first token began: nothing was seen of it before.
    pub opened_at: Timestamp,
    /// When the last of its tokens expires.
    pub expires_at: Timestamp,
    pub presence: Presence,
    /// How many starts and ends of each entry were recorded. Kept apart from its presence, which
    /// forgets entries: none gets room for more words by being forgotten.
    pub words: BTreeMap<NodeId, u32>,
    pub terminated: bool,
    /// How many refusals were recorded.
    pub refusals: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    #[default]
    Absent,
    Requested,
    Denied,
    /// Authorized, and perhaps started: running, or waiting for its client.
    Alive,
    /// By authority, and no entry's word yet that it is over.
    Terminated,
    /// Where it was, or by time. Perhaps terminated as well.
    Ended,
}
