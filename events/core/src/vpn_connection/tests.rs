#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use proptest::prelude::*;
use rap_proto::{LeaseClass, NodeId, Timestamp};
use uuid::Uuid;

use super::*;
use crate::{
    Aggregate as _,
    tests::{
        given::{NOW, given},
        replay::{around, vpn_connection_command},
        samples::{
            ACME, EGRESS, ENTRY, after, lease_granted, name, vpn_connection_created as sample,
        },
    },
};

fn created() -> VpnConnectionEvent {
    sample().into()
}

fn create(nodes: BTreeSet<NodeId>) -> VpnConnectionCommand {
    VpnConnectionCommand::Create {
        organization: ACME,
        name: name("office"),
        class: LeaseClass::Fast,
        nodes,
        enabled: true,
    }
}

fn grant(generation: u64, from_ms: i64) -> VpnConnectionCommand {
    let LeaseGranted { node, generation, granted_at, valid_until } =
        lease_granted(generation, from_ms);
    VpnConnectionCommand::GrantLease { node, generation, granted_at, valid_until }
}

fn granted(generation: u64, from_ms: i64) -> VpnConnectionEvent {
    lease_granted(generation, from_ms).into()
}

fn release(generation: u64, at_ms: i64) -> VpnConnectionCommand {
    let (reason, released_at) = (ReleaseReason::Drained, after(at_ms));
    VpnConnectionCommand::ReleaseLease { generation, reason, released_at }
}

fn released(generation: u64, at_ms: i64) -> VpnConnectionEvent {
    let (reason, released_at) = (ReleaseReason::Drained, after(at_ms));
    LeaseReleased { generation, reason, released_at }.into()
}

fn fence(generation: u64, until_ms: i64) -> VpnConnectionCommand {
    let (reason, valid_until) = (FenceReason::Expired, after(until_ms));
    VpnConnectionCommand::FenceLease { generation, reason, valid_until }
}

fn fenced(generation: u64, until_ms: i64) -> VpnConnectionEvent {
    let (reason, valid_until) = (FenceReason::Expired, after(until_ms));
    LeaseFenced { generation, reason, valid_until }.into()
}

#[test]
fn a_connection_is_created_once() {
    let state = given::<VpnConnection>([]).when(create([EGRESS].into())).then([created()]);
    assert_eq!(state.organization(), Some(ACME));
    let removed = vec![created(), VpnConnectionRemoved {}.into()];
    for events in [vec![created()], removed] {
        let exists = VpnConnectionRejection::AlreadyExists;
        given::<VpnConnection>(events).when(create([].into())).rejected(exists);
    }
}

#[test]
fn it_names_a_bounded_number_of_nodes() {
    let nodes = |count: usize| (0..count as u128).map(NodeId::from_u128).collect::<BTreeSet<_>>();
    let many = VpnConnectionRejection::TooManyEntries;
    given::<VpnConnection>([]).when(create(nodes(MAX_CONNECTION_NODES + 1))).rejected(many);
    let allow = |nodes| VpnConnectionCommand::AllowNodes { nodes };
    given::<VpnConnection>([created()]).when(allow(nodes(65))).rejected(many);
    let most = nodes(MAX_CONNECTION_NODES);
    let allowed = NodesAllowed { nodes: most.clone() };
    given::<VpnConnection>([created()]).when(allow(most)).then([allowed.into()]);
    given::<VpnConnection>([created()]).when(allow([EGRESS].into())).nothing();
}

#[test]
fn a_lease_is_granted_to_a_node_that_may_carry_it() {
    let state = given::<VpnConnection>([created()]).when(grant(1, 0)).then([granted(1, 0)]);
    assert_eq!(state.tenure.present.unwrap().holder, EGRESS.uuid());
    let elsewhere = created_with([ENTRY].into(), true);
    given::<VpnConnection>([elsewhere])
        .when(grant(1, 0))
        .rejected(VpnConnectionRejection::NodeNotAllowed);
    let anywhere = created_with([].into(), true);
    given::<VpnConnection>([anywhere]).when(grant(1, 0)).then([granted(1, 0)]);
    let off = created_with([].into(), false);
    given::<VpnConnection>([off]).when(grant(1, 0)).rejected(VpnConnectionRejection::Disabled);
    given::<VpnConnection>([]).when(grant(1, 0)).rejected(VpnConnectionRejection::NotFound);
}

fn created_with(nodes: BTreeSet<NodeId>, enabled: bool) -> VpnConnectionEvent {
    VpnConnectionCreated { nodes, enabled, ..sample() }.into()
}

#[test]
fn one_lease_ends_before_the_next_begins() {
    use VpnConnectionRejection as R;
    let held = [created(), granted(1, 0)];
    given::<VpnConnection>(held.clone()).when(grant(2, 9_000)).rejected(R::LeaseHeld);
    for (end, generation, from_ms, rejection) in [
        (released(1, 2_000), 2, 1_999, R::StillValid),
        (fenced(1, 8_000), 2, 7_999, R::StillValid),
        (released(1, 2_000), 1, 2_000, R::StaleGeneration),
    ] {
        let events = [held.clone().to_vec(), vec![end]].concat();
        given::<VpnConnection>(events).when(grant(generation, from_ms)).rejected(rejection);
    }
    for (end, from_ms) in [(released(1, 2_000), 2_000), (fenced(1, 8_000), 8_000)] {
        let events = [held.clone().to_vec(), vec![end]].concat();
        given::<VpnConnection>(events).when(grant(2, from_ms)).then([granted(2, from_ms)]);
    }
}

#[test]
fn a_lease_lives_no_longer_than_its_class_allows() {
    for (class, longest_ms) in [(LeaseClass::Fast, 4_000), (LeaseClass::Steady, 45_000)] {
        let created: VpnConnectionEvent = VpnConnectionCreated { class, ..sample() }.into();
        let grant = |length_ms| VpnConnectionCommand::GrantLease {
            node: EGRESS,
            generation: 1,
            granted_at: NOW,
            valid_until: after(length_ms),
        };
        for length_ms in [0, longest_ms + 1] {
            let rejection = VpnConnectionRejection::LifetimeOutOfRange;
            given::<VpnConnection>([created.clone()]).when(grant(length_ms)).rejected(rejection);
        }
        let valid_until = after(longest_ms);
        let expected = LeaseGranted { valid_until, ..lease_granted(1, 0) };
        given::<VpnConnection>([created]).when(grant(longest_ms)).then([expected.into()]);
    }
}

#[test]
fn only_the_present_generation_is_released_or_fenced() {
    let held = || given::<VpnConnection>([created(), granted(2, 0)]);
    held().when(release(2, 5)).then([released(2, 5)]);
    held().when(fence(2, 5)).then([fenced(2, 5)]);
    for command in [release(1, 5), fence(3, 5)] {
        held().when(command.clone()).rejected(VpnConnectionRejection::StaleGeneration);
        let free = VpnConnectionRejection::StaleGeneration;
        given::<VpnConnection>([created()]).when(command).rejected(free);
    }
}

#[test]
fn a_lease_whose_row_ends_before_it_began_can_end_and_be_followed() {
    // The database's clock went back, and the lease was renewed by it.
    let held = || given::<VpnConnection>([created(), granted(1, 0)]);
    held().when(fence(1, -1_000)).then([fenced(1, 0)]);
    held().when(release(1, -1_000)).then([released(1, 0)]);
    let ended = || given::<VpnConnection>([created(), granted(1, 0), fenced(1, 0)]);
    ended().when(grant(2, -1)).rejected(VpnConnectionRejection::StillValid);
    ended().when(grant(2, 0)).then([granted(2, 0)]);
}

#[test]
fn a_drain_is_asked_of_the_holder_once() {
    let drain = VpnConnectionCommand::RequestDrain;
    given::<VpnConnection>([created()]).when(drain.clone()).nothing();
    let requested: VpnConnectionEvent = DrainRequested { generation: 1 }.into();
    let held = vec![created(), granted(1, 0)];
    let state = given::<VpnConnection>(held.clone()).when(drain.clone()).then([requested.clone()]);
    assert!(state.drain_requested);
    let asked = [held, vec![requested]].concat();
    given::<VpnConnection>(asked.clone()).when(drain).nothing();
    let next = [asked, vec![released(1, 1)]].concat();
    let state = given::<VpnConnection>(next).when(grant(2, 1)).then([granted(2, 1)]);
    assert!(!state.drain_requested, "the next holder was not asked");
}

#[test]
fn a_connection_is_switched_and_removed() {
    let off: VpnConnectionEvent = VpnConnectionDisabled {}.into();
    let on: VpnConnectionEvent = VpnConnectionEnabled {}.into();
    let (enable, disable) = (VpnConnectionCommand::Enable, VpnConnectionCommand::Disable);
    given::<VpnConnection>([created()]).when(enable.clone()).nothing();
    given::<VpnConnection>([created()]).when(disable.clone()).then([off.clone()]);
    given::<VpnConnection>([created(), off.clone()]).when(disable).nothing();
    given::<VpnConnection>([created(), off]).when(enable.clone()).then([on]);
    let remove = VpnConnectionCommand::Remove;
    let removed: VpnConnectionEvent = VpnConnectionRemoved {}.into();
    given::<VpnConnection>([]).when(remove.clone()).rejected(VpnConnectionRejection::NotFound);
    given::<VpnConnection>([created(), granted(1, 0)])
        .when(remove.clone())
        .rejected(VpnConnectionRejection::LeaseHeld);
    given::<VpnConnection>([created()]).when(remove.clone()).then([removed.clone()]);
    let gone = [created(), removed];
    given::<VpnConnection>(gone.clone()).when(remove).nothing();
    given::<VpnConnection>(gone).when(enable).rejected(VpnConnectionRejection::NotFound);
}

/// One generation's time, told by events alone.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Interval {
    generation: u64,
    holder: Uuid,
    from: Timestamp,
    /// The end of time while it is held.
    until: Timestamp,
}

/// Reads nothing but the stream: no table, no aggregate.
fn intervals(events: &[VpnConnectionEvent]) -> Vec<Interval> {
    let forever = Timestamp::from_unix_millis(i64::MAX);
    let mut found: Vec<Interval> = Vec::new();
    let end = |found: &mut Vec<Interval>, generation: u64, until: Timestamp| {
        let last = found.last_mut().filter(|last| last.generation == generation);
        last.expect("what ends was granted last").until = until;
    };
    for event in events {
        match event {
            VpnConnectionEvent::LeaseGranted(event) => found.push(Interval {
                generation: event.generation,
                holder: event.node.uuid(),
                from: event.granted_at,
                until: forever,
            }),
            VpnConnectionEvent::LeaseReleased(event) => {
                end(&mut found, event.generation, event.released_at);
            }
            VpnConnectionEvent::LeaseFenced(event) => {
                end(&mut found, event.generation, event.valid_until);
            }
            _ => {}
        }
    }
    found
}

/// Each interval ends before the next begins, and generations rise.
fn are_disjoint(intervals: &[Interval]) -> bool {
    intervals.windows(2).all(|pair| {
        pair[0].from <= pair[0].until
            && pair[0].until <= pair[1].from
            && pair[0].generation < pair[1].generation
    })
}

/// Mostly about the generation of the moment, at times around `now`; sometimes about any.
fn random_command(
    state: &VpnConnection,
    kind: u8,
    argument: u8,
    now: Timestamp,
) -> VpnConnectionCommand {
    let (at, greatest) = (around(now, argument), state.tenure.greatest);
    match kind % 4 {
        0 => VpnConnectionCommand::GrantLease {
            node: [ENTRY, EGRESS][usize::from(argument % 2)],
            generation: greatest + u64::from(argument % 3),
            granted_at: at,
            valid_until: at + std::time::Duration::from_secs(4),
        },
        1 => VpnConnectionCommand::ReleaseLease {
            generation: greatest.saturating_sub(u64::from(argument.is_multiple_of(4))),
            reason: ReleaseReason::Drained,
            released_at: at,
        },
        2 => VpnConnectionCommand::FenceLease {
            generation: greatest,
            reason: FenceReason::Expired,
            valid_until: at,
        },
        _ => vpn_connection_command(kind / 4, argument, now),
    }
}

/// What the real aggregate makes of random commands.
fn history(steps: &[(u8, u8, u16)]) -> Vec<VpnConnectionEvent> {
    let mut state = VpnConnection::default();
    let mut events = vec![created_with([].into(), true)];
    state.evolve(&events[0]);
    let mut now = NOW;
    for (kind, argument, later) in steps {
        now = now + std::time::Duration::from_millis(u64::from(*later) / 8);
        let command = random_command(&state, *kind, *argument, now);
        let Ok(decided) = state.decide(command, now) else { continue };
        decided.iter().for_each(|event| state.evolve(event));
        events.extend(decided);
    }
    events
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn a_replay_alone_shows_that_no_two_nodes_held_a_connection_at_once(
        steps in prop::collection::vec((any::<u8>(), any::<u8>(), any::<u16>()), 1..200),
    ) {
        let intervals = intervals(&history(&steps));
        prop_assert!(are_disjoint(&intervals), "{intervals:?}");
    }
}

#[test]
fn the_random_histories_hold_several_leases() {
    let steps: Vec<_> = (0..200_u8).map(|n| (n, n.wrapping_mul(37), 8_000)).collect();
    let found = intervals(&history(&steps));
    assert!(found.len() >= 5, "{found:?}");
}

#[test]
fn a_forged_history_would_be_noticed() {
    let early = [granted(1, 0), fenced(1, 4_000), granted(2, 3_999)];
    assert!(!are_disjoint(&intervals(&early)));
    let again = [granted(2, 0), released(2, 10), granted(2, 10)];
    assert!(!are_disjoint(&intervals(&again)));
    let unended = [granted(1, 0), granted(2, 9_000)];
    assert!(!are_disjoint(&intervals(&unended)));
}
