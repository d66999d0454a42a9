//! Many writers at once, repeated commands, and the limits.

use std::sync::Arc;

use futures_util::future::join_all;
use rap_events::log::{AppendError, Appended, Log};
use rap_log_postgres::{MAX_BATCH, MAX_QUEUED_APPENDS, private::Durability};
use rap_proto::Digest;

use crate::support::{Server, append, append_to, check_gapless, execute, read_all};

const WRITERS: u128 = 32;
const APPENDS: u128 = 40;

#[tokio::test(flavor = "multi_thread")]
async fn writers_of_two_processes_leave_no_gap_and_write_each_append_once() {
    let server = Server::start(Durability::Fast).await;
    // Two logs on one database are what two replicas of the control plane are to each other.
    let logs = [Arc::new(server.log().await), Arc::new(server.log().await)];
    let writers = (0..WRITERS).map(|writer| {
        let log = Arc::clone(&logs[usize::try_from(writer % 2).unwrap()]);
        tokio::spawn(async move {
            for number in 0..APPENDS {
                let command = writer * APPENDS + number + 1;
                let expected = u64::try_from(number).unwrap() * 2;
                let appended = log.append(append_to(command, writer, expected, 2)).await.unwrap();
                assert_eq!(appended.last, appended.first + 1);
                assert_eq!(appended.reply, format!("reply {command}"));
            }
        })
    });
    for writer in join_all(writers).await {
        writer.unwrap();
    }
    let events = read_all(&*logs[0]).await;
    assert_eq!(events, read_all(&*logs[1]).await);
    let times = check_gapless(&events);
    assert_eq!(times.len(), usize::try_from(WRITERS * APPENDS).unwrap());
    assert!(times.values().all(|&count| count == 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_writers_that_race_for_a_revision_one_wins() {
    let server = Server::start(Durability::Fast).await;
    let logs = [server.log().await, server.log().await];
    let racers = (1..=WRITERS).map(|command| {
        logs[usize::try_from(command % 2).unwrap()].append(append_to(command, 7, 0, 1))
    });
    let outcomes = join_all(racers).await;
    let (won, lost): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    for outcome in lost {
        assert!(matches!(outcome, Err(AppendError::Conflict { actual: 1, .. })), "{outcome:?}");
    }
    assert_eq!(read_all(&logs[0]).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_command_is_answered_as_the_first_time() {
    let server = Server::start(Durability::Fast).await;
    let log = server.log().await;
    let first = log.append(append(1)).await.unwrap();
    let again = log.append(append(1)).await.unwrap();
    assert_eq!(again, Appended { replayed: true, ..first.clone() });
    let mut other = append(1);
    other.request_hash = Digest::of(b"another request");
    assert_eq!(log.append(other).await.unwrap_err(), AppendError::CommandReused);

    // The same, all at once and over two processes.
    let second = server.log().await;
    let repeats = (0..64).map(|turn| if turn % 2 == 0 { &log } else { &second });
    let outcomes = join_all(repeats.map(|log| log.append(append(2)))).await;
    let fresh = outcomes.iter().filter(|outcome| !outcome.as_ref().unwrap().replayed).count();
    assert_eq!(fresh, 1);
    assert!(outcomes.iter().all(|outcome| outcome.as_ref().unwrap().first == first.last + 1));
    assert_eq!(read_all(&log).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_that_fails_fails_alone() {
    let server = Server::start(Durability::Fast).await;
    let log = server.log().await;
    log.append(append_to(1, 1, 0, 1)).await.unwrap();
    let mut holder = append(2);
    holder.claim = vec!["name/acme".to_owned()];
    log.append(holder).await.unwrap();

    let mut stale = append_to(10, 1, 0, 1);
    stale.claim = vec!["name/new".to_owned()];
    let mut claimed = append(11);
    claimed.claim = vec!["name/acme".to_owned()];
    let mut reused = append(1);
    reused.request_hash = Digest::of(b"another request");
    // PostgreSQL's text cannot hold a zero byte: here the statement itself fails.
    let mut hostile = append(12);
    hostile.claim = vec!["name/\0".to_owned()];
    let mut takes_what_stale_wanted = append(13);
    takes_what_stale_wanted.claim = vec!["name/new".to_owned()];

    let mixed = [append(20), stale, claimed, reused, hostile, takes_what_stale_wanted, append(21)];
    let outcomes = join_all(mixed.map(|append| log.append(append))).await;
    let good: Vec<bool> = outcomes.iter().map(Result::is_ok).collect();
    assert_eq!(good, [true, false, false, false, false, true, true], "{outcomes:?}");
    assert!(matches!(outcomes[1], Err(AppendError::Conflict { actual: 1, .. })));
    assert!(matches!(outcomes[2], Err(AppendError::Claimed { .. })));
    assert!(matches!(outcomes[3], Err(AppendError::CommandReused)));
    assert!(matches!(outcomes[4], Err(AppendError::Unavailable(_))));
    assert_eq!(check_gapless(&read_all(&log).await).len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_makes_writers_wait_and_loses_nothing() {
    let server = Server::start(Durability::Fast).await;
    let log = server.log().await;
    let crowd = u128::try_from(MAX_QUEUED_APPENDS + 2 * MAX_BATCH).unwrap();
    let outcomes = join_all((1..=crowd).map(|command| log.append(append(command)))).await;
    assert!(outcomes.iter().all(Result::is_ok));
    let events = read_all(&log).await;
    assert_eq!(check_gapless(&events).len(), usize::try_from(crowd).unwrap());
    // Batches share a transaction, and no transaction holds more than its limit.
    let sizes = execute(&server.postgres.url(), "SELECT count(*) FROM events GROUP BY xmin").await;
    let sizes: Vec<usize> = sizes.iter().map(|size| size.parse().unwrap()).collect();
    assert!(sizes.iter().all(|&size| size <= MAX_BATCH), "{sizes:?}");
    assert!(sizes.contains(&MAX_BATCH), "{sizes:?}");
}
