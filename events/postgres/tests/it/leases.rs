//! Lease rows: the suite that every log must pass, and renewals that race with grants.

use std::sync::Arc;

use futures_util::{FutureExt as _, future::join_all};
use rap_events::{
    LeaseTable as _,
    conformance::lease::{Leased, cases},
    lease::{LeaseChange, LeaseRow, Renewal, RenewalOutcome},
    log::{Append, AppendError, Log as _, StreamId},
};
use rap_log_postgres::{PostgresLog, private::Durability};
use rap_proto::Timestamp;
use uuid::Uuid;

use crate::support::{Server, append, execute};

#[tokio::test(flavor = "multi_thread")]
async fn the_leases_conform() {
    let server = Server::start(Durability::Fast).await;
    for (number, case) in cases().into_iter().enumerate() {
        let url = server.postgres.create_database(&format!("case_{number}")).await.unwrap();
        let log = Arc::new(PostgresLog::connect(&url).await.unwrap());
        // The server's clock cannot be moved, so the rows are moved into its past.
        let pass = move |millis: u64| {
            let url = url.clone();
            let sql = format!(
                "UPDATE leases SET renewed_at = renewed_at - {millis}, \
                 valid_until = valid_until - {millis}"
            );
            async move { drop(execute(&url, &sql).await) }.boxed()
        };
        // Names the case when it panics.
        println!("{}", case.name);
        (case.run)(Leased { log: log.clone(), table: log.clone(), pass: Box::new(pass) }).await;
        log.close().await;
    }
}

const GENERATIONS: u64 = 60;
/// Short, so that grants and renewals meet at the very end of a lease.
const TTL_MS: u32 = 20;
/// How often each holder renews before it falls silent.
const RENEWALS: usize = 4;

fn lease() -> StreamId {
    StreamId::new("lease", Uuid::from_u128(1))
}

fn grant(generation: u64) -> Append {
    let holder = Uuid::from_u128(u128::from(generation));
    let change =
        LeaseChange::Grant { lease: lease(), generation, holder, ttl_ms: TTL_MS, timeline: None };
    Append { leases: vec![change], ..append(u128::from(generation)) }
}

/// Renews until the table refuses, at most [`RENEWALS`] times; returns until when it was told
/// that it holds the lease.
async fn hold(log: &PostgresLog, generation: u64) -> Option<Timestamp> {
    let holder = Uuid::from_u128(u128::from(generation));
    let mut held = None;
    for _ in 0..RENEWALS {
        let renewal = Renewal { lease: lease(), generation, holder };
        let renewed = log.renew(vec![renewal]).await.unwrap();
        let RenewalOutcome::Renewed { remaining_ms } = renewed.outcomes[0] else { break };
        held = Some(renewed.now + std::time::Duration::from_millis(remaining_ms));
    }
    held
}

async fn row(log: &PostgresLog) -> LeaseRow {
    log.read_leases("lease", None, 1).await.unwrap().rows[0].1
}

/// Asks again and again until the lease is free.
async fn take(log: &PostgresLog, generation: u64) -> LeaseRow {
    loop {
        match log.append(grant(generation)).await {
            Ok(_) => return row(log).await,
            Err(AppendError::LeaseHeld { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_lease_is_granted_before_the_end_that_its_last_holder_was_told() {
    let server = Server::start(Durability::Fast).await;
    let logs = [Arc::new(server.log().await), Arc::new(server.log().await)];
    take(&logs[0], 1).await;
    let mut renewed = 0;
    for generation in 1..GENERATIONS {
        let (holder, taker) = (Arc::clone(&logs[0]), Arc::clone(&logs[1]));
        let holding = tokio::spawn(async move { hold(&holder, generation).await });
        let taken = tokio::spawn(async move { take(&taker, generation + 1).await });
        let (told, granted) = (holding.await.unwrap(), taken.await.unwrap());
        if granted.generation == generation + 1
            && let Some(told) = told
        {
            renewed += 1;
            let granted_at = granted.valid_until.unix_millis() - i64::from(TTL_MS);
            assert!(told.unix_millis() <= granted_at, "{told} {granted:?}");
        }
    }
    assert!(renewed > 0, "no renewal met a grant: the race proves nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_grants_by_two_processes_one_wins() {
    let server = Server::start(Durability::Fast).await;
    let logs = [server.log().await, server.log().await];
    let racers = (1..=16_u64).map(|racer| {
        let change = LeaseChange::Grant {
            lease: lease(),
            generation: 1,
            holder: Uuid::from_u128(racer.into()),
            ttl_ms: 60_000,
            timeline: None,
        };
        let log = &logs[usize::try_from(racer % 2).unwrap()];
        log.append(Append { leases: vec![change], ..append(racer.into()) })
    });
    let outcomes = join_all(racers).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let refused = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
    assert!(refused.into_iter().all(|error| matches!(error, AppendError::LeaseHeld { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn crossed_batches_of_renewals_and_grants_wait_for_each_other_in_one_order() {
    let server = Server::start(Durability::Fast).await;
    let logs = [Arc::new(server.log().await), Arc::new(server.log().await)];
    let leases = |n: u128| StreamId::new("lease", Uuid::from_u128(n));
    let grants: Vec<LeaseChange> = (1..=50)
        .map(|n| LeaseChange::Grant {
            lease: leases(n),
            generation: 1,
            holder: Uuid::from_u128(7),
            ttl_ms: 600_000,
            timeline: None,
        })
        .collect();
    logs[0].append(Append { leases: grants, ..append(1) }).await.unwrap();
    let renewing = (0..20_usize).map(|turn| {
        let log = Arc::clone(&logs[turn % 2]);
        tokio::spawn(async move {
            let mut numbers: Vec<u128> = (1..=50).collect();
            if turn.is_multiple_of(2) {
                numbers.reverse();
            }
            let holder = Uuid::from_u128(7);
            let renewal = |n| Renewal { lease: leases(n), generation: 1, holder };
            log.renew(numbers.into_iter().map(renewal).collect()).await.unwrap()
        })
    });
    let ending = (2..12_u128).map(|n| {
        let log = Arc::clone(&logs[0]);
        tokio::spawn(async move {
            let ends = [n + 20, n].map(|n| LeaseChange::End { lease: leases(n), generation: 1 });
            log.append(Append { leases: ends.to_vec(), ..append(n) }).await.unwrap();
        })
    });
    let (renewing, ending): (Vec<_>, Vec<_>) = (renewing.collect(), ending.collect());
    for ended in join_all(ending).await {
        ended.unwrap();
    }
    for renewed in join_all(renewing).await {
        assert_eq!(renewed.unwrap().outcomes.len(), 50);
    }
}
