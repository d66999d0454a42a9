//! Everything that must be refused: the exact code at the client, an event for the audit, and
//! nothing reached.

use std::{collections::BTreeMap, time::Duration};

use rap_mesh::{MeshEvent, client::ConnectError};
use rap_proto::{
    ChannelKind, ClusterId, NodeId, NodeRole, OrganizationId, RefusalCode, ResourceId,
    ResourceKind, SessionId, UserId, key::LocalKey, signed, token::AccessClaims,
};

use crate::{
    fabric::{EGRESS, ENTRY, Fabric, Plan, SESSION, client_key, key, now, open, open_refused},
    targets::echo,
};

/// Shows the entry a token and expects to be refused there.
async fn check_connect(
    token: impl FnOnce(&Fabric) -> (Vec<u8>, LocalKey),
    code: RefusalCode,
    claimed: bool,
) {
    let mut fabric = Fabric::start(&[], echo().await);
    let (token, key) = token(&fabric);
    refused_at_entry(&mut fabric, token, key, code, claimed).await;
}

async fn refused_at_entry(
    fabric: &mut Fabric,
    token: Vec<u8>,
    key: LocalKey,
    code: RefusalCode,
    claimed: bool,
) {
    match fabric.connect_with(token, key).await {
        Err(ConnectError::Refused(refusal)) => assert_eq!(refusal.code, code),
        other => panic!("expected {code}, got {other:?}"),
    }
    fabric.expect_refusal(ENTRY, code, claimed).await;
    assert!(fabric.dialer.requests.lock().unwrap().is_empty());
}

async fn check_claims(change: impl FnOnce(&mut AccessClaims), code: RefusalCode) {
    let token = |fabric: &Fabric| {
        let mut claims = fabric.claims();
        change(&mut claims);
        (fabric.token(&claims), client_key())
    };
    check_connect(token, code, true).await;
}

/// Changes what the entry knows, then connects with a good token.
async fn check_entry_plan(change: impl FnOnce(&mut Plan), code: RefusalCode) {
    let mut fabric = Fabric::start(&[], echo().await);
    let token = fabric.token(&fabric.claims());
    change(&mut fabric.plan);
    fabric.publish_to(ENTRY);
    refused_at_entry(&mut fabric, token, client_key(), code, true).await;
}

/// Connects with changed claims, which only the egress can tell are wrong.
async fn check_flow_claims(change: impl FnOnce(&mut AccessClaims), at: NodeId, code: RefusalCode) {
    let mut fabric = Fabric::start(&[], echo().await);
    let mut claims = fabric.claims();
    change(&mut claims);
    let session = fabric.connect(&claims).await.unwrap();
    assert_eq!(open_refused(&session).await.code, code);
    fabric.expect_refusal(at, code, true).await;
    assert!(fabric.dialer.requests.lock().unwrap().is_empty());
}

/// Changes what the egress knows, then opens a channel.
async fn check_egress_plan(change: impl FnOnce(&mut Plan), code: RefusalCode) {
    let mut fabric = Fabric::start(&[], echo().await);
    let session = fabric.session().await;
    change(&mut fabric.plan);
    fabric.publish_to(EGRESS);
    assert_eq!(open_refused(&session).await.code, code);
    fabric.expect_refusal(EGRESS, code, true).await;
    assert!(fabric.dialer.requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_token_of_nobody_we_know() {
    let stranger = |fabric: &Fabric| (signed::seal(&fabric.claims(), &[&key(99)]), client_key());
    check_connect(stranger, RefusalCode::TokenUntrusted, false).await;
}

#[tokio::test]
async fn a_token_that_is_none() {
    check_connect(|_| (vec![0xc1; 40], client_key()), RefusalCode::Malformed, false).await;
}

#[tokio::test]
async fn a_token_that_was_changed_after_it_was_signed() {
    let changed = |fabric: &Fabric| {
        let mut token = fabric.token(&fabric.claims());
        let user = USER_BYTES.as_slice();
        let at = token.windows(user.len()).position(|window| window == user).unwrap();
        token[at + user.len() - 1] ^= 1;
        (token, client_key())
    };
    check_connect(changed, RefusalCode::TokenUntrusted, false).await;
}

const USER_BYTES: [u8; 16] = 0x05_u128.to_be_bytes();

#[tokio::test]
async fn a_token_on_another_key() {
    let other = |fabric: &Fabric| (fabric.token(&fabric.claims()), key(78));
    check_connect(other, RefusalCode::TokenWrongKey, true).await;
}

#[tokio::test]
async fn an_expired_token() {
    let late = |claims: &mut AccessClaims| {
        claims.not_before = now() - Duration::from_secs(700);
        claims.expires_at = now() - Duration::from_secs(100);
    };
    check_claims(late, RefusalCode::TokenExpired).await;
}

#[tokio::test]
async fn a_token_that_is_too_old_to_connect_with() {
    let late = |claims: &mut AccessClaims| claims.connect_by = now() - Duration::from_secs(60);
    check_claims(late, RefusalCode::TokenExpired).await;
}

#[tokio::test]
async fn a_token_of_the_future() {
    let early = |claims: &mut AccessClaims| claims.not_before = now() + Duration::from_secs(60);
    check_claims(early, RefusalCode::TokenNotYetValid).await;
}

#[tokio::test]
async fn a_token_that_lives_too_long() {
    let long = |claims: &mut AccessClaims| claims.expires_at = now() + Duration::from_secs(7200);
    check_claims(long, RefusalCode::Malformed).await;
}

#[tokio::test]
async fn a_token_for_another_entry() {
    let other = |claims: &mut AccessClaims| claims.entries = [NodeId::from_u128(1)].into();
    check_claims(other, RefusalCode::TokenWrongAudience).await;
}

#[tokio::test]
async fn a_token_of_another_cluster_or_epoch() {
    let cluster = |claims: &mut AccessClaims| claims.cluster = ClusterId::from_u128(1);
    check_claims(cluster, RefusalCode::TokenWrongCluster).await;
    check_claims(|claims| claims.authority_epoch = 2, RefusalCode::TokenWrongCluster).await;
}

#[tokio::test]
async fn an_entry_without_the_role() {
    let unassigned = |plan: &mut Plan| {
        plan.roles.insert(ENTRY, Vec::new());
    };
    check_entry_plan(unassigned, RefusalCode::RoleNotAssigned).await;
}

#[tokio::test]
async fn an_entry_of_another_organization() {
    let other = OrganizationId::from_u128(9);
    check_claims(|claims| claims.organization = other, RefusalCode::RoleNotAssigned).await;
}

#[tokio::test]
async fn a_session_that_was_ended() {
    let denied = |plan: &mut Plan| plan.denied_sessions = [SESSION].into();
    check_entry_plan(denied, RefusalCode::SessionTerminated).await;
    check_egress_plan(denied, RefusalCode::SessionTerminated).await;
}

#[tokio::test]
async fn a_node_whose_snapshot_is_stale() {
    let stale = |plan: &mut Plan| plan.expires_at = now() - Duration::from_secs(1);
    check_entry_plan(stale, RefusalCode::SnapshotStale).await;
    check_egress_plan(stale, RefusalCode::SnapshotStale).await;
}

#[tokio::test]
async fn a_node_that_is_draining() {
    check_entry_plan(|plan| plan.draining = [ENTRY].into(), RefusalCode::NodeDraining).await;
    check_egress_plan(|plan| plan.draining = [EGRESS].into(), RefusalCode::NodeDraining).await;
}

#[tokio::test]
async fn an_egress_without_the_role() {
    let unassigned = |plan: &mut Plan| {
        plan.roles.insert(EGRESS, Vec::new());
    };
    check_egress_plan(unassigned, RefusalCode::RoleNotAssigned).await;
}

#[tokio::test]
async fn an_entry_that_the_egress_does_not_take_for_one() {
    let unassigned = |plan: &mut Plan| {
        plan.roles.insert(ENTRY, Vec::new());
    };
    check_egress_plan(unassigned, RefusalCode::RoleNotAssigned).await;
}

#[tokio::test]
async fn a_user_whom_no_policy_lets_in() {
    check_egress_plan(|plan| plan.users.clear(), RefusalCode::AccessDenied).await;
    let other = |claims: &mut AccessClaims| claims.user = UserId::from_u128(99);
    check_flow_claims(other, EGRESS, RefusalCode::AccessDenied).await;
}

#[tokio::test]
async fn a_resource_that_is_not_there_or_of_another_kind() {
    let absent = |claims: &mut AccessClaims| claims.resource = ResourceId::from_u128(99);
    check_flow_claims(absent, EGRESS, RefusalCode::AccessDenied).await;
    check_flow_claims(|claims| claims.kind = ResourceKind::Ssh, EGRESS, RefusalCode::AccessDenied)
        .await;
}

#[tokio::test]
async fn a_channel_or_lane_that_the_token_does_not_permit() {
    let code = RefusalCode::ChannelNotPermitted;
    check_flow_claims(|claims| claims.channels.clear(), ENTRY, code).await;
    let bulk_only = |claims: &mut AccessClaims| {
        let grant = claims.channels.get_mut(&ChannelKind::Stream).unwrap();
        grant.lanes = [rap_proto::Lane::Bulk].into();
    };
    check_flow_claims(bulk_only, ENTRY, code).await;
}

#[tokio::test]
async fn an_egress_that_the_entry_does_not_know() {
    let unknown = |claims: &mut AccessClaims| {
        claims.egresses = BTreeMap::from([(NodeId::from_u128(0xffff), 1)]);
    };
    check_flow_claims(unknown, ENTRY, RefusalCode::PeerNotTrusted).await;
}

#[tokio::test]
async fn a_revoked_egress() {
    let mut fabric = Fabric::start(&[], echo().await);
    let session = fabric.session().await;
    fabric.plan.denied_nodes = [EGRESS].into();
    fabric.publish_to(ENTRY);
    assert_eq!(open_refused(&session).await.code, RefusalCode::PeerNotTrusted);
    fabric.expect_refusal(ENTRY, RefusalCode::PeerNotTrusted, true).await;
}

#[tokio::test]
async fn a_revoked_entry() {
    let mut fabric = Fabric::start(&[], echo().await);
    let session = fabric.session().await;
    fabric.plan.denied_nodes = [ENTRY].into();
    fabric.publish_to(EGRESS);
    assert_eq!(open_refused(&session).await.code, RefusalCode::PeerNotTrusted);
    fabric.expect_refusal(EGRESS, RefusalCode::PeerNotTrusted, false).await;
}

#[tokio::test]
async fn an_egress_that_is_behind_the_token_asks_for_the_snapshot_and_waits_for_it() {
    let mut fabric = Fabric::start(&[], echo().await);
    let mut claims = fabric.claims();
    claims.egresses = BTreeMap::from([(EGRESS, 11)]);
    let session = fabric.connect(&claims).await.unwrap();
    let opening = tokio::spawn(async move { open(&session, rap_proto::Lane::Interactive).await });
    assert_eq!(fabric.event(EGRESS).await, MeshEvent::SnapshotWanted { version: 11 });
    fabric.plan.version = 11;
    fabric.publish_to(EGRESS);
    opening.await.unwrap();
}

#[tokio::test]
async fn an_egress_that_stays_behind_the_token() {
    let mut fabric = Fabric::start(&[], echo().await);
    let mut claims = fabric.claims();
    claims.egresses = BTreeMap::from([(EGRESS, 11)]);
    let session = fabric.connect(&claims).await.unwrap();
    assert_eq!(open_refused(&session).await.code, RefusalCode::SnapshotBehind);
    assert_eq!(fabric.event(EGRESS).await, MeshEvent::SnapshotWanted { version: 11 });
    fabric.expect_refusal(EGRESS, RefusalCode::SnapshotBehind, true).await;
}

#[tokio::test]
async fn a_target_that_refuses() {
    // It is bound and does not listen, so nobody else can.
    let bound = tokio::net::TcpSocket::new_v4().unwrap();
    bound.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let mut fabric = Fabric::start(&[], bound.local_addr().unwrap());
    let session = fabric.session().await;
    assert_eq!(open_refused(&session).await.code, RefusalCode::TargetRefused);
    fabric.expect_refusal(EGRESS, RefusalCode::TargetRefused, true).await;
}

#[tokio::test]
async fn a_refresh_with_a_token_of_another_session() {
    let mut fabric = Fabric::start(&[], echo().await);
    let session = fabric.session().await;
    let mut claims = fabric.claims();
    claims.session = SessionId::from_u128(99);
    let refused = session.refresh(fabric.token(&claims)).await.unwrap_err();
    let refusal = match refused {
        rap_mesh::client::RefreshError::Refused(refusal) => refusal,
        other => panic!("expected a refusal, got {other:?}"),
    };
    assert_eq!(refusal.code, RefusalCode::AccessDenied);
    fabric.expect_refusal(ENTRY, RefusalCode::AccessDenied, true).await;
    open(&session, rap_proto::Lane::Interactive).await;
}

#[tokio::test]
async fn an_assigned_role_of_another_kind_is_not_enough() {
    let relay = |plan: &mut Plan| {
        plan.roles.insert(ENTRY, vec![crate::fabric::platform(NodeRole::RelayNode)]);
    };
    check_entry_plan(relay, RefusalCode::RoleNotAssigned).await;
}
