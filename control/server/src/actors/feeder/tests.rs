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
        let read = reader.next(&feed, &log, folded).await.unwrap();
        assert_eq!(publish(&feed, read), positions, "{folded}");
    }
}

#[tokio::test]
async fn while_nobody_follows_nothing_is_read_and_who_comes_later_begins_there() {
    let (feed, mut reader, log) = (feed(), Reader::default(), log_of(1..=6).await);
    let seat = follow(&feed);
    let read = reader.next(&feed, &log, 2).await.unwrap();
    assert_eq!(publish(&feed, read), [1, 2]);
    drop(seat);
    assert!(reader.next(&feed, &log, 4).await.unwrap().is_none());
    let _seat = follow(&feed);
    let read = reader.next(&feed, &log, 6).await.unwrap();
    assert_eq!(publish(&feed, read), [5, 6]);
}

#[tokio::test]
async fn what_was_read_and_not_published_is_read_again() {
    let (feed, mut reader, log) = (feed(), Reader::default(), log_of(1..=3).await);
    let _seat = follow(&feed);
    reader.next(&feed, &log, 3).await.unwrap();
    let read = reader.next(&feed, &log, 3).await.unwrap();
    assert_eq!(publish(&feed, read), [1, 2, 3]);
}

/// The primary lost the third event, which was shown, and another one came in its place.
#[tokio::test]
async fn a_log_that_went_back_behind_what_was_shown_feeds_nobody() {
    let (feed, mut reader) = (feed(), Reader::default());
    let _seat = follow(&feed);
    let read = reader.next(&feed, &log_of(1..=3).await, 3).await.unwrap();
    assert_eq!(publish(&feed, read), [1, 2, 3]);
    let other = log_of((1..=2).chain(103..105)).await;
    let stopped = reader.next(&feed, &other, 4).await.unwrap_err();
    let lost = Corrupt::Replaced { position: 3 };
    assert!(matches!(FeedError::from(stopped), FeedError::Lost(corrupt) if corrupt == lost));
}
