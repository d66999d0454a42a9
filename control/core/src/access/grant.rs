use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rap_events::session::{
    Basis, Grant, MAX_GRANT_POLICIES, Outcome, SessionAuthorized, SessionCommand, SessionRequested,
};
use rap_proto::{
    AttachmentId, ChannelKind, ClusterId, Lane, Leased, MessageId, Name, NodeId, OrganizationId,
    PolicyId, PublicKey, RefusalCode, ResourceId, ResourceKind, SessionId, Timestamp, UserId,
    WeekHour,
    token::{AccessClaims, CONNECT_TTL_MS, ChannelGrant, GRANT_TTL_MS, STREAM_LANES},
};

use super::{
    Liveness, explain,
    nodes::{Choice, NoNode},
};
use crate::{
    snapshot::FIRST_AUTHORITY_EPOCH,
    state::{Resource, Session, State},
};

/// How many channels of one kind a session may have open at once.
pub const CHANNELS_PER_SESSION: u32 = 256;

/// A user asks for access to a resource, or for a newer token of a session.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessRequest {
    pub organization: OrganizationId,
    pub user: UserId,
    pub asked: Asked,
    /// The key that the client will prove to hold.
    pub client_key: PublicKey,
    /// The session to refresh; `None` asks for a new one.
    pub refresh: Option<SessionId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    Id(ResourceId),
    Name(Name),
}

/// Ids for what may be issued, made by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessIds {
    pub token: MessageId,
    /// Of a new session; a refreshed one keeps its own.
    pub session: SessionId,
    /// Of a new session's first attachment.
    pub attachment: AttachmentId,
}

/// Access was granted: what to record, and what to sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorized {
    pub claims: AccessClaims,
    pub grant: Grant,
    pub basis: Basis,
    /// The entries of the claims, best first.
    pub entries: Vec<NodeId>,
    pub refreshed: bool,
}

/// Access was denied. The user is told the code and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason} ({code})")]
pub struct Denied {
    pub code: RefusalCode,
    /// For the auditor.
    pub reason: String,
    /// The resource that was meant, if the organization has it.
    pub resource: Option<ResourceId>,
    /// What was asked and answered before it was denied.
    pub basis: Box<Basis>,
}

impl Asked {
    fn text(&self) -> String {
        match self {
            Self::Id(id) => id.to_string(),
            Self::Name(name) => name.to_string(),
        }
    }
}

impl AccessRequest {
    /// What to record of this request: the command for the stream of [`AccessClaims::session`],
    /// or for the new session's when it was denied. A denied refresh records nothing.
    pub fn command(&self, outcome: &Result<Authorized, Denied>) -> Option<SessionCommand> {
        let resource = match outcome {
            Ok(authorized) => Some(authorized.claims.resource),
            Err(denied) => denied.resource,
        };
        let outcome = match outcome {
            Ok(authorized) if authorized.refreshed => {
                return Some(SessionCommand::Refresh {
                    user: self.user,
                    client_key: self.client_key,
                    grant: authorized.grant.clone(),
                    basis: authorized.basis.clone(),
                });
            }
            Ok(authorized) => Outcome::Authorized {
                resource: authorized.claims.resource,
                kind: authorized.claims.kind,
                attachment: authorized.claims.attachment,
                grant: authorized.grant.clone(),
                basis: authorized.basis.clone(),
            },
            Err(_) if self.refresh.is_some() => return None,
            Err(denied) => Outcome::Denied {
                code: denied.code,
                reason: denied.reason.clone(),
                basis: (*denied.basis).clone(),
            },
        };
        Some(SessionCommand::Request {
            organization: self.organization,
            user: self.user,
            asked: self.asked.text(),
            resource,
            client_key: self.client_key,
            outcome,
        })
    }
}

/// Decides on one request for access: policies first, then the nodes that it takes.
///
/// The claims name, for each egress, the snapshot version that it must have: that of the last
/// change of what it is told, so that no egress serves a token by older rules than control knew.
pub fn authorize_session(
    state: &State,
    live: &Liveness,
    request: &AccessRequest,
    ids: AccessIds,
    now: Timestamp,
) -> Result<Authorized, Denied> {
    let cluster = state.cluster().id.ok_or_else(|| {
        denied(RefusalCode::AccessDenied, "the cluster is not bootstrapped", None)
    })?;
    let resource = find(state, request)?;
    let Permitted { policies, lanes, basis } = permitted_by(state, request, resource, now)?;
    let because = |denied: Denied| Denied { basis: Box::new(basis.clone()), ..denied };
    let session = refreshed_session(state, request, resource, now).map_err(because)?;
    let session_id = session.map_or(ids.session, |session| session.id);

    let held = |node: NodeId| session.is_some_and(|session| session.nodes.contains(&node));
    let choice = Choice {
        state,
        live,
        now,
        organization: request.organization,
        session: session_id,
        held: &held,
    };
    let refuse = |(code, reason): NoNode| because(denied(code, reason, Some(resource.id)));
    let entries: Vec<NodeId> =
        choice.entries().map_err(refuse)?.into_iter().map(|node| node.id).collect();
    let lease = resource.carried.map(|connection| choice.holder(connection)).transpose();
    let lease = lease.map_err(refuse)?;
    let leased = lease.map(|(_, leased)| leased);
    if let Some(session) = session {
        check_lease(session, leased).map_err(because)?;
    }
    let egresses: BTreeMap<NodeId, u64> = choice
        .egresses(resource.pool, lease.map(|(holder, _)| holder))
        .map_err(refuse)?
        .into_iter()
        .map(|node| (node.id, node.content_version))
        .collect();

    let grant = Grant {
        token: ids.token,
        entries: entries.iter().copied().collect(),
        egresses,
        connect_by: now + Duration::from_millis(CONNECT_TTL_MS),
        expires_at: now + Duration::from_millis(GRANT_TTL_MS),
        policies,
        leased,
        lanes,
    };
    let attachment = session.and_then(|session| session.attachment).unwrap_or(ids.attachment);
    let holder = Holder {
        organization: request.organization,
        user: request.user,
        client_key: request.client_key,
        resource: resource.id,
        kind: resource.kind,
        session: session_id,
        attachment,
    };
    let claims = claims(cluster, holder, &grant);
    Ok(Authorized { claims, grant, basis, entries, refreshed: session.is_some() })
}

/// The claims that were signed when an access token was issued, from what the log says of its
/// session: how it was requested and first authorized, and the grant of that very token.
pub fn granted_claims(
    cluster: ClusterId,
    session: SessionId,
    requested: &SessionRequested,
    authorized: &SessionAuthorized,
    grant: &Grant,
) -> AccessClaims {
    let holder = Holder {
        organization: requested.organization,
        user: requested.user,
        client_key: requested.client_key,
        resource: authorized.resource,
        kind: authorized.kind,
        session,
        attachment: authorized.attachment,
    };
    claims(cluster, holder, grant)
}

/// Whose access token it is, and for what: the same for every token of a session.
struct Holder {
    organization: OrganizationId,
    user: UserId,
    client_key: PublicKey,
    resource: ResourceId,
    kind: ResourceKind,
    session: SessionId,
    attachment: AttachmentId,
}

fn claims(cluster: ClusterId, holder: Holder, grant: &Grant) -> AccessClaims {
    let lanes = STREAM_LANES.into_iter().chain(grant.lanes.iter().copied()).collect();
    let stream = ChannelGrant { lanes, max_open: CHANNELS_PER_SESSION };
    AccessClaims {
        id: grant.token,
        cluster,
        authority_epoch: FIRST_AUTHORITY_EPOCH,
        organization: holder.organization,
        user: holder.user,
        session: holder.session,
        attachment: holder.attachment,
        resource: holder.resource,
        kind: holder.kind,
        entries: grant.entries.clone(),
        egresses: grant.egresses.clone(),
        channels: BTreeMap::from([(ChannelKind::Stream, stream)]),
        not_before: grant.expires_at - Duration::from_millis(GRANT_TTL_MS),
        connect_by: grant.connect_by,
        expires_at: grant.expires_at,
        client_key: holder.client_key,
        leased: grant.leased,
    }
}

fn find<'a>(state: &'a State, request: &AccessRequest) -> Result<&'a Resource, Denied> {
    let found = match &request.asked {
        Asked::Id(id) => state.resources().get(*id),
        Asked::Name(name) => state.resources().named(request.organization, name),
    };
    let reason = "the organization has no such resource";
    found
        .filter(|resource| resource.organization == request.organization)
        .ok_or_else(|| denied(RefusalCode::AccessDenied, reason, None))
}

/// What the policies give.
struct Permitted {
    policies: BTreeSet<PolicyId>,
    /// Beside those of every stream.
    lanes: BTreeSet<Lane>,
    basis: Basis,
}

fn permitted_by(
    state: &State,
    request: &AccessRequest,
    resource: &Resource,
    now: Timestamp,
) -> Result<Permitted, Denied> {
    let at = WeekHour::of(now);
    let explanation = explain(state, request.organization, request.user, resource.id, at);
    if !explanation.is_permitted() {
        let reason = explanation.denial();
        let denied = denied(RefusalCode::AccessDenied, &reason, Some(resource.id));
        return Err(Denied { basis: Box::new(explanation.basis), ..denied });
    }
    let policies = explanation.matched.into_iter().take(MAX_GRANT_POLICIES).collect();
    Ok(Permitted { policies, lanes: explanation.lanes, basis: explanation.basis })
}

fn refreshed_session<'a>(
    state: &'a State,
    request: &AccessRequest,
    resource: &Resource,
    now: Timestamp,
) -> Result<Option<&'a Session>, Denied> {
    let Some(id) = request.refresh else { return Ok(None) };
    let session = state.sessions().get(id).filter(|session| {
        session.user == request.user
            && session.organization == request.organization
            && session.client_key == request.client_key
            && session.resource == Some(resource.id)
    });
    let Some(session) = session else {
        let reason = "the session is not this user's, with this key and resource";
        return Err(denied(RefusalCode::AccessDenied, reason, Some(resource.id)));
    };
    if !session.is_refreshable(now) {
        let reason = "the session is over";
        return Err(denied(RefusalCode::SessionTerminated, reason, Some(resource.id)));
    }
    if resource.placed > session.authorized {
        let reason = "the resource is somewhere else since the session was authorized";
        return Err(denied(RefusalCode::SessionTerminated, reason, Some(resource.id)));
    }
    Ok(Some(session))
}

/// A session is of one generation: what it began under one holder does not go on under another.
fn check_lease(session: &Session, leased: Option<Leased>) -> Result<(), Denied> {
    let begun = session.grant.as_ref().and_then(|grant| grant.leased);
    if begun == leased {
        return Ok(());
    }
    let reason = "the lease of its connection was granted anew since the session was authorized";
    Err(denied(RefusalCode::SessionTerminated, reason, session.resource))
}

fn denied(code: RefusalCode, reason: &str, resource: Option<ResourceId>) -> Denied {
    Denied { code, reason: reason.to_owned(), resource, basis: Box::default() }
}
