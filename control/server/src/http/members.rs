//! Who is a member of an organization, and as what.

use rap_control_core::{Action, Target};
use rap_events::{
    StreamId, keys,
    membership::{self, MembershipCommand},
};
use rap_proto::{
    OrganizationId, OrganizationRole, UserId,
    api::{Changed, Member, Page, SetMember},
};

use super::{
    answer::Done,
    call::Call,
    endpoint::{Gone, Nothing},
    failure::{Failure, not_found},
    page,
    reference::{self, organization_of},
};

/// The most owners of an organization whose memberships are held in place while one leaves.
const MAX_HELD_OWNERS: usize = 16;

pub(super) async fn list(call: Call) -> Result<Page<Member>, Failure> {
    let organization = organization_of(&call)?;
    call.allow(Action::ReadMembers, Target::Organization(organization))?;
    let members = call
        .state
        .users()
        .members(organization)
        .filter_map(|(user, _)| show(&call, organization, user));
    page::of(&call, members, |member| member.user, |member| member)
}

pub(super) async fn get(call: Call) -> Result<Member, Failure> {
    let (organization, user) = target(&call)?;
    call.allow(Action::ReadMembership, Target::Membership(organization, user))?;
    show(&call, organization, user).ok_or_else(|| not_found().into())
}

/// Makes somebody a member, or changes what a member is.
pub(super) async fn set(call: Call, body: SetMember) -> Result<Done<Changed>, Failure> {
    let (organization, user) = target(&call)?;
    call.allow(Action::grant(body.role), Target::Membership(organization, user))?;
    let mut work = call.work();
    let id = keys::membership_id(organization, user);
    let mut loaded = work.load::<membership::Membership>(id).await?;
    let role = body.role;
    let command = match loaded.state.role {
        None => MembershipCommand::Grant { organization, user, role },
        Some(_) => {
            call.check_revision(loaded.revision)?;
            MembershipCommand::Change { role }
        }
    };
    work.decide(&mut loaded, command)?;
    hold_owners(&call, &mut work, organization);
    call.commit(work, Changed { revision: loaded.revision }).await
}

pub(super) async fn remove(call: Call, _: Nothing) -> Result<Done<Gone>, Failure> {
    let (organization, user) = target(&call)?;
    call.allow(Action::RevokeMembership, Target::Membership(organization, user))?;
    let mut work = call.work();
    let id = keys::membership_id(organization, user);
    let mut loaded = work.load::<membership::Membership>(id).await?;
    call.check_revision(loaded.revision)?;
    work.decide(&mut loaded, MembershipCommand::Revoke)?;
    hold_owners(&call, &mut work, organization);
    call.commit(work, Gone {}).await
}

/// That an organization keeps an owner was decided by looking at all of them: two of them must
/// not leave at once.
fn hold_owners(call: &Call, work: &mut crate::work::Work, organization: OrganizationId) {
    let owners = call.state.users().members(organization);
    let owners = owners.filter(|(_, role)| *role == OrganizationRole::Owner);
    for (owner, _) in owners.take(MAX_HELD_OWNERS) {
        if let Some(membership) = call.state.users().membership(organization, owner) {
            let id = keys::membership_id(organization, owner);
            work.hold_at(StreamId::new("membership", id), membership.stamp.revision);
        }
    }
}

/// The organization and the user of the path. A user whom the caller cannot see is found by id
/// or name all the same: whom to make a member is told from outside.
fn target(call: &Call) -> Result<(OrganizationId, UserId), Failure> {
    let organization = organization_of(call)?;
    let named = call.reference("user")?;
    let user = reference::user(&call.state, &named).ok_or_else(not_found)?;
    Ok((organization, user.id))
}

fn show(call: &Call, organization: OrganizationId, user: UserId) -> Option<Member> {
    let membership = call.state.users().membership(organization, user)?;
    Some(Member {
        user,
        name: call.state.users().get(user)?.name.clone(),
        role: membership.role?,
        revision: membership.stamp.revision,
    })
}
