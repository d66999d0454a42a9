use std::sync::Arc;

use futures_util::future::join;
use rap_proto::OrganizationId;

use super::{all, command, head, stored, stream, texts, write};
use crate::log::{Log, MAX_EVENTS_PER_APPEND, MAX_READ_EVENTS};

pub(super) async fn pages_follow_each_other(log: Arc<dyn Log>) {
    stored(&log, command(1, vec![write(1, 0, &["a", "b", "c", "d", "e"])])).await;
    for (after, limit, expected) in [
        (0, 2, &["a", "b"][..]),
        (2, 2, &["c", "d"]),
        (4, 2, &["e"]),
        (5, 2, &[]),
        (99, 2, &[]),
        (0, 0, &[]),
        (u64::MAX >> 1, usize::MAX, &[]),
    ] {
        let page = log.read(after, limit).await.expect("the log can be read");
        assert_eq!(texts(&page), expected, "after {after}, at most {limit}");
        let page = log.read_stream(&stream(1), after, limit).await.expect("a stream can be read");
        assert_eq!(texts(&page), expected, "stream: after {after}, at most {limit}");
    }
}

pub(super) async fn no_page_exceeds_the_greatest(log: Arc<dyn Log>) {
    let batches = MAX_READ_EVENTS / MAX_EVENTS_PER_APPEND + 1;
    let texts = vec!["e"; MAX_EVENTS_PER_APPEND];
    for batch in 0..batches as u64 {
        let revision = batch * MAX_EVENTS_PER_APPEND as u64;
        stored(&log, command(u128::from(batch) + 1, vec![write(1, revision, &texts)])).await;
    }
    assert!(head(&log).await > MAX_READ_EVENTS as u64);
    assert_eq!(all(&log).await.len(), MAX_READ_EVENTS);
    let page = log.read_stream(&stream(1), 0, usize::MAX).await.expect("a stream can be read");
    assert_eq!(page.len(), MAX_READ_EVENTS);
    let rest = log.read(MAX_READ_EVENTS as u64, usize::MAX).await.expect("the log can be read");
    assert_eq!(rest.len(), batches * MAX_EVENTS_PER_APPEND - MAX_READ_EVENTS);
}

pub(super) async fn a_stream_is_read_without_the_others(log: Arc<dyn Log>) {
    stored(&log, command(1, vec![write(1, 0, &["a"]), write(2, 0, &["b"])])).await;
    stored(&log, command(2, vec![write(2, 1, &["c"]), write(1, 1, &["d"])])).await;
    let page = log.read_stream(&stream(2), 0, 10).await.expect("a stream can be read");
    assert_eq!(texts(&page), ["b", "c"]);
    let page = log.read_stream(&stream(1), 1, 10).await.expect("a stream can be read");
    assert_eq!(texts(&page), ["d"]);
    // The same id in another category is another stream.
    let namesake = crate::StreamId::new("other", stream(1).id);
    assert_eq!(log.read_stream(&namesake, 0, 10).await, Ok(Vec::new()));
}

pub(super) async fn an_organization_is_read_without_the_others(log: Arc<dyn Log>) {
    let [seven, eight] = [7, 8].map(OrganizationId::from_u128);
    let mut append = command(1, vec![write(1, 0, &["a", "b", "c", "d", "e"])]);
    let owners = [Some(seven), Some(eight), None, Some(seven), Some(eight)];
    for (event, owner) in append.writes[0].events.iter_mut().zip(owners) {
        event.organization = owner;
    }
    stored(&log, append).await;
    for (organization, after, limit, expected) in [
        (seven, 0, usize::MAX, &["a", "d"][..]),
        (eight, 0, usize::MAX, &["b", "e"]),
        // As many events as are looked at, whoever's they are.
        (seven, 0, 3, &["a"]),
        (seven, 1, 3, &["d"]),
        (seven, 4, 3, &[]),
        (OrganizationId::from_u128(9), 0, usize::MAX, &[]),
        (seven, u64::MAX >> 1, usize::MAX, &[]),
    ] {
        let page = log.read_within(organization, after, limit).await.expect("the log can be read");
        assert_eq!(texts(&page), expected, "{organization}: after {after}, of {limit}");
    }
    // What was said for one page holds for no other one.
    assert_eq!(texts(&all(&log).await), ["a", "b", "c", "d", "e"]);
}

pub(super) async fn waiting_ends_with_the_next_event(log: Arc<dyn Log>) {
    stored(&log, command(1, vec![write(1, 0, &["a"])])).await;
    let append = command(2, vec![write(1, 1, &["b", "c"])]);
    let (woken, appended) = join(log.wait_beyond(1), log.append(append)).await;
    assert_eq!(woken, Ok(3));
    assert_eq!(appended.expect("stored").last, 3);
}

pub(super) async fn waiting_for_the_past_ends_at_once(log: Arc<dyn Log>) {
    stored(&log, command(1, vec![write(1, 0, &["a", "b"])])).await;
    assert_eq!(log.wait_beyond(0).await, Ok(2));
    assert_eq!(log.wait_beyond(1).await, Ok(2));
}
