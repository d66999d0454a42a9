use std::sync::Arc;

use futures_util::future::join_all;

use super::{all, command, head, stored, stream, texts, with_keys, write};
use crate::log::{Append, AppendError, Log, StreamWrite};

/// How many appends race in the cases that race.
const RACERS: u128 = 32;

pub(super) async fn a_moved_stream_is_a_conflict(log: Arc<dyn Log>) {
    stored(&log, command(1, vec![write(1, 0, &["a", "b"])])).await;
    for (id, (number, expected, actual)) in (10..).zip([(1, 0, 2), (1, 1, 2), (1, 3, 2), (2, 1, 0)])
    {
        let refused = log.append(command(id, vec![write(number, expected, &["x"])])).await;
        assert_eq!(refused, Err(AppendError::Conflict { stream: stream(number), actual }));
    }
    assert_eq!(head(&log).await, 2);
}

pub(super) async fn one_conflict_stores_nothing_of_the_append(log: Arc<dyn Log>) {
    stored(&log, command(1, vec![write(1, 0, &["a"])])).await;
    let append = command(2, vec![write(2, 0, &["b"]), write(1, 0, &["c"]), write(3, 0, &["d"])]);
    let append = with_keys(append, &["name/x"], &[]);
    let conflict = AppendError::Conflict { stream: stream(1), actual: 1 };
    assert_eq!(log.append(append.clone()).await, Err(conflict));
    assert_eq!(texts(&all(&log).await), ["a"]);
    assert_eq!(log.command(append.command).await, Ok(None));

    // The id, the key and the other streams are as free as before.
    let decided_again = Append {
        writes: vec![write(2, 0, &["b"]), write(1, 1, &["c"]), write(3, 0, &["d"])],
        ..append
    };
    assert_eq!(stored(&log, decided_again).await.first, 2);
    assert_eq!(texts(&all(&log).await), ["a", "b", "c", "d"]);
}

pub(super) async fn a_stream_can_be_checked_without_being_written(log: Arc<dyn Log>) {
    stored(&log, command(1, vec![write(1, 0, &["a"])])).await;
    let stale = command(2, vec![write(1, 0, &[]), write(2, 0, &["b"])]);
    let conflict = AppendError::Conflict { stream: stream(1), actual: 1 };
    assert_eq!(log.append(stale).await, Err(conflict));
    stored(&log, command(2, vec![write(1, 1, &[]), write(2, 0, &["b"])])).await;
    assert_eq!(texts(&all(&log).await), ["a", "b"]);
}

pub(super) async fn a_stream_twice_is_refused(log: Arc<dyn Log>) {
    let twice: Vec<StreamWrite> = vec![write(1, 0, &["a"]), write(1, 1, &["b"])];
    let refused = log.append(command(1, twice)).await;
    assert_eq!(refused, Err(AppendError::StreamTwice { stream: stream(1) }));
    assert_eq!(head(&log).await, 0);
}

pub(super) async fn a_key_has_one_owner(log: Arc<dyn Log>) {
    let claims = |id, keys: &[&str]| with_keys(command(id, vec![write(id, 0, &["a"])]), keys, &[]);
    stored(&log, claims(1, &["name/a", "name/b"])).await;
    let taken = Err(AppendError::Claimed { key: "name/b".to_owned() });
    assert_eq!(log.append(claims(2, &["name/c", "name/b"])).await, taken);
    assert_eq!(head(&log).await, 1);
    // The refused append took nothing.
    stored(&log, claims(3, &["name/c"])).await;

    let doubled = Err(AppendError::Claimed { key: "name/d".to_owned() });
    assert_eq!(log.append(claims(4, &["name/d", "name/d"])).await, doubled);
    assert_eq!(head(&log).await, 2);
}

pub(super) async fn a_key_is_released_and_claimed_in_one_append(log: Arc<dyn Log>) {
    let keys =
        |id, claim: &[&str], release: &[&str]| with_keys(command(id, Vec::new()), claim, release);
    stored(&log, keys(1, &["name/a"], &[])).await;
    stored(&log, keys(2, &["name/b"], &["name/a"])).await;
    stored(&log, keys(3, &["name/a"], &["name/never-taken"])).await;
    let taken = |key: &str| Err(AppendError::Claimed { key: key.to_owned() });
    assert_eq!(log.append(keys(4, &["name/a"], &[])).await, taken("name/a"));
    assert_eq!(log.append(keys(5, &["name/b"], &["name/a"])).await, taken("name/b"));
    // The release that came with the refused claim did not happen either.
    assert_eq!(log.append(keys(6, &["name/a"], &[])).await, taken("name/a"));
    stored(&log, keys(7, &["name/a"], &["name/a"])).await;
    assert_eq!(log.append(keys(8, &["name/a"], &[])).await, taken("name/a"));
}

pub(super) async fn of_many_appends_to_one_revision_one_wins(log: Arc<dyn Log>) {
    stored(&log, command(1, vec![write(1, 0, &["a"])])).await;
    let race = (0..RACERS).map(|n| log.append(command(100 + n, vec![write(1, 1, &["b"])])));
    let results = join_all(race).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    let conflict = AppendError::Conflict { stream: stream(1), actual: 2 };
    let lost = |result: &&Result<_, AppendError>| result.as_ref().is_err_and(|e| *e == conflict);
    assert_eq!(results.iter().filter(lost).count() as u128, RACERS - 1);
    assert_eq!(texts(&all(&log).await), ["a", "b"]);
}

pub(super) async fn of_many_claims_of_one_key_one_wins(log: Arc<dyn Log>) {
    let race = (0..RACERS).map(|n| {
        let append = command(100 + n, vec![write(100 + n, 0, &["a"])]);
        log.append(with_keys(append, &["name/a"], &[]))
    });
    let results = join_all(race).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    let taken = AppendError::Claimed { key: "name/a".to_owned() };
    let lost = |result: &&Result<_, AppendError>| result.as_ref().is_err_and(|e| *e == taken);
    assert_eq!(results.iter().filter(lost).count() as u128, RACERS - 1);
    assert_eq!(head(&log).await, 1);
}

pub(super) async fn one_command_sent_many_times_at_once_is_stored_once(log: Arc<dyn Log>) {
    let race = (0..RACERS).map(|_| log.append(command(1, vec![write(1, 0, &["a"])])));
    let results = join_all(race).await;
    let answers: Vec<_> = results.into_iter().map(|result| result.expect("stored once")).collect();
    assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
    assert!(answers.iter().all(|answer| (answer.first, answer.last) == (1, 1)));
    assert_eq!(head(&log).await, 1);
}

pub(super) async fn many_streams_at_once_make_one_order(log: Arc<dyn Log>) {
    let race = (1..=RACERS).map(|n| log.append(command(n, vec![write(n, 0, &["a", "b"])])));
    let results = join_all(race).await;
    let mut ranges: Vec<(u64, u64)> = results
        .into_iter()
        .map(|result| result.expect("no stream moved"))
        .map(|appended| (appended.first, appended.last))
        .collect();
    ranges.sort_unstable();
    let expected: Vec<_> = (0..RACERS as u64).map(|n| (2 * n + 1, 2 * n + 2)).collect();
    assert_eq!(ranges, expected);
    let events = all(&log).await;
    for pair in events.chunks(2) {
        assert_eq!(pair[0].stream, pair[1].stream, "an append's events stand together");
    }
    assert!((1..).zip(&events).all(|(position, event)| event.position == position));
}
