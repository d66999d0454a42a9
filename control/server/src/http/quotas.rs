//! Quotas: how much an organization may take of what all share.

use rap_control_core::{
    Action, Target,
    quota::{self, QuotaReached},
};
use rap_events::organization::{self, OrganizationCommand};
use rap_proto::api::{Changed, Problem, ProblemCode, Quotas, SetQuotas};

use super::{
    answer::Done,
    call::Call,
    failure::{Failure, not_found},
    reference::organization_of,
};

pub(super) async fn get(call: Call) -> Result<Quotas, Failure> {
    let id = organization_of(&call)?;
    call.allow(Action::ReadQuotas, Target::Organization(id))?;
    let found = call.state.organizations().get(id).ok_or_else(not_found)?;
    let (quotas, usage) = (found.quotas, quota::usage(&call.state, id));
    Ok(Quotas {
        nodes: quotas.nodes,
        nodes_used: usage.nodes,
        sessions: quotas.sessions,
        sessions_used: usage.sessions,
        events_per_second: quotas.events_per_second,
        revision: found.stamp.revision,
    })
}

pub(super) async fn set(call: Call, body: SetQuotas) -> Result<Done<Changed>, Failure> {
    let id = organization_of(&call)?;
    call.allow(Action::SetQuotas, Target::Organization(id))?;
    let mut work = call.work();
    let mut loaded = work.load::<organization::Organization>(id.uuid()).await?;
    call.check_revision(loaded.revision)?;
    let old = loaded.state.quotas;
    let quotas = organization::Quotas {
        nodes: body.nodes.unwrap_or(old.nodes),
        sessions: body.sessions.unwrap_or(old.sessions),
        events_per_second: body.events_per_second.unwrap_or(old.events_per_second),
    };
    work.decide(&mut loaded, OrganizationCommand::SetQuotas { quotas })?;
    call.commit(work, Changed { revision: loaded.revision }).await
}

/// What somebody is told whose organization has used what it may.
pub(crate) fn reached(reached: QuotaReached) -> Problem {
    let QuotaReached { quota, limit, used } = reached;
    Problem::new(ProblemCode::QuotaReached, reached.to_string())
        .rule(format!("quota.{quota}"))
        .within(limit, used)
}
