//! An event as people read it: who did what, when, in which organization; never a secret.
//!
//! The payload's fields keep their names. Fields that hold digests of secrets or password
//! verifiers are left out; of those about a person it is said that they are, or that they were
//! erased. For an organization's auditor, so is what would show the topology:
//! which nodes a session went through or a connection is on, and which node of the platform reported.

mod payload;
mod window;

use rap_events::{
    Actor, Allowed, DomainEvent, Envelope,
    aggregate::EventError,
    api_token::ApiTokenEvent,
    catalogue::{personal_fields, redacted_fields},
    login::LoginEvent,
    personal::{ERASED, PERSONAL},
};
use rap_proto::{
    NodeId, OrganizationId, UserId,
    api::{AuditActor, AuditAllowed, AuditEvent},
};
use serde_json::Value;

pub use window::{EventWindow, MAX_WINDOW_BYTES, MAX_WINDOW_EVENTS, Seen, Shown, Taken};

use crate::{
    authorization::{Action, Principal, Target, authorize},
    state::State,
};

/// The fields that name nodes: shown to the platform's auditors only.
const TOPOLOGY_FIELDS: &[&str] = &["entries", "egresses", "node", "nodes"];
/// The categories whose events name them.
const TOPOLOGY_CATEGORIES: &[&str] = &["session", "vpn_connection"];

/// For whom an event is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// The platform: the events of no organization, or of all.
    Platform { everything: bool },
    /// One organization: its own events.
    Organization(OrganizationId),
}

impl Audience {
    /// The widest audience that a principal belongs to: of one organization when it is named,
    /// else of the platform. `None` when it may read no audit log there.
    pub fn of(
        state: &State,
        principal: &Principal,
        organization: Option<OrganizationId>,
    ) -> Option<Self> {
        let may = |action, target| authorize(state, principal, action, target).is_allowed();
        match organization {
            Some(id) => may(Action::ReadOrganizationAudit, Target::Organization(id))
                .then_some(Self::Organization(id)),
            None => may(Action::ReadPlatformAudit, Target::Platform)
                .then(|| Self::Platform { everything: may(Action::ReplayAudit, Target::Platform) }),
        }
    }

    /// Whether the event is this audience's to see.
    pub fn sees(self, envelope: &Envelope) -> bool {
        match self {
            Self::Platform { everything: true } => true,
            Self::Platform { everything: false } => envelope.organization.is_none(),
            Self::Organization(id) => envelope.organization == Some(id),
        }
    }
}

/// Shows an event to an audience that may see it; `None` when it may not.
///
/// `is_own` says whether a node is the organization's own.
pub fn show(
    envelope: &Envelope,
    audience: Audience,
    is_own: impl Fn(NodeId) -> bool,
) -> Result<Option<AuditEvent>, EventError> {
    if !audience.sees(envelope) {
        return Ok(None);
    }
    let event = DomainEvent::from_envelope(envelope)?;
    let kind = event.kind();
    let mut shown = payload::to_json(&event.encode()).map_err(|error| EventError::Malformed {
        event_type: envelope.event_type.clone(),
        schema: envelope.schema,
        error,
    })?;
    for field in redacted_fields(kind.event_type) {
        remove(&mut shown, field);
    }
    for field in personal_fields(kind.event_type) {
        conceal(&mut shown, field, PERSONAL);
    }
    let hides = matches!(audience, Audience::Organization(_));
    if hides && TOPOLOGY_CATEGORIES.contains(&envelope.stream.category.as_str()) {
        hide_topology(&mut shown);
    }
    Ok(Some(AuditEvent {
        position: envelope.position,
        category: envelope.stream.category.clone(),
        stream: envelope.stream.id,
        revision: envelope.revision,
        event_type: kind.event_type.to_owned(),
        schema: kind.schema,
        organization: envelope.organization,
        actor: actor(&envelope.actor, |node| !hides || is_own(node)),
        allowed: envelope.allowed.as_ref().map(allowed),
        command: envelope.command,
        causation: envelope.causation.filter(|_| !hides),
        at: envelope.at,
        payload: shown,
    }))
}

/// [`show`] over a state, which knows whose each node is.
pub fn show_over(
    state: &State,
    envelope: &Envelope,
    audience: Audience,
) -> Result<Option<AuditEvent>, EventError> {
    let mut shown = show(envelope, audience, |node| match audience {
        Audience::Platform { .. } => true,
        Audience::Organization(id) => {
            state.nodes().get(node).is_some_and(|node| node.organization == Some(id))
        }
    })?;
    if let Some(event) = &mut shown
        && is_about_an_erased_person(state, envelope)
    {
        for field in personal_fields(&event.event_type) {
            conceal(&mut event.payload, field, ERASED);
        }
    }
    Ok(shown)
}

/// Whether the payload's bytes are given to nobody: they would help an attacker, or they are about
/// a person who was erased, perhaps in clear.
pub fn is_withheld(state: &State, envelope: &Envelope) -> bool {
    !redacted_fields(&envelope.event_type).is_empty() || is_about_an_erased_person(state, envelope)
}

fn is_about_an_erased_person(state: &State, envelope: &Envelope) -> bool {
    subject(envelope).and_then(|subject| state.users().get(subject)).is_some_and(|user| user.erased)
}

/// The person whom the personal fields of an event are about; `None` where there are none.
fn subject(envelope: &Envelope) -> Option<UserId> {
    if personal_fields(&envelope.event_type).is_empty() {
        return None;
    }
    match DomainEvent::from_envelope(envelope).ok()? {
        DomainEvent::Login(LoginEvent::Opened(opened)) => Some(opened.user),
        DomainEvent::ApiToken(ApiTokenEvent::Created(created)) => Some(created.user),
        _ => Some(UserId::from_uuid(envelope.stream.id)),
    }
}

fn actor(actor: &Actor, may_name: impl Fn(NodeId) -> bool) -> AuditActor {
    match actor {
        Actor::Setup => AuditActor::Setup,
        Actor::User { user, login } => AuditActor::User { user: *user, login: *login },
        Actor::ApiToken { user, token } => AuditActor::ApiToken { user: *user, token: *token },
        Actor::Node(node) if may_name(*node) => AuditActor::Node { node: *node },
        Actor::Node(_) => AuditActor::System { process: "node".to_owned() },
        Actor::System { process } => AuditActor::System { process: process.clone() },
    }
}

fn allowed(allowed: &Allowed) -> AuditAllowed {
    let Allowed { actions, basis } = allowed.clone();
    AuditAllowed {
        actions: actions.into_iter().collect(),
        rules: basis.rules.into_iter().collect(),
        policy_hash: basis.policy_hash,
        entity_version: basis.entity_version,
    }
}

fn remove(value: &mut Value, field: &str) {
    if let Value::Object(fields) = value {
        fields.remove(field);
    }
}

/// Shows `word` in the place of what is about a person. What is empty is about nobody.
fn conceal(value: &mut Value, field: &str, word: &str) {
    if let Some(held) = value.get_mut(field) {
        let is_empty = *held.get("clear").unwrap_or(held) == "";
        *held = Value::from(if is_empty { "" } else { word });
    }
}

fn hide_topology(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !TOPOLOGY_FIELDS.contains(&name.as_str()));
            fields.values_mut().for_each(hide_topology);
        }
        Value::Array(items) => items.iter_mut().for_each(hide_topology),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
