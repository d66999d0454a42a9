use std::collections::{BTreeMap, BTreeSet};

use rap_proto::{
    AttachmentId, Lane, Leased, MessageId, NodeId, OrganizationId, PolicyId, PublicKey,
    RefusalCode, ResourceId, ResourceKind, Timestamp, UserId,
    observation::{EndReason, Vantage},
};
use serde::{Deserialize, Serialize};

use super::Basis;
use crate::aggregate::events;

events! {
    /// What happened to a session.
    SessionEvent:
    Requested(SessionRequested) = "session.requested" / 1;
    Denied(SessionDenied) = "session.denied" / 2, from 1 by SessionDeniedV1;
    Authorized(SessionAuthorized) = "session.authorized" / 4,
        from 1 by SessionAuthorizedV1, from 2 by SessionAuthorizedV2, from 3 by SessionAuthorizedV3;
    Refreshed(SessionRefreshed) = "session.refreshed" / 4,
        from 1 by SessionRefreshedV1, from 2 by SessionRefreshedV2, from 3 by SessionRefreshedV3;
    Started(SessionStarted) = "session.started" / 2, from 1 by SessionStartedV1;
    AccessRefused(SessionAccessRefused) = "session.access_refused" / 3,
        from 1 by SessionAccessRefusedV2, from 2 by SessionAccessRefusedV2;
    Terminated(SessionTerminated) = "session.terminated" / 1;
    Ended(SessionEnded) = "session.ended" / 1;
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionRequested {
    pub organization: OrganizationId,
    pub user: UserId,
    /// What the user asked for: a name or an id, as typed.
    pub asked: String,
    /// The resource of that name, if there is one.
    pub resource: Option<ResourceId>,
    pub client_key: PublicKey,
}

/// Follows `requested` in the same append.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionDenied {
    pub code: RefusalCode,
    /// For the auditor; the user is told no more than the code.
    pub reason: String,
    pub basis: Basis,
}

/// Follows `requested` in the same append: an access token was issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionAuthorized {
    pub resource: ResourceId,
    pub kind: ResourceKind,
    pub attachment: AttachmentId,
    pub grant: Grant,
    pub basis: Basis,
}

/// What one access token permits, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The id of the access token.
    pub token: MessageId,
    pub entries: BTreeSet<NodeId>,
    /// The nodes that may reach the resource, and the snapshot version that each must have.
    pub egresses: BTreeMap<NodeId, u64>,
    pub connect_by: Timestamp,
    pub expires_at: Timestamp,
    /// The policies that permitted it.
    pub policies: BTreeSet<PolicyId>,
    /// The lease under which the resource is reached, where a connection carries it.
    pub leased: Option<Leased>,
    /// What rules gave beside the lanes of every byte stream.
    pub lanes: BTreeSet<Lane>,
}

/// The session got a newer access token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionRefreshed {
    pub grant: Grant,
    pub basis: Basis,
}

/// A node saw the first channel reach the resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionStarted {
    pub seen: Seen,
    /// From which end of the path; absent in what was recorded before nodes said so.
    pub from: Option<Vantage>,
}

impl SessionStarted {
    /// Whether it is an entry's word. Of a node that does not say so it is taken for one when a
    /// token named it as an entry; `entries` are all that any token did.
    pub fn is_of_entry(&self, entries: &BTreeSet<NodeId>) -> bool {
        match self.from {
            Some(from) => from == Vantage::Entry,
            None => entries.contains(&self.seen.node),
        }
    }
}

/// A node refused somebody who showed a token of this session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionAccessRefused {
    pub seen: Seen,
    pub code: RefusalCode,
}

/// Which node observed something, when by its own clock within the bounds of control's, and the
/// place in its spool. A node's places are in order; its clock is for people to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    pub node: NodeId,
    pub sequence: u64,
    pub at: Timestamp,
}

/// Authority ended it; nodes close it as soon as they learn of it, and refuse its tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionTerminated {
    pub cause: TerminationCause,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TerminationCause {
    /// Its user or somebody with authority asked for it.
    Requested,
    /// No policy permits it any more.
    AccessWithdrawn,
    /// The user was disabled or is no member any more.
    UserLeft,
    /// The resource was removed or is somewhere else.
    ResourceChanged,
    /// The organization was suspended or removed.
    OrganizationClosed,
    /// The lease under which the resource was reached was granted anew.
    LeaseSuperseded,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionEnded {
    pub reason: EndReason,
    /// From the client to the resource.
    pub bytes_up: u64,
    pub bytes_down: u64,
    /// Who saw it end; `None` when authority concluded it from time.
    pub seen: Option<Seen>,
}

/// Schema 1 of `session.denied`, from before decisions named what they rest on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SessionDeniedV1 {
    code: RefusalCode,
    reason: String,
}

impl From<SessionDeniedV1> for SessionDenied {
    fn from(old: SessionDeniedV1) -> Self {
        Self { code: old.code, reason: old.reason, basis: Basis::default() }
    }
}

/// A grant as schemas 1 and 2 wrote it, from before connections carried resources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GrantV2 {
    token: MessageId,
    entries: BTreeSet<NodeId>,
    egresses: BTreeMap<NodeId, u64>,
    connect_by: Timestamp,
    expires_at: Timestamp,
    policies: BTreeSet<PolicyId>,
}

impl From<GrantV2> for Grant {
    fn from(old: GrantV2) -> Self {
        let GrantV2 { token, entries, egresses, connect_by, expires_at, policies } = old;
        GrantV3 { token, entries, egresses, connect_by, expires_at, policies, leased: None }.into()
    }
}

/// A grant as schema 3 wrote it, from before rules gave lanes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GrantV3 {
    token: MessageId,
    entries: BTreeSet<NodeId>,
    egresses: BTreeMap<NodeId, u64>,
    connect_by: Timestamp,
    expires_at: Timestamp,
    policies: BTreeSet<PolicyId>,
    leased: Option<Leased>,
}

impl From<GrantV3> for Grant {
    fn from(old: GrantV3) -> Self {
        let GrantV3 { token, entries, egresses, connect_by, expires_at, policies, leased } = old;
        let lanes = BTreeSet::new();
        Self { token, entries, egresses, connect_by, expires_at, policies, leased, lanes }
    }
}

/// Schemas 1 and 2 of `session.access_refused`: no code of either says that a lane is not relayed, and none of
/// schema 1 that nothing serves a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SessionAccessRefusedV2 {
    seen: Seen,
    code: RefusalCode,
}

impl From<SessionAccessRefusedV2> for SessionAccessRefused {
    fn from(old: SessionAccessRefusedV2) -> Self {
        Self { seen: old.seen, code: old.code }
    }
}

/// Schema 1 of `session.started`, from before nodes said from which end they see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SessionStartedV1 {
    seen: Seen,
}

impl From<SessionStartedV1> for SessionStarted {
    fn from(old: SessionStartedV1) -> Self {
        Self { seen: old.seen, from: None }
    }
}

/// Schema 1 of `session.authorized`, whose grant alone named the policies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SessionAuthorizedV1 {
    resource: ResourceId,
    kind: ResourceKind,
    attachment: AttachmentId,
    grant: GrantV2,
}

impl From<SessionAuthorizedV1> for SessionAuthorized {
    fn from(old: SessionAuthorizedV1) -> Self {
        let basis = Basis::of_policies(&old.grant.policies);
        let SessionAuthorizedV1 { resource, kind, attachment, grant } = old;
        Self { resource, kind, attachment, grant: grant.into(), basis }
    }
}

/// Schema 2 of `session.authorized`, from before connections carried resources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SessionAuthorizedV2 {
    resource: ResourceId,
    kind: ResourceKind,
    attachment: AttachmentId,
    grant: GrantV2,
    basis: Basis,
}

impl From<SessionAuthorizedV2> for SessionAuthorized {
    fn from(old: SessionAuthorizedV2) -> Self {
        let SessionAuthorizedV2 { resource, kind, attachment, grant, basis } = old;
        Self { resource, kind, attachment, grant: grant.into(), basis }
    }
}

/// Schema 3 of `session.authorized`, from before rules gave lanes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SessionAuthorizedV3 {
    resource: ResourceId,
    kind: ResourceKind,
    attachment: AttachmentId,
    grant: GrantV3,
    basis: Basis,
}

impl From<SessionAuthorizedV3> for SessionAuthorized {
    fn from(old: SessionAuthorizedV3) -> Self {
        let SessionAuthorizedV3 { resource, kind, attachment, grant, basis } = old;
        Self { resource, kind, attachment, grant: grant.into(), basis }
    }
}

/// Schema 1 of `session.refreshed`, whose grant alone named the policies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SessionRefreshedV1 {
    grant: GrantV2,
}

impl From<SessionRefreshedV1> for SessionRefreshed {
    fn from(old: SessionRefreshedV1) -> Self {
        let basis = Basis::of_policies(&old.grant.policies);
        Self { grant: old.grant.into(), basis }
    }
}

/// Schema 2 of `session.refreshed`, from before connections carried resources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SessionRefreshedV2 {
    grant: GrantV2,
    basis: Basis,
}

impl From<SessionRefreshedV2> for SessionRefreshed {
    fn from(old: SessionRefreshedV2) -> Self {
        Self { grant: old.grant.into(), basis: old.basis }
    }
}

/// Schema 3 of `session.refreshed`, from before rules gave lanes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SessionRefreshedV3 {
    grant: GrantV3,
    basis: Basis,
}

impl From<SessionRefreshedV3> for SessionRefreshed {
    fn from(old: SessionRefreshedV3) -> Self {
        Self { grant: old.grant.into(), basis: old.basis }
    }
}
