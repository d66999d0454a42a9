//! The log as auditors read it, and the proof that the projections follow from it.

use std::str::FromStr;

use rap_control_core::{
    Action, State, Target,
    audit::{self, Audience},
    compile,
};
use rap_events::{
    Envelope,
    log::{MAX_READ_EVENTS, ReadError},
    tree::TreeCheck,
};
use rap_proto::{
    Digest, OrganizationId, Timestamp,
    api::{AuditEvent, Page, Problem, ProblemCode, Reference, Replay, ReplayedSnapshot},
    codec,
    time::ParseTimestampError,
};

use super::{
    call::{Call, Position},
    endpoint::{Form, LIMIT, Parameter, after},
    failure::{Failure, internal, not_found},
    page, reference,
};
use crate::{
    actors::projection::{ReplayError, replay},
    manifests::Manifests,
};

/// The most events that are looked at for one page: behind them the page ends early, with a
/// cursor from which the next one goes on.
const MAX_SCANNED: u64 = 20_000;

pub(super) const QUERY: &[Parameter] = &[
    after(Form::Position),
    LIMIT,
    Parameter {
        name: "organization",
        form: Form::Reference,
        description: "Only events of this organization, by id or name.",
    },
    Parameter {
        name: "since",
        form: Form::Time,
        description: "Only events at or after this time.",
    },
    Parameter { name: "until", form: Form::Time, description: "Only events before this time." },
];

pub(super) const REPLAY_QUERY: &[Parameter] = &[
    Parameter {
        name: "as_of",
        form: Form::Position,
        description: "Only events up to this position.",
    },
    Parameter {
        name: "node",
        form: Form::Reference,
        description: "Compile this node's snapshot again, by id or name.",
    },
];

/// Where a period begins or ends. Nothing is in the log from before 1970, so any time before it
/// says the same as that one.
struct Edge(Timestamp);

impl FromStr for Edge {
    type Err = ParseTimestampError;

    fn from_str(text: &str) -> Result<Self, ParseTimestampError> {
        Timestamp::parse_clamped(text).map(Self)
    }
}

/// A page of the log, oldest first.
pub(super) async fn list(call: Call) -> Result<Page<AuditEvent>, Failure> {
    let audience = audience(&call)?;
    let limit = page::limit(&call)?;
    let mut position = call.query_value::<Position>("after")?.map_or(0, |after| after.0);
    let since = call.query_value::<Edge>("since")?.map(|edge| edge.0);
    let until = call.query_value::<Edge>("until")?.map(|edge| edge.0);
    let through = call.state.position();
    let mut items = Vec::new();
    let mut scanned = 0;
    while items.len() < limit && position < through && scanned < MAX_SCANNED {
        let reached = through.min(position + MAX_READ_EVENTS as u64);
        let events = read(&call, audience, position, reached).await?;
        scanned += reached - position;
        for envelope in events {
            position = envelope.position;
            let in_time = since.is_none_or(|since| envelope.at >= since)
                && until.is_none_or(|until| envelope.at < until);
            if in_time && let Some(shown) = show(&call, audience, &envelope)? {
                items.push(shown);
            }
            if items.len() == limit {
                break;
            }
        }
        if items.len() < limit {
            position = reached;
        }
    }
    let next = (position < through).then(|| position.to_string());
    Ok(Page { items, next })
}

/// The events behind `after` and up to `through` that the audience may see at all: the database
/// keeps those of other organizations back.
async fn read(
    call: &Call,
    audience: Audience,
    after: u64,
    through: u64,
) -> Result<Vec<Envelope>, ReadError> {
    let (log, count) = (&call.app.log, (through - after) as usize);
    match audience {
        Audience::Platform { .. } => log.read(after, count).await,
        Audience::Organization(id) => log.read_within(id, after, count).await,
    }
}

/// For whom the caller reads: the organization that was named, the platform, or the caller's
/// only organization.
pub(super) fn audience(call: &Call) -> Result<Audience, Failure> {
    let principal = call.principal()?;
    let named = match call.query_value::<Reference>("organization")? {
        None => None,
        Some(named) => Some(reference::organization(&call.state, &named).ok_or_else(not_found)?.id),
    };
    if let Some(audience) = Audience::of(&call.state, principal, named) {
        return Ok(audience);
    }
    let target = named.map_or(Target::Platform, Target::Organization);
    let only: Vec<OrganizationId> = principal.organizations(&call.state);
    if let ([only], None) = (only.as_slice(), named)
        && let Some(audience) = Audience::of(&call.state, principal, Some(*only))
    {
        return Ok(audience);
    }
    let action = match named {
        Some(_) => Action::ReadOrganizationAudit,
        None => Action::ReadPlatformAudit,
    };
    call.allow(action, target)?;
    Err(not_found().into())
}

fn show(
    call: &Call,
    audience: Audience,
    envelope: &Envelope,
) -> Result<Option<AuditEvent>, Failure> {
    audit::show_over(&call.state, envelope, audience).map_err(|error| {
        tracing::error!(%error, "a stored event cannot be shown");
        internal().into()
    })
}

/// Rebuilds every projection from position 0, as of now or of an earlier position, and compares
/// them with the live ones, the log with its tree, and the node's snapshot with the one that it
/// was served or said that it applied. What is of an earlier position is folded on to the live
/// projections' own before it is compared.
pub(super) async fn compare(call: Call) -> Result<Replay, Failure> {
    call.allow(Action::ReplayAudit, Target::Platform)?;
    let (live, log) = (&call.state, call.app.log.as_ref());
    let position = call.query_value::<u64>("as_of")?.unwrap_or_else(|| live.position());
    if position > live.position() {
        let problem = Problem::new(ProblemCode::ValidationFailed, "the log has not come that far");
        return Err(problem.field("as_of").into());
    }
    let mut check = TreeCheck::default();
    let then =
        replay(State::default(), log, position, Some(&mut check)).await.map_err(unreplayed)?;
    let (digest, root) = (then.digest(), check.root());
    let projections = then.digests().into_iter().map(|(name, digest)| (name.to_owned(), digest));
    let projections = projections.collect();
    let snapshot = match call.query_value::<Reference>("node")? {
        Some(named) => Some(snapshot_of(&then, &named, &call.app.manifests)?),
        None => None,
    };
    let now = replay(then, log, live.position(), Some(&mut check)).await.map_err(unreplayed)?;
    let differing: Vec<String> = now.differing(live).into_iter().map(str::to_owned).collect();
    let altered = check.finish(log).await?;
    let as_applied = snapshot.as_ref().map_or(Some(true), is_as_applied);
    Ok(Replay {
        equal: if altered.is_none() && differing.is_empty() { as_applied } else { Some(false) },
        position,
        digest,
        projections,
        live_position: live.position(),
        live_digest: (position == live.position()).then(|| live.digest()),
        differing,
        events: position,
        root,
        altered,
        snapshot,
    })
}

fn snapshot_of(
    state: &State,
    named: &Reference,
    known: &Manifests,
) -> Result<ReplayedSnapshot, Failure> {
    let node = reference::node(state, named).ok_or_else(not_found)?.id;
    let compiled = compile(state, node).map_err(|error| {
        Failure::from(Problem::new(ProblemCode::Rejected, error.to_string()).field("node"))
    })?;
    let manifest = compiled.manifest;
    Ok(ReplayedSnapshot {
        node,
        version: manifest.version,
        issued_at: manifest.issued_at,
        digest: Digest::of(&codec::encode(&manifest)),
        served_digest: known.served.get(node, manifest.version),
        applied_digest: known.applied.get(node, manifest.version),
        sections: manifest.sections,
    })
}

/// Whether it is what the node got and what it said that it acts on; `None` when this replica knows
/// neither.
fn is_as_applied(snapshot: &ReplayedSnapshot) -> Option<bool> {
    let known = [snapshot.served_digest, snapshot.applied_digest];
    known
        .into_iter()
        .flatten()
        .map(|digest| digest == snapshot.digest)
        .reduce(|one, other| one && other)
}

pub(super) fn unreplayed(error: ReplayError) -> Failure {
    match error {
        ReplayError::Read(error) => error.into(),
        error => {
            tracing::error!(%error, "the log cannot be replayed");
            let problem = Problem::new(ProblemCode::Internal, error.to_string());
            Failure::Problem(problem.rule("audit.replay"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rap_proto::NodeId;

    use super::*;

    #[test]
    fn a_snapshot_that_is_another_or_compared_with_none_is_noticed() {
        let [rebuilt, other] = [b"rebuilt", b"another"].map(|manifest| Digest::of(manifest));
        let snapshot = |served_digest, applied_digest| ReplayedSnapshot {
            node: NodeId::from_u128(1),
            version: 7,
            issued_at: Timestamp::default(),
            digest: rebuilt,
            served_digest,
            applied_digest,
            sections: BTreeMap::new(),
        };
        let compared = |served, applied| is_as_applied(&snapshot(served, applied));
        assert_eq!(compared(None, None), None);
        assert_eq!(compared(Some(rebuilt), None), Some(true));
        assert_eq!(compared(None, Some(rebuilt)), Some(true));
        assert_eq!(compared(Some(rebuilt), Some(other)), Some(false));
        assert_eq!(compared(Some(other), None), Some(false));
    }
}
