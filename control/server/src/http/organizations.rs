//! Organizations: tenancy boundaries.

use rap_control_core::{
    Action, Target,
    state::{Organization as Found, OrganizationStanding},
};
use rap_events::{
    keys,
    membership::{self, MembershipCommand},
    organization::{self, OrganizationCommand},
};
use rap_proto::{
    OrganizationId, OrganizationRole,
    api::{Because, Changed, NewOrganization, Organization, Page, RenameOrganization},
};

use super::{
    answer::Done,
    call::Call,
    endpoint::{Gone, Nothing},
    failure::{Failure, not_found},
    page,
    reference::{self, organization_of},
};

pub(super) async fn list(call: Call) -> Result<Page<Organization>, Failure> {
    call.allow(Action::ReadCluster, Target::Platform)?;
    let seen = call.state.organizations().iter();
    let seen = seen.filter(|o| call.may(Action::ReadOrganization, Target::Organization(o.id)));
    page::of(&call, seen, |organization| organization.id, show)
}

pub(super) async fn get(call: Call) -> Result<Organization, Failure> {
    let id = organization_of(&call)?;
    call.allow(Action::ReadOrganization, Target::Organization(id))?;
    call.state.organizations().get(id).map(show).ok_or_else(|| not_found().into())
}

pub(super) async fn create(
    call: Call,
    body: NewOrganization,
) -> Result<Done<Organization>, Failure> {
    call.allow(Action::CreateOrganization, Target::Platform)?;
    reference::check_name(&body.name)?;
    let owner = match &body.owner {
        None => None,
        Some(named) => {
            let user = reference::user(&call.state, named).ok_or_else(not_found)?;
            call.allow(Action::ReadUser, Target::User(user.id))?;
            Some(user.id)
        }
    };
    let id = call.fresh(OrganizationId::new);
    let mut work = call.work();
    let mut loaded = work.load::<organization::Organization>(id.uuid()).await?;
    let name = body.name.clone();
    work.decide(&mut loaded, OrganizationCommand::Create { organization: id, name })?;
    work.claim(keys::organization_name(&body.name));
    if let Some(user) = owner {
        let membership = keys::membership_id(id, user);
        let mut membership = work.load::<membership::Membership>(membership).await?;
        let role = OrganizationRole::Owner;
        work.decide(&mut membership, MembershipCommand::Grant { organization: id, user, role })?;
    }
    let answer = Organization {
        id,
        name: body.name,
        suspended: false,
        created_at: call.now,
        revision: loaded.revision,
    };
    call.commit(work, answer).await
}

pub(super) async fn rename(call: Call, body: RenameOrganization) -> Result<Done<Changed>, Failure> {
    let id = organization_of(&call)?;
    call.allow(Action::RenameOrganization, Target::Organization(id))?;
    reference::check_name(&body.name)?;
    let mut work = call.work();
    let mut loaded = work.load::<organization::Organization>(id.uuid()).await?;
    call.check_revision(loaded.revision)?;
    let old = loaded.state.name.clone();
    let events =
        work.decide(&mut loaded, OrganizationCommand::Rename { name: body.name.clone() })?;
    if let Some(old) = old.filter(|_| !events.is_empty()) {
        work.release(keys::organization_name(&old));
        work.claim(keys::organization_name(&body.name));
    }
    call.commit(work, Changed { revision: loaded.revision }).await
}

pub(super) async fn suspend(call: Call, body: Because) -> Result<Done<Changed>, Failure> {
    let command = OrganizationCommand::Suspend { reason: body.reason };
    stand(call, Action::SuspendOrganization, command).await
}

pub(super) async fn resume(call: Call, _: Nothing) -> Result<Done<Changed>, Failure> {
    stand(call, Action::ResumeOrganization, OrganizationCommand::Resume).await
}

async fn stand(
    call: Call,
    action: Action,
    command: OrganizationCommand,
) -> Result<Done<Changed>, Failure> {
    let id = organization_of(&call)?;
    call.allow(action, Target::Organization(id))?;
    let mut work = call.work();
    let mut loaded = work.load::<organization::Organization>(id.uuid()).await?;
    call.check_revision(loaded.revision)?;
    work.decide(&mut loaded, command)?;
    call.commit(work, Changed { revision: loaded.revision }).await
}

pub(super) async fn remove(call: Call, _: Nothing) -> Result<Done<Gone>, Failure> {
    let id = organization_of(&call)?;
    call.allow(Action::RemoveOrganization, Target::Organization(id))?;
    let mut work = call.work();
    let mut loaded = work.load::<organization::Organization>(id.uuid()).await?;
    call.check_revision(loaded.revision)?;
    let name = loaded.state.name.clone();
    work.decide(&mut loaded, OrganizationCommand::Remove)?;
    if let Some(name) = name {
        work.release(keys::organization_name(&name));
    }
    call.commit(work, Gone {}).await
}

fn show(organization: &Found) -> Organization {
    Organization {
        id: organization.id,
        name: organization.name.clone(),
        suspended: organization.standing == OrganizationStanding::Suspended,
        created_at: organization.stamp.created_at,
        revision: organization.stamp.revision,
    }
}
