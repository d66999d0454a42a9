#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

const SMALL: Limits = Limits { flows: 6, flows_per_asker: 3 };

fn node(number: u8) -> NodeId {
    NodeId::from_u128(u128::from(number))
}

fn at(millis: u64) -> Moment {
    Moment::from_micros(millis * 1000)
}

#[test]
fn a_flow_ends_when_nobody_refreshes_it() {
    let mut table = FlowTable::new(Limits::RELAY);
    let flow = table.set_up(at(0), node(1), node(2), Lane::Bulk).unwrap();
    table.used(at(FLOW_TTL_MS - 1), flow);
    assert!(table.expire(at(FLOW_TTL_MS - 1)).is_empty());
    assert_eq!(table.expire(at(FLOW_TTL_MS)), [flow]);
    assert!(table.is_empty());
}

#[test]
fn a_flow_that_is_refreshed_but_not_used_ends_as_well() {
    let mut table = FlowTable::new(Limits::RELAY);
    let flow = table.set_up(at(0), node(1), node(2), Lane::Bulk).unwrap();
    table.refresh(at(FLOW_TTL_MS - 1), node(1), flow).unwrap();
    assert_eq!(table.poll_timeout(), Some(at(FLOW_IDLE_MS)));
    assert_eq!(table.expire(at(FLOW_IDLE_MS)), [flow]);
}

#[test]
fn a_refreshed_and_used_flow_lives_on() {
    let mut table = FlowTable::new(Limits::RELAY);
    let flow = table.set_up(at(0), node(1), node(2), Lane::Interactive).unwrap();
    for round in 1..100 {
        let now = at(round * 10_000);
        table.refresh(now, node(1), flow).unwrap();
        table.used(now, flow);
        assert!(table.expire(now).is_empty());
    }
}

#[test]
fn streams_leave_places_for_lanes() {
    let limits = Limits { flows: 16, flows_per_asker: 8 };
    let stream =
        |table: &mut FlowTable, asker| table.set_up_stream(at(0), node(asker), node(9), Lane::Bulk);
    let mut table = FlowTable::new(limits);
    let taken = (0..8).filter(|_| stream(&mut table, 1).is_ok()).count();
    assert_eq!(taken, 6, "of one asker");
    for _ in 0..2 {
        table.set_up(at(0), node(1), node(9), Lane::Interactive).unwrap();
    }
    let full = table.set_up(at(0), node(1), node(9), Lane::Interactive);
    assert_eq!(full, Err(RefusalCode::LimitReached));
    let taken = (0..8).filter(|_| stream(&mut table, 2).is_ok()).count();
    assert_eq!(taken, 4, "of all: twelve of sixteen places are taken");
    assert_eq!(stream(&mut table, 3), Err(RefusalCode::LimitReached));
    table.set_up(at(0), node(3), node(9), Lane::Interactive).unwrap();
}

/// One more leg of a path, of one organization.
fn leg(table: &mut FlowTable, asker: u8, organization: u128) -> Result<u64, RefusalCode> {
    let id = table.set_up(at(0), node(asker), node(99), Lane::Bulk)?;
    let organization = OrganizationId::from_u128(organization);
    let next_role = NodeRole::RelayNode;
    table.lead_on(id, Passage { organization, next_role })?;
    Ok(id)
}

#[test]
fn so_many_legs_of_one_asker_wait_for_the_next_relay() {
    let mut table = FlowTable::new(Limits::RELAY);
    let waiting: Vec<u64> = (0..MAX_WAITING_LEGS).map(|_| leg(&mut table, 1, 1).unwrap()).collect();
    assert_eq!(leg(&mut table, 1, 2), Err(RefusalCode::LimitReached));
    assert_eq!(table.len(), MAX_WAITING_LEGS, "what was refused has no place");
    leg(&mut table, 2, 2).unwrap();
    assert!(table.led_on(waiting[0]));
    leg(&mut table, 1, 2).unwrap();
    table.remove(waiting[1]);
    assert!(!table.led_on(waiting[1]), "it lost its place");
    leg(&mut table, 1, 2).unwrap();
}

#[test]
fn one_organization_leaves_places_for_the_legs_of_others() {
    let mut table = FlowTable::new(Limits::RELAY);
    let mut settled = |asker, organization| {
        let id = leg(&mut table, asker, organization)?;
        assert!(table.led_on(id));
        Ok::<_, RefusalCode>(id)
    };
    let taken = (0..MAX_FLOWS_PER_ASKER).filter(|_| settled(1, 1).is_ok()).count();
    assert_eq!(taken, MAX_LEGS_OF_ONE);
    let others = (0..MAX_FLOWS_PER_ASKER).filter(|_| settled(1, 2).is_ok()).count();
    assert_eq!(others, MAX_FLOWS_PER_ASKER - MAX_LEGS_OF_ONE);
    for asker in 2..=8 {
        for _ in 0..MAX_LEGS_OF_ONE {
            settled(asker, 1).unwrap();
        }
    }
    assert_eq!(settled(9, 1), Err(RefusalCode::LimitReached), "eight times an eighth");
    settled(9, 2).unwrap();
}

#[test]
fn a_stream_that_is_kept_lives_as_long_as_its_connections() {
    let mut table = FlowTable::new(Limits::RELAY);
    let flow = table.set_up_stream(at(0), node(1), node(2), Lane::Bulk).unwrap();
    for round in 1..100 {
        let now = at(round * 10_000);
        table.keep(now, flow);
        assert!(table.expire(now).is_empty());
    }
    assert_eq!(table.expire(at(990_000 + FLOW_TTL_MS)), [flow]);
}

#[test]
fn only_its_asker_refreshes_or_closes_a_flow() {
    let mut table = FlowTable::new(Limits::RELAY);
    let flow = table.set_up(at(0), node(1), node(2), Lane::Bulk).unwrap();
    assert_eq!(table.refresh(at(1), node(2), flow), Err(RefusalCode::PathUnavailable));
    assert!(!table.close(node(2), flow));
    assert!(table.close(node(1), flow));
    assert!(!table.close(node(1), flow));
}

#[test]
fn an_asker_and_the_relay_have_limits() {
    let mut table = FlowTable::new(SMALL);
    for _ in 0..3 {
        table.set_up(at(0), node(1), node(9), Lane::Bulk).unwrap();
    }
    let refused = table.set_up(at(0), node(1), node(9), Lane::Bulk);
    assert_eq!(refused, Err(RefusalCode::LimitReached));
    for _ in 0..3 {
        table.set_up(at(0), node(2), node(9), Lane::Bulk).unwrap();
    }
    let refused = table.set_up(at(0), node(3), node(9), Lane::Bulk);
    assert_eq!(refused, Err(RefusalCode::LimitReached));
}

#[test]
fn a_revoked_asker_loses_its_flows() {
    let mut table = FlowTable::new(Limits::RELAY);
    let lost = table.set_up(at(0), node(1), node(2), Lane::Bulk).unwrap();
    let kept = table.set_up(at(0), node(3), node(2), Lane::Bulk).unwrap();
    assert_eq!(table.retain(|flow| flow.asker != node(1)), [lost]);
    assert_eq!(table.refresh(at(1), node(3), kept), Ok(()));
}

#[derive(Debug, Clone)]
enum Step {
    SetUp(u8),
    Refresh(u8, u64),
    Used(u64),
    Close(u8, u64),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..4_u8).prop_map(Step::SetUp),
        (0..4_u8, 1..20_u64).prop_map(|(asker, flow)| Step::Refresh(asker, flow)),
        (1..20_u64).prop_map(Step::Used),
        (0..4_u8, 1..20_u64).prop_map(|(asker, flow)| Step::Close(asker, flow)),
        (0..FLOW_TTL_MS).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 0..120)
}

proptest! {
    /// The table against the plainest model of it: a list of (flow, asker, refreshed, used).
    #[test]
    fn the_table_keeps_its_limits_and_its_times(steps in steps()) {
        let mut table = FlowTable::new(SMALL);
        let mut model: Vec<(u64, u8, u64, u64)> = Vec::new();
        let (mut now, mut last_id) = (0, 0);
        for step in steps {
            match step {
                Step::SetUp(asker) => {
                    let own = model.iter().filter(|flow| flow.1 == asker).count();
                    let allowed = model.len() < SMALL.flows && own < SMALL.flows_per_asker;
                    let made = table.set_up(at(now), node(asker), node(99), Lane::Bulk);
                    prop_assert_eq!(made.is_ok(), allowed);
                    if let Ok(id) = made {
                        prop_assert!(id > last_id, "numbers are never used again");
                        last_id = id;
                        model.push((id, asker, now, now));
                    }
                }
                Step::Refresh(asker, id) => {
                    let found = model.iter_mut().find(|flow| flow.0 == id && flow.1 == asker);
                    let done = table.refresh(at(now), node(asker), id);
                    prop_assert_eq!(done.is_ok(), found.is_some());
                    if let Some(flow) = found { flow.2 = now; }
                }
                Step::Used(id) => {
                    table.used(at(now), id);
                    model.iter_mut().filter(|flow| flow.0 == id).for_each(|flow| flow.3 = now);
                }
                Step::Close(asker, id) => {
                    let before = model.len();
                    model.retain(|flow| !(flow.0 == id && flow.1 == asker));
                    prop_assert_eq!(table.close(node(asker), id), model.len() < before);
                }
                Step::Pass(millis) => {
                    now += millis;
                    let over = |flow: &(u64, u8, u64, u64)| {
                        now >= flow.2 + FLOW_TTL_MS || now >= flow.3 + FLOW_IDLE_MS
                    };
                    let expected: Vec<u64> =
                        model.iter().filter(|flow| over(flow)).map(|flow| flow.0).collect();
                    model.retain(|flow| !over(flow));
                    prop_assert_eq!(table.expire(at(now)), expected);
                }
            }
            prop_assert_eq!(table.len(), model.len());
            prop_assert_eq!(table.per_asker.values().sum::<usize>(), model.len());
            prop_assert!(table.per_asker.values().all(|count| *count > 0));
            let next = model.iter().map(|f| (f.2 + FLOW_TTL_MS).min(f.3 + FLOW_IDLE_MS)).min();
            prop_assert_eq!(table.poll_timeout(), next.map(at));
        }
    }
}
