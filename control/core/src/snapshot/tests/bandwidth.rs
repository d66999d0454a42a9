//! Who is told of bandwidth, and of whose.

use rap_events::{
    cluster::{Cluster, ClusterCommand},
    node::{Node, NodeCommand},
    organization::{Organization, OrganizationCommand},
    user::{User, UserCommand},
};
use rap_proto::{
    OrganizationId, UserId,
    bandwidth::{Allowance, Bandwidth, BandwidthRule, Traffic},
    carriers::{CarrierRule, CarrierRules},
};

use super::{all_bytes, holds, section, version};
use crate::{snapshot::compile, world::Platform};

fn capped(text: &str) -> Allowance {
    Allowance { cap: Some(text.parse().unwrap()), reserved: None }
}

fn grant(platform: &mut Platform, organization: OrganizationId) {
    let granted = capped("20mbit");
    platform
        .must::<Organization>(organization.uuid(), OrganizationCommand::GrantBandwidth { granted });
}

fn rule(platform: &mut Platform, organization: OrganizationId, user: UserId) {
    let everything = Traffic::default();
    let one = Traffic { user: Some(user), ..everything };
    let rules = [everything, one]
        .map(|traffic| BandwidthRule { traffic, allowance: capped("10mbit") })
        .to_vec();
    platform
        .must::<Organization>(organization.uuid(), OrganizationCommand::RuleBandwidth { rules });
}

#[test]
fn bandwidth_is_told_where_flows_begin_and_end_and_nowhere_else() {
    let mut platform = Platform::new();
    let (acme, globex) = (platform.acme, platform.globex);
    let before = version(&platform, globex.egress);
    grant(&mut platform, acme.id);
    rule(&mut platform, acme.id, acme.user);
    let told = |node| section::<Bandwidth>(platform.state(), node);
    let rules = |node| told(node).map(|told: Bandwidth| told.organizations[&acme.id].rules.len());
    assert_eq!((rules(acme.egress), rules(platform.entry)), (Some(2), Some(1)));
    assert_eq!((told(platform.relay), told(globex.egress)), (None, None));
    assert_eq!(version(&platform, globex.egress), before, "it was not touched");
    assert_eq!(version(&platform, platform.entry), platform.state().position());
    assert_eq!(version(&platform, acme.egress), platform.state().position());
}

#[test]
fn an_entry_is_told_of_no_user_by_a_rule() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    rule(&mut platform, acme.id, acme.user);
    let bytes = all_bytes(&compile(platform.state(), platform.entry).unwrap());
    assert!(!holds(&bytes, acme.user.uuid().as_bytes()));
}

#[test]
fn no_rule_tells_of_who_was_erased() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    rule(&mut platform, acme.id, acme.user);
    platform.must::<User>(acme.user.uuid(), UserCommand::Erase);
    let told: Bandwidth = section(platform.state(), acme.egress).unwrap();
    assert_eq!(told.organizations[&acme.id].rules.len(), 1);
    assert_eq!(version(&platform, acme.egress), platform.state().position());
}

#[test]
fn a_nodes_cap_is_its_own() {
    let mut platform = Platform::new();
    let egress = platform.acme.egress;
    let cap = Some("1gbit".parse().unwrap());
    platform.must::<Node>(egress.uuid(), NodeCommand::CapBandwidth { cap });
    let told: Bandwidth = section(platform.state(), egress).unwrap();
    assert_eq!(told, Bandwidth { node: cap, ..Bandwidth::default() });
    assert_eq!(section::<Bandwidth>(platform.state(), platform.entry), None);
    platform.must::<Node>(egress.uuid(), NodeCommand::CapBandwidth { cap: None });
    assert_eq!(section::<Bandwidth>(platform.state(), egress), None, "as before");
}

#[test]
fn what_is_removed_is_told_to_nobody() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    grant(&mut platform, acme.id);
    platform.must::<Organization>(acme.id.uuid(), OrganizationCommand::Remove);
    assert_eq!(section::<Bandwidth>(platform.state(), platform.entry), None);
    assert_eq!(version(&platform, platform.entry), platform.state().position());
}

#[test]
fn only_entries_are_told_of_carriers_and_again_when_nothing_is_said() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    let ruled = CarrierRules { bulk: Some(CarrierRule::TcpOnly), ..CarrierRules::default() };
    for carriers in [ruled, CarrierRules::default()] {
        platform
            .must::<Organization>(acme.id.uuid(), OrganizationCommand::RuleCarriers { carriers });
        let told = section::<Bandwidth>(platform.state(), platform.entry);
        let told = told.map(|told| told.organizations[&acme.id].carriers);
        assert_eq!(told, (!carriers.is_empty()).then_some(carriers));
        assert_eq!(section::<Bandwidth>(platform.state(), acme.egress), None);
        assert_eq!(section::<Bandwidth>(platform.state(), platform.relay), None);
        assert_eq!(version(&platform, platform.entry), platform.state().position());
    }
}

#[test]
fn every_entry_is_told_what_the_platform_says_of_carriers_and_nobody_else_is() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    let cluster = platform.state().cluster().id.unwrap();
    let own = CarrierRules { media: Some(CarrierRule::Quic), ..CarrierRules::default() };
    platform
        .must::<Organization>(acme.id.uuid(), OrganizationCommand::RuleCarriers { carriers: own });
    let before = [acme.egress, platform.relay].map(|node| version(&platform, node));
    let ruled = CarrierRules { bulk: Some(CarrierRule::TcpOnly), ..CarrierRules::default() };
    for carriers in [ruled, CarrierRules::default()] {
        platform.must::<Cluster>(cluster.uuid(), ClusterCommand::RuleCarriers { carriers });
        let told: Bandwidth = section(platform.state(), platform.entry).unwrap();
        assert_eq!((told.carriers, told.organizations[&acme.id].carriers), (carriers, own));
        assert_eq!(version(&platform, platform.entry), platform.state().position());
        for node in [acme.egress, platform.relay] {
            assert_eq!(section::<Bandwidth>(platform.state(), node), None);
        }
    }
    let after = [acme.egress, platform.relay].map(|node| version(&platform, node));
    assert_eq!(after, before, "they were not touched");
}
