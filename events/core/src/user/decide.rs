use std::time::Duration;

use rap_proto::{Digest, OrganizationId, Timestamp};

use super::{
    Invitation, MAX_INVITATION_MS, MAX_RECORDED_REFUSALS, MAX_VERIFIER_BYTES, PasswordChanged,
    PlatformRoleGranted, PlatformRoleRevoked, User, UserAccessRefused, UserCommand, UserCreated,
    UserDisabled, UserEnabled, UserErased, UserEvent, UserInvited, UserRejection,
};
use crate::{Aggregate, Sensitive, aggregate::is_plain_text};

impl Aggregate for User {
    const CATEGORY: &'static str = "user";
    type Command = UserCommand;
    type Event = UserEvent;
    type Rejection = UserRejection;

    fn decide(
        &self,
        command: UserCommand,
        now: Timestamp,
    ) -> Result<Vec<UserEvent>, UserRejection> {
        let event = match command {
            UserCommand::Create { name, display_name } => {
                if self.name.is_some() {
                    return Err(UserRejection::AlreadyExists);
                }
                if !display_name.is_kept() {
                    return Err(UserRejection::DisplayNameNotSealed);
                }
                UserCreated { name, display_name }.into()
            }
            UserCommand::Invite { secret, expires_at } => {
                self.require_enabled()?;
                if expires_at <= now || expires_at > now + Duration::from_millis(MAX_INVITATION_MS)
                {
                    return Err(UserRejection::InvitationTooLong);
                }
                UserInvited { secret, expires_at }.into()
            }
            UserCommand::AcceptInvitation { presented, verifier } => {
                self.require_invitation(&presented, now)?;
                password_changed(verifier, true)?
            }
            UserCommand::ChangePassword { verifier } => {
                self.require_enabled()?;
                password_changed(verifier, false)?
            }
            UserCommand::GrantPlatformRole { role } => {
                self.require_enabled()?;
                if self.platform_roles.contains(&role) {
                    return Ok(Vec::new());
                }
                PlatformRoleGranted { role }.into()
            }
            UserCommand::RevokePlatformRole { role } => {
                self.require_existing()?;
                if !self.platform_roles.contains(&role) {
                    return Ok(Vec::new());
                }
                PlatformRoleRevoked { role }.into()
            }
            UserCommand::Disable { reason } => return self.disable(reason),
            UserCommand::Erase => {
                self.require_existing()?;
                if self.erased {
                    return Ok(Vec::new());
                }
                UserErased {}.into()
            }
            UserCommand::Enable => {
                self.require_existing()?;
                if self.erased {
                    return Err(UserRejection::Erased);
                }
                if !self.disabled {
                    return Ok(Vec::new());
                }
                UserEnabled {}.into()
            }
            UserCommand::RecordAccessRefused { action } => {
                self.require_existing()?;
                if self.refusals.and(now).count > MAX_RECORDED_REFUSALS {
                    return Ok(Vec::new());
                }
                UserAccessRefused { action, refused_at: now }.into()
            }
        };
        Ok(vec![event])
    }

    fn evolve(&mut self, event: &UserEvent) {
        match event {
            UserEvent::Created(created) => {
                self.name = Some(created.name.clone());
                self.display_name.clone_from(&created.display_name);
            }
            UserEvent::Invited(invited) => {
                let UserInvited { secret, expires_at } = invited.clone();
                self.invitation = Some(Invitation { secret, expires_at });
            }
            UserEvent::PasswordChanged(changed) => {
                self.verifier = Some(changed.verifier.clone());
                self.invitation = None;
            }
            UserEvent::PlatformRoleGranted(granted) => {
                self.platform_roles.insert(granted.role);
            }
            UserEvent::PlatformRoleRevoked(revoked) => {
                self.platform_roles.remove(&revoked.role);
            }
            UserEvent::Disabled(_) => {
                self.disabled = true;
                self.invitation = None;
            }
            UserEvent::Enabled(_) => self.disabled = false,
            UserEvent::Erased(_) => {
                *self = Self {
                    name: self.name.take(),
                    disabled: true,
                    erased: true,
                    refusals: self.refusals,
                    ..Self::default()
                };
            }
            UserEvent::AccessRefused(refused) => {
                self.refusals = self.refusals.and(refused.refused_at);
            }
        }
    }

    fn organization(&self) -> Option<OrganizationId> {
        None
    }
}

impl User {
    fn disable(&self, reason: String) -> Result<Vec<UserEvent>, UserRejection> {
        self.require_existing()?;
        if !is_plain_text(&reason) {
            return Err(UserRejection::TextNotPlain);
        }
        let news = !self.disabled;
        Ok(news.then(|| UserDisabled { reason }.into()).into_iter().collect())
    }

    fn require_existing(&self) -> Result<(), UserRejection> {
        self.name.as_ref().map(|_| ()).ok_or(UserRejection::NotFound)
    }

    fn require_enabled(&self) -> Result<(), UserRejection> {
        self.require_existing()?;
        if self.disabled { Err(UserRejection::Disabled) } else { Ok(()) }
    }

    fn require_invitation(
        &self,
        presented: &Sensitive<Digest>,
        now: Timestamp,
    ) -> Result<(), UserRejection> {
        self.require_enabled()?;
        match &self.invitation {
            Some(open) if open.secret == *presented && now < open.expires_at => Ok(()),
            _ => Err(UserRejection::InvitationInvalid),
        }
    }
}

fn password_changed(
    verifier: Sensitive<String>,
    by_invitation: bool,
) -> Result<UserEvent, UserRejection> {
    let text = verifier.expose();
    let argon2id =
        text.starts_with("$argon2id$") && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !argon2id || text.len() > MAX_VERIFIER_BYTES {
        return Err(UserRejection::NotAVerifier);
    }
    Ok(PasswordChanged { verifier, by_invitation }.into())
}
