use rap_proto::paths::DirectPaths;

use super::*;

/// A relay of these organizations, asked by an egress of those.
fn asked(own: &[OrganizationId], egress: &[OrganizationId]) -> Given {
    let mut given = given(NodeRole::RelayNode);
    given.sections.assignment.roles = vec![scope(NodeRole::RelayNode, own)];
    given.sections.peers.peers = vec![peer(EGRESS, NodeRole::StreamWorker, egress)];
    given
}

fn answer(given: &Given) -> Result<(), RefusalCode> {
    admit_reachable(&given.view(), &caller(EGRESS), NOW)
}

#[test]
fn an_egress_may_where_it_shares_an_organization_with_the_relay() {
    for (own, egress) in
        [(&[ACME][..], &[ACME][..]), (&[], &[ACME]), (&[ACME], &[]), (&[ACME, OTHER], &[OTHER])]
    {
        let given = asked(own, egress);
        assert_eq!(answer(&given), Ok(()), "{own:?} {egress:?}");
        assert!(may_stay_reachable(&given.view(), &caller(EGRESS), NOW));
    }
    let given = asked(&[ACME], &[OTHER]);
    assert_eq!(answer(&given), Err(RefusalCode::RoleNotAssigned));
    assert!(!may_stay_reachable(&given.view(), &caller(EGRESS), NOW));
}

#[test]
fn nobody_else_may_and_no_node_that_is_no_relay_is_asked() {
    let mut entry = asked(&[ACME], &[ACME]);
    entry.sections.peers.peers = vec![peer(EGRESS, NodeRole::EntryNode, &[ACME])];
    assert_eq!(answer(&entry), Err(RefusalCode::RoleNotAssigned));
    let mut unknown = asked(&[ACME], &[ACME]);
    unknown.sections.peers.peers.clear();
    assert_eq!(answer(&unknown), Err(RefusalCode::PeerNotTrusted));
    let mut no_relay = asked(&[ACME], &[ACME]);
    no_relay.sections.assignment.roles = vec![scope(NodeRole::EntryNode, &[ACME])];
    assert_eq!(answer(&no_relay), Err(RefusalCode::RoleNotAssigned));
    let other_key = Caller { key: Digest::of(b"another"), ..caller(EGRESS) };
    let known = asked(&[ACME], &[ACME]).view();
    assert_eq!(admit_reachable(&known, &other_key, NOW), Err(RefusalCode::PeerNotTrusted));
    assert!(!may_stay_reachable(&known, &other_key, NOW));
}

#[test]
fn a_relay_tells_entries_and_egresses_of_its_organizations_where_it_sees_them() {
    let said = |role, organizations: &[OrganizationId]| {
        let mut given = asked(&[ACME], &[]);
        given.sections.peers.peers = vec![peer(EGRESS, role, organizations)];
        admit_seen(&given.view(), &caller(EGRESS), NOW)
    };
    for role in [NodeRole::EntryNode, NodeRole::StreamWorker] {
        assert_eq!(said(role, &[ACME]), Ok(()));
        assert_eq!(said(role, &[OTHER]), Err(RefusalCode::RoleNotAssigned));
    }
    assert_eq!(said(NodeRole::RelayNode, &[ACME]), Err(RefusalCode::RoleNotAssigned));
    let stranger = admit_seen(&asked(&[ACME], &[ACME]).view(), &caller(ENTRY), NOW);
    assert_eq!(stranger, Err(RefusalCode::PeerNotTrusted));
}

#[test]
fn an_egress_meets_entries_of_its_organizations() {
    let met = |role, organizations: &[OrganizationId]| {
        let mut given = given(NodeRole::StreamWorker);
        given.sections.peers.peers = vec![peer(ENTRY, role, organizations)];
        admit_meeting(&given.view(), &caller(ENTRY), NOW)
    };
    assert_eq!(met(NodeRole::EntryNode, &[ACME]), Ok(()));
    assert_eq!(met(NodeRole::EntryNode, &[OTHER]), Err(RefusalCode::RoleNotAssigned));
    assert_eq!(met(NodeRole::RelayNode, &[ACME]), Err(RefusalCode::RoleNotAssigned));
    let mut forbidden = given(NodeRole::StreamWorker);
    forbidden.sections.peers.peers = vec![peer(ENTRY, NodeRole::EntryNode, &[ACME])];
    forbidden.sections.paths.rule.direct = DirectPaths::Forbidden;
    let refused = admit_meeting(&forbidden.view(), &caller(ENTRY), NOW);
    assert_eq!(refused, Err(RefusalCode::PathUnavailable), "the platform wants no direct paths");
    let late = Timestamp::from_unix_millis(2_000_000_001);
    let view = given(NodeRole::StreamWorker).view();
    assert_eq!(admit_meeting(&view, &caller(ENTRY), late), Err(RefusalCode::SnapshotStale));
    assert_eq!(admit_meeting(&view, &caller(OWN), NOW), Err(RefusalCode::PeerNotTrusted));
}

#[test]
fn a_relay_that_drains_takes_nobody_and_keeps_who_is_there() {
    let mut given = asked(&[ACME], &[ACME]);
    given.sections.assignment.draining = true;
    assert_eq!(answer(&given), Err(RefusalCode::NodeDraining));
    assert!(may_stay_reachable(&given.view(), &caller(EGRESS), NOW));
}

#[test]
fn a_relay_with_a_stale_snapshot_takes_nobody_and_keeps_whom_its_policy_lets_it() {
    let mut given = asked(&[ACME], &[ACME]);
    let late = Timestamp::from_unix_millis(2_000_000_001);
    let refused = admit_reachable(&given.view(), &caller(EGRESS), late);
    assert_eq!(refused, Err(RefusalCode::SnapshotStale));
    assert!(!may_stay_reachable(&given.view(), &caller(EGRESS), late));
    given.manifest.stale_policy = StalePolicy::KeepSessions;
    assert!(may_stay_reachable(&given.view(), &caller(EGRESS), late));
}
