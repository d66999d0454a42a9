#![allow(clippy::unwrap_used)]

use std::time::Duration;

use rap_events::{
    catalogue::catalogue,
    node::{Node, NodeCommand},
    organization::{Organization, OrganizationCommand},
    session::{SessionCommand, TerminationCause},
};
use rap_proto::{Moment, SessionId};

use super::{events::*, *};
use crate::world::{Platform, Tenant, uuid};

fn set(platform: &mut Platform, tenant: Tenant, quotas: Quotas) {
    platform.must::<Organization>(tenant.id.uuid(), OrganizationCommand::SetQuotas { quotas });
}

#[test]
fn an_organization_has_as_many_nodes_as_its_quota_says() {
    let mut platform = Platform::new();
    let (acme, globex) = (platform.acme, platform.globex);
    assert_eq!(check_nodes(platform.state(), acme.id), Ok(()));
    set(&mut platform, acme, Quotas { nodes: 1, ..Quotas::default() });
    let reached = QuotaReached { quota: Quota::Nodes, limit: 1, used: 1 };
    assert_eq!(check_nodes(platform.state(), acme.id), Err(reached));
    assert_eq!(reached.to_string(), "1 of 1 nodes are in use");
    assert_eq!(check_nodes(platform.state(), globex.id), Ok(()), "the other has its own");
    let revoke = NodeCommand::Revoke { note: String::new() };
    platform.must::<Node>(acme.egress.uuid(), revoke);
    assert_eq!(check_nodes(platform.state(), acme.id), Ok(()), "what is gone does not count");
}

#[test]
fn an_organization_has_as_many_sessions_as_its_quota_says() {
    let mut platform = Platform::new();
    let (acme, globex) = (platform.acme, platform.globex);
    set(&mut platform, acme, Quotas { sessions: 2, ..Quotas::default() });
    assert_eq!(check_sessions(platform.state(), acme.id), Ok(()));
    let second = SessionId::from_uuid(uuid(0x9001));
    platform.world.connect(acme, acme.user, second).unwrap();
    let reached = QuotaReached { quota: Quota::Sessions, limit: 2, used: 2 };
    assert_eq!(check_sessions(platform.state(), acme.id), Err(reached));
    assert_eq!(check_sessions(platform.state(), globex.id), Ok(()));
    let cause = TerminationCause::Requested;
    platform.world.session(second, SessionCommand::Terminate { cause });
    assert_eq!(check_sessions(platform.state(), acme.id), Ok(()));
    assert_eq!(usage(platform.state(), acme.id), Usage { nodes: 1, sessions: 1 });
}

fn at(millis: u64) -> Moment {
    Moment::from_micros(millis * 1_000)
}

#[test]
fn events_pass_in_bursts_and_then_at_their_rate() {
    let (mut buckets, acme) = (EventBuckets::default(), OrganizationId::from_u128(1));
    for _ in 0..10 * BURST_SECONDS {
        assert_eq!(buckets.spend(at(0), acme, 10, 1), Ok(()));
    }
    let spent = buckets.spend(at(0), acme, 10, 1).unwrap_err();
    assert_eq!(spent.retry_after, Duration::from_millis(100));
    let reached = QuotaReached { quota: Quota::EventsPerSecond, limit: 10, used: 10 };
    assert_eq!(spent.reached, reached);
    assert_eq!(buckets.spend(at(0), OrganizationId::from_u128(2), 10, 1), Ok(()));
    assert_eq!(buckets.spend(at(100), acme, 10, 1), Ok(()), "whoever waits gets through");
    assert!(buckets.spend(at(100), acme, 10, 2).is_err());
    // One append of more events than a bucket holds passes a full bucket, and takes it whole.
    assert_eq!(buckets.spend(at(60_000), acme, 10, 1_000), Ok(()));
    assert!(buckets.spend(at(60_000), acme, 10, 1).is_err());
}

#[test]
fn so_many_organizations_are_counted_and_full_buckets_are_forgotten() {
    let mut buckets = EventBuckets::default();
    let organization = |number: usize| OrganizationId::from_u128(number as u128);
    for number in 0..=MAX_EVENT_BUCKETS {
        assert_eq!(buckets.spend(at(0), organization(number), 1, 1), Ok(()));
    }
    assert_eq!(buckets.remembered(), MAX_EVENT_BUCKETS);
    assert_eq!(buckets.spend(at(5_000), organization(MAX_EVENT_BUCKETS), 1, 1), Ok(()));
    assert_eq!(buckets.remembered(), 1);
}

#[test]
fn what_takes_authority_away_is_not_counted_and_everything_uncounted_exists() {
    let known: Vec<&str> = catalogue().into_iter().map(|kind| kind.event_type).collect();
    let uncounted: Vec<&&str> = known.iter().filter(|kind| !is_counted(kind)).collect();
    assert_eq!(uncounted.len(), 11, "{uncounted:?}");
    for counted in ["session.authorized", "resource.created", "membership.granted"] {
        assert!(known.contains(&counted) && is_counted(counted));
    }
}
