#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use rap_control_core::Principal;
use rap_proto::{LoginId, UserId};

use super::*;
use crate::{feed::Seat, follow::tests::log_of, options::StreamLimits};

fn feed() -> Arc<Feed> {
    Arc::new(Feed::new(0, StreamLimits::default()))
}

fn follow(feed: &Arc<Feed>) -> Seat {
    let principal = Principal::User { user: UserId::from_u128(1), login: LoginId::from_u128(1) };
    Seat::take(feed, &principal, Audience::Platform { everything: true }).unwrap()
}

/// What is known of the last folded event is its position.
fn at(position: u64) -> Known {
    Known { position, leaf: None }
}

/// Publishes the events and returns their positions.
fn publish(feed: &Feed, events: Option<Vec<Envelope>>) -> Vec<u64> {
    let events = events.unwrap_or_default();
    let positions = events.iter().map(|event| event.position).collect();
    let fed = events.into_iter().map(|Envelope { position, stream, .. }| {
        let (to_platform, bytes) = (Bytes::new(), 0);
        let shown =
            Shown { position, organization: None, to_platform, to_organization: None, bytes };
        Fed { stream, shown }
    });
    feed.publish(fed.collect());
    positions
}

#[tokio::test]
async fn what_was_folded_is_read_and_nothing_beyond_it() {
    let (feed, mut reader, log) = (feed(), Reader::default(), log_of(1..=5).await);
    let _seat = follow(&feed);
    for (folded, positions) in [(2, vec![1, 2]), (2, vec![]), (3, vec![3]), (5, vec![4, 5])] {
        let read = reader.next(&feed, &log, at(folded)).await.unwrap();
        assert_eq!(publish(&feed, read), positions, "{folded}");
    }
}

#[tokio::test]
async fn while_nobody_follows_nothing_is_read_and_who_comes_later_begins_there() {
    let (feed, mut reader, log) = (feed(), Reader::default(), log_of(1..=6).await);
    let seat = follow(&feed);
    let read = reader.next(&feed, &log, at(2)).await.unwrap();
    assert_eq!(publish(&feed, read), [1, 2]);
    drop(seat);
    assert!(reader.next(&feed, &log, at(4)).await.unwrap().is_none());
    let _seat = follow(&feed);
    let read = reader.next(&feed, &log, at(6)).await.unwrap();
    assert_eq!(publish(&feed, read), [5, 6]);
}

#[tokio::test]
async fn what_was_read_and_not_published_is_read_again() {
    let (feed, mut reader, log) = (feed(), Reader::default(), log_of(1..=3).await);
    let _seat = follow(&feed);
    reader.next(&feed, &log, at(3)).await.unwrap();
    let read = reader.next(&feed, &log, at(3)).await.unwrap();
    assert_eq!(publish(&feed, read), [1, 2, 3]);
}

/// The primary lost the third event, which was shown, and another one came in its place.
#[tokio::test]
async fn a_log_that_went_back_behind_what_was_shown_feeds_nobody() {
    let (feed, mut reader) = (feed(), Reader::default());
    let _seat = follow(&feed);
    let read = reader.next(&feed, &log_of(1..=3).await, at(3)).await.unwrap();
    assert_eq!(publish(&feed, read), [1, 2, 3]);
    let other = log_of((1..=2).chain(103..105)).await;
    let stopped = reader.next(&feed, &other, at(4)).await.unwrap_err();
    let lost = Corrupt::Replaced { position: 3 };
    assert!(matches!(FeedError::from(stopped), FeedError::Lost(corrupt) if corrupt == lost));
}

/// The projections folded five events. The last two are lost, and others came in their place.
#[tokio::test]
async fn nothing_is_fed_of_a_log_that_lost_what_the_projections_folded() {
    let log = log_of(1..=5).await;
    let leaf = log.read(4, 1).await.unwrap().first().map(entry::leaf);
    let known = Known { position: 5, leaf };
    for others in [104..106, 104..110] {
        let (feed, mut reader) = (feed(), Reader::default());
        let _seat = follow(&feed);
        let read = reader.next(&feed, &log, at(3)).await.unwrap();
        assert_eq!(publish(&feed, read), [1, 2, 3]);
        let other = log_of((1..=3).chain(others)).await;
        let stopped = reader.next(&feed, &other, known).await.unwrap_err();
        let lost = Corrupt::Replaced { position: 5 };
        assert!(matches!(FeedError::from(stopped), FeedError::Lost(corrupt) if corrupt == lost));
    }
    let (feed, mut reader) = (feed(), Reader::default());
    let _seat = follow(&feed);
    let read = reader.next(&feed, &log, known).await.unwrap();
    assert_eq!(publish(&feed, read), [1, 2, 3, 4, 5]);
}

/// What was folded last is looked for also behind the first batch.
#[tokio::test]
async fn a_batch_is_not_fed_when_what_was_folded_behind_it_is_lost() {
    let last = MAX_BATCH as u128 + 5;
    let log = log_of(1..=last).await;
    let position = log.head().await.unwrap();
    let leaf = log.read(position - 1, 1).await.unwrap().first().map(entry::leaf);
    let (feed, mut reader) = (feed(), Reader::default());
    let _seat = follow(&feed);
    let other = log_of((1..last).chain(9_999..10_000)).await;
    let stopped = reader.next(&feed, &other, Known { position, leaf }).await.unwrap_err();
    assert!(matches!(stopped, NotFollowed::Lost(Corrupt::Replaced { position: 517 })));
}
