#![allow(clippy::unwrap_used)]

use rap_events::{
    Append, EventCodec as _, MemoryLog, StreamId,
    cluster::{ClusterEvent, SnapshotsRenewed},
    log::StreamWrite,
};
use rap_proto::{CommandId, Timestamp};

use super::*;

/// Appends one event for each command.
async fn grow(log: &MemoryLog, commands: impl IntoIterator<Item = u128>) {
    for command in commands {
        let expected = log.head().await.unwrap();
        let write = StreamWrite {
            stream: StreamId::new("cluster", uuid::Uuid::from_u128(1)),
            expected,
            events: vec![ClusterEvent::from(SnapshotsRenewed {}).to_new_event(None)],
        };
        let command = CommandId::from_u128(command);
        log.append(Append::plain(command, Timestamp::default(), vec![write])).await.unwrap();
    }
}

pub(crate) async fn log_of(commands: impl IntoIterator<Item = u128>) -> MemoryLog {
    let log = MemoryLog::with_clock(Timestamp::default);
    grow(&log, commands).await;
    log
}

fn positions(events: &[Envelope]) -> Vec<u64> {
    events.iter().map(|event| event.position).collect()
}

async fn is_lost(follower: &mut Follower, log: &MemoryLog, position: u64) {
    let stopped = follower.next(log, MAX_BATCH).await.unwrap_err();
    let expected = Corrupt::Replaced { position };
    assert!(matches!(&stopped, NotFollowed::Lost(lost) if *lost == expected), "{stopped}");
}

#[tokio::test]
async fn each_event_comes_once_and_what_comes_later_is_waited_for() {
    let log = log_of(1..=3).await;
    let mut follower = Follower::behind(0);
    assert_eq!(positions(&follower.next(&log, MAX_BATCH).await.unwrap()), [1, 2, 3]);
    let later = async {
        tokio::task::yield_now().await;
        grow(&log, 4..=5).await;
    };
    let (next, ()) = tokio::join!(follower.next(&log, MAX_BATCH), later);
    assert!(positions(&next.unwrap()).starts_with(&[4]));
    let mut behind = Follower::behind(2);
    assert_eq!(positions(&behind.next(&log, MAX_BATCH).await.unwrap()), [3, 4, 5]);
}

#[tokio::test]
async fn no_more_than_one_batch_comes_at_once() {
    let log = log_of(0..MAX_BATCH as u128 + 2).await;
    let mut follower = Follower::behind(0);
    assert_eq!(follower.next(&log, MAX_BATCH).await.unwrap().len(), MAX_BATCH);
    assert_eq!(follower.next(&log, MAX_BATCH).await.unwrap().len(), 2);
    let mut behind = Follower::behind(1);
    assert_eq!(behind.next(&log, usize::MAX).await.unwrap().len(), MAX_BATCH);
}

#[tokio::test]
async fn no_more_comes_than_is_asked_for_and_the_rest_comes_next() {
    let log = log_of(1..=5).await;
    let mut follower = Follower::behind(0);
    assert_eq!(positions(&follower.next(&log, 2).await.unwrap()), [1, 2]);
    assert_eq!(positions(&follower.next(&log, 2).await.unwrap()), [3, 4]);
    assert_eq!(positions(&follower.next(&log, 2).await.unwrap()), [5]);
    assert_eq!(follower.position(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_lost_what_was_read_is_followed_no_more_however_far_it_comes() {
    // The primary lost its last event, and nothing, or something else, came in its place.
    for others in [3_u128..3, 103..104, 103..105, 103..110] {
        let mut follower = Follower::behind(0);
        follower.next(&log_of(1..=3).await, MAX_BATCH).await.unwrap();
        let log = log_of((1..=2).chain(others)).await;
        is_lost(&mut follower, &log, 3).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_loss_is_noticed_while_nothing_is_appended() {
    let mut follower = Follower::behind(0);
    follower.next(&log_of(1..=3).await, MAX_BATCH).await.unwrap();
    // The event is there while it is looked for the first time; later it is not.
    let log = log_of(1..=3).await;
    let waiting = timeout(LOOK_AGAIN / 2, follower.next(&log, MAX_BATCH)).await;
    assert!(waiting.is_err(), "nothing new");
    is_lost(&mut follower, &log_of(1..=2).await, 3).await;
}
