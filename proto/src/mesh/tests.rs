#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;

fn counts(least: u16, most: u16, warm: u16) -> MeshRule {
    let counts = PeerCounts { least, most, warm };
    MeshRule { peers: [(PeerKind::Normal, counts)].into(), ..MeshRule::default() }
}

fn weights(weights: &[(Part, u16)]) -> MeshRule {
    let weights = weights.iter().copied().collect();
    MeshRule { weights: [(ChannelClass::Bulk, weights)].into(), ..MeshRule::default() }
}

#[test]
fn what_this_release_has_could_be_said() {
    let said = MeshRule {
        peers: PeerKind::ALL.iter().map(|kind| (*kind, PeerCounts::of(*kind))).collect(),
        weights: ChannelClass::ALL.iter().map(|class| (*class, weights_of(*class))).collect(),
    };
    assert_eq!(said.check(), Ok(()));
    for (weights, class) in said.weights.values().zip(ChannelClass::ALL) {
        assert_eq!(weights.values().sum::<u16>(), 100, "{class}");
    }
    let (told, silent) = (Mesh::from(&said), Mesh::default());
    assert!(silent.is_empty() && !told.is_empty());
    for kind in PeerKind::ALL {
        assert_eq!(told.counts(*kind), silent.counts(*kind), "saying it changes nothing");
    }
    for class in ChannelClass::ALL {
        assert_eq!(told.weights(*class), silent.weights(*class));
    }
}

#[test]
fn counts_keep_their_bounds_and_a_fault_names_its_field_and_its_rule() {
    let last = MOST_ACTIVE - 1;
    for sound in [counts(1, 2, 1), counts(last, MOST_ACTIVE, MOST_WARM)] {
        assert_eq!(sound.check(), Ok(()));
    }
    let (least, most) = (MeshFault::Least(PeerKind::Normal), MeshFault::Most(PeerKind::Normal));
    let warm = MeshFault::Warm(PeerKind::Normal);
    for (wrong, fault) in [
        (counts(0, 5, 8), least),
        (counts(MOST_ACTIVE, MOST_ACTIVE, 8), least),
        (counts(u16::MAX, 5, 8), least),
        (counts(3, 3, 8), most),
        (counts(3, 2, 8), most),
        (counts(3, MOST_ACTIVE + 1, 8), most),
        (counts(3, 5, 0), warm),
        (counts(3, 5, MOST_WARM + 1), warm),
    ] {
        assert_eq!(wrong.check(), Err(fault), "{wrong:?}");
    }
    assert_eq!((most.field(), most.rule()), ("peers.normal.most".to_owned(), "most_out_of_range"));
    assert!(most.to_string().starts_with("peers.normal.most: "), "{most}");
}

#[test]
fn weights_keep_their_bounds_and_a_fault_names_its_field_and_its_rule() {
    let (one, other) = (Part::Latency, Part::NodeLoad);
    for sound in [vec![(one, 1)], vec![(one, GREATEST_WEIGHT), (other, 0)]] {
        assert_eq!(weights(&sound).check(), Ok(()));
    }
    let too_great = MeshFault::Weight(ChannelClass::Bulk, other);
    let none = MeshFault::NoWeight(ChannelClass::Bulk);
    for (wrong, fault) in [
        (vec![(one, 1), (other, GREATEST_WEIGHT + 1)], too_great),
        (vec![(one, 0), (other, 0)], none),
        (vec![], none),
    ] {
        assert_eq!(weights(&wrong).check(), Err(fault), "{wrong:?}");
    }
    assert_eq!(too_great.field(), "weights.bulk.node_load");
    assert_eq!((none.field(), none.rule()), ("weights.bulk".to_owned(), "no_weight"));
}

/// What another release may say: words that this one does not know, and values outside its bounds.
#[test]
fn a_node_passes_over_what_it_does_not_know_and_takes_nothing_that_is_out_of_bounds() {
    let said = json!({
        "peers": {
            "normal": {"least": 6, "most": 8, "warm": 10, "hot": 1},
            "relay": {"least": 6, "most": 90, "warm": 10},
            "vast": {"least": 1, "most": 2, "warm": 3},
        },
        "weights": {
            "bulk": {"bandwidth": 3, "colour": 5},
            "media": {"colour": 5},
            "smell": {"latency": 1},
        },
        "moods": [],
    });
    let told = Mesh::from_bytes(&crate::codec::encode(&said)).unwrap();
    let normal = PeerCounts { least: 6, most: 8, warm: 10 };
    assert_eq!(told.counts(PeerKind::Normal), normal);
    assert_eq!(told.counts(PeerKind::Relay), PeerCounts::of(PeerKind::Relay));
    assert_eq!(told.weights(ChannelClass::Bulk), [(Part::Bandwidth, 3)].into());
    assert_eq!(told.weights(ChannelClass::Media), weights_of(ChannelClass::Media));
    assert_eq!(told.weights(ChannelClass::Telemetry), weights_of(ChannelClass::Telemetry));
}

#[test]
fn a_rule_is_read_by_its_words_alone() {
    for wrong in [
        json!({"peers": {"vast": {"least": 1, "most": 2, "warm": 3}}}),
        json!({"peers": {"thin": {"least": 1, "most": 2}}}),
        json!({"peers": {"thin": {"least": 1, "most": 2, "warm": 2, "hot": 1}}}),
        json!({"weights": {"bulk": {"colour": 5}}}),
        json!({"weights": {"bulk": {"latency": -1}}}),
        json!({"moods": []}),
    ] {
        assert!(serde_json::from_value::<MeshRule>(wrong.clone()).is_err(), "{wrong}");
    }
}
