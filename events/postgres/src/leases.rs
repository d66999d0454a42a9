//! Lease rows: changed by the append's transaction, renewed by a statement of their own.
//!
//! A grant must not pass a renewal that is under way, so an append locks the rows that it changes
//! before it reads the clock, and so does a renewal. Both lock in the order of the key. Whatever a
//! guard reads can only change under the head's lock, which its append holds.

use std::collections::{BTreeMap, BTreeSet};

use rap_events::{
    lease::{
        DatabaseTime, LeaseChange, LeasePage, LeaseRow, LeaseTableError, MAX_LEASE_ROWS,
        MAX_RENEWALS, Renewal, RenewalOutcome, Renewals,
    },
    log::{Append, StreamId},
};
use rap_proto::Timestamp;
use sqlx::{PgPool, Row as _, postgres::PgRow};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    batch::Batch,
    engine::{clock, timeline},
    failure::{self, Failure},
    pipeline::{Sent, column},
};

const LOCK: &str = "\
    SELECT 1 FROM (SELECT * FROM UNNEST($1::text[], $2::uuid[]) AS asked (category, stream) \
                   ORDER BY category COLLATE \"C\", stream) AS asked \
    CROSS JOIN LATERAL (SELECT FROM leases \
                        WHERE leases.category = asked.category AND leases.stream = asked.stream \
                        FOR UPDATE) AS held";
/// One row for each lease that is there, and one with the time alone when none is.
const FIND: &str = concat!(
    "SELECT clock.now, category, stream, generation, holder, ttl_ms, renewed_at, valid_until, ended, \
            clock.timeline \
     FROM (SELECT ",
    clock!(),
    " AS now, ",
    timeline!(),
    " AS timeline) AS clock \
     LEFT JOIN (SELECT found.* FROM UNNEST($1::text[], $2::uuid[]) AS asked (category, stream) \
                CROSS JOIN LATERAL (SELECT * FROM leases \
                                    WHERE leases.category = asked.category \
                                      AND leases.stream = asked.stream OFFSET 0) AS found) \
     AS found ON true",
);
const WRITE: &str = "\
    INSERT INTO leases (category, stream, generation, holder, ttl_ms, renewed_at, valid_until, \
                        ended) \
    SELECT * FROM UNNEST($1::text[], $2::uuid[], $3::bigint[], $4::uuid[], $5::integer[], \
                         $6::bigint[], $7::bigint[], $8::boolean[]) \
    ON CONFLICT (category, stream) DO UPDATE SET \
        generation = EXCLUDED.generation, holder = EXCLUDED.holder, ttl_ms = EXCLUDED.ttl_ms, \
        renewed_at = EXCLUDED.renewed_at, valid_until = EXCLUDED.valid_until, \
        ended = EXCLUDED.ended";
/// Compares and sets the whole batch. The clock is read when every row is locked: `count` waits
/// for the locks.
const RENEW: &str = concat!(
    "WITH asked AS MATERIALIZED ( \
         SELECT * FROM UNNEST($1::text[], $2::uuid[], $3::bigint[], $4::uuid[]) WITH ORDINALITY \
         AS asked (category, stream, generation, holder, place) \
     ), held AS MATERIALIZED ( \
         SELECT * FROM leases WHERE (category, stream) IN (SELECT category, stream FROM asked) \
         ORDER BY category, stream FOR UPDATE \
     ), clock AS MATERIALIZED ( \
         SELECT ",
    clock!(),
    " AS now FROM (SELECT count(*) FROM held) AS locked \
     ), renewed AS ( \
         UPDATE leases SET renewed_at = clock.now, valid_until = clock.now + leases.ttl_ms \
         FROM clock, held \
         WHERE leases.category = held.category AND leases.stream = held.stream \
           AND NOT held.ended AND clock.now < held.valid_until \
           AND EXISTS (SELECT FROM asked \
                       WHERE asked.category = held.category AND asked.stream = held.stream \
                         AND asked.generation = held.generation AND asked.holder = held.holder) \
     ) \
     SELECT clock.now, held.category, held.stream, held.generation, held.holder, held.ttl_ms, \
            held.renewed_at, held.valid_until, held.ended \
     FROM clock CROSS JOIN asked \
     LEFT JOIN held ON held.category = asked.category AND held.stream = asked.stream \
     ORDER BY asked.place",
);
const NOW: &str = concat!("SELECT ", clock!());
const AT: &str = concat!("SELECT ", clock!(), ", ", timeline!());
const READ: &str = concat!(
    "SELECT ",
    clock!(),
    ", category, stream, generation, holder, ttl_ms, renewed_at, valid_until, ended, ",
    timeline!(),
    " FROM leases WHERE category = $1 AND ($2::uuid IS NULL OR stream > $2) \
     ORDER BY stream LIMIT $3",
);

/// The time, the timeline and the rows that appends decide by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FoundLeases {
    pub(crate) at: DatabaseTime,
    pub(crate) rows: BTreeMap<StreamId, LeaseRow>,
}

/// Locks what the appends change, and reads everything that they name: up to two statements, of
/// which the last one's rows are for [`found`].
pub(crate) fn find<'a>(appends: &[&'a Append]) -> Vec<Sent<'a>> {
    let changed: BTreeSet<&StreamId> =
        appends.iter().flat_map(|append| &append.leases).map(LeaseChange::lease).collect();
    let guards = appends.iter().flat_map(|append| &append.guards).map(|guard| &guard.lease);
    let named: BTreeSet<&StreamId> = changed.iter().copied().chain(guards).collect();
    let mut trip = Vec::new();
    for (text, leases) in [(LOCK, changed), (FIND, named)] {
        if !leases.is_empty() {
            let (categories, ids) = columns(leases.into_iter());
            trip.push(Sent::new(text).bind(categories).bind(ids));
        }
    }
    trip
}

pub(crate) fn found(rows: &[Row]) -> Result<FoundLeases, Failure> {
    let mut found = FoundLeases::default();
    for row in rows {
        let now = Timestamp::from_unix_millis(column(row, 0)?);
        let timeline = column::<i64>(row, 9)?.cast_unsigned();
        found.at = DatabaseTime { now, timeline };
        let Some(category) = column::<Option<String>>(row, 1)? else { continue };
        let lease = StreamId::new(category, column(row, 2)?);
        let held = LeaseRow {
            generation: column::<i64>(row, 3)?.cast_unsigned(),
            holder: column(row, 4)?,
            ttl_ms: column::<i32>(row, 5)?.cast_unsigned(),
            renewed_at: Timestamp::from_unix_millis(column(row, 6)?),
            valid_until: Timestamp::from_unix_millis(column(row, 7)?),
            ended: column(row, 8)?,
        };
        found.rows.insert(lease, held);
    }
    Ok(found)
}

/// Writes the rows that the batch changed.
pub(crate) fn write(batch: &Batch) -> Option<Sent<'_>> {
    let rows = &batch.leases;
    if rows.is_empty() {
        return None;
    }
    let (categories, ids) = columns(rows.keys());
    let generations: Vec<i64> = rows.values().map(|row| row.generation.cast_signed()).collect();
    let holders: Vec<Uuid> = rows.values().map(|row| row.holder).collect();
    let ttls: Vec<i32> = rows.values().map(|row| row.ttl_ms.cast_signed()).collect();
    let renewed: Vec<i64> = rows.values().map(|row| row.renewed_at.unix_millis()).collect();
    let ends: Vec<i64> = rows.values().map(|row| row.valid_until.unix_millis()).collect();
    let ended: Vec<bool> = rows.values().map(|row| row.ended).collect();
    let sent = Sent::new(WRITE).bind(categories).bind(ids).bind(generations).bind(holders);
    Some(sent.bind(ttls).bind(renewed).bind(ends).bind(ended))
}

pub(crate) async fn renew(
    pool: &PgPool,
    renewals: Vec<Renewal>,
) -> Result<Renewals, LeaseTableError> {
    if renewals.len() > MAX_RENEWALS {
        return Err(LeaseTableError::TooMany { actual: renewals.len() });
    }
    if renewals.is_empty() {
        return Ok(Renewals { now: now(pool).await?, outcomes: Vec::new() });
    }
    let (categories, ids) = columns(renewals.iter().map(|renewal| &renewal.lease));
    let generations: Vec<i64> =
        renewals.iter().map(|renewal| renewal.generation.cast_signed()).collect();
    let holders: Vec<Uuid> = renewals.iter().map(|renewal| renewal.holder).collect();
    let query = sqlx::query(RENEW).bind(categories).bind(ids).bind(generations).bind(holders);
    let rows = query.fetch_all(pool).await.map_err(|error| unavailable(&error))?;
    let mut renewed = Renewals { now: Timestamp::default(), outcomes: Vec::new() };
    for (row, renewal) in rows.iter().zip(&renewals) {
        renewed.now = time(row, 0).map_err(|error| unavailable(&error))?;
        let held = lease(row).map_err(|error| unavailable(&error))?;
        renewed.outcomes.push(match held {
            Some((_, held)) => held.answer(renewal, renewed.now),
            None => RenewalOutcome::Unknown,
        });
    }
    Ok(renewed)
}

pub(crate) async fn read(
    pool: &PgPool,
    category: &str,
    after: Option<Uuid>,
    limit: usize,
) -> Result<LeasePage, LeaseTableError> {
    let limit = i64::try_from(limit.min(MAX_LEASE_ROWS)).unwrap_or(i64::MAX);
    let query = sqlx::query(READ).bind(category).bind(after).bind(limit);
    let rows = query.fetch_all(pool).await.map_err(|error| unavailable(&error))?;
    let Some(last) = rows.last() else {
        let row = sqlx::query(AT).fetch_one(pool).await;
        let at = row.and_then(|row| at(&row, 1)).map_err(|error| unavailable(&error))?;
        return Ok(LeasePage { at, rows: Vec::new() });
    };
    let at = at(last, 9).map_err(|error| unavailable(&error))?;
    let leases = rows.iter().map(lease).collect::<sqlx::Result<Vec<_>>>();
    let leases = leases.map_err(|error| unavailable(&error))?;
    let rows = leases.into_iter().flatten().map(|(lease, row)| (lease.id, row)).collect();
    Ok(LeasePage { at, rows })
}

async fn now(pool: &PgPool) -> Result<Timestamp, LeaseTableError> {
    let now: i64 =
        sqlx::query_scalar(NOW).fetch_one(pool).await.map_err(|error| unavailable(&error))?;
    Ok(Timestamp::from_unix_millis(now))
}

fn columns<'a>(leases: impl Iterator<Item = &'a StreamId>) -> (Vec<&'a str>, Vec<Uuid>) {
    leases.map(|lease| (lease.category.as_str(), lease.id)).unzip()
}

fn at(row: &PgRow, timeline: usize) -> sqlx::Result<DatabaseTime> {
    let timeline = row.try_get::<i64, _>(timeline)?.cast_unsigned();
    Ok(DatabaseTime { now: time(row, 0)?, timeline })
}

fn time(row: &PgRow, column: usize) -> sqlx::Result<Timestamp> {
    Ok(Timestamp::from_unix_millis(row.try_get(column)?))
}

/// The lease behind the time; `None` when the columns are empty.
fn lease(row: &PgRow) -> sqlx::Result<Option<(StreamId, LeaseRow)>> {
    let Some(category) = row.try_get::<Option<String>, _>(1)? else { return Ok(None) };
    let lease = StreamId::new(category, row.try_get(2)?);
    let held = LeaseRow {
        generation: row.try_get::<i64, _>(3)?.cast_unsigned(),
        holder: row.try_get(4)?,
        ttl_ms: row.try_get::<i32, _>(5)?.cast_unsigned(),
        renewed_at: time(row, 6)?,
        valid_until: time(row, 7)?,
        ended: row.try_get(8)?,
    };
    Ok(Some((lease, held)))
}

fn unavailable(error: &sqlx::Error) -> LeaseTableError {
    LeaseTableError::Unavailable(failure::describe(error))
}
