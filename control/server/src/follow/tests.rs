#![allow(clippy::unwrap_used)]

use rap_events::{
    Append, EventCodec as _, MemoryLog, StreamId,
    cluster::{ClusterEvent, SnapshotsRenewed},
    log::StreamWrite,
};
use rap_proto::{CommandId, Timestamp};

use super::*;
use crate::source::Source;

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

/// Somebody who does not know which event it was.
fn unsure(position: u64) -> Seen {
    Seen { position, leaf: None }
}

/// What stands at a position.
pub(crate) async fn seen(log: &dyn Log, position: u64) -> Seen {
    Seen { position, leaf: leaf_at(log, position).await.unwrap() }
}

/// What was folded through a position.
pub(crate) async fn source_of(log: &MemoryLog, through: u64) -> Source {
    let mut source = Source::default();
    while source.seen().position < through {
        let after = source.seen().position;
        let room = usize::try_from(through - after).unwrap();
        let events = log.read(after, room.min(MAX_BATCH)).await.unwrap();
        events.iter().for_each(|event| source.take(event));
    }
    source
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
    let mut follower = Follower::behind(unsure(0));
    assert_eq!(positions(&follower.next(&log, MAX_BATCH).await.unwrap()), [1, 2, 3]);
    let later = async {
        tokio::task::yield_now().await;
        grow(&log, 4..=5).await;
    };
    let (next, ()) = tokio::join!(follower.next(&log, MAX_BATCH), later);
    assert!(positions(&next.unwrap()).starts_with(&[4]));
    let mut behind = Follower::behind(unsure(2));
    assert_eq!(positions(&behind.next(&log, MAX_BATCH).await.unwrap()), [3, 4, 5]);
}

#[tokio::test]
async fn no_more_than_one_batch_comes_at_once() {
    let log = log_of(0..MAX_BATCH as u128 + 2).await;
    let mut follower = Follower::behind(unsure(0));
    assert_eq!(follower.next(&log, MAX_BATCH).await.unwrap().len(), MAX_BATCH);
    assert_eq!(follower.next(&log, MAX_BATCH).await.unwrap().len(), 2);
    let mut behind = Follower::behind(unsure(1));
    assert_eq!(behind.next(&log, usize::MAX).await.unwrap().len(), MAX_BATCH);
}

#[tokio::test]
async fn no_more_comes_than_is_asked_for_and_the_rest_comes_next() {
    let log = log_of(1..=5).await;
    let mut follower = Follower::behind(unsure(0));
    assert_eq!(positions(&follower.next(&log, 2).await.unwrap()), [1, 2]);
    assert_eq!(positions(&follower.next(&log, 2).await.unwrap()), [3, 4]);
    assert_eq!(positions(&follower.next(&log, 2).await.unwrap()), [5]);
    assert_eq!(follower.position, 5);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_lost_what_was_read_is_followed_no_more_however_far_it_comes() {
    // The primary lost its last event, and nothing, or something else, came in its place.
    for others in [3_u128..3, 103..104, 103..105, 103..110] {
        let mut follower = Follower::behind(unsure(0));
        follower.next(&log_of(1..=3).await, MAX_BATCH).await.unwrap();
        let log = log_of((1..=2).chain(others)).await;
        is_lost(&mut follower, &log, 3).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_loss_is_noticed_while_nothing_is_appended() {
    let mut follower = Follower::behind(unsure(0));
    follower.next(&log_of(1..=3).await, MAX_BATCH).await.unwrap();
    // The event is there while it is looked for the first time; later it is not.
    let log = log_of(1..=3).await;
    let waiting = timeout(LOOK_AGAIN / 2, follower.next(&log, MAX_BATCH)).await;
    assert!(waiting.is_err(), "nothing new");
    is_lost(&mut follower, &log_of(1..=2).await, 3).await;
}

#[tokio::test]
async fn between_two_that_stand_comes_what_is_there_and_no_more_than_is_asked_for() {
    let log = log_of(1..=6).await;
    for (after, through, most, expected) in [
        (0, 6, MAX_BATCH, vec![1, 2, 3, 4, 5, 6]),
        (2, 5, MAX_BATCH, vec![3, 4, 5]),
        (2, 5, 2, vec![3, 4]),
        (4, 5, usize::MAX, vec![5]),
        (5, 5, MAX_BATCH, vec![]),
        (6, 5, MAX_BATCH, vec![]),
    ] {
        let (after, through) = (seen(&log, after).await, seen(&log, through).await);
        let events = between(&log, after, through, most).await.unwrap();
        assert_eq!(positions(&events), expected, "{after:?} {through:?} {most}");
        let (after, through) = (unsure(after.position), unsure(through.position));
        assert_eq!(between(&log, after, through, most).await.unwrap(), events);
    }
    let many = log_of(0..MAX_BATCH as u128 + 2).await;
    let through = seen(&many, many.head().await.unwrap()).await;
    let events = between(&many, Seen::default(), through, usize::MAX).await.unwrap();
    assert_eq!(events.len(), MAX_BATCH);
}

/// The primary lost an event, and nothing, or something else, came in its place; what was read is before
/// it, or was lost as well.
#[tokio::test]
async fn between_two_of_which_one_is_lost_comes_nothing() {
    let before = log_of(1..=6).await;
    for (kept, others) in [(5, 6..6), (5, 106..107), (5, 106..109), (3, 4..4), (3, 104..110)] {
        let log = log_of((1..=kept).chain(others.clone())).await;
        for after in 0..=5 {
            for most in [1, MAX_BATCH] {
                let (after, through) = (seen(&before, after).await, seen(&before, 6).await);
                let stopped = between(&log, after, through, most).await.unwrap_err();
                assert!(matches!(stopped, NotFollowed::Lost(_)), "{after:?} {stopped}");
            }
        }
        // What was read last is lost too, and nobody knows what stood behind it.
        let stopped = between(&log, seen(&before, 6).await, unsure(7), MAX_BATCH).await;
        assert!(matches!(stopped, Err(NotFollowed::Lost(_))), "{kept} {others:?}");
    }
}
