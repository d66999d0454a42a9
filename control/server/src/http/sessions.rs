//! Sessions: a user asks for access, and what became of it.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rap_control_core::{
    AccessIds, AccessRequest, Action, Target,
    access::{Asked, granted_claims},
    authorize_session, quota,
    state::{Session as Found, SessionPhase},
};
use rap_events::{
    Aggregate as _, DomainEvent,
    handler::LoadError,
    session::{self, SessionCommand, SessionEvent, TerminationCause},
    user::{self, RefusedAction, UserCommand},
};
use rap_pki::node_server_name;
use rap_proto::{
    AttachmentId, MessageId, NodeId, OrganizationId, RefusalCode, SessionId, UserId,
    api::{
        Access, EntryPoint, Page, Problem, ProblemCode, Reference, RequestAccess, SecretText,
        Session, SessionState,
    },
    signed,
    token::AccessClaims,
};

use super::{
    answer::{Answer, Done, blank},
    call::Call,
    endpoint::{Gone, Nothing},
    failure::{Failure, internal, invalid, not_found},
    page, quotas, reference,
};

/// An authorized session begins with its request and its authorization.
const OPENING_EVENTS: usize = 2;

/// Asks for access to a resource. The decision is recorded either way; whoever is denied learns
/// no more than that, and the same whether there is such a resource or not.
pub(super) async fn request(call: Call, body: RequestAccess) -> Result<Done<Access>, Failure> {
    let user = call.principal()?.user().ok_or_else(not_found)?;
    let organization = match permitted(&call, &body) {
        Ok(organization) => organization,
        Err(Failure::Problem(problem)) => return stranger(&call, user, &body, problem).await,
        Err(conflict) => return Err(conflict),
    };
    // One that an entry left takes its place anew.
    let lives = |id| call.state.sessions().get(id).is_some_and(Found::is_alive);
    if !body.session.is_some_and(lives) {
        quota::check_sessions(&call.state, organization).map_err(|reached| {
            call.app.metrics.count("quota_reached", reached.quota.as_str());
            quotas::reached(reached)
        })?;
    }
    let request = AccessRequest {
        organization,
        user,
        asked: match &body.resource {
            Reference::Id(id) => Asked::Id(rap_proto::ResourceId::from_uuid(*id)),
            Reference::Name(name) => Asked::Name(name.clone()),
        },
        client_key: body.client_key,
        refresh: body.session,
    };
    let ids = AccessIds {
        token: call.fresh(MessageId::new),
        session: call.fresh(SessionId::new),
        attachment: call.fresh(AttachmentId::new),
    };
    let live = call.app.live.liveness();
    let outcome = authorize_session(&call.state, &live, &request, ids, call.now);
    let command = request.command(&outcome);
    let stream = outcome.as_ref().map_or(ids.session, |authorized| authorized.claims.session);
    let mut work = call.work();
    if let Some(command) = command {
        let mut loaded = work.load::<session::Session>(stream.uuid()).await?;
        work.decide(&mut loaded, command)?;
    }
    let answer = match outcome {
        Ok(authorized) => {
            let claims = authorized.claims;
            Access {
                session: claims.session,
                attachment: claims.attachment,
                resource: claims.resource,
                token: blank(),
                connect_by: claims.connect_by,
                expires_at: claims.expires_at,
                entries: entries(&call, &authorized.entries),
                authorities: authorities(&call),
            }
        }
        Err(denied) => {
            call.app.metrics.count("sessions", "denied");
            return call.refuse(work, &refused(denied.code)).await;
        }
    };
    call.app.metrics.count("sessions", "authorized");
    call.commit(work, answer).await
}

/// The organization to ask in, where the caller may ask.
fn permitted(call: &Call, body: &RequestAccess) -> Result<OrganizationId, Failure> {
    let organization = organization_of(call, body)?;
    match body.session {
        None => call.allow(Action::RequestSession, Target::Organization(organization))?,
        Some(session) => call.allow(Action::RefreshSession, Target::Session(session))?,
    }
    Ok(organization)
}

/// Whoever asks where there is nothing to ask for is refused on the own account's record, the
/// same whether there is such an organization or not. No organization sees that record.
async fn stranger(
    call: &Call,
    user: UserId,
    body: &RequestAccess,
    problem: Problem,
) -> Result<Done<Access>, Failure> {
    if !matches!(problem.code(), Some(ProblemCode::NotFound | ProblemCode::Forbidden)) {
        return Err(problem.into());
    }
    call.app.metrics.count("sessions", "refused");
    let action = match body.session {
        None => RefusedAction::RequestSession,
        Some(_) => RefusedAction::RefreshSession,
    };
    let mut work = call.work();
    let mut loaded = work.load::<user::User>(user.uuid()).await?;
    // Beyond the day's limit nothing is decided, and then nothing is stored.
    if work.decide(&mut loaded, UserCommand::RecordAccessRefused { action })?.is_empty() {
        return Err(problem.into());
    }
    call.refuse(work, &problem).await
}

fn refused(code: RefusalCode) -> Problem {
    let detail = match code {
        RefusalCode::SessionTerminated => "the session is over",
        RefusalCode::NodeDraining | RefusalCode::PathUnavailable | RefusalCode::RoleNotAssigned => {
            "no node can serve this at the moment"
        }
        RefusalCode::LeaseNotHeld => "no node carries this at the moment",
        _ => "no policy lets you reach this, or there is no such resource",
    };
    Problem::new(ProblemCode::AccessDenied, detail).rule(code.as_str())
}

impl Answer for Access {
    /// Signs the access token, at the first answer as at each repetition: by what the log says was
    /// granted, and by nothing that is kept beside it.
    async fn complete(self, call: &Call, position: u64) -> Result<Self, Failure> {
        let claims = granted(call, self.session, position).await?;
        let token = signed::seal(&claims, &[&call.app.custody.control]);
        Ok(Self { token: SecretText::new(URL_SAFE_NO_PAD.encode(token)), ..self })
    }
}

/// The claims of the token whose grant is at `position`.
async fn granted(call: &Call, id: SessionId, position: u64) -> Result<AccessClaims, Failure> {
    let log = &call.app.log;
    let stream = session::Session::stream(id.uuid());
    let opening = log.read_stream(&stream, 0, OPENING_EVENTS).await?;
    let latest = log.read(position.saturating_sub(1), 1).await?;
    let (mut requested, mut authorized, mut grant) = (None, None, None);
    for envelope in opening.iter().chain(&latest).filter(|envelope| envelope.stream == stream) {
        match DomainEvent::from_envelope(envelope).map_err(LoadError::from)? {
            DomainEvent::Session(SessionEvent::Requested(event)) => requested = Some(event),
            DomainEvent::Session(SessionEvent::Authorized(event)) => {
                if envelope.position == position {
                    grant = Some(event.grant.clone());
                }
                authorized = Some(event);
            }
            DomainEvent::Session(SessionEvent::Refreshed(event))
                if envelope.position == position =>
            {
                grant = Some(event.grant);
            }
            _ => {}
        }
    }
    let (requested, authorized) = requested.zip(authorized).ok_or_else(internal)?;
    let grant = grant.ok_or_else(internal)?;
    let cluster = call.app.custody.cluster;
    Ok(granted_claims(cluster, id, &requested, &authorized, &grant))
}

fn entries(call: &Call, nodes: &[NodeId]) -> Vec<EntryPoint> {
    let nodes = nodes.iter().filter_map(|id| call.state.nodes().get(*id));
    nodes
        .map(|node| EntryPoint {
            node: node.id,
            server_name: node_server_name(node.id),
            addresses: node.addresses.clone(),
        })
        .collect()
}

fn authorities(call: &Call) -> String {
    rap_pki::pem::encode([call.app.custody.authority.certificate_der()])
}

/// The organization that the body names, or the only one that the caller is a member of.
fn organization_of(call: &Call, body: &RequestAccess) -> Result<OrganizationId, Failure> {
    if let Some(named) = &body.organization {
        let found = reference::organization(&call.state, named);
        return found.map(|found| found.id).ok_or_else(|| not_found().into());
    }
    match call.principal()?.organizations(&call.state).as_slice() {
        [only] => Ok(*only),
        [] => Err(not_found().into()),
        _ => Err(invalid("organization", "organization_named", "say in which organization")),
    }
}

pub(super) async fn list(call: Call) -> Result<Page<Session>, Failure> {
    call.allow(Action::ReadCluster, Target::Platform)?;
    let organization = match call.query_value::<Reference>("organization")? {
        None => None,
        Some(named) => {
            let found = reference::organization(&call.state, &named).ok_or_else(not_found)?;
            call.allow(Action::ReadOrganization, Target::Organization(found.id))?;
            Some(found.id)
        }
    };
    let seen = call
        .state
        .sessions()
        .iter()
        .filter(|session| organization.is_none_or(|only| session.organization == only))
        .filter(|session| call.may(Action::ReadSession, Target::Session(session.id)));
    page::of(&call, seen, |session| session.id, |session| show(&call, session))
}

pub(super) async fn get(call: Call) -> Result<Session, Failure> {
    let id: SessionId = call.param("session")?;
    call.allow(Action::ReadSession, Target::Session(id))?;
    call.state.sessions().get(id).map(|s| show(&call, s)).ok_or_else(|| not_found().into())
}

/// Ends a session by authority. Its nodes learn of it through their snapshots.
pub(super) async fn terminate(call: Call, _: Nothing) -> Result<Done<Gone>, Failure> {
    let id: SessionId = call.param("session")?;
    call.allow(Action::TerminateSession, Target::Session(id))?;
    let mut work = call.work();
    let mut loaded = work.load::<session::Session>(id.uuid()).await?;
    let cause = TerminationCause::Requested;
    work.decide(&mut loaded, SessionCommand::Terminate { cause })?;
    call.commit(work, Gone {}).await
}

fn show(call: &Call, session: &Found) -> Session {
    let named =
        session.resource.and_then(|id| call.state.within(session.organization).resources().get(id));
    Session {
        id: session.id,
        organization: session.organization,
        user: session.user,
        user_name: call.state.users().get(session.user).map(|user| user.name.clone()),
        resource: session.resource,
        resource_name: named.map(|resource| resource.name.clone()),
        state: match session.phase {
            SessionPhase::Requested | SessionPhase::Authorized => SessionState::Requested,
            SessionPhase::Denied => SessionState::Denied,
            SessionPhase::Started => SessionState::Started,
            SessionPhase::Terminated => SessionState::Terminated,
            SessionPhase::Ended => SessionState::Ended,
        },
        requested_at: session.stamp.created_at,
        started_at: session.started_at,
        ended_at: session.ended.map(|ended| ended.at),
        end_reason: session.ended.map(|ended| ended.reason),
        denial: session.denial,
        bytes_up: session.ended.map_or(0, |ended| ended.bytes_up),
        bytes_down: session.ended.map_or(0, |ended| ended.bytes_down),
        revision: session.stamp.revision,
    }
}
