//! What nodes are told of each other's places.

use std::collections::{BTreeMap, BTreeSet};

use rap_events::node::{Node, NodeCommand};
use rap_proto::{
    Lane, NodeId, Preference,
    snapshot::{Place, Places, Section as _},
};

use super::{compile, section, version};
use crate::{
    state::State,
    world::{Platform, name},
};

fn told(state: &State, node: NodeId) -> BTreeMap<NodeId, Place> {
    section::<Places>(state, node).map(|found| found.nodes).unwrap_or_default()
}

fn place(platform: &mut Platform, node: NodeId, region: &str, preference: Preference) -> Place {
    let region = Some(name(region));
    let command = NodeCommand::Place { region: region.clone(), preference, relayed_lanes: None };
    platform.must::<Node>(node.uuid(), command);
    Place { region, preference, ..Place::default() }
}

#[test]
fn a_node_is_told_of_the_places_of_its_peers_and_of_its_own() {
    let mut platform = Platform::new();
    let (acme, globex) = (platform.acme.egress, platform.globex.egress);
    let (entry, relay) = (platform.entry, platform.relay);
    let sections = compile(platform.state(), entry).unwrap().manifest.sections;
    assert!(!sections.contains_key(Places::NAME), "nothing is said of any place");
    let before = [entry, relay, acme, globex].map(|node| version(&platform, node));

    let of_acme = place(&mut platform, acme, "eu-west", Preference::Neutral);
    assert_eq!(told(platform.state(), acme), BTreeMap::from([(acme, of_acme.clone())]), "its own");
    assert_eq!(told(platform.state(), entry), BTreeMap::from([(acme, of_acme.clone())]));
    assert_eq!(told(platform.state(), globex), BTreeMap::new(), "they do not speak");
    let after = [entry, relay, acme, globex].map(|node| version(&platform, node));
    assert!(after[0] > before[0] && after[1] > before[1] && after[2] > before[2]);
    assert_eq!(after[3], before[3]);

    let of_relay = place(&mut platform, relay, "us-east", Preference::Avoided);
    let both = BTreeMap::from([(acme, of_acme), (relay, of_relay.clone())]);
    assert_eq!(told(platform.state(), acme), both);
    assert_eq!(told(platform.state(), globex), BTreeMap::from([(relay, of_relay)]));
}

#[test]
fn the_lanes_that_a_node_relays_are_told_to_it_and_its_peers_and_stay_until_others_are_named() {
    let mut platform = Platform::new();
    let (entry, relay) = (platform.entry, platform.relay);
    let lanes = BTreeSet::from([Lane::Interactive, Lane::Media]);
    let preference = Preference::Neutral;
    let place = |relayed_lanes| NodeCommand::Place { region: None, preference, relayed_lanes };
    platform.must::<Node>(relay.uuid(), place(Some(lanes.clone())));
    let relayed_lanes = lanes.try_into().unwrap();
    let narrow = Place { relayed_lanes, ..Place::default() };
    let both = [relay, entry];
    for node in both {
        assert_eq!(told(platform.state(), node), BTreeMap::from([(relay, narrow.clone())]));
    }
    assert_eq!(told(platform.state(), platform.globex.egress), told(platform.state(), entry));
    platform.must::<Node>(relay.uuid(), place(None));
    assert_eq!(told(platform.state(), relay)[&relay], narrow, "nobody named any");
    platform.must::<Node>(relay.uuid(), place(Some(Lane::ALL.iter().copied().collect())));
    for node in both {
        assert_eq!(told(platform.state(), node), BTreeMap::new());
    }
}

#[test]
fn others_are_told_that_a_node_is_draining_and_it_learns_so_from_its_assignment() {
    let mut platform = Platform::new();
    let (entry, relay) = (platform.entry, platform.relay);
    let content =
        |platform: &Platform, node| platform.state().nodes().get(node).unwrap().content_version;
    let before = (content(&platform, entry), content(&platform, relay));
    platform.must::<Node>(relay.uuid(), NodeCommand::StartDraining);
    assert_eq!(content(&platform, entry), before.0, "no token waits until it knows");
    assert!(content(&platform, relay) > before.1);
    let draining = Place { draining: true, ..Place::default() };
    assert_eq!(told(platform.state(), entry), BTreeMap::from([(relay, draining)]));
    assert_eq!(told(platform.state(), relay), BTreeMap::new());
    platform.must::<Node>(relay.uuid(), NodeCommand::EndDraining);
    assert_eq!(told(platform.state(), entry), BTreeMap::new());
}
