//! What every log must do with leases: appends give and end them, the table renews them.

use std::sync::Arc;

use futures_util::future::{BoxFuture, join_all};
use uuid::Uuid;

use super::{all, command, head, stored, texts, write};
use crate::{
    LeaseTable,
    lease::{
        LeaseChange, LeaseGuard, LeaseRow, LeaseTableError, MAX_LEASE_CHANGES_PER_APPEND,
        MAX_LEASE_GUARDS_PER_APPEND, MAX_LEASE_ROWS, MAX_LEASE_TTL_MS, MAX_RENEWALS, Renewal,
        RenewalOutcome,
    },
    log::{Append, AppendError, Limit, Log, MAX_KEY_BYTES, StreamId},
};

/// Long enough that nothing expires by itself while a case runs.
const TTL_MS: u32 = 600_000;
/// A part of it that leaves room for a slow machine.
const MOST_MS: u64 = 400_000;
const RACERS: u64 = 32;

/// A log with its lease table, and a way to let the table's time pass.
pub struct Leased {
    pub log: Arc<dyn Log>,
    pub table: Arc<dyn LeaseTable>,
    /// Lets so many milliseconds pass.
    pub pass: Box<dyn Fn(u64) -> BoxFuture<'static, ()> + Send + Sync>,
}

/// One requirement, by a name that says it.
pub struct LeaseCase {
    pub name: &'static str,
    pub run: fn(Leased) -> BoxFuture<'static, ()>,
}

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        /// Every case, to be run each on a fresh log.
        pub fn cases() -> Vec<LeaseCase> {
            vec![$(LeaseCase {
                name: stringify!($name),
                run: |leased| Box::pin($name(leased)),
            },)*]
        }
    };
}

cases! {
    a_lease_is_granted_with_its_event,
    a_held_lease_is_granted_to_nobody,
    a_renewal_moves_the_end_and_only_the_present_holder_renews,
    renewals_of_one_call_are_answered_each_for_itself,
    an_expired_lease_is_renewed_no_more_and_granted_anew,
    a_lease_that_ended_is_granted_at_once_and_a_fenced_one_later,
    a_guard_lets_only_the_present_holder_append,
    a_refused_lease_stores_nothing_of_the_append,
    a_command_repeated_after_its_lease_was_lost_is_answered_as_before,
    appends_of_one_moment_see_each_other,
    of_many_grants_one_wins,
    of_an_end_and_guarded_appends_none_is_stored_behind_the_end,
    rows_are_read_by_category_in_pages,
    every_limit_of_leases_is_enforced,
}

/// Runs every case; `fresh` makes an empty log for each.
pub async fn run_all(fresh: impl AsyncFn() -> Leased) {
    for case in cases() {
        let leased = fresh().await;
        (case.run)(leased).await;
    }
}

fn lease(number: u128) -> StreamId {
    StreamId::new("lease", Uuid::from_u128(number))
}

fn holder(number: u64) -> Uuid {
    Uuid::from_u128(u128::from(number))
}

/// To the holder whose number is the generation's.
fn grant(number: u128, generation: u64) -> LeaseChange {
    let lease = lease(number);
    LeaseChange::Grant {
        lease,
        generation,
        holder: holder(generation),
        ttl_ms: TTL_MS,
        timeline: None,
    }
}

fn end(number: u128, generation: u64) -> LeaseChange {
    LeaseChange::End { lease: lease(number), generation }
}

fn fence(number: u128, generation: u64) -> LeaseChange {
    LeaseChange::Fence { lease: lease(number), generation }
}

fn guard(number: u128, generation: u64) -> LeaseGuard {
    LeaseGuard { lease: lease(number), generation, holder: holder(generation) }
}

/// An append of one event to a stream of its own.
fn with(id: u128, leases: Vec<LeaseChange>, guards: Vec<LeaseGuard>) -> Append {
    Append { leases, guards, ..command(id, vec![write(id, 0, &["e"])]) }
}

async fn row(table: &Arc<dyn LeaseTable>, number: u128) -> LeaseRow {
    let page = table.read_leases("lease", None, MAX_LEASE_ROWS).await.expect("rows are read");
    let found = page.rows.into_iter().find(|(id, _)| *id == lease(number).id);
    found.expect("the lease has a row").1
}

async fn renew(leased: &Leased, renewals: &[(u128, u64, u64)]) -> Vec<RenewalOutcome> {
    let renewal = |(number, generation, by): &(u128, u64, u64)| Renewal {
        lease: lease(*number),
        generation: *generation,
        holder: holder(*by),
    };
    let renewals = renewals.iter().map(renewal).collect();
    leased.table.renew(renewals).await.expect("the table answers").outcomes
}

const RENEWED: RenewalOutcome = RenewalOutcome::Renewed { remaining_ms: TTL_MS as u64 };

async fn a_lease_is_granted_with_its_event(leased: Leased) {
    stored(&leased.log, with(1, vec![grant(1, 7)], Vec::new())).await;
    let row = row(&leased.table, 1).await;
    assert_eq!((row.generation, row.holder, row.ttl_ms, row.ended), (7, holder(7), TTL_MS, false));
    let ttl = row.valid_until.since(row.renewed_at);
    assert_eq!(ttl.as_millis(), u128::from(TTL_MS));
    assert_eq!(head(&leased.log).await, 1);
}

async fn a_held_lease_is_granted_to_nobody(leased: Leased) {
    stored(&leased.log, with(1, vec![grant(1, 1)], Vec::new())).await;
    (leased.pass)(MOST_MS).await;
    let refused = leased.log.append(with(2, vec![grant(1, 2)], Vec::new())).await;
    let held = row(&leased.table, 1).await;
    assert_eq!(refused, Err(AppendError::LeaseHeld { lease: lease(1), held }));
    // Another lease is another matter.
    stored(&leased.log, with(3, vec![grant(2, 1)], Vec::new())).await;
}

async fn a_renewal_moves_the_end_and_only_the_present_holder_renews(leased: Leased) {
    stored(&leased.log, with(1, vec![grant(1, 2)], Vec::new())).await;
    let granted = row(&leased.table, 1).await;
    (leased.pass)(MOST_MS).await;
    let other = RenewalOutcome::Superseded { generation: 2 };
    assert_eq!(renew(&leased, &[(1, 1, 1)]).await, [other]);
    assert_eq!(renew(&leased, &[(1, 2, 1)]).await, [other]);
    assert_eq!(renew(&leased, &[(1, 3, 3)]).await, [RenewalOutcome::Unknown]);
    assert_eq!(renew(&leased, &[(9, 1, 1)]).await, [RenewalOutcome::Unknown]);
    let before = row(&leased.table, 1).await;
    assert_eq!(before.valid_until.since(before.renewed_at).as_millis(), u128::from(TTL_MS));
    assert!(before.renewed_at <= granted.renewed_at, "nobody else's renewal moved it");
    assert_eq!(renew(&leased, &[(1, 2, 2)]).await, [RENEWED]);
    (leased.pass)(MOST_MS).await;
    assert_eq!(renew(&leased, &[(1, 2, 2)]).await, [RENEWED], "the first renewal held it");
    assert_eq!(head(&leased.log).await, 1, "a renewal is no event");
}

async fn renewals_of_one_call_are_answered_each_for_itself(leased: Leased) {
    for number in 1..=4 {
        stored(&leased.log, with(number, vec![grant(number, 5)], Vec::new())).await;
    }
    stored(&leased.log, with(10, vec![end(3, 5)], Vec::new())).await;
    stored(&leased.log, with(11, vec![fence(4, 5)], Vec::new())).await;
    let asked = [(4, 5, 5), (2, 5, 5), (3, 5, 5), (1, 4, 4), (8, 1, 1), (1, 5, 5), (1, 5, 5)];
    let ended = RenewalOutcome::Ended;
    let superseded = RenewalOutcome::Superseded { generation: 5 };
    let expected = [ended, RENEWED, ended, superseded, RenewalOutcome::Unknown, RENEWED, RENEWED];
    assert_eq!(renew(&leased, &asked).await, expected);
    assert_eq!(renew(&leased, &[]).await, []);
}

async fn an_expired_lease_is_renewed_no_more_and_granted_anew(leased: Leased) {
    stored(&leased.log, with(1, vec![grant(1, 1)], Vec::new())).await;
    (leased.pass)(u64::from(TTL_MS)).await;
    assert_eq!(renew(&leased, &[(1, 1, 1)]).await, [RenewalOutcome::Expired]);
    let low = leased.log.append(with(2, vec![grant(1, 1)], Vec::new())).await;
    assert_eq!(low, Err(AppendError::LeaseGeneration { lease: lease(1), greatest: 1 }));
    stored(&leased.log, with(3, vec![grant(1, 2)], Vec::new())).await;
    let superseded = RenewalOutcome::Superseded { generation: 2 };
    assert_eq!(renew(&leased, &[(1, 1, 1), (1, 2, 2)]).await, [superseded, RENEWED]);
}

async fn a_lease_that_ended_is_granted_at_once_and_a_fenced_one_later(leased: Leased) {
    stored(&leased.log, with(1, vec![grant(1, 1), grant(2, 1)], Vec::new())).await;
    stored(&leased.log, with(2, vec![end(1, 1), fence(2, 1)], Vec::new())).await;
    assert_eq!(renew(&leased, &[(1, 1, 1), (2, 1, 1)]).await, [RenewalOutcome::Ended; 2]);
    stored(&leased.log, with(3, vec![grant(1, 2)], Vec::new())).await;
    let early = leased.log.append(with(4, vec![grant(2, 2)], Vec::new())).await;
    assert!(matches!(early, Err(AppendError::LeaseHeld { .. })), "{early:?}");
    let twice = leased.log.append(with(5, vec![end(2, 1)], Vec::new())).await;
    assert!(matches!(twice, Err(AppendError::LeaseLost { generation: 1, .. })), "{twice:?}");
    (leased.pass)(u64::from(TTL_MS)).await;
    stored(&leased.log, with(6, vec![grant(2, 2)], Vec::new())).await;
}

async fn a_guard_lets_only_the_present_holder_append(leased: Leased) {
    let lost = |generation, held| Err(AppendError::LeaseLost { lease: lease(1), generation, held });
    let never = leased.log.append(with(1, Vec::new(), vec![guard(1, 1)])).await;
    assert_eq!(never, lost(1, None));
    stored(&leased.log, with(2, vec![grant(1, 2)], Vec::new())).await;
    stored(&leased.log, with(3, Vec::new(), vec![guard(1, 2)])).await;
    for (id, generation) in [(4, 1), (5, 3)] {
        let other = leased.log.append(with(id, Vec::new(), vec![guard(1, generation)])).await;
        assert_eq!(other, lost(generation, Some(row(&leased.table, 1).await)));
    }
    // Two of one generation: the grant of one of them was lost.
    let other = LeaseGuard { holder: holder(7), ..guard(1, 2) };
    let other = leased.log.append(with(10, Vec::new(), vec![other])).await;
    assert_eq!(other, lost(2, Some(row(&leased.table, 1).await)));
    (leased.pass)(u64::from(TTL_MS)).await;
    let expired = leased.log.append(with(6, Vec::new(), vec![guard(1, 2)])).await;
    assert_eq!(expired, lost(2, Some(row(&leased.table, 1).await)));
    stored(&leased.log, with(7, vec![grant(1, 3)], Vec::new())).await;
    // Whoever gives it up may still be guarded by it.
    stored(&leased.log, with(8, vec![end(1, 3)], vec![guard(1, 3)])).await;
    let ended = leased.log.append(with(9, Vec::new(), vec![guard(1, 3)])).await;
    assert_eq!(ended, lost(3, Some(row(&leased.table, 1).await)));
}

async fn a_refused_lease_stores_nothing_of_the_append(leased: Leased) {
    stored(&leased.log, with(1, vec![grant(1, 1)], Vec::new())).await;
    let mut append = with(2, vec![grant(2, 1), grant(1, 2)], vec![guard(1, 1)]);
    append.claim = vec!["name/a".to_owned()];
    let refused = leased.log.append(append.clone()).await;
    assert!(matches!(refused, Err(AppendError::LeaseHeld { .. })), "{refused:?}");
    assert_eq!(texts(&all(&leased.log).await), ["e"]);
    assert_eq!(leased.log.command(append.command).await, Ok(None));
    // The other lease, the key and the command id are as free as before.
    let decided_again = Append { leases: vec![grant(2, 1)], ..append };
    stored(&leased.log, decided_again).await;
}

async fn a_command_repeated_after_its_lease_was_lost_is_answered_as_before(leased: Leased) {
    let granting = with(1, vec![grant(1, 1)], Vec::new());
    let guarded = with(2, Vec::new(), vec![guard(1, 1)]);
    let first = stored(&leased.log, granting.clone()).await;
    let second = stored(&leased.log, guarded.clone()).await;
    stored(&leased.log, with(3, vec![end(1, 1), grant(1, 2)], Vec::new())).await;
    let again = (stored(&leased.log, granting).await, stored(&leased.log, guarded).await);
    assert!(again.0.replayed && again.1.replayed);
    assert_eq!((again.0.first, again.1.first), (first.first, second.first));
    assert_eq!(row(&leased.table, 1).await.generation, 2);
}

async fn appends_of_one_moment_see_each_other(leased: Leased) {
    let appends = [
        with(1, vec![grant(1, 1)], Vec::new()),
        with(2, Vec::new(), vec![guard(1, 1)]),
        with(3, vec![grant(1, 2)], Vec::new()),
        with(4, vec![end(1, 1)], Vec::new()),
        with(5, Vec::new(), vec![guard(1, 1)]),
        with(6, vec![grant(1, 2)], Vec::new()),
        with(7, Vec::new(), vec![guard(1, 2)]),
    ];
    let outcomes = join_all(appends.map(|append| leased.log.append(append))).await;
    let good: Vec<bool> = outcomes.iter().map(Result::is_ok).collect();
    assert_eq!(good, [true, true, false, true, false, true, true], "{outcomes:?}");
    assert_eq!(row(&leased.table, 1).await.generation, 2);
}

async fn of_many_grants_one_wins(leased: Leased) {
    let race = (1..=RACERS).map(|racer| {
        let change = LeaseChange::Grant {
            lease: lease(1),
            generation: 1,
            holder: holder(racer),
            ttl_ms: TTL_MS,
            timeline: None,
        };
        leased.log.append(with(u128::from(racer), vec![change], Vec::new()))
    });
    let outcomes = join_all(race).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let winner = (1..).zip(&outcomes).find(|(_, outcome)| outcome.is_ok()).map(|(racer, _)| racer);
    let row = row(&leased.table, 1).await;
    assert_eq!(Some(row.holder), winner.map(holder));
    let lost = AppendError::LeaseHeld { lease: lease(1), held: row };
    assert!(outcomes.iter().all(|outcome| outcome.as_ref().err().is_none_or(|e| *e == lost)));
}

async fn of_an_end_and_guarded_appends_none_is_stored_behind_the_end(leased: Leased) {
    stored(&leased.log, with(1, vec![grant(1, 1)], Vec::new())).await;
    let race = (10..10 + RACERS).map(|racer| {
        let mut append = with(racer.into(), Vec::new(), vec![guard(1, 1)]);
        if racer == 10 + RACERS / 2 {
            append.leases.push(end(1, 1));
        }
        leased.log.append(append)
    });
    let outcomes = join_all(race).await;
    let ended = outcomes[usize::try_from(RACERS / 2).unwrap_or(0)].as_ref();
    let ended = ended.expect("the end is guarded by what it ends").last;
    let behind = |outcome: &Result<crate::log::Appended, AppendError>| {
        outcome.as_ref().is_ok_and(|appended| appended.last > ended)
    };
    assert!(!outcomes.iter().any(behind));
    assert_eq!(head(&leased.log).await, ended);
}

async fn rows_are_read_by_category_in_pages(leased: Leased) {
    for number in [3_u128, 1, 2] {
        stored(&leased.log, with(number, vec![grant(number, 1)], Vec::new())).await;
    }
    let foreign = StreamId::new("leasehold", Uuid::from_u128(1));
    let change = LeaseChange::Grant {
        lease: foreign,
        generation: 1,
        holder: holder(1),
        ttl_ms: TTL_MS,
        timeline: None,
    };
    stored(&leased.log, with(4, vec![change], Vec::new())).await;
    let page = async |after: Option<u128>, limit| {
        let after = after.map(Uuid::from_u128);
        let page = leased.table.read_leases("lease", after, limit).await.expect("rows are read");
        page.rows.iter().map(|(id, _)| id.as_u128()).collect::<Vec<_>>()
    };
    assert_eq!(page(None, usize::MAX).await, [1, 2, 3]);
    assert_eq!(page(None, 2).await, [1, 2]);
    assert_eq!(page(Some(2), 2).await, [3]);
    assert_eq!(page(Some(3), 2).await, [0_u128; 0]);
    let none = leased.table.read_leases("lea", None, 9).await.expect("rows are read");
    assert_eq!(none.rows, []);
    let now = leased.table.read_leases("lease", None, 1).await.expect("rows are read").at.now;
    assert!(row(&leased.table, 1).await.is_held(now));
}

async fn every_limit_of_leases_is_enforced(leased: Leased) {
    stored(&leased.log, with(50, vec![grant(50_000, 1)], Vec::new())).await;
    for (limit, greatest, fitting, oversized) in limits() {
        let refused = leased.log.append(oversized).await;
        let actual = greatest + 1;
        assert_eq!(refused, Err(AppendError::TooLarge { limit, actual, greatest }), "{limit}");
        stored(&leased.log, fitting).await;
    }
    let renewal = Renewal { lease: lease(50_000), generation: 1, holder: holder(1) };
    let crowd = vec![renewal.clone(); MAX_RENEWALS + 1];
    let refused = leased.table.renew(crowd).await;
    assert_eq!(refused, Err(LeaseTableError::TooMany { actual: MAX_RENEWALS + 1 }));
    let fitting = leased.table.renew(vec![renewal; MAX_RENEWALS]).await.expect("it fits");
    assert_eq!(fitting.outcomes, [RENEWED; MAX_RENEWALS]);
    every_page_of_rows_is_bounded(&leased).await;
}

/// Each limit with an append that just keeps it and one that just does not.
fn limits() -> Vec<(Limit, usize, Append, Append)> {
    let grants = |id: u128, count: usize| {
        with(id, (0..count as u128).map(|n| grant(id * 1_000 + n, 1)).collect(), Vec::new())
    };
    let guards = |id: u128, count: usize| with(id, Vec::new(), vec![guard(50_000, 1); count]);
    let to_first = |lease, ttl_ms| {
        vec![LeaseChange::Grant { lease, generation: 1, holder: holder(1), ttl_ms, timeline: None }]
    };
    let ttl = |id: u128, ttl: usize| {
        let ttl_ms = u32::try_from(ttl).unwrap_or(u32::MAX);
        with(id, to_first(lease(id * 1_000), ttl_ms), Vec::new())
    };
    let category = |id: u128, bytes: usize| {
        let lease = StreamId::new("c".repeat(bytes), Uuid::from_u128(id));
        with(id, to_first(lease, TTL_MS), Vec::new())
    };
    let pair = |limit, greatest, id, make: &dyn Fn(u128, usize) -> Append| {
        (limit, greatest, make(id, greatest), make(id + 1, greatest + 1))
    };
    vec![
        pair(Limit::LeaseChanges, MAX_LEASE_CHANGES_PER_APPEND, 10, &grants),
        pair(Limit::LeaseGuards, MAX_LEASE_GUARDS_PER_APPEND, 20, &guards),
        pair(Limit::LeaseTtlMs, MAX_LEASE_TTL_MS as usize, 30, &ttl),
        pair(Limit::KeyBytes, MAX_KEY_BYTES, 40, &category),
    ]
}

async fn every_page_of_rows_is_bounded(leased: &Leased) {
    let appends = MAX_LEASE_ROWS / MAX_LEASE_CHANGES_PER_APPEND + 1;
    for id in (1_000..).take(appends) {
        let leases = (0..MAX_LEASE_CHANGES_PER_APPEND as u128).map(|n| grant(id * 1_000 + n, 1));
        stored(&leased.log, with(id, leases.collect(), Vec::new())).await;
    }
    let page = leased.table.read_leases("lease", None, usize::MAX).await.expect("rows are read");
    assert_eq!(page.rows.len(), MAX_LEASE_ROWS);
}
