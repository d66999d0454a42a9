use std::collections::BTreeSet;

use rap_proto::{NodeId, OrganizationId, PublicKey, Timestamp, UserId};

use super::Seen;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Session {
    pub phase: Phase,
    pub organization: Option<OrganizationId>,
    pub user: Option<UserId>,
    pub client_key: Option<PublicKey>,
    /// Every node that any of its tokens named: those that may report on it.
    pub nodes: BTreeSet<NodeId>,
    /// When its newest token expires.
    pub expires_at: Timestamp,
    /// Whether a node saw it start.
    pub started: bool,
    /// Who saw it end last, if it was not started again since.
    pub ended_by: Option<Seen>,
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
    /// Authorized, and perhaps started.
    Alive,
    Terminated,
    Ended,
}
