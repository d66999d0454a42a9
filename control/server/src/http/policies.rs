//! Access policies: who may reach what. What no policy permits is denied.

use std::collections::BTreeSet;

use rap_control_core::{Action, Target, state::Policy as Found};
use rap_events::{
    keys,
    policy::{self, PolicyCommand, PolicySpec},
};
use rap_proto::{
    OrganizationId, PolicyId,
    api::{ChangePolicy, Changed, NamedResource, NamedUser, NewPolicy, Page, Policy, PolicyRules},
};

use super::{
    answer::Done,
    call::Call,
    endpoint::{Gone, Nothing},
    failure::{Failure, invalid, not_found},
    page,
    reference::{self, organization_of},
};

pub(super) async fn list(call: Call) -> Result<Page<Policy>, Failure> {
    let organization = organization_of(&call)?;
    call.allow(Action::ReadPolicy, Target::Organization(organization))?;
    let policies = call.state.policies().of(organization);
    page::of(&call, policies, |policy| policy.name.clone(), |policy| show(&call, policy))
}

pub(super) async fn get(call: Call) -> Result<Policy, Failure> {
    let (_, id) = target(&call)?;
    call.allow(Action::ReadPolicy, Target::Policy(id))?;
    call.state.policies().get(id).map(|p| show(&call, p)).ok_or_else(|| not_found().into())
}

pub(super) async fn create(call: Call, body: NewPolicy) -> Result<Done<Policy>, Failure> {
    let organization = organization_of(&call)?;
    call.allow(Action::CreatePolicy, Target::Organization(organization))?;
    reference::check_name(&body.name)?;
    let spec = spec(&call, organization, &body.rules)?;
    let id = call.fresh(PolicyId::new);
    let mut work = call.work();
    let mut loaded = work.load::<policy::Policy>(id.uuid()).await?;
    let (name, spec_too) = (body.name.clone(), spec.clone());
    work.decide(&mut loaded, PolicyCommand::Create { organization, name, spec: spec_too })?;
    work.claim(keys::policy_name(organization, &body.name));
    let answer = shown(&call, (id, organization), body.name, &spec, loaded.revision);
    call.commit(work, answer).await
}

pub(super) async fn change(call: Call, body: ChangePolicy) -> Result<Done<Changed>, Failure> {
    let (organization, id) = target(&call)?;
    call.allow(Action::ChangePolicy, Target::Policy(id))?;
    let spec = spec(&call, organization, &body.rules)?;
    let mut work = call.work();
    let mut loaded = work.load::<policy::Policy>(id.uuid()).await?;
    call.check_revision(loaded.revision)?;
    work.decide(&mut loaded, PolicyCommand::Change { spec })?;
    call.commit(work, Changed { revision: loaded.revision }).await
}

pub(super) async fn remove(call: Call, _: Nothing) -> Result<Done<Gone>, Failure> {
    let (organization, id) = target(&call)?;
    call.allow(Action::RemovePolicy, Target::Policy(id))?;
    let mut work = call.work();
    let mut loaded = work.load::<policy::Policy>(id.uuid()).await?;
    call.check_revision(loaded.revision)?;
    let name = loaded.state.name.clone();
    work.decide(&mut loaded, PolicyCommand::Remove)?;
    if let Some(name) = name {
        work.release(keys::policy_name(organization, &name));
    }
    call.commit(work, Gone {}).await
}

/// Users are members and resources are the organization's own: nothing else can be named, and
/// nobody learns whether there is anything else.
fn spec(
    call: &Call,
    organization: OrganizationId,
    rules: &PolicyRules,
) -> Result<PolicySpec, Failure> {
    let mut spec = PolicySpec {
        roles: rules.roles.iter().copied().collect(),
        kinds: rules.kinds.iter().copied().collect(),
        ..PolicySpec::default()
    };
    for (at, named) in rules.users.iter().enumerate() {
        let member = reference::user(&call.state, named)
            .filter(|user| call.state.users().role(organization, user.id).is_some())
            .ok_or_else(|| {
                invalid(&format!("rules.users[{at}]"), "user_is_member", "no such member")
            })?;
        spec.users.insert(member.id);
    }
    for (at, named) in rules.resources.iter().enumerate() {
        let found = reference::resource(&call.state, organization, named).ok_or_else(|| {
            let field = format!("rules.resources[{at}]");
            invalid(&field, "resource_exists", "no such resource")
        })?;
        spec.resources.insert(found.id);
    }
    Ok(spec)
}

fn target(call: &Call) -> Result<(OrganizationId, PolicyId), Failure> {
    let organization = organization_of(call)?;
    let named = call.reference("policy")?;
    let found = reference::policy(&call.state, organization, &named).ok_or_else(not_found)?;
    Ok((organization, found.id))
}

fn show(call: &Call, policy: &Found) -> Policy {
    let ids = (policy.id, policy.organization);
    shown(call, ids, policy.name.clone(), &policy.spec, policy.stamp.revision)
}

fn shown(
    call: &Call,
    (id, organization): (PolicyId, OrganizationId),
    name: rap_proto::Name,
    spec: &PolicySpec,
    revision: u64,
) -> Policy {
    let user_name = |id| {
        let member = call.state.users().role(organization, id).is_some();
        call.state.users().get(id).filter(|_| member).map(|user| user.name.clone())
    };
    let resource_name = |id| call.state.resources().get(id).map(|found| found.name.clone());
    let sorted = |kinds: &BTreeSet<_>| kinds.iter().copied().collect();
    Policy {
        id,
        organization,
        name,
        users: spec.users.iter().map(|id| NamedUser { id: *id, name: user_name(*id) }).collect(),
        roles: spec.roles.iter().copied().collect(),
        resources: spec
            .resources
            .iter()
            .map(|id| NamedResource { id: *id, name: resource_name(*id) })
            .collect(),
        kinds: sorted(&spec.kinds),
        revision,
    }
}
