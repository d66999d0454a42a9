//! What the policies say of a member, and why: now, or as of an earlier position.

use std::sync::Arc;

use rap_control_core::{
    Action, State, Target,
    access::{self, Explanation},
    authorization::explain_action,
};
use rap_proto::{
    OrganizationId, PolicyId, UserId, Verdict, WeekHour,
    api::{Decided, DecidingRule, Problem, ProblemCode, Reference},
};

use super::{
    audit::unreplayed,
    call::{Call, Position},
    endpoint::{Form, Parameter},
    failure::{Failure, not_found},
    reference,
};
use crate::actors::projection::replay;

pub(super) const REACH_QUERY: &[Parameter] = &[
    AS_OF,
    Parameter {
        name: "at",
        form: Form::WeekHour,
        description: "The hour of the week to ask for, in UTC; the present one without.",
    },
];
pub(super) const MAY_QUERY: &[Parameter] = &[
    AS_OF,
    Parameter {
        name: "resource",
        form: Form::Reference,
        description: "The resource that it would be done to; the organization without.",
    },
];
const AS_OF: Parameter = Parameter {
    name: "as_of",
    form: Form::Position,
    description: "As the log stood at this position.",
};

pub(super) async fn reach(call: Call) -> Result<Decided, Failure> {
    let (organization, state) = past(&call).await?;
    let user = member(&call, &state, organization)?;
    let named = call.reference("resource")?;
    let found = reference::resource(&state, organization, &named).ok_or_else(not_found)?;
    let at = call.query_value::<WeekHour>("at")?.unwrap_or_else(|| WeekHour::of(call.now));
    let explanation = access::explain(&state, organization, user, found.id, at);
    let reason = (!explanation.is_permitted()).then(|| explanation.denial());
    let rules = explanation.answer.deciding().iter().cloned();
    Ok(decided(&state, organization, &explanation, reason, rules.collect()))
}

pub(super) async fn may(call: Call) -> Result<Decided, Failure> {
    let (organization, state) = past(&call).await?;
    let user = member(&call, &state, organization)?;
    let named: String = call.param("action")?;
    let action = Action::ALL.iter().copied().find(|action| action.as_str() == named);
    let action = action.ok_or_else(not_found)?;
    let target = match call.query_value::<Reference>("resource")? {
        None => Target::Organization(organization),
        Some(named) => {
            let found = reference::resource(&state, organization, &named).ok_or_else(not_found)?;
            Target::Resource(found.id)
        }
    };
    let permission = explain_action(&state, organization, user, action, target);
    let permission = permission.ok_or_else(not_found)?;
    let resource = match target {
        Target::Resource(id) => id,
        _ => rap_proto::ResourceId::from_u128(0),
    };
    // Only for what the decision rests on: nothing is reached here.
    let explanation = access::explain(&state, organization, user, resource, WeekHour::of(call.now));
    let reason = permission.refusal.map(|refusal| refusal.to_string());
    let rules = permission.rules.into_iter().collect();
    let verdict = if reason.is_none() { Verdict::Permit } else { Verdict::Forbid };
    Ok(Decided { verdict, ..decided(&state, organization, &explanation, reason, rules) })
}

/// The organization of the path, and the state that is asked about: whoever may ask at present may
/// ask about the past.
async fn past(call: &Call) -> Result<(OrganizationId, Arc<State>), Failure> {
    let organization = reference::organization_of(call)?;
    call.allow(Action::ExplainPolicies, Target::Organization(organization))?;
    let Some(Position(position)) = call.query_value("as_of")? else {
        return Ok((organization, Arc::clone(&call.state)));
    };
    if position > call.state.position() {
        let problem = Problem::new(ProblemCode::ValidationFailed, "the log has not come that far");
        return Err(problem.field("as_of").into());
    }
    let _replay = call.app.replays.enter()?;
    let state = replay(State::default(), call.app.log.as_ref(), position, None)
        .await
        .map_err(unreplayed)?;
    Ok((organization, Arc::new(state)))
}

/// Whoever is no member is as if there were no such user.
fn member(call: &Call, state: &State, organization: OrganizationId) -> Result<UserId, Failure> {
    let named = call.reference("user")?;
    reference::user(state, &named)
        .filter(|user| state.users().role(organization, user.id).is_some())
        .map(|user| user.id)
        .ok_or_else(|| not_found().into())
}

fn decided(
    state: &State,
    organization: OrganizationId,
    explanation: &Explanation,
    reason: Option<String>,
    rules: Vec<String>,
) -> Decided {
    let named = |rule: String| {
        let id = rule.split('/').next().and_then(|id| id.parse::<PolicyId>().ok());
        let policy = id
            .and_then(|id| state.within(organization).policies().get(id))
            .map(|policy| policy.name.clone());
        DecidingRule { rule, policy }
    };
    let verdict = if reason.is_none() { Verdict::Permit } else { Verdict::Forbid };
    Decided {
        verdict,
        reason,
        rules: rules.into_iter().map(named).collect(),
        policy_hash: state.within(organization).policy_hash(),
        entity_version: explanation.basis.entity_version,
        position: state.position(),
    }
}
