#![allow(clippy::unwrap_used)]

use rap_proto::{PlatformRole, Timestamp};

use super::*;
use crate::{
    Personal,
    personal::MAX_SEALED_BYTES,
    tests::{
        given::{Given, NOW, given},
        samples::{MINUTE_MS, after, name, sealed, secret, verifier},
    },
};

const WEEK_MS: i64 = 7 * 24 * 60 * MINUTE_MS;

fn created() -> UserEvent {
    UserCreated { name: name("alice"), display_name: sealed("Alice") }.into()
}

fn invited() -> UserEvent {
    UserInvited { secret: secret("invite"), expires_at: after(MINUTE_MS) }.into()
}

fn disabled() -> UserEvent {
    UserDisabled { reason: "left".to_owned() }.into()
}

fn changed(by_invitation: bool) -> UserEvent {
    PasswordChanged { verifier: verifier(), by_invitation }.into()
}

fn user(events: &[UserEvent]) -> Given<User> {
    given([&[created()], events].concat())
}

fn accept(code: &str) -> UserCommand {
    UserCommand::AcceptInvitation { presented: secret(code), verifier: verifier() }
}

#[test]
fn a_user_is_created_once() {
    let create = |display_name| UserCommand::Create { name: name("alice"), display_name };
    given::<User>([]).when(create(sealed("Alice"))).then([created()]);
    let clear = Personal::Clear("Alice".to_owned());
    let large = sealed(&"a".repeat(MAX_SEALED_BYTES + 1));
    for display_name in [clear, large] {
        let rejection = UserRejection::DisplayNameNotSealed;
        given::<User>([]).when(create(display_name)).rejected(rejection);
    }
    user(&[]).when(create(sealed("Alice"))).rejected(UserRejection::AlreadyExists);
}

#[test]
fn an_invitation_lets_a_password_be_chosen_once() {
    let state = user(&[invited()]).when(accept("invite")).then([changed(true)]);
    assert_eq!((state.verifier, state.invitation), (Some(verifier()), None));
    let invalid = UserRejection::InvitationInvalid;
    user(&[]).when(accept("invite")).rejected(invalid);
    user(&[invited()]).when(accept("guess")).rejected(invalid);
    user(&[invited(), changed(true)]).when(accept("invite")).rejected(invalid);
    user(&[invited(), changed(false)]).when(accept("invite")).rejected(invalid);
    user(&[invited()]).at(after(MINUTE_MS)).when(accept("invite")).rejected(invalid);
    let newer = UserInvited { secret: secret("newer"), expires_at: after(MINUTE_MS) };
    user(&[invited(), newer.into()]).when(accept("invite")).rejected(invalid);
    user(&[invited(), disabled()]).when(accept("invite")).rejected(UserRejection::Disabled);
    let enabled = UserEnabled {}.into();
    user(&[invited(), disabled(), enabled]).when(accept("invite")).rejected(invalid);
}

#[test]
fn an_invitation_is_open_for_a_week_at_most() {
    let invite = |expires_at: Timestamp| UserCommand::Invite { secret: secret("i"), expires_at };
    for expires_at in [NOW, after(-1), after(WEEK_MS + 1)] {
        user(&[]).when(invite(expires_at)).rejected(UserRejection::InvitationTooLong);
    }
    let longest = UserInvited { secret: secret("i"), expires_at: after(WEEK_MS) };
    user(&[]).when(invite(after(WEEK_MS))).then([longest.into()]);
}

#[test]
fn only_an_argon2id_verifier_is_stored() {
    let change = |text: &str| UserCommand::ChangePassword { verifier: text.to_owned().into() };
    let long = format!("$argon2id${}", "a".repeat(MAX_VERIFIER_BYTES));
    for text in ["", "hunter2", "$argon2i$v=19$x", "$argon2id$ with space", &long] {
        user(&[]).when(change(text)).rejected(UserRejection::NotAVerifier);
    }
    user(&[]).when(change(verifier().expose())).then([changed(false)]);
}

#[test]
fn platform_roles_are_granted_and_revoked() {
    let role = PlatformRole::Owner;
    let granted: UserEvent = PlatformRoleGranted { role }.into();
    let grant = UserCommand::GrantPlatformRole { role };
    let revoke = UserCommand::RevokePlatformRole { role };
    user(&[]).when(grant.clone()).then([granted.clone()]);
    user(std::slice::from_ref(&granted)).when(grant.clone()).nothing();
    user(&[]).when(revoke.clone()).nothing();
    let revoked = PlatformRoleRevoked { role }.into();
    user(&[granted.clone(), disabled()]).when(revoke.clone()).then([revoked]);
    user(&[disabled()]).when(grant.clone()).rejected(UserRejection::Disabled);
    for command in [grant, revoke] {
        given::<User>([]).when(command).rejected(UserRejection::NotFound);
    }
}

#[test]
fn a_user_is_disabled_and_enabled() {
    let disable = UserCommand::Disable { reason: "left".to_owned() };
    let state = user(&[invited()]).when(disable.clone()).then([disabled()]);
    assert!(state.disabled && state.invitation.is_none());
    user(&[disabled()]).when(disable.clone()).nothing();
    user(&[disabled()]).when(UserCommand::Enable).then([UserEnabled {}.into()]);
    user(&[]).when(UserCommand::Enable).nothing();
    let change = UserCommand::ChangePassword { verifier: verifier() };
    user(&[disabled()]).when(change).rejected(UserRejection::Disabled);
    given::<User>([]).when(disable).rejected(UserRejection::NotFound);
    let two_lines = UserCommand::Disable { reason: "a\nb".to_owned() };
    user(&[]).when(two_lines).rejected(UserRejection::TextNotPlain);
}

#[test]
fn an_erased_user_is_nobody_any_more_and_stays_so() {
    let erased: UserEvent = UserErased {}.into();
    let role = PlatformRole::Owner;
    let known = [invited(), PlatformRoleGranted { role }.into()];
    let state = user(&known).when(UserCommand::Erase).then([erased.clone()]);
    assert_eq!((state.name, state.display_name), (Some(name("alice")), Personal::default()));
    assert!(state.disabled && state.invitation.is_none() && state.platform_roles.is_empty());
    let erased = std::slice::from_ref(&erased);
    user(erased).when(UserCommand::Erase).nothing();
    user(erased).when(UserCommand::Enable).rejected(UserRejection::Erased);
    let grant = UserCommand::GrantPlatformRole { role };
    user(erased).when(grant).rejected(UserRejection::Disabled);
    given::<User>([]).when(UserCommand::Erase).rejected(UserRejection::NotFound);
}

fn refused(at: Timestamp) -> UserEvent {
    UserAccessRefused { action: RefusedAction::RequestSession, refused_at: at }.into()
}

#[test]
fn only_so_many_refusals_of_a_day_are_recorded() {
    const DAY_MS: i64 = 24 * 60 * MINUTE_MS;
    let command = || UserCommand::RecordAccessRefused { action: RefusedAction::RequestSession };
    given::<User>([]).when(command()).rejected(UserRejection::NotFound);
    let state = user(&[]).when(command()).then([refused(NOW)]);
    let expected = Refusals { day: NOW.unix_millis() / DAY_MS, count: 1 };
    assert_eq!(state.refusals, expected);

    let noon = Timestamp::from_unix_millis(expected.day * DAY_MS + DAY_MS / 2);
    let half_a_day = std::time::Duration::from_millis(DAY_MS as u64 / 2);
    let most = vec![refused(noon); MAX_RECORDED_REFUSALS as usize];
    user(&most[1..]).at(noon).when(command()).then([refused(noon)]);
    for same_day in [noon, noon - half_a_day, noon - half_a_day * 3] {
        user(&most).at(same_day).when(command()).nothing();
    }
    let midnight = noon + half_a_day;
    let state = user(&most).at(midnight).when(command()).then([refused(midnight)]);
    assert_eq!(state.refusals, Refusals { day: expected.day + 1, count: 1 });
}
