use std::collections::{BTreeMap, BTreeSet};

use rap_events::{
    Actor, Envelope, Personal, Sensitive, membership::MembershipEvent, user::UserEvent,
};
use rap_proto::{
    CommandId, Digest, LoginId, Name, OrganizationId, OrganizationRole, PlatformRole, Timestamp,
    UserId,
};
use serde::{Deserialize, Serialize};

use super::{Corrupt, Stamp, stamp::created};

/// Every account, and who is a member of what.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Users {
    by_id: BTreeMap<UserId, User>,
    by_name: BTreeMap<Name, UserId>,
    by_invitation: BTreeMap<Digest, UserId>,
    memberships: BTreeMap<OrganizationId, BTreeMap<UserId, Membership>>,
    organizations: BTreeMap<UserId, BTreeSet<OrganizationId>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub id: UserId,
    pub name: Name,
    pub display_name: Personal<String>,
    /// An Argon2id hash in the PHC string format; `None` until a password was chosen.
    pub verifier: Option<Sensitive<String>>,
    pub password_change: Option<PasswordChange>,
    pub invitation: Option<Invitation>,
    pub platform_roles: BTreeSet<PlatformRole>,
    pub disabled: bool,
    /// For good: what was known of the person is gone.
    pub erased: bool,
    /// The command that created the account.
    pub created_by: CommandId,
    pub stamp: Stamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    pub secret: Sensitive<Digest>,
    pub expires_at: Timestamp,
}

/// When the password was last chosen, and by which login: every other one ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswordChange {
    pub position: u64,
    pub by: Option<LoginId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    pub organization: OrganizationId,
    pub user: UserId,
    /// `None` after a revocation.
    pub role: Option<OrganizationRole>,
    /// The command that first granted it.
    pub created_by: CommandId,
    pub stamp: Stamp,
}

impl Users {
    pub fn get(&self, id: UserId) -> Option<&User> {
        self.by_id.get(&id)
    }

    pub fn named(&self, name: &Name) -> Option<&User> {
        self.by_name.get(name).and_then(|id| self.by_id.get(id))
    }

    /// The user whose open invitation has this digest. Its expiry is for the caller to check.
    pub fn invited(&self, secret: &Digest) -> Option<&User> {
        self.by_invitation.get(secret).and_then(|id| self.by_id.get(id))
    }

    /// In the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &User> {
        self.by_id.values()
    }

    /// The membership, also a revoked one: its revision is what an `If-Match` refers to.
    pub fn membership(&self, organization: OrganizationId, user: UserId) -> Option<&Membership> {
        self.memberships.get(&organization)?.get(&user)
    }

    pub fn role(&self, organization: OrganizationId, user: UserId) -> Option<OrganizationRole> {
        self.membership(organization, user)?.role
    }

    /// The members of an organization, in the order of their ids.
    pub fn members(
        &self,
        organization: OrganizationId,
    ) -> impl Iterator<Item = (UserId, OrganizationRole)> {
        self.memberships
            .get(&organization)
            .into_iter()
            .flat_map(BTreeMap::values)
            .filter_map(|membership| Some((membership.user, membership.role?)))
    }

    /// Members who can act: those whose account is not disabled.
    pub fn active_members(
        &self,
        organization: OrganizationId,
    ) -> impl Iterator<Item = (UserId, OrganizationRole)> {
        self.members(organization).filter(|(user, _)| self.is_active(*user))
    }

    /// The organizations of which the user is a member.
    pub fn organizations_of(&self, user: UserId) -> impl Iterator<Item = OrganizationId> {
        self.organizations.get(&user).into_iter().flatten().copied()
    }

    pub fn is_active(&self, user: UserId) -> bool {
        self.get(user).is_some_and(|user| !user.disabled)
    }

    /// Whether the account was made as a member of this organization, by one command.
    pub fn is_native(&self, organization: OrganizationId, user: UserId) -> bool {
        let membership = self.membership(organization, user);
        membership
            .zip(self.get(user))
            .is_some_and(|(membership, user)| membership.created_by == user.created_by)
    }

    /// Whether nobody was ever a member of the organization.
    pub fn never_had_members(&self, organization: OrganizationId) -> bool {
        !self.memberships.contains_key(&organization)
    }

    /// Whether nobody else owns the organization.
    pub fn is_last_owner(&self, organization: OrganizationId, user: UserId) -> bool {
        let mut owners =
            self.active_members(organization).filter(|(_, role)| *role == OrganizationRole::Owner);
        owners.next().is_some_and(|(first, _)| first == user) && owners.next().is_none()
    }

    /// Whether nobody else owns the platform.
    pub fn is_last_platform_owner(&self, user: UserId) -> bool {
        let mut owners = self
            .by_id
            .values()
            .filter(|user| !user.disabled && user.platform_roles.contains(&PlatformRole::Owner));
        owners.next().is_some_and(|first| first.id == user) && owners.next().is_none()
    }

    pub(super) fn fold(&mut self, event: &UserEvent, envelope: &Envelope) -> Result<(), Corrupt> {
        let id = UserId::from_uuid(envelope.stream.id);
        if let UserEvent::Created(event) = event {
            let user = User {
                id,
                name: event.name.clone(),
                display_name: event.display_name.clone(),
                verifier: None,
                password_change: None,
                invitation: None,
                platform_roles: BTreeSet::new(),
                disabled: false,
                erased: false,
                created_by: envelope.command,
                stamp: Stamp::first(envelope)?,
            };
            self.by_name.insert(user.name.clone(), id);
            self.by_id.insert(id, user);
            return Ok(());
        }
        let user = created(self.by_id.get_mut(&id), envelope)?;
        user.stamp.advance(envelope)?;
        match event {
            UserEvent::Created(_) | UserEvent::AccessRefused(_) => {}
            UserEvent::Invited(event) => {
                forget_invitation(&mut self.by_invitation, user);
                self.by_invitation.insert(*event.secret.expose(), id);
                user.invitation =
                    Some(Invitation { secret: event.secret.clone(), expires_at: event.expires_at });
            }
            UserEvent::PasswordChanged(event) => {
                forget_invitation(&mut self.by_invitation, user);
                user.verifier = Some(event.verifier.clone());
                user.password_change =
                    Some(PasswordChange { position: envelope.position, by: login_of(envelope) });
            }
            UserEvent::PlatformRoleGranted(event) => {
                user.platform_roles.insert(event.role);
            }
            UserEvent::PlatformRoleRevoked(event) => {
                user.platform_roles.remove(&event.role);
            }
            UserEvent::Disabled(_) => {
                forget_invitation(&mut self.by_invitation, user);
                user.disabled = true;
            }
            UserEvent::Enabled(_) => user.disabled = false,
            UserEvent::Erased(_) => {
                forget_invitation(&mut self.by_invitation, user);
                user.display_name = Personal::default();
                user.verifier = None;
                user.platform_roles.clear();
                (user.disabled, user.erased) = (true, true);
            }
        }
        Ok(())
    }

    pub(super) fn fold_membership(
        &mut self,
        event: &MembershipEvent,
        envelope: &Envelope,
    ) -> Result<(), Corrupt> {
        let (organization, user, role) = match event {
            MembershipEvent::Granted(event) => (event.organization, event.user, Some(event.role)),
            MembershipEvent::Changed(event) => (event.organization, event.user, Some(event.role)),
            MembershipEvent::Revoked(event) => (event.organization, event.user, None),
        };
        let members = self.memberships.entry(organization).or_default();
        match members.get_mut(&user) {
            Some(membership) => {
                membership.stamp.advance(envelope)?;
                membership.role = role;
            }
            None => {
                let stamp = Stamp::first(envelope)?;
                let created_by = envelope.command;
                let membership = Membership { organization, user, role, created_by, stamp };
                members.insert(user, membership);
            }
        }
        let organizations = self.organizations.entry(user).or_default();
        if role.is_some() {
            organizations.insert(organization);
        } else {
            organizations.remove(&organization);
        }
        Ok(())
    }
}

fn forget_invitation(by_invitation: &mut BTreeMap<Digest, UserId>, user: &mut User) {
    if let Some(invitation) = user.invitation.take() {
        by_invitation.remove(invitation.secret.expose());
    }
}

fn login_of(envelope: &Envelope) -> Option<LoginId> {
    match &envelope.actor {
        Actor::User { login, .. } => Some(*login),
        _ => None,
    }
}
