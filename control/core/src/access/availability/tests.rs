#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rap_events::{
    node::{Node, NodeCommand},
    organization::{Organization, OrganizationCommand},
};
use rap_proto::{
    NodeId, NodeRole, Timestamp,
    api::Availability::{self, Available, Degraded, Unavailable},
    snapshot::RoleScope,
};

use super::{Known, Outlook};
use crate::{
    access::{LIVENESS_MS, Live, Liveness},
    world::{Platform, Tenant},
};

/// Two egresses of acme's pool, one of globex', and the entry and the relay of all.
struct Bench {
    platform: Platform,
    second: NodeId,
    live: Liveness,
    listening_since: Timestamp,
    frozen: bool,
}

impl Bench {
    /// Everybody was heard a moment ago.
    fn new() -> Self {
        let mut platform = Platform::new();
        let acme = platform.acme;
        let only = Some(BTreeSet::from([acme.id]));
        let roles = vec![RoleScope { role: NodeRole::StreamWorker, organizations: only }];
        let second = platform.world.node(0x121, "acme-second", Some(acme.id), roles, &[acme.pool]);
        let listening_since = platform.world.now;
        platform.world.advance(2 * LIVENESS_MS);
        let live = BTreeMap::new();
        let mut bench = Self { platform, second, live, listening_since, frozen: false };
        let Platform { entry, relay, acme, globex, .. } = bench.platform;
        for node in [entry, relay, acme.egress, second, globex.egress] {
            bench.hears(node, false);
        }
        bench
    }

    fn hears(&mut self, node: NodeId, draining: bool) {
        let seen_at = self.platform.world.now;
        self.live.insert(node, Live { seen_at, snapshot_version: 1, draining });
    }

    fn loses(&mut self, node: NodeId) {
        self.live.get_mut(&node).unwrap().seen_at = self.listening_since;
    }

    fn drains(&mut self, node: NodeId) {
        self.platform.must::<Node>(node.uuid(), NodeCommand::StartDraining);
    }

    fn word(&self, tenant: Tenant) -> Availability {
        let state = self.platform.state();
        let resource = state.within(tenant.id).resources().get(tenant.resource).unwrap();
        self.outlook(tenant).of(resource)
    }

    fn outlook(&self, tenant: Tenant) -> Outlook<'_> {
        let known = Known {
            state: self.platform.state(),
            live: Box::new(|node| self.live.get(&node).copied()),
            listening_since: self.listening_since,
            now: self.platform.world.now,
            frozen: self.frozen,
        };
        Outlook::new(known, tenant.id)
    }
}

#[test]
fn what_has_all_that_it_is_meant_to_have_is_available() {
    let bench = Bench::new();
    assert_eq!(bench.word(bench.platform.acme), Available);
    assert_eq!(bench.word(bench.platform.globex), Available);
}

#[test]
fn fewer_egresses_than_are_meant_degrade_and_none_is_unavailable() {
    for fewer in [Bench::loses, Bench::drains, |bench: &mut Bench, node| bench.hears(node, true)] {
        let mut bench = Bench::new();
        let acme = bench.platform.acme;
        fewer(&mut bench, acme.egress);
        assert_eq!(bench.word(acme), Degraded);
        let second = bench.second;
        fewer(&mut bench, second);
        assert_eq!(bench.word(acme), Unavailable);
        assert_eq!(bench.word(bench.platform.globex), Available, "a stranger's egress is nothing");
    }
}

#[test]
fn relays_are_not_looked_at_and_the_last_entry_is() {
    let mut bench = Bench::new();
    let Platform { acme, relay, entry, .. } = bench.platform;
    bench.loses(relay);
    bench.drains(relay);
    assert_eq!(bench.word(acme), Available);
    let anywhere = vec![RoleScope { role: NodeRole::EntryNode, organizations: None }];
    let another = bench.platform.world.node(0x22, "entry-2", None, anywhere, &[]);
    bench.hears(another, false);
    bench.loses(entry);
    assert_eq!(bench.word(acme), Available, "one of two entries is enough");
    bench.loses(another);
    assert_eq!(bench.word(acme), Unavailable);
}

#[test]
fn nobodys_silence_means_anything_before_control_has_listened_for_long_enough() {
    let mut bench = Bench::new();
    let acme = bench.platform.acme;
    bench.live.clear();
    assert_eq!(bench.word(acme), Unavailable);
    let long_enough = Duration::from_millis(LIVENESS_MS);
    bench.listening_since = bench.platform.world.now - long_enough;
    assert_eq!(bench.word(acme), Available);
    bench.listening_since = bench.listening_since - Duration::from_millis(1);
    assert_eq!(bench.word(acme), Unavailable);
    bench.listening_since = Timestamp::from_unix_millis(i64::MAX);
    assert_eq!(bench.word(acme), Available, "nobody listens yet");
}

#[test]
fn what_is_frozen_is_degraded_at_best() {
    let mut bench = Bench::new();
    let acme = bench.platform.acme;
    bench.frozen = true;
    assert_eq!(bench.word(acme), Degraded);
    for egress in [acme.egress, bench.second] {
        bench.loses(egress);
    }
    assert_eq!(bench.word(acme), Unavailable);
}

#[test]
fn what_a_connection_carries_needs_the_holder_of_its_lease_and_nobody_else() {
    let mut bench = Bench::new();
    let acme = bench.platform.acme;
    bench.platform.carry(acme);
    let second = bench.second;
    bench.loses(second);
    assert_eq!(bench.word(acme), Available, "the other one holds it");
    bench.platform.release(acme);
    assert_eq!(bench.word(acme), Unavailable, "nobody holds it");
    bench.platform.grant(acme, acme.egress, 2);
    assert_eq!(bench.word(acme), Available);
    bench.loses(acme.egress);
    assert_eq!(bench.word(acme), Unavailable);
}

#[test]
fn nothing_of_a_suspended_organization_is_available_and_nothing_of_another_is_told() {
    let mut bench = Bench::new();
    let Platform { acme, globex, .. } = bench.platform;
    let theirs = bench.platform.state().within(globex.id).resources().get(globex.resource);
    assert_eq!(bench.outlook(acme).of(theirs.unwrap()), Unavailable);
    let suspend = OrganizationCommand::Suspend { reason: "unpaid".to_owned() };
    bench.platform.must::<Organization>(acme.id.uuid(), suspend);
    assert_eq!(bench.word(acme), Unavailable);
    assert_eq!(bench.word(globex), Available);
}
