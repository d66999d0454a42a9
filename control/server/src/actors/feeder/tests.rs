#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use rap_control_core::Principal;
use rap_events::{
    MemoryLog,
    tapped::{Tap, TappedLog},
};
use rap_proto::{LoginId, UserId};

use super::*;
use crate::{
    feed::Seat,
    follow::tests::{log_of, source_of},
    options::StreamLimits,
};

fn feed() -> Arc<Feed> {
    Arc::new(Feed::new(Seen::default(), StreamLimits::default()))
}

fn follow(feed: &Arc<Feed>) -> Seat {
    let principal = Principal::User { user: UserId::from_u128(1), login: LoginId::from_u128(1) };
    Seat::take(feed, &principal, Audience::Platform { everything: true }).unwrap()
}

/// Publishes the events and returns their positions.
fn publish(feed: &Feed, events: Option<Vec<Envelope>>) -> Vec<u64> {
    let events = events.unwrap_or_default();
    let positions = events.iter().map(|event| event.position).collect();
    let fed = events.into_iter().map(|envelope| {
        let leaf = entry::leaf(&envelope);
        let Envelope { position, stream, .. } = envelope;
        let (organization, to_platform, to_organization) = (None, Bytes::new(), None);
        let shown = Shown { position, leaf, organization, to_platform, to_organization, bytes: 0 };
        Fed { stream, shown }
    });
    feed.publish(fed.collect());
    positions
}

#[tokio::test]
async fn what_was_folded_is_read_and_nothing_beyond_it() {
    let (feed, log) = (feed(), log_of(1..=5).await);
    let _seat = follow(&feed);
    for (folded, positions) in [(2, vec![1, 2]), (2, vec![]), (3, vec![3]), (5, vec![4, 5])] {
        let read = next(&feed, &log, &source_of(&log, folded).await).await.unwrap();
        assert_eq!(publish(&feed, read), positions, "{folded}");
    }
}

#[tokio::test]
async fn while_nobody_follows_nothing_is_read_and_who_comes_later_begins_there() {
    let (feed, log) = (feed(), log_of(1..=6).await);
    let seat = follow(&feed);
    let read = next(&feed, &log, &source_of(&log, 2).await).await.unwrap();
    assert_eq!(publish(&feed, read), [1, 2]);
    drop(seat);
    assert!(next(&feed, &log, &source_of(&log, 4).await).await.unwrap().is_none());
    let _seat = follow(&feed);
    let read = next(&feed, &log, &source_of(&log, 6).await).await.unwrap();
    assert_eq!(publish(&feed, read), [5, 6]);
}

#[tokio::test]
async fn what_was_read_and_not_published_is_read_again() {
    let (feed, log) = (feed(), log_of(1..=3).await);
    let _seat = follow(&feed);
    next(&feed, &log, &source_of(&log, 3).await).await.unwrap();
    let read = next(&feed, &log, &source_of(&log, 3).await).await.unwrap();
    assert_eq!(publish(&feed, read), [1, 2, 3]);
}

/// The primary lost the third event, which was shown, and another one came in its place: also when the
/// projections were exchanged meanwhile, for what was folded of that log.
#[tokio::test]
async fn a_log_that_went_back_behind_what_was_shown_feeds_nobody() {
    let feed = feed();
    let _seat = follow(&feed);
    let log = log_of(1..=3).await;
    let read = next(&feed, &log, &source_of(&log, 3).await).await.unwrap();
    assert_eq!(publish(&feed, read), [1, 2, 3]);
    let other = log_of((1..=2).chain(103..105)).await;
    let stopped = next(&feed, &other, &source_of(&other, 4).await).await.unwrap_err();
    let lost = Corrupt::Replaced { position: 3 };
    assert!(matches!(FeedError::from(stopped), FeedError::Lost(corrupt) if corrupt == lost));
}

/// The projections folded five events. The last two are lost, and others came in their place.
#[tokio::test]
async fn nothing_is_fed_of_a_log_that_lost_what_the_projections_folded() {
    let log = log_of(1..=5).await;
    let folded = source_of(&log, 5).await;
    for others in [104..106, 104..110] {
        let feed = feed();
        let _seat = follow(&feed);
        let read = next(&feed, &log, &source_of(&log, 3).await).await.unwrap();
        assert_eq!(publish(&feed, read), [1, 2, 3]);
        let other = log_of((1..=3).chain(others)).await;
        let stopped = next(&feed, &other, &folded).await.unwrap_err();
        let lost = Corrupt::Replaced { position: 5 };
        assert!(matches!(FeedError::from(stopped), FeedError::Lost(corrupt) if corrupt == lost));
    }
    let feed = feed();
    let _seat = follow(&feed);
    let read = next(&feed, &log, &folded).await.unwrap();
    assert_eq!(publish(&feed, read), [1, 2, 3, 4, 5]);
}

/// Of a batch that does not reach what was folded last, its own end was folded: a step of the fold.
#[tokio::test]
async fn a_batch_is_not_fed_when_what_was_folded_of_it_is_lost() {
    let batch = MAX_BATCH as u128;
    let log = log_of(1..=batch + 5).await;
    let folded = source_of(&log, log.head().await.unwrap()).await;
    let feed = feed();
    let _seat = follow(&feed);
    let other = log_of((1..batch).chain(9_999..10_010)).await;
    let stopped = next(&feed, &other, &folded).await.unwrap_err();
    assert!(matches!(stopped, NotFollowed::Lost(Corrupt::Replaced { position: 512 })));
    // What was lost behind it is noticed with the next one.
    let other = log_of((1..batch + 5).chain(9_999..10_000)).await;
    let read = next(&feed, &other, &folded).await.unwrap();
    assert_eq!(publish(&feed, read).len(), MAX_BATCH);
    let stopped = next(&feed, &other, &folded).await.unwrap_err();
    assert!(matches!(stopped, NotFollowed::Lost(Corrupt::Replaced { position: 517 })));
}

#[derive(Default)]
struct Counted(AtomicUsize);

impl Tap for Counted {
    fn read<'a>(
        &'a self,
        log: &'a MemoryLog,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Envelope>, ReadError>> {
        Box::pin(async move {
            let events = log.read(after, limit).await?;
            self.0.fetch_add(events.len(), Ordering::Relaxed);
            Ok(events)
        })
    }
}

/// Each batch takes its events and the one before them, also when more was folded than it holds.
#[tokio::test]
async fn no_event_is_read_to_see_whether_what_was_folded_stands() {
    let last = 2 * MAX_BATCH + 5;
    let log = TappedLog { log: log_of(1..=last as u128).await, tap: Counted::default() };
    let folded = source_of(&log.log, last as u64).await;
    let feed = feed();
    let _seat = follow(&feed);
    for (batch, read) in [(MAX_BATCH, MAX_BATCH), (MAX_BATCH, MAX_BATCH + 1), (5, 6)] {
        let events = next(&feed, &log, &folded).await.unwrap();
        assert_eq!(publish(&feed, events).len(), batch);
        assert_eq!(log.tap.0.swap(0, Ordering::Relaxed), read);
    }
    assert!(next(&feed, &log, &folded).await.unwrap().is_none());
}
