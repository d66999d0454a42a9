#![allow(clippy::unwrap_used)]

use rap_proto::OrganizationRole;

use super::*;
use crate::tests::{
    given::given,
    samples::{ACME, ALICE, BOB, GLOBEX},
};

const USER: OrganizationRole = OrganizationRole::User;
const ADMIN: OrganizationRole = OrganizationRole::Admin;

fn grant(role: OrganizationRole) -> MembershipCommand {
    MembershipCommand::Grant { organization: ACME, user: ALICE, role }
}

fn granted(role: OrganizationRole) -> MembershipEvent {
    MembershipGranted { organization: ACME, user: ALICE, role }.into()
}

fn revoked() -> MembershipEvent {
    MembershipRevoked { organization: ACME, user: ALICE }.into()
}

#[test]
fn a_membership_is_granted_also_after_a_revocation() {
    given::<Membership>([]).when(grant(USER)).then([granted(USER)]);
    given::<Membership>([granted(USER)]).when(grant(USER)).nothing();
    given::<Membership>([granted(USER)])
        .when(grant(ADMIN))
        .rejected(MembershipRejection::AlreadyMember);
    given::<Membership>([granted(USER), revoked()]).when(grant(ADMIN)).then([granted(ADMIN)]);
}

#[test]
fn a_stream_belongs_to_one_pair() {
    for (organization, user) in [(GLOBEX, ALICE), (ACME, BOB)] {
        given::<Membership>([granted(USER), revoked()])
            .when(MembershipCommand::Grant { organization, user, role: USER })
            .rejected(MembershipRejection::OtherMembership);
    }
}

#[test]
fn a_role_is_changed() {
    let change = |role| MembershipCommand::Change { role };
    let changed = MembershipChanged { organization: ACME, user: ALICE, role: ADMIN };
    let state = given::<Membership>([granted(USER)]).when(change(ADMIN)).then([changed.into()]);
    assert_eq!(state.role, Some(ADMIN));
    given::<Membership>([granted(USER)]).when(change(USER)).nothing();
    for events in [vec![], vec![granted(USER), revoked()]] {
        given::<Membership>(events).when(change(ADMIN)).rejected(MembershipRejection::NotAMember);
    }
}

#[test]
fn a_membership_is_revoked() {
    let revoke = MembershipCommand::Revoke;
    given::<Membership>([granted(USER)]).when(revoke.clone()).then([revoked()]);
    given::<Membership>([granted(USER), revoked()]).when(revoke.clone()).nothing();
    given::<Membership>([]).when(revoke).rejected(MembershipRejection::NotAMember);
}
