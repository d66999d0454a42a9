//! Set-up, logins, invitations, and what callers may do to their own account.

use std::{collections::BTreeSet, time::Duration};

use rap_control_core::{Action, Principal, Target, state::Login};
use rap_events::{
    Actor, Personal, cluster, keys,
    login::{self, LoginCloseReason, LoginCommand, LoginRejection},
    user::{self, UserCommand},
};
use rap_proto::{
    LoginId, Name, PlatformRole, Timestamp, UserId,
    api::{
        AcceptInvitation, ChangePassword, Changed, Cluster, LoggedIn, MAX_LABEL_CHARS, Me, MyLogin,
        MyOrganization, NewLogin, Page, Problem, ProblemCode, Setup,
    },
    secret::{InviteSecret, LoginSecret, Secret, SetupCode},
};

use super::{
    answer::{Done, blank},
    call::Call,
    endpoint::{Gone, Nothing},
    failure::{Failure, invalid, not_found},
    page, personal, reference,
};
use crate::{password, work::Work};

/// How long a login lasts.
const LOGIN_LIFETIME: Duration = Duration::from_secs(12 * 3_600);

/// The holder of the setup code becomes the first platform owner.
pub(super) async fn set_up(call: Call, body: Setup) -> Result<Done<LoggedIn>, Failure> {
    let setup = &call.state.cluster().setup_code;
    if setup.is_none() {
        return Err(Problem::new(ProblemCode::AlreadySetUp, "there is an owner already").into());
    }
    call.allow_as(&Principal::Setup, Action::CompleteSetup, Target::Platform)?;
    let code = Secret::<SetupCode>::parse(body.setup_code.reveal()).map_err(|_| wrong("code"))?;
    if !setup.as_ref().is_some_and(|stored| code.matches(stored.expose())) {
        return Err(wrong("code").into());
    }
    reference::check_name(&body.name)?;
    password::check(&body.password, "password")?;
    let verifier = call.app.passwords.hash(body.password.clone()).await?;

    let id = call.fresh(UserId::new);
    let mut work = call.work();
    let mut cluster = work.load::<cluster::Cluster>(call.app.custody.cluster.uuid()).await?;
    let presented = code.digest().into();
    work.decide(&mut cluster, cluster::ClusterCommand::CompleteSetup { presented, owner: id })?;
    let mut user = work.load::<user::User>(id.uuid()).await?;
    let display_name = personal::seal_display_name(&call, &mut work, id, "")?;
    work.decide(&mut user, UserCommand::Create { name: body.name.clone(), display_name })?;
    work.decide(&mut user, UserCommand::ChangePassword { verifier: verifier.into() })?;
    work.decide(&mut user, UserCommand::GrantPlatformRole { role: PlatformRole::Owner })?;
    work.claim(keys::user_name(&body.name));
    let answer = open_login(&call, &mut work, (id, body.name), Personal::default()).await?;
    call.commit_as(Actor::Setup, work, answer).await
}

/// A name and a password become a login.
pub(super) async fn log_in(call: Call, body: NewLogin) -> Result<Done<LoggedIn>, Failure> {
    may_guess(&call, &body.name)?;
    let user = call.state.users().named(&body.name).filter(|user| !user.disabled);
    let verifier = user.and_then(|user| user.verifier.as_ref()).map(|v| v.expose().clone());
    let matches = call.app.passwords.verify(body.password.clone(), verifier).await?;
    may_guess(&call, &body.name)?;
    if !matches {
        call.app.throttle.failed(&body.name, call.now);
        call.app.metrics.count("logins", "refused");
        return Err(wrong("name or password").into());
    }
    let user = user.ok_or_else(|| wrong("name or password"))?;
    call.app.throttle.succeeded(&body.name);
    call.app.metrics.count("logins", "opened");
    let mut work = call.work();
    // The password that was verified is still the one when the login is stored.
    work.hold_at(rap_events::StreamId::new("user", user.id.uuid()), user.stamp.revision);
    let device = body.device.unwrap_or_default();
    check_label(&device, "device")?;
    let place = (user.id, login::DEVICE);
    let refused = LoginRejection::TextNotPlain;
    let device = personal::seal::<login::Login>(&call, &mut work, place, &device, refused).await?;
    let answer = open_login(&call, &mut work, (user.id, body.name), device).await?;
    let actor = Actor::User { user: user.id, login: answer.login };
    call.commit_as(actor, work, answer).await
}

/// Asked before a password is verified, and again before the answer: guesses that were sent
/// together all pass the first time, and none of them may learn more than one after another.
fn may_guess(call: &Call, name: &Name) -> Result<(), Failure> {
    let delay = call.app.throttle.delay(name, call.now);
    if delay.is_zero() {
        return Ok(());
    }
    call.app.metrics.count("logins", "throttled");
    let detail = format!("too many wrong passwords; wait {} s", delay.as_secs().max(1));
    let problem = Problem::new(ProblemCode::RateLimited, detail).rule("login_attempts");
    Err(problem.retry_after(delay).into())
}

/// A new user chooses the first password, and is logged in.
pub(super) async fn accept_invitation(
    call: Call,
    body: AcceptInvitation,
) -> Result<Done<LoggedIn>, Failure> {
    let secret =
        Secret::<InviteSecret>::parse(body.invitation.reveal()).map_err(|_| wrong("invitation"))?;
    let presented = secret.digest();
    let found = call.state.users().invited(&presented).ok_or_else(|| wrong("invitation"))?;
    let (id, name) = (found.id, found.name.clone());
    password::check(&body.password, "password")?;
    let verifier = call.app.passwords.hash(body.password.clone()).await?;
    let mut work = call.work();
    let mut user = work.load::<user::User>(id.uuid()).await?;
    work.decide(
        &mut user,
        UserCommand::AcceptInvitation { presented: presented.into(), verifier: verifier.into() },
    )?;
    let answer = open_login(&call, &mut work, (id, name), Personal::default()).await?;
    let actor = Actor::User { user: id, login: answer.login };
    call.commit_as(actor, work, answer).await
}

async fn open_login(
    call: &Call,
    work: &mut Work,
    (user, name): (UserId, Name),
    device: Personal<String>,
) -> Result<LoggedIn, Failure> {
    let id = call.fresh(LoginId::new);
    let expires_at = call.now + LOGIN_LIFETIME;
    let secret = call.secret::<LoginSecret>().digest().into();
    let mut login = work.load::<login::Login>(id.uuid()).await?;
    work.decide(&mut login, LoginCommand::Open { user, secret, expires_at, device })?;
    Ok(LoggedIn { login: id, user, name, secret: blank(), expires_at, servers: Vec::new() })
}

pub(super) async fn log_out(call: Call, _: Nothing) -> Result<Done<Gone>, Failure> {
    let Principal::User { login, .. } = *call.principal()? else {
        return Err(Problem::new(ProblemCode::Forbidden, "an API token is revoked, not closed")
            .rule("login.close/token_scope")
            .into());
    };
    call.allow(Action::CloseLogin, Target::Login(login))?;
    let mut work = call.work();
    let mut loaded = work.load::<login::Login>(login.uuid()).await?;
    let reason = LoginCloseReason::SignedOut;
    work.decide(&mut loaded, LoginCommand::Close { reason })?;
    call.commit(work, Gone {}).await
}

pub(super) async fn me(call: Call) -> Result<Me, Failure> {
    call.allow(Action::ReadCluster, Target::Platform)?;
    let principal = call.principal()?.clone();
    let user = principal.user().and_then(|id| call.state.users().get(id)).ok_or_else(not_found)?;
    let (scopes, expires_at): (Option<BTreeSet<_>>, Option<Timestamp>) = match &principal {
        Principal::ApiToken { token, scopes, .. } => {
            let found = call.state.api_tokens().get(*token);
            (Some(scopes.clone()), found.map(|token| token.expires_at))
        }
        Principal::User { login, .. } => {
            (None, call.state.logins().get(*login).map(|login| login.expires_at))
        }
        Principal::Setup | Principal::Node(_) => (None, None),
    };
    let organizations = principal.organizations(&call.state).into_iter().filter_map(|id| {
        Some(MyOrganization {
            id,
            name: call.state.organizations().get(id)?.name.clone(),
            role: principal.role_in(&call.state, id)?,
        })
    });
    let held = |role: &PlatformRole| principal.has_platform_role(&call.state, *role);
    Ok(Me {
        user: user.id,
        name: user.name.clone(),
        cluster: call.app.custody.cluster,
        platform_roles: PlatformRole::ALL.iter().copied().filter(held).collect(),
        organizations: organizations.collect(),
        scopes,
        expires_at,
    })
}

/// Where the caller is logged in. What is sealed is opened for that person alone: an API token is
/// told of no device.
pub(super) async fn my_logins(call: Call) -> Result<Page<MyLogin>, Failure> {
    call.allow(Action::ReadCluster, Target::Platform)?;
    let user = match call.principal()? {
        Principal::User { user, .. } => Some(*user),
        Principal::Setup | Principal::ApiToken { .. } | Principal::Node(_) => None,
    };
    let open = user.into_iter().flat_map(|user| call.state.logins().of(user));
    let open = open.filter(|login| call.now < login.expires_at);
    let page = page::of(&call, open, |login| login.id, Login::clone)?;
    let devices = personal::devices(&call, &page.items).await?;
    let shown = page.items.iter().zip(devices).map(|(login, device)| MyLogin {
        id: login.id,
        device: device.text,
        sealed: device.sealed,
        opened_at: login.stamp.created_at,
        expires_at: login.expires_at,
    });
    Ok(Page { items: shown.collect(), next: page.next })
}

pub(super) async fn change_password(
    call: Call,
    body: ChangePassword,
) -> Result<Done<Changed>, Failure> {
    let id = call.principal()?.user().ok_or_else(not_found)?;
    call.allow(Action::ChangePassword, Target::User(id))?;
    password::check(&body.new, "new")?;
    let user = call.state.users().get(id).ok_or_else(not_found)?;
    may_guess(&call, &user.name)?;
    let stored = user.verifier.as_ref().map(|verifier| verifier.expose().clone());
    let matches = call.app.passwords.verify(body.current.clone(), stored).await?;
    may_guess(&call, &user.name)?;
    if !matches {
        call.app.throttle.failed(&user.name, call.now);
        return Err(wrong("current password").into());
    }
    let verifier = call.app.passwords.hash(body.new.clone()).await?;
    let mut work = call.work();
    work.hold_at(rap_events::StreamId::new("user", id.uuid()), user.stamp.revision);
    let mut loaded = work.load::<user::User>(id.uuid()).await?;
    work.decide(&mut loaded, UserCommand::ChangePassword { verifier: verifier.into() })?;
    call.commit(work, Changed { revision: loaded.revision }).await
}

pub(super) async fn cluster(call: Call) -> Result<Cluster, Failure> {
    call.allow(Action::ReadCluster, Target::Platform)?;
    let authority = &call.app.custody.authority;
    Ok(Cluster {
        id: call.app.custody.cluster,
        ca_fingerprint: authority.fingerprint(),
        authorities: rap_pki::pem::encode([authority.certificate_der()]),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        position: call.state.position(),
        authority: call.app.beat.state(),
    })
}

pub(super) fn check_label(label: &str, field: &str) -> Result<(), Failure> {
    let plain = label.chars().count() <= MAX_LABEL_CHARS && !label.chars().any(char::is_control);
    if plain {
        return Ok(());
    }
    let detail = format!("at most {MAX_LABEL_CHARS} characters, and no control characters");
    Err(invalid(field, "label", detail))
}

fn wrong(what: &str) -> Problem {
    Problem::new(ProblemCode::WrongCredentials, format!("the {what} is wrong"))
}
