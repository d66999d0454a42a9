//! The rules of one row; what a log makes of them is in the conformance suite.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use rap_proto::Timestamp;
use uuid::Uuid;

use super::*;
use crate::{
    log::{Append, AppendError, StreamId},
    tests::{given::NOW, samples::after},
};

const TTL_MS: u32 = 4_000;

fn lease() -> StreamId {
    StreamId::new("vpn_connection", Uuid::from_u128(1))
}

fn grant(generation: u64) -> LeaseChange {
    let holder = Uuid::from_u128(u128::from(generation));
    LeaseChange::Grant { lease: lease(), generation, holder, ttl_ms: TTL_MS, timeline: None }
}

fn end(generation: u64) -> LeaseChange {
    LeaseChange::End { lease: lease(), generation }
}

fn fence(generation: u64) -> LeaseChange {
    LeaseChange::Fence { lease: lease(), generation }
}

fn run(
    row: Option<LeaseRow>,
    changes: &[LeaseChange],
    now: Timestamp,
) -> Result<Option<LeaseRow>, AppendError> {
    let append = Append { leases: changes.to_vec(), ..crate::tests::handler::empty_append() };
    let rows: BTreeMap<_, _> = row.map(|row| (lease(), row)).into_iter().collect();
    apply(&append, &rows, DatabaseTime { now, timeline: 2 })
        .map(|mut changed| changed.remove(&lease()))
}

fn granted(generation: u64) -> LeaseRow {
    run(None, &[grant(generation)], NOW).unwrap().unwrap()
}

#[test]
fn a_row_is_held_until_the_last_millisecond() {
    let row = granted(3);
    assert_eq!((row.renewed_at, row.valid_until), (NOW, after(4_000)));
    assert!(row.is_held(after(3_999)) && !row.is_held(after(4_000)));
    assert_eq!((row.remaining_ms(after(1_000)), row.remaining_ms(after(9_000))), (3_000, 0));
    let early = run(Some(row), &[grant(4)], after(3_999)).unwrap_err();
    assert_eq!(early, AppendError::LeaseHeld { lease: lease(), held: row });
    assert_eq!(run(Some(row), &[grant(4)], after(4_000)).unwrap().unwrap().generation, 4);
}

#[test]
fn an_end_frees_at_once_and_a_fence_when_the_time_is_over() {
    let row = granted(1);
    let ended = run(Some(row), &[end(1)], after(10)).unwrap().unwrap();
    assert_eq!((ended.ended, ended.valid_until), (true, after(10)));
    assert!(run(Some(ended), &[grant(2)], after(10)).is_ok());
    let fenced = run(Some(row), &[fence(1)], after(10)).unwrap().unwrap();
    assert_eq!((fenced.ended, fenced.valid_until), (true, after(4_000)));
    assert!(run(Some(fenced), &[grant(2)], after(3_999)).is_err());
    assert!(run(Some(fenced), &[grant(2)], after(4_000)).is_ok());
}

#[test]
fn a_late_end_does_not_move_the_end() {
    let ended = run(Some(granted(1)), &[end(1)], after(9_000)).unwrap().unwrap();
    assert_eq!(ended.valid_until, after(4_000));
}

#[test]
fn generations_only_rise() {
    let row = granted(5);
    for generation in [0, 4, 5] {
        let refused = run(Some(row), &[grant(generation)], after(5_000)).unwrap_err();
        assert_eq!(refused, AppendError::LeaseGeneration { lease: lease(), greatest: 5 });
    }
    let refused = run(None, &[grant(0)], NOW).unwrap_err();
    assert_eq!(refused, AppendError::LeaseGeneration { lease: lease(), greatest: 0 });
}

#[test]
fn a_holder_hands_over_in_one_append() {
    let row = run(Some(granted(1)), &[end(1), grant(2)], after(10)).unwrap().unwrap();
    assert_eq!((row.generation, row.renewed_at, row.ended), (2, after(10), false));
    let refused = run(Some(granted(1)), &[grant(2), end(1)], after(10)).unwrap_err();
    assert!(matches!(refused, AppendError::LeaseHeld { .. }));
}

#[test]
fn only_the_present_generation_ends_and_once() {
    let row = granted(2);
    let ended = LeaseRow { ended: true, ..row };
    for (held, generation) in [(None, 2), (Some(row), 1), (Some(row), 3), (Some(ended), 2)] {
        let lost = Err(AppendError::LeaseLost { lease: lease(), generation, held });
        assert_eq!(run(held, &[end(generation)], NOW), lost);
        assert_eq!(run(held, &[fence(generation)], NOW), lost);
    }
}

#[test]
fn a_renewal_is_answered_by_the_row() {
    let row = granted(2);
    let renewal = |generation, holder| Renewal {
        lease: lease(),
        generation,
        holder: Uuid::from_u128(holder),
    };
    let ended = LeaseRow { ended: true, ..row };
    let renewed = RenewalOutcome::Renewed { remaining_ms: u64::from(TTL_MS) };
    let superseded = RenewalOutcome::Superseded { generation: 2 };
    for (row, generation, holder, now, expected) in [
        (row, 2, 2, after(3_999), renewed),
        (row, 2, 2, after(4_000), RenewalOutcome::Expired),
        (row, 1, 1, NOW, superseded),
        (row, 2, 1, NOW, superseded),
        (row, 3, 2, NOW, RenewalOutcome::Unknown),
        (ended, 2, 2, NOW, RenewalOutcome::Ended),
    ] {
        assert_eq!(row.answer(&renewal(generation, holder), now), expected);
    }
}

#[test]
fn a_grant_that_was_decided_on_another_timeline_is_refused() {
    let on = |timeline| {
        let holder = Uuid::from_u128(1);
        let grant = LeaseChange::Grant {
            lease: lease(),
            generation: 1,
            holder,
            ttl_ms: TTL_MS,
            timeline: Some(timeline),
        };
        run(None, &[grant], NOW)
    };
    assert!(on(2).is_ok());
    for timeline in [1, 3] {
        assert_eq!(on(timeline), Err(AppendError::TimelineChanged { timeline: 2 }));
    }
}
