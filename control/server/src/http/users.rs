//! Accounts: who exists, and what they are on the platform.

use std::time::Duration;

use rap_control_core::{Action, Target, state::User as Found};
use rap_events::{
    keys,
    membership::{self, MembershipCommand},
    personal::SubjectChange,
    user::{self, MAX_INVITATION_MS, UserCommand},
};
use rap_proto::{
    OrganizationRole, PlatformRole, UserId,
    api::{Because, Changed, Invited, NewUser, Page, User, UserCreated},
    secret::InviteSecret,
};

use super::{
    answer::{Done, blank},
    call::Call,
    endpoint::Nothing,
    failure::{Failure, invalid, not_found},
    page,
    personal::{self, Shown},
    reference,
};
use crate::{password, work::Work};

/// How long a new user has to choose a password.
const INVITATION_LIFETIME: Duration = Duration::from_millis(MAX_INVITATION_MS);

pub(super) async fn list(call: Call) -> Result<Page<User>, Failure> {
    call.allow(Action::ReadCluster, Target::Platform)?;
    let seen = call.state.users().iter();
    let seen = seen.filter(|user| call.may(Action::ReadUser, Target::User(user.id)));
    let page = page::of(&call, seen, |user| user.id, Clone::clone)?;
    Ok(Page { items: show_all(&call, page.items).await?, next: page.next })
}

pub(super) async fn get(call: Call) -> Result<User, Failure> {
    let found = target(&call)?;
    call.allow(Action::ReadUser, Target::User(found))?;
    let found = call.state.users().get(found).ok_or_else(not_found)?;
    show_all(&call, vec![found.clone()]).await?.pop().ok_or_else(|| not_found().into())
}

pub(super) async fn create(call: Call, body: NewUser) -> Result<Done<UserCreated>, Failure> {
    let organization = match &body.organization {
        None => {
            call.allow(Action::CreateUser, Target::Platform)?;
            if body.role.is_some() {
                return Err(invalid("role", "role_without_organization", "say in which one"));
            }
            None
        }
        Some(named) => {
            let found = reference::organization(&call.state, named).ok_or_else(not_found)?.id;
            let role = body.role.unwrap_or(OrganizationRole::User);
            call.allow(Action::CreateMember, Target::Organization(found))?;
            if role != OrganizationRole::User {
                call.allow(Action::grant(role), Target::Organization(found))?;
            }
            Some((found, role))
        }
    };
    reference::check_name(&body.name)?;
    let verifier = match &body.password {
        None => None,
        Some(password) => {
            password::check(password, "password")?;
            Some(call.app.passwords.hash(password.clone()).await?)
        }
    };
    let id = call.fresh(UserId::new);
    let mut work = call.work();
    let mut user = work.load::<user::User>(id.uuid()).await?;
    let display_name = personal::seal_display_name(&call, &mut work, id, &body.display_name)?;
    work.decide(&mut user, UserCommand::Create { name: body.name.clone(), display_name })?;
    work.claim(keys::user_name(&body.name));
    let active = verifier.is_some();
    let expires_at = match verifier {
        Some(verifier) => {
            work.decide(&mut user, UserCommand::ChangePassword { verifier: verifier.into() })?;
            None
        }
        None => {
            let secret = call.secret::<InviteSecret>().digest().into();
            let expires_at = call.now + INVITATION_LIFETIME;
            work.decide(&mut user, UserCommand::Invite { secret, expires_at })?;
            Some(expires_at)
        }
    };
    if let Some((organization, role)) = organization {
        let membership = keys::membership_id(organization, id);
        let mut loaded = work.load::<membership::Membership>(membership).await?;
        let command = MembershipCommand::Grant { organization, user: id, role };
        work.decide(&mut loaded, command)?;
    }
    let answer = UserCreated {
        user: User {
            id,
            name: body.name,
            // Put in from the event: a stored reply stays when the person is erased.
            display_name: String::new(),
            sealed: false,
            platform_roles: [].into(),
            disabled: false,
            erased: false,
            active,
            created_at: call.now,
            revision: user.revision,
        },
        invitation: expires_at.map(|_| blank()),
        invitation_expires_at: expires_at,
    };
    call.commit(work, answer).await
}

pub(super) async fn invite(call: Call, _: Nothing) -> Result<Done<Invited>, Failure> {
    let id = target(&call)?;
    call.allow(Action::InviteUser, Target::User(id))?;
    let expires_at = call.now + INVITATION_LIFETIME;
    let secret = call.secret::<InviteSecret>().digest().into();
    let mut work = call.work();
    let mut user = work.load::<user::User>(id.uuid()).await?;
    call.check_revision(user.revision)?;
    work.decide(&mut user, UserCommand::Invite { secret, expires_at })?;
    let answer = Invited { invitation: blank(), expires_at, revision: user.revision };
    call.commit(work, answer).await
}

pub(super) async fn disable(call: Call, body: Because) -> Result<Done<Changed>, Failure> {
    change(call, Action::DisableUser, UserCommand::Disable { reason: body.reason }).await
}

pub(super) async fn enable(call: Call, _: Nothing) -> Result<Done<Changed>, Failure> {
    change(call, Action::EnableUser, UserCommand::Enable).await
}

/// For good: the key of what the log holds about the person is destroyed with the event.
pub(super) async fn erase(call: Call, _: Nothing) -> Result<Done<Changed>, Failure> {
    let (id, mut work, changed) = decided(&call, Action::EraseUser, UserCommand::Erase).await?;
    work.change_subject(SubjectChange::Destroy { subject: id.uuid() });
    call.commit(work, changed).await
}

pub(super) async fn grant_role(call: Call, _: Nothing) -> Result<Done<Changed>, Failure> {
    let role: PlatformRole = call.param("role")?;
    change(call, Action::grant_platform(role), UserCommand::GrantPlatformRole { role }).await
}

pub(super) async fn revoke_role(call: Call, _: Nothing) -> Result<Done<Changed>, Failure> {
    let role: PlatformRole = call.param("role")?;
    change(call, Action::revoke_platform(role), UserCommand::RevokePlatformRole { role }).await
}

async fn change(
    call: Call,
    action: Action,
    command: UserCommand,
) -> Result<Done<Changed>, Failure> {
    let (_, work, changed) = decided(&call, action, command).await?;
    call.commit(work, changed).await
}

/// What a command about one account comes to, and what is answered when it is stored.
async fn decided(
    call: &Call,
    action: Action,
    command: UserCommand,
) -> Result<(UserId, Work, Changed), Failure> {
    let id = target(call)?;
    call.allow(action, Target::User(id))?;
    let mut work = call.work();
    let mut user = work.load::<user::User>(id.uuid()).await?;
    call.check_revision(user.revision)?;
    work.decide(&mut user, command)?;
    // What keeps a last owner looks at all owners: two of them must not leave at once.
    if matches!(action, Action::DisableUser | Action::EraseUser | Action::RevokePlatformOwner) {
        hold_owners(call, &mut work);
    }
    Ok((id, work, Changed { revision: user.revision }))
}

/// The most other owners whose accounts are held in place while one of them leaves.
const MAX_HELD_OWNERS: usize = 16;

fn hold_owners(call: &Call, work: &mut Work) {
    let owners = call
        .state
        .users()
        .iter()
        .filter(|user| !user.disabled && user.platform_roles.contains(&PlatformRole::Owner));
    for owner in owners.take(MAX_HELD_OWNERS) {
        let stream = rap_events::StreamId::new("user", owner.id.uuid());
        work.hold_at(stream, owner.stamp.revision);
    }
}

fn target(call: &Call) -> Result<UserId, Failure> {
    let named = call.reference("user")?;
    reference::user(&call.state, &named).map(|user| user.id).ok_or_else(|| not_found().into())
}

async fn show_all(call: &Call, found: Vec<Found>) -> Result<Vec<User>, Failure> {
    let names = personal::display_names(call, &found).await?;
    Ok(found.iter().zip(names).map(|(user, name)| show(user, name)).collect())
}

fn show(user: &Found, display_name: Shown) -> User {
    User {
        id: user.id,
        name: user.name.clone(),
        display_name: display_name.text,
        sealed: display_name.sealed,
        platform_roles: user.platform_roles.clone(),
        disabled: user.disabled,
        erased: user.erased,
        active: user.verifier.is_some(),
        created_at: user.stamp.created_at,
        revision: user.stamp.revision,
    }
}
