#![allow(clippy::unwrap_used)]

use rap_events::{
    cluster::{Cluster, ClusterCommand},
    login::{Login, LoginCloseReason, LoginCommand},
    membership::{Membership, MembershipCommand},
    node::{Node, NodeCommand},
    organization::{Organization, OrganizationCommand},
    resource::{Resource, ResourceCommand},
    user::{User, UserCommand},
};
use rap_proto::{OrganizationRole, SessionId};

use super::{Corrupt, FOLD_VERSION, REVOKED_KEPT_MS, State, sessions::MAX_OVER_PER_ORGANIZATION};
use crate::world::{Platform, check_golden, digest, login_id, name, uuid};

const DAY_MS: u64 = 24 * 3_600_000;

#[test]
fn a_replay_equals_the_live_state_byte_for_byte() {
    let platform = Platform::new();
    let live = platform.state().to_bytes();
    assert_eq!(platform.world.replay().to_bytes(), live);
    assert_eq!(State::from_bytes(&live).unwrap().to_bytes(), live);
}

#[test]
fn a_checkpoint_folds_on_like_the_state_that_it_was_taken_from() {
    let platform = Platform::new();
    let half = platform.world.log.len() / 2;
    let mut state = State::default();
    for envelope in &platform.world.log[..half] {
        state.fold(envelope).unwrap();
    }
    let mut resumed = State::from_bytes(&state.to_bytes()).unwrap();
    for envelope in &platform.world.log[half..] {
        resumed.fold(envelope).unwrap();
    }
    assert_eq!(resumed.to_bytes(), platform.state().to_bytes());
}

#[test]
fn a_fold_that_gives_other_bytes_has_another_version() {
    let platform = Platform::new();
    let text = format!("{FOLD_VERSION} {}\n", platform.state().digest());
    // When this differs, raise FOLD_VERSION: caches of the version before must not be used.
    check_golden("fold.txt", &text);
}

#[test]
fn two_states_that_differ_say_in_which_projections() {
    let mut platform = Platform::new();
    let before = platform.world.replay();
    assert_eq!(before.differing(platform.state()), Vec::<&str>::new());
    let acme = platform.acme;
    platform.must::<Resource>(acme.resource.uuid(), ResourceCommand::Remove);
    let differing = before.differing(platform.state());
    assert!(differing.contains(&"resources") && differing.contains(&"position"), "{differing:?}");
    assert!(!differing.contains(&"users"), "{differing:?}");
}

#[test]
fn a_gap_in_the_log_is_corruption() {
    let platform = Platform::new();
    let mut state = State::default();
    state.fold(&platform.world.log[0]).unwrap();
    let error = state.fold(&platform.world.log[2]).unwrap_err();
    assert_eq!(error, Corrupt::Gap { last: 1, next: 3 });
}

#[test]
fn an_event_twice_is_corruption() {
    let platform = Platform::new();
    let mut state = State::default();
    state.fold(&platform.world.log[0]).unwrap();
    let error = state.fold(&platform.world.log[0]).unwrap_err();
    assert_eq!(error, Corrupt::Gap { last: 1, next: 1 });
}

#[test]
fn a_skipped_revision_is_corruption() {
    let mut platform = Platform::new();
    let mut envelope = platform.world.log.last().unwrap().clone();
    envelope.position += 1;
    envelope.revision += 2;
    let error = platform.world.state.fold(&envelope).unwrap_err();
    assert!(matches!(error, Corrupt::Revision { .. }), "{error}");
}

#[test]
fn an_unknown_event_is_corruption() {
    let mut platform = Platform::new();
    let mut envelope = platform.world.log.last().unwrap().clone();
    envelope.position += 1;
    envelope.revision += 1;
    let known = (envelope.event_type.clone(), envelope.schema);
    for (event_type, schema) in [("session.dreamt".to_owned(), 1), (known.0, known.1 + 1)] {
        (envelope.event_type, envelope.schema) = (event_type, schema);
        let error = platform.world.state.fold(&envelope).unwrap_err();
        assert!(matches!(error, Corrupt::Event { .. }), "{error}");
        assert!(error.is_of_a_later_release(), "{error}");
    }
}

#[test]
fn only_what_nobody_here_knows_is_of_a_later_release() {
    let mut platform = Platform::new();
    let mut envelope = platform.world.log.last().unwrap().clone();
    envelope.position += 1;
    envelope.revision += 1;
    envelope.payload = b"torn".to_vec().into();
    let torn = platform.world.state.fold(&envelope).unwrap_err();
    let gap = Corrupt::Gap { last: 1, next: 3 };
    for damage in [torn, gap] {
        assert!(!damage.is_of_a_later_release(), "{damage}");
        assert!(damage.explanation().contains("damaged"), "{damage}");
    }
}

#[test]
fn an_event_about_something_never_created_is_corruption() {
    let mut platform = Platform::new();
    let mut envelope =
        platform.world.log.iter().find(|e| e.event_type == "node.approved").unwrap().clone();
    envelope.position = platform.state().position() + 1;
    envelope.stream.id = uuid(0xdead);
    let error = platform.world.state.fold(&envelope).unwrap_err();
    assert!(matches!(error, Corrupt::Uncreated { .. }), "{error}");
}

#[test]
fn things_are_found_by_name_until_they_are_renamed_or_removed() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    assert_eq!(platform.state().organizations().named(&name("acme")).unwrap().id, acme.id);
    platform.must::<Organization>(
        acme.id.uuid(),
        OrganizationCommand::Rename { name: name("acme-two") },
    );
    assert!(platform.state().organizations().named(&name("acme")).is_none());
    assert!(platform.state().organizations().named(&name("acme-two")).is_some());
    let found = platform.state().resources().named(acme.id, &name("acme-ssh")).unwrap();
    assert_eq!(found.id, acme.resource);
    assert!(platform.state().resources().named(platform.globex.id, &name("acme-ssh")).is_none());
    platform.must::<Resource>(acme.resource.uuid(), ResourceCommand::Remove);
    assert!(platform.state().resources().named(acme.id, &name("acme-ssh")).is_none());
    assert_eq!(platform.state().resources().in_pool(acme.pool).count(), 0);
}

#[test]
fn a_login_is_found_by_its_secret_until_it_is_closed_or_expires() {
    let mut platform = Platform::new();
    let user = platform.acme.user;
    let secret = digest("login of acme-user");
    let now = platform.world.now;
    assert_eq!(platform.state().logins().presented(&secret, now).unwrap().user, user);
    let late = now + std::time::Duration::from_secs(7 * 86_400);
    assert!(platform.state().logins().presented(&secret, late).is_none());
    platform.must::<Login>(
        login_id(user).uuid(),
        LoginCommand::Close { reason: LoginCloseReason::SignedOut },
    );
    assert!(platform.state().logins().presented(&secret, now).is_none());
    assert_eq!(platform.state().logins().of(user).count(), 0);
}

#[test]
fn expired_logins_are_forgotten_when_the_next_one_opens() {
    let mut platform = Platform::new();
    let before = platform.state().logins().iter().count();
    platform.world.advance(8 * DAY_MS);
    platform.world.person(0x900, "late");
    assert!(before > 1);
    assert_eq!(platform.state().logins().iter().count(), 1);
    assert_eq!(platform.state().api_tokens().iter().count(), 1);
}

#[test]
fn an_invitation_is_found_by_its_secret_until_it_is_used() {
    let mut platform = Platform::new();
    let user = platform.acme.user;
    let expires_at = platform.world.now + std::time::Duration::from_secs(3_600);
    for text in ["first", "second"] {
        platform.must::<User>(
            user.uuid(),
            UserCommand::Invite { secret: digest(text).into(), expires_at },
        );
    }
    assert!(platform.state().users().invited(&digest("first")).is_none());
    assert_eq!(platform.state().users().invited(&digest("second")).unwrap().id, user);
    platform.must::<User>(
        user.uuid(),
        UserCommand::AcceptInvitation {
            presented: digest("second").into(),
            verifier: crate::world::PHC.to_owned().into(),
        },
    );
    assert!(platform.state().users().invited(&digest("second")).is_none());
}

#[test]
fn a_revoked_membership_keeps_its_revision() {
    let mut platform = Platform::new();
    let (acme, user) = (platform.acme.id, platform.acme.user);
    let stream = rap_events::keys::membership_id(acme, user);
    platform.must::<Membership>(stream, MembershipCommand::Revoke);
    let membership = platform.state().users().membership(acme, user).unwrap();
    assert_eq!((membership.role, membership.stamp.revision), (None, 2));
    assert_eq!(platform.state().users().organizations_of(user).count(), 0);
    platform.world.member(acme, user, OrganizationRole::Admin);
    assert_eq!(platform.state().users().role(acme, user), Some(OrganizationRole::Admin));
}

#[test]
fn the_last_owner_is_known() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    assert!(platform.state().users().is_last_owner(acme.id, acme.owner));
    platform.world.member(acme.id, platform.owner, OrganizationRole::Owner);
    assert!(!platform.state().users().is_last_owner(acme.id, acme.owner));
    let disable = UserCommand::Disable { reason: String::new() };
    platform.must::<User>(platform.owner.uuid(), disable);
    assert!(platform.state().users().is_last_owner(acme.id, acme.owner));
}

#[test]
fn an_erased_user_is_nobody_and_keeps_the_name() {
    let mut platform = Platform::new();
    let owner = platform.owner;
    let called = platform.state().users().get(owner).unwrap().name.clone();
    platform.must::<User>(owner.uuid(), UserCommand::Erase);
    let user = platform.state().users().named(&called).unwrap();
    assert!(user.id == owner && user.erased && user.disabled);
    assert!(user.platform_roles.is_empty() && user.verifier.is_none() && user.invitation.is_none());
    assert!(!platform.state().users().is_active(owner));
    assert!(!platform.state().users().is_last_platform_owner(owner));
}

#[test]
fn a_revoked_node_is_forgotten_long_after_its_certificate_expired() {
    let mut platform = Platform::new();
    let egress = platform.acme.egress;
    platform.must::<Node>(egress.uuid(), NodeCommand::Revoke { note: String::new() });
    assert!(platform.state().nodes().named(&name("acme-egress")).is_none());
    platform.must::<Cluster>(platform.cluster.uuid(), ClusterCommand::RenewSnapshots);
    assert!(platform.state().nodes().get(egress).is_some());
    platform.world.advance(REVOKED_KEPT_MS + 1);
    platform.must::<Cluster>(platform.cluster.uuid(), ClusterCommand::RenewSnapshots);
    assert!(platform.state().nodes().get(egress).is_none());
}

#[test]
fn only_the_newest_sessions_that_are_over_are_remembered() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    for n in 0..=MAX_OVER_PER_ORGANIZATION as u128 {
        // The admin is permitted nothing: each is denied.
        let session = SessionId::from_uuid(uuid(0x1_0000 + n));
        platform.world.connect(acme, acme.admin, session).unwrap_err();
    }
    let known = |n| platform.state().sessions().get(SessionId::from_uuid(uuid(n))).is_some();
    assert!(!known(0x1_0000), "the oldest is forgotten");
    assert!(known(0x1_0001));
    assert!(known(0x160), "an open one never is");
    let of_acme = platform.state().sessions().iter().filter(|s| s.organization == acme.id).count();
    assert_eq!(of_acme, MAX_OVER_PER_ORGANIZATION + 1);
}

#[test]
fn the_state_shows_no_secret_when_it_is_printed() {
    let platform = Platform::new();
    let text = format!("{:?}", platform.state());
    assert_eq!(text, format!("State {{ position: {}, .. }}", platform.state().position()));
}
