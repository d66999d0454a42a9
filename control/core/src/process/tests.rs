#![allow(clippy::unwrap_used)]

use std::time::Duration;

use rap_events::{
    Actor,
    cluster::ClusterCommand,
    login::LoginCloseReason,
    membership::{Membership, MembershipCommand},
    organization::{Organization, OrganizationCommand},
    policy::{Policy, PolicyCommand},
    resource::{Resource, ResourceCommand},
    session::{
        CONCLUDE_AFTER_MS, CONCLUDE_STARTED_AFTER_MS, Seen, SessionCommand, TerminationCause,
    },
    user::{User, UserCommand},
};
use rap_proto::{
    ResourceKind, SessionId, Timestamp,
    observation::{EndReason, Vantage},
    snapshot::Target,
    token::{CLOCK_SKEW_MS, GRANT_TTL_MS},
};

use super::{Clock, MAX_STEPS, ProcessCommand, SETTLE, Step, due};
use crate::{
    state::SessionPhase,
    world::{PHC, Platform, login_id, person, uuid},
};

/// What is due when the nodes have been heard for long.
fn steps(platform: &Platform) -> Vec<Step> {
    let listening_since = Timestamp::default();
    due(platform.state(), Clock { now: platform.world.now, listening_since })
}

/// Does what is due until nothing is.
fn settle(platform: &mut Platform) {
    for _ in 0..8 {
        let due = steps(platform);
        if due.is_empty() {
            return;
        }
        for step in due {
            platform.world.perform(step);
        }
    }
    panic!("it is never done: {:?}", steps(platform));
}

fn phase(platform: &Platform, session: SessionId) -> SessionPhase {
    platform.state().sessions().get(session).unwrap().phase
}

#[test]
fn nothing_is_due_while_nothing_happens() {
    assert_eq!(steps(&Platform::new()), vec![]);
}

#[test]
fn snapshots_are_renewed_every_six_hours() {
    let mut platform = Platform::new();
    let is_renewal = |step: &Step| {
        matches!(step.command, ProcessCommand::Cluster(_, ClusterCommand::RenewSnapshots))
    };
    platform.world.advance(6 * 3_600_000 - 1);
    assert!(!steps(&platform).iter().any(is_renewal));
    platform.world.advance(1);
    let renewal = steps(&platform).into_iter().find(is_renewal).unwrap();
    assert_eq!(renewal.actor(), Actor::System { process: "snapshot-renewal".to_owned() });
    platform.world.perform(renewal);
    assert!(!steps(&platform).iter().any(is_renewal));
}

#[test]
fn asking_twice_gives_the_same_command() {
    let mut platform = Platform::new();
    platform.world.advance(25 * 3_600_000);
    let (first, second) = (steps(&platform), steps(&platform));
    assert_eq!(first, second);
    platform.world.advance(1_000);
    let later = steps(&platform);
    let ids = |steps: &[Step]| -> Vec<_> {
        steps.iter().map(|step| (step.id, step.request_hash())).collect()
    };
    assert_eq!(ids(&first), ids(&later), "the time is no part of the command");
    settle(&mut platform);
}

#[test]
fn a_session_that_was_never_used_is_concluded() {
    let mut platform = Platform::new();
    let session = platform.acme.session;
    platform.world.advance(GRANT_TTL_MS + CONCLUDE_AFTER_MS);
    assert_eq!(steps(&platform), vec![]);
    platform.world.advance(1);
    settle(&mut platform);
    assert_eq!(phase(&platform, session), SessionPhase::Ended);
    let ended = platform.state().sessions().get(session).unwrap().ended.unwrap();
    assert_eq!((ended.reason, ended.seen), (EndReason::NotUsed, false));
}

#[test]
fn silence_is_believed_only_after_the_nodes_could_speak() {
    let mut platform = Platform::new();
    platform.world.advance(GRANT_TTL_MS + CONCLUDE_AFTER_MS + 1);
    let now = platform.world.now;
    let ask = |now| due(platform.state(), Clock { now, listening_since: platform.world.now });
    assert_eq!(ask(now), vec![]);
    assert_eq!(ask(now + SETTLE).len(), 2);
}

#[test]
fn a_started_session_lives_on_beyond_its_token() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    let seen = Seen { node: acme.egress, sequence: 1, at: platform.world.now };
    let from = Some(Vantage::Egress);
    platform.world.session(acme.session, SessionCommand::RecordStarted { seen, from });
    platform.world.advance(GRANT_TTL_MS + CONCLUDE_AFTER_MS + 1);
    settle(&mut platform);
    assert_eq!(phase(&platform, acme.session), SessionPhase::Started);
    platform.world.advance(CONCLUDE_STARTED_AFTER_MS);
    settle(&mut platform);
    assert_eq!(phase(&platform, acme.session), SessionPhase::Ended);
}

#[test]
fn a_session_whose_access_is_withdrawn_is_terminated() {
    let suspend = |platform: &mut Platform| {
        let suspend = OrganizationCommand::Suspend { reason: String::new() };
        platform.must::<Organization>(platform.acme.id.uuid(), suspend);
    };
    let remove_policy = |platform: &mut Platform| {
        platform.must::<Policy>(platform.acme.policy.uuid(), PolicyCommand::Remove);
    };
    let disable = |platform: &mut Platform| {
        let disable = UserCommand::Disable { reason: String::new() };
        platform.must::<User>(platform.acme.user.uuid(), disable);
    };
    let erase = |platform: &mut Platform| {
        platform.must::<User>(platform.acme.user.uuid(), UserCommand::Erase);
    };
    let leave = |platform: &mut Platform| {
        let stream = rap_events::keys::membership_id(platform.acme.id, platform.acme.user);
        platform.must::<Membership>(stream, MembershipCommand::Revoke);
    };
    let remove = |platform: &mut Platform| {
        platform.must::<Resource>(platform.acme.resource.uuid(), ResourceCommand::Remove);
    };
    let relocate = |platform: &mut Platform| {
        let target = Target { host: "b.acme.example".to_owned(), port: 22, allow_local: false };
        let pool = platform.acme.pool;
        let change = ResourceCommand::Change { kind: ResourceKind::Ssh, target, pool };
        platform.must::<Resource>(platform.acme.resource.uuid(), change);
    };
    type Change<'a> = &'a dyn Fn(&mut Platform);
    let cases: [(Change<'_>, TerminationCause); 7] = [
        (&suspend, TerminationCause::OrganizationClosed),
        (&remove_policy, TerminationCause::AccessWithdrawn),
        (&disable, TerminationCause::UserLeft),
        (&erase, TerminationCause::UserLeft),
        (&leave, TerminationCause::UserLeft),
        (&remove, TerminationCause::ResourceChanged),
        (&relocate, TerminationCause::ResourceChanged),
    ];
    for (change, cause) in cases {
        let mut platform = Platform::new();
        change(&mut platform);
        settle(&mut platform);
        let session = platform.state().sessions().get(platform.acme.session).unwrap();
        assert_eq!(session.phase, SessionPhase::Terminated);
        assert_eq!(session.terminated.unwrap().cause, cause);
        let other = phase(&platform, platform.globex.session);
        assert_eq!(other, SessionPhase::Authorized, "another tenant's goes on");
    }
}

#[test]
fn a_session_that_is_told_to_have_ended_is_terminated_while_its_token_may_be_accepted() {
    for (later, terminated) in [(0, true), (CLOCK_SKEW_MS, true), (CLOCK_SKEW_MS + 1, false)] {
        let mut platform = Platform::new();
        let acme = platform.acme;
        let seen = Seen { node: platform.entry, sequence: 1, at: platform.world.now };
        let (reason, bytes_up, bytes_down) = (EndReason::ClientLost, 0, 0);
        let ended = SessionCommand::RecordEnded { seen, reason, bytes_up, bytes_down };
        platform.world.session(acme.session, ended);
        platform.world.advance(GRANT_TTL_MS + later);
        platform.must::<Policy>(acme.policy.uuid(), PolicyCommand::Remove);
        settle(&mut platform);
        let session = platform.state().sessions().get(acme.session).unwrap();
        assert_eq!(session.phase, SessionPhase::Ended);
        let cause = session.terminated.map(|terminated| terminated.cause);
        assert_eq!(cause, terminated.then_some(TerminationCause::AccessWithdrawn));
        assert_eq!(platform.state().sessions().denied_at(acme.session).count() > 0, terminated);
    }
}

#[test]
fn the_logins_of_a_disabled_user_are_closed() {
    let mut platform = Platform::new();
    let user = platform.acme.user;
    platform.must::<User>(user.uuid(), UserCommand::Disable { reason: String::new() });
    let closing = steps(&platform).into_iter().find(|step| step.process == "login-closing");
    let ProcessCommand::Login(login, command) = closing.unwrap().command else { panic!() };
    let rap_events::login::LoginCommand::Close { reason } = command else { panic!() };
    assert_eq!((login, reason), (login_id(user), LoginCloseReason::UserDisabled));
    settle(&mut platform);
    assert_eq!(platform.state().logins().of(user).count(), 0);
}

#[test]
fn a_password_change_closes_every_login_but_the_one_that_made_it() {
    let mut platform = Platform::new();
    let user = platform.acme.user;
    let other = rap_proto::LoginId::from_uuid(uuid(0x7000));
    platform.must::<rap_events::login::Login>(
        other.uuid(),
        rap_events::login::LoginCommand::Open {
            user,
            secret: crate::world::digest("elsewhere").into(),
            expires_at: platform.world.now + Duration::from_secs(3_600),
            device: rap_events::Personal::default(),
        },
    );
    let change = UserCommand::ChangePassword { verifier: PHC.to_owned().into() };
    let actor = person(user).actor();
    platform.world.give::<User>(user.uuid(), &actor, change).unwrap();
    settle(&mut platform);
    let open: Vec<_> = platform.state().logins().of(user).map(|login| login.id).collect();
    assert_eq!(open, vec![login_id(user)]);
}

#[test]
fn a_new_grant_ends_the_sessions_of_the_generation_before() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    platform.carry(acme);
    let [old, unused] = [0x7010, 0x7011].map(|n| SessionId::from_uuid(uuid(n)));
    platform.world.connect(acme, acme.user, old).unwrap();
    platform.release(acme);
    settle(&mut platform);
    assert_eq!(phase(&platform, old), SessionPhase::Authorized, "nobody has followed yet");
    platform.world.connect(acme, acme.user, unused).unwrap_err();
    platform.grant(acme, acme.egress, 2);
    let new = SessionId::from_uuid(uuid(0x7012));
    platform.world.connect(acme, acme.user, new).unwrap();
    settle(&mut platform);
    let terminated = platform.state().sessions().get(old).unwrap().terminated.unwrap();
    assert_eq!(terminated.cause, TerminationCause::LeaseSuperseded);
    assert_eq!(phase(&platform, new), SessionPhase::Authorized);
}

#[test]
fn one_answer_is_bounded() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    for n in 0..MAX_STEPS as u128 {
        let session = SessionId::from_uuid(uuid(0x1_0000 + n));
        platform.world.connect(acme, acme.user, session).unwrap();
    }
    platform.must::<Policy>(acme.policy.uuid(), PolicyCommand::Remove);
    assert_eq!(steps(&platform).len(), MAX_STEPS);
    settle(&mut platform);
    let alive = platform.state().sessions().iter().filter(|session| session.is_alive());
    assert_eq!(alive.count(), 1, "only the other tenant's");
}
