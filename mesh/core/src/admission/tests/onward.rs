use proptest::prelude::*;
use rap_proto::{
    Moment,
    wire::hop::{MAX_HOPS, Onward},
};

use super::*;
use crate::flows::{FlowTable, Limits, Passage};

const R2: NodeId = NodeId::from_u128(12);
const R3: NodeId = NodeId::from_u128(13);

/// The view of the first relay of three, which knows the other two.
fn first() -> Given {
    let mut given = given(NodeRole::RelayNode);
    given.sections.peers.peers.push(peer(R2, NodeRole::RelayNode, &[ACME]));
    given.sections.peers.peers.push(peer(R3, NodeRole::RelayNode, &[ACME]));
    given
}

fn onward(relays: &[NodeId]) -> Onward {
    Onward { relays: relays.to_vec(), target: EGRESS, lane: Lane::Interactive, organization: ACME }
}

/// Who is next, and who is left for that one to lead over.
fn admit(
    given: &Given,
    asker: NodeId,
    onward: &Onward,
) -> Result<(NodeId, Option<Vec<NodeId>>), RefusalCode> {
    let view = given.view();
    let next = admit_onward(&view, &caller(asker), onward, NOW)?;
    let node = next.peer().node;
    Ok(match next {
        Next::Target(_) => (node, None),
        Next::Relay(_, rest) => {
            assert_eq!((rest.target, rest.lane), (onward.target, onward.lane));
            assert_eq!(rest.organization, onward.organization);
            (node, Some(rest.relays))
        }
    })
}

#[test]
fn each_leg_is_told_one_relay_fewer_and_the_last_leads_to_the_target() {
    let given = first();
    assert_eq!(admit(&given, ENTRY, &onward(&[R2, R3])), Ok((R2, Some(vec![R3]))));
    assert_eq!(admit(&given, ENTRY, &onward(&[R2])), Ok((R2, Some(vec![]))));
    assert_eq!(admit(&given, R3, &onward(&[R2])), Ok((R2, Some(vec![]))), "a relay asks");
    assert_eq!(admit(&given, R2, &onward(&[])), Ok((EGRESS, None)));
}

#[test]
fn a_path_that_is_too_long_or_comes_back_is_malformed() {
    let given = first();
    let malformed = Err(RefusalCode::Malformed);
    for relays in [&[OWN][..], &[R2, OWN], &[ENTRY], &[R2, R2], &[R2, EGRESS]] {
        assert_eq!(admit(&given, ENTRY, &onward(relays)), malformed, "{relays:?}");
    }
    let many: Vec<NodeId> = (20..20 + MAX_HOPS as u128).map(NodeId::from_u128).collect();
    assert_eq!(admit(&given, ENTRY, &onward(&many)), malformed);
    // A relay that asks is one of the three itself.
    let beyond = onward(&[R2, NodeId::from_u128(20)]);
    assert_eq!(admit(&given, R3, &beyond), malformed);
    let back = Onward { target: ENTRY, ..onward(&[R2]) };
    assert_eq!(admit(&given, ENTRY, &back), malformed);
    let here = Onward { target: OWN, ..onward(&[R2]) };
    assert_eq!(admit(&given, ENTRY, &here), malformed);
}

#[test]
fn every_node_of_a_leg_must_be_there_for_the_organization_that_is_named() {
    let check = |change: fn(&mut Given)| {
        let mut given = first();
        change(&mut given);
        admit(&given, ENTRY, &onward(&[R2])).map(drop)
    };
    assert_eq!(check(|_| {}), Ok(()));
    let refused = Err(RefusalCode::RoleNotAssigned);
    let own = |given: &mut Given| {
        given.sections.assignment.roles = vec![scope(NodeRole::RelayNode, &[OTHER])];
    };
    assert_eq!(check(own), refused, "a relay of others");
    let own = |given: &mut Given| {
        given.sections.assignment.roles = vec![scope(NodeRole::EntryNode, &[ACME])];
    };
    assert_eq!(check(own), refused, "no relay");
    let asker = |given: &mut Given| {
        given.sections.peers.peers[0] = peer(ENTRY, NodeRole::EntryNode, &[OTHER]);
    };
    assert_eq!(check(asker), refused, "an asker of others");
    let asker = |given: &mut Given| {
        given.sections.peers.peers[0] = peer(ENTRY, NodeRole::StreamWorker, &[ACME]);
    };
    assert_eq!(check(asker), refused, "an asker that is neither entry nor relay");
    let next = |given: &mut Given| {
        given.sections.peers.peers[2] = peer(R2, NodeRole::RelayNode, &[OTHER]);
    };
    assert_eq!(check(next), refused, "a next relay of others");
    let target = |given: &mut Given| {
        given.sections.peers.peers[1] = peer(EGRESS, NodeRole::StreamWorker, &[OTHER]);
    };
    assert_eq!(check(target), refused, "a target of others, as far as this relay knows");
    let unknown = |given: &mut Given| {
        given.sections.peers.peers.remove(2);
    };
    assert_eq!(check(unknown), Err(RefusalCode::PeerNotTrusted), "a next relay nobody named");
    let denied = |given: &mut Given| {
        given.sections.trust.denied_nodes.insert(EGRESS);
    };
    assert_eq!(check(denied), Err(RefusalCode::PeerNotTrusted), "a target that was revoked");
    let draining = |given: &mut Given| given.sections.assignment.draining = true;
    assert_eq!(check(draining), Err(RefusalCode::NodeDraining));
}

#[test]
fn whom_a_relay_does_not_know_further_on_the_next_one_judges() {
    let mut given = first();
    given.sections.peers.peers.retain(|peer| peer.node != EGRESS && peer.node != R3);
    assert_eq!(admit(&given, ENTRY, &onward(&[R2, R3])), Ok((R2, Some(vec![R3]))));
    assert_eq!(admit(&given, ENTRY, &onward(&[])), Err(RefusalCode::PeerNotTrusted));
}

#[test]
fn a_leg_ends_with_what_it_was_admitted_for() {
    let mut table = FlowTable::new(Limits::RELAY);
    let id = table.set_up(Moment::from_micros(0), ENTRY, R2, Lane::Bulk).unwrap();
    table.lead_on(id, Passage { organization: ACME, next_role: NodeRole::RelayNode }).unwrap();
    let goes_on = |given: &Given| {
        let view = given.view();
        table.clone().retain(|flow| flow_may_continue(&view, flow, NOW)).is_empty()
    };
    assert!(goes_on(&first()));
    let mut given = first();
    given.sections.peers.peers[2] = peer(R2, NodeRole::StreamWorker, &[ACME]);
    assert!(!goes_on(&given), "the next node is no relay any more");
    let mut given = first();
    given.sections.assignment.roles.clear();
    assert!(!goes_on(&given), "this one is none");
    let mut given = first();
    given.sections.trust.denied_nodes.insert(ENTRY);
    assert!(!goes_on(&given), "the asker was revoked");
    let mut given = first();
    given.manifest.expires_at = Timestamp::from_unix_millis(0);
    assert!(!goes_on(&given), "stale, and the policy says stop");
    let mut given = first();
    given.narrow(R2);
    assert!(!goes_on(&given), "the next one carries the lane no more");
    let mut given = first();
    given.narrow(OWN);
    assert!(!goes_on(&given), "this one carries the lane no more");
}

#[test]
fn a_flow_over_one_relay_ends_when_that_is_to_carry_its_lane_no_more() {
    let mut table = FlowTable::new(Limits::RELAY);
    for lane in Lane::ALL {
        table.set_up(Moment::from_micros(0), ENTRY, EGRESS, *lane).unwrap();
    }
    let mut given = first();
    given.narrow(OWN);
    let view = given.view();
    let over = table.clone().retain(|flow| flow_may_continue(&view, flow, NOW));
    let ended: Vec<Lane> = over.iter().map(|id| table.flow(*id).unwrap().lane).collect();
    assert_eq!(ended, [Lane::Bulk]);
}

#[test]
fn each_relay_of_a_path_refuses_a_lane_for_itself_and_for_those_ahead_that_it_knows() {
    let bulk = |relays| Onward { lane: Lane::Bulk, ..onward(relays) };
    let refused = Err(RefusalCode::LaneNotRelayed);
    for narrow in [OWN, R2, R3] {
        let mut given = first();
        given.narrow(narrow);
        assert_eq!(admit(&given, ENTRY, &bulk(&[R2, R3])), refused, "{narrow}");
        assert!(admit(&given, ENTRY, &onward(&[R2, R3])).is_ok(), "{narrow}");
    }
    let mut given = first();
    given.narrow(EGRESS);
    assert!(admit(&given, ENTRY, &bulk(&[R2, R3])).is_ok(), "the end of a path relays nothing");
}

proptest! {
    #[test]
    fn no_leg_leads_back_and_every_path_ends(numbers in prop::collection::vec(1_u128..16, 0..6)) {
        // The cast's own numbers are among them.
        let mut relays: Vec<NodeId> = numbers.into_iter().map(NodeId::from_u128).collect();
        let mut given = first();
        for node in 1..16_u128 {
            let node = NodeId::from_u128(node);
            if ![OWN, ENTRY, EGRESS, R2, R3].contains(&node) {
                given.sections.peers.peers.push(peer(node, NodeRole::RelayNode, &[ACME]));
            }
        }
        let mut legs = 0;
        while let Ok((next, rest)) = admit(&given, ENTRY, &onward(&relays)) {
            legs += 1;
            prop_assert!(![OWN, ENTRY].contains(&next));
            let Some(rest) = rest else { break };
            prop_assert_eq!(rest.len() + 1, relays.len());
            prop_assert!(!rest.contains(&next));
            relays = rest;
        }
        prop_assert!(legs <= MAX_HOPS);
    }
}
