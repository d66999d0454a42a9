#![allow(clippy::unwrap_used)]

use rap_events::Log as _;

use super::*;
use crate::follow::tests::{log_of, seen, source_of};

const BATCH: u64 = MAX_BATCH as u64;

#[tokio::test]
async fn from_any_event_of_late_there_is_one_that_a_batch_reaches() {
    let last = 3 * BATCH + 7;
    let log = log_of(1..=u128::from(last)).await;
    let source = source_of(&log, last).await;
    for after in [0, 1, BATCH - 1, BATCH, BATCH + 1, 2 * BATCH, 2 * BATCH + 7, last - 1] {
        let step = source.next_step(after);
        assert!(after < step.position && step.position <= after + BATCH, "{after} {step:?}");
        assert_eq!(step, seen(&log, step.position).await);
    }
    assert_eq!(source.next_step(last - BATCH).position, last, "the last one where that is reached");
    assert_eq!(source.next_step(last).position, last);
}

#[tokio::test]
async fn what_is_remembered_is_bounded_and_whoever_is_further_back_is_told_of_the_last() {
    let log = log_of(1..=u128::from(BATCH)).await;
    let mut source = source_of(&log, BATCH).await;
    let event = log.read(BATCH - 1, 1).await.unwrap().remove(0);
    let last = (MAX_STEPS as u64 + 2) * BATCH;
    (BATCH..last).for_each(|_| source.take(&event));
    assert_eq!(source.steps.len(), MAX_STEPS);
    assert_eq!(source.next_step(BATCH).position, last);
    assert_eq!(source.next_step(2 * BATCH).position, 3 * BATCH);
}
