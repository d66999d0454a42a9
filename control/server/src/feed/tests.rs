#![allow(clippy::unwrap_used)]

use futures_util::FutureExt as _;
use rap_control_core::Principal;
use rap_events::keys;
use rap_proto::{LoginId, api::ProblemCode};
use uuid::Uuid;

use super::*;

const EVERYTHING: Audience = Audience::Platform { everything: true };

fn feed(open: usize, open_per_user: usize) -> Arc<Feed> {
    let limits = StreamLimits { open, open_per_user, ..StreamLimits::default() };
    Arc::new(Feed::new(Seen::default(), limits))
}

fn principal(number: u128) -> Principal {
    Principal::User { user: UserId::from_u128(number), login: LoginId::from_u128(number) }
}

fn of(number: u128) -> Audience {
    Audience::Organization(OrganizationId::from_u128(number))
}

fn take(feed: &Arc<Feed>, user: u128, audience: Audience) -> Result<Seat, String> {
    Seat::take(feed, &principal(user), audience).map_err(|problem| {
        assert_eq!(problem.code(), Some(ProblemCode::LimitReached));
        problem.rule.unwrap().into_string()
    })
}

/// Events of one stream behind the window's end.
fn publish(feed: &Feed, count: u64, organization: Option<u128>, stream: &StreamId) {
    let end = feed.end().position;
    let events = (end + 1..=end + count).map(|position| Fed {
        stream: stream.clone(),
        shown: Shown {
            position,
            leaf: Digest::of(&position.to_be_bytes()),
            organization: organization.map(OrganizationId::from_u128),
            to_platform: Bytes::from_static(b"platform"),
            to_organization: organization.map(|_| Bytes::from_static(b"organization")),
            bytes: 20,
        },
    });
    feed.publish(events.collect());
}

fn wakeups(feed: &Feed) -> u64 {
    feed.wakeups.load(Ordering::Relaxed)
}

fn any_stream() -> StreamId {
    StreamId::new("resource", Uuid::from_u128(1))
}

#[test]
fn wakeups_grow_neither_with_the_events_of_others_nor_with_events_times_followers() {
    let feed = feed(1_000, 1_000);
    let quiet: Vec<_> = (1..=500).map(|n| take(&feed, n, of(n)).unwrap()).collect();
    let auditor = take(&feed, 1_000, EVERYTHING).unwrap();
    for _ in 0..10 {
        publish(&feed, 100, Some(9_999), &any_stream());
    }
    // A thousand events, ten publications, and one who may see them.
    assert_eq!(wakeups(&feed), 10);
    assert!(quiet.iter().all(|seat| seat.woken().now_or_never().is_none()));
    assert!(auditor.woken().now_or_never().is_some());
    publish(&feed, 100, Some(7), &any_stream());
    assert_eq!(wakeups(&feed), 12);
    assert!(quiet[6].woken().now_or_never().is_some());
    // The quiet ones are not behind: nothing of theirs was pushed out.
    let Taken::Events { events, through } = feed.take(of(8), Seen::default(), 100) else {
        panic!("behind")
    };
    assert_eq!((events.len(), through), (0, feed.end()));
    assert_eq!(through.position, 1_100);
}

#[test]
fn whatever_ones_authority_hangs_on_wakes_one() {
    let feed = feed(10, 10);
    let (seat, other) = (take(&feed, 1, of(5)).unwrap(), take(&feed, 2, of(6)).unwrap());
    let user = UserId::from_u128(1);
    let membership = keys::membership_id(OrganizationId::from_u128(5), user);
    let hangs_on =
        [("user", user.uuid()), ("login", Uuid::from_u128(1)), ("membership", membership)];
    for (category, id) in hangs_on {
        publish(&feed, 1, None, &StreamId::new(category, id));
        assert!(seat.woken().now_or_never().is_some(), "{category}");
        assert!(other.woken().now_or_never().is_none(), "{category}");
    }
}

#[test]
fn places_are_bounded_for_all_and_for_each_user_and_are_given_back() {
    let feed = feed(3, 2);
    let first = take(&feed, 1, EVERYTHING).unwrap();
    let second = take(&feed, 1, of(1)).unwrap();
    assert_eq!(take(&feed, 1, of(1)).unwrap_err(), "max_streams_per_user");
    let other = take(&feed, 2, of(1)).unwrap();
    assert_eq!(take(&feed, 3, of(1)).unwrap_err(), "max_streams");
    drop((first, second));
    let again = take(&feed, 1, of(1)).unwrap();
    drop((other, again));
    let shared = feed.lock();
    assert!(shared.followers.is_empty() && shared.topics.is_empty() && shared.users.is_empty());
}

#[test]
fn without_followers_nothing_is_read_and_a_closed_feed_takes_nobody() {
    let feed = feed(3, 3);
    let at = |position| Seen { position, leaf: Some(Digest::of(b"leaf")) };
    assert_eq!(feed.next_after(at(50)), None);
    let seat = take(&feed, 1, EVERYTHING).unwrap();
    assert_eq!(feed.next_after(at(50)), None);
    assert_eq!(feed.next_after(at(60)), Some(at(50)));
    assert_eq!((feed.end(), feed.leaf_at(50)), (at(50), at(50).leaf));
    feed.close();
    assert!(seat.woken().now_or_never().is_some() && feed.is_closed());
    let refused = Seat::take(&feed, &principal(2), EVERYTHING).unwrap_err();
    assert_eq!(refused.code(), Some(ProblemCode::Unavailable));
}

#[test]
fn the_more_are_woken_the_less_often() {
    assert!(pace(0) <= Duration::from_millis(10));
    assert!(pace(10_000) <= Duration::from_millis(500) && pace(10_000) > pace(100));
}

#[test]
fn words_wake_those_who_asked_for_them_and_only_when_they_change() {
    let feed = feed(10, 10);
    let organization = OrganizationId::from_u128(1);
    let mut asked = take(&feed, 1, of(1)).unwrap();
    let silent = take(&feed, 2, of(1)).unwrap();
    assert_eq!(feed.listened_to(), []);
    feed.say(organization, Words::default());
    assert_eq!(feed.words(organization), None, "nobody listens");
    asked.listen_for_words(organization);
    assert_eq!(feed.listened_to(), [organization]);
    feed.say(organization, Words::default());
    assert!(asked.woken().now_or_never().is_some());
    feed.say(organization, Words::default());
    assert!(asked.woken().now_or_never().is_none(), "they are what they were");
    assert!(silent.woken().now_or_never().is_none());
    assert!(feed.words(organization).is_some());
    drop(asked);
    assert_eq!(feed.listened_to(), []);
    assert_eq!(feed.words(organization), None, "what nobody listens to is not kept");
}
