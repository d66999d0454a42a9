//! Reading: events in order, the head, and what became of a command.

mod columns;

use std::{future::Future, time::Duration};

use bytes::Bytes;
use rap_events::{
    allowed::decode_actor,
    log::{Envelope, MAX_READ_EVENTS, ReadError, StoredCommand, StreamId},
};
use rap_proto::{CommandId, Digest, OrganizationId, Timestamp};
use sqlx::{PgExecutor, PgPool, Row as _, postgres::PgRow};
use tokio::time::timeout;
use uuid::Uuid;

use self::columns::Columns;
use crate::{
    failure,
    pipeline::{Pipeline, Sent, TripError},
};

const READ_LOG: &str = "\
    SELECT position, category, stream, revision, event_type, schema, payload, organization, \
           actor, command, causation, recorded_at \
    FROM events WHERE position > $1 ORDER BY position LIMIT $2";
const READ_WITHIN: &str = "\
    SELECT position, category, stream, revision, event_type, schema, payload, organization, \
           actor, command, causation, recorded_at \
    FROM events WHERE position > $1 AND position <= $2 AND organization = $3 ORDER BY position";
const BEGIN_READING: &str = "START TRANSACTION READ ONLY";
/// For the rest of the transaction: row-level security keeps every other organization's rows back.
const SET_ORGANIZATION: &str = "SELECT set_config('rap.organization', $1, true)";
const READ_STREAM: &str = "\
    SELECT position, category, stream, revision, event_type, schema, payload, organization, \
           actor, command, causation, recorded_at \
    FROM events WHERE category = $1 AND stream = $2 AND revision > $3 \
    ORDER BY revision LIMIT $4";
const READ_HEAD: &str = "SELECT position FROM log_head";
const READ_COMMAND: &str = "\
    SELECT request_hash, first_position, last_position, reply FROM commands WHERE command = $1";

/// How long a read waits for its answer. The server gives a statement up before, so whatever takes
/// longer is lost on the way.
pub(crate) const ANSWER_DEADLINE: Duration = Duration::from_secs(12);
/// The largest stored actor that is decoded.
const MAX_ACTOR_BYTES: usize = 4 * 1024;

pub(crate) async fn head(pool: &PgPool) -> Result<u64, ReadError> {
    let position: i64 = answered(sqlx::query_scalar(READ_HEAD).fetch_one(pool)).await?;
    Ok(position.cast_unsigned())
}

/// A page of the log, on a connection or over the pool.
pub(crate) async fn page(
    executor: impl PgExecutor<'_>,
    after: u64,
    limit: usize,
) -> Result<Vec<Envelope>, ReadError> {
    let Ok(behind) = i64::try_from(after) else { return Ok(Vec::new()) };
    let query = sqlx::query(READ_LOG).bind(behind).bind(bounded(limit));
    page_of(after, &answered(query.fetch_all(executor)).await?)
}

/// The rows of a page, on a connection of the other client.
pub(crate) async fn page_on(
    pipeline: &mut Pipeline,
    after: u64,
    limit: usize,
) -> Result<Result<Vec<Envelope>, ReadError>, TripError> {
    let Ok(behind) = i64::try_from(after) else { return Ok(Ok(Vec::new())) };
    let sent = Sent::new(READ_LOG).bind(behind).bind(bounded(limit));
    let rows = pipeline.send(&[sent]).await?.pop().unwrap_or_default();
    Ok(page_of(after, &rows))
}

/// Of the next `limit` events those of one organization.
pub(crate) async fn within(
    pool: &PgPool,
    organization: OrganizationId,
    after: u64,
    limit: usize,
) -> Result<Vec<Envelope>, ReadError> {
    let Ok(behind) = i64::try_from(after) else { return Ok(Vec::new()) };
    let rows = answered(async {
        let mut transaction = pool.begin_with(BEGIN_READING).await?;
        let named = sqlx::query(SET_ORGANIZATION).bind(organization.uuid().to_string());
        named.execute(&mut *transaction).await?;
        let query =
            sqlx::query(READ_WITHIN).bind(behind).bind(behind.saturating_add(bounded(limit)));
        let rows = query.bind(organization.uuid()).fetch_all(&mut *transaction).await?;
        transaction.rollback().await?;
        Ok(rows)
    });
    rows.await?.iter().map(envelope).collect()
}

pub(crate) async fn stream(
    pool: &PgPool,
    stream: &StreamId,
    after_revision: u64,
    limit: usize,
) -> Result<Vec<Envelope>, ReadError> {
    let Ok(behind) = i64::try_from(after_revision) else { return Ok(Vec::new()) };
    let query = sqlx::query(READ_STREAM).bind(&stream.category).bind(stream.id);
    let query = query.bind(behind).bind(bounded(limit));
    let rows = answered(query.fetch_all(pool)).await?;
    let envelopes = rows.iter().map(envelope).collect::<Result<Vec<_>, _>>()?;
    check_gapless(after_revision, &envelopes, |envelope| envelope.revision)?;
    Ok(envelopes)
}

pub(crate) async fn command(
    pool: &PgPool,
    id: CommandId,
) -> Result<Option<StoredCommand>, ReadError> {
    let query = sqlx::query(READ_COMMAND).bind(id.uuid());
    let row = answered(query.fetch_optional(pool)).await?;
    row.as_ref().map(stored_command).transpose().map_err(|error| read_error(&error))
}

fn page_of(after: u64, rows: &[impl Columns]) -> Result<Vec<Envelope>, ReadError> {
    let envelopes = rows.iter().map(envelope).collect::<Result<Vec<_>, _>>()?;
    check_gapless(after, &envelopes, |envelope| envelope.position)?;
    Ok(envelopes)
}

async fn answered<T>(answer: impl Future<Output = sqlx::Result<T>>) -> Result<T, ReadError> {
    match timeout(ANSWER_DEADLINE, answer).await {
        Ok(answer) => answer.map_err(|error| read_error(&error)),
        Err(_) => Err(no_answer()),
    }
}

pub(crate) fn no_answer() -> ReadError {
    ReadError::Unavailable(format!("no answer within {} s", ANSWER_DEADLINE.as_secs()))
}

fn stored_command(row: &PgRow) -> sqlx::Result<StoredCommand> {
    Ok(StoredCommand {
        request_hash: Digest::from_bytes(row.try_get(0)?),
        first: row.try_get::<i64, _>(1)?.cast_unsigned(),
        last: row.try_get::<i64, _>(2)?.cast_unsigned(),
        reply: Bytes::from(row.try_get::<Vec<u8>, _>(3)?),
    })
}

fn bounded(limit: usize) -> i64 {
    i64::try_from(limit.min(MAX_READ_EVENTS)).unwrap_or(i64::MAX)
}

/// A gap can only be corruption: the head's lock lets nothing commit out of order.
fn check_gapless(
    after: u64,
    envelopes: &[Envelope],
    place: fn(&Envelope) -> u64,
) -> Result<(), ReadError> {
    for (envelope, expected) in envelopes.iter().zip(after + 1..) {
        if place(envelope) != expected {
            let detail =
                format!("{} follows {} where {expected} is due", place(envelope), expected - 1);
            return Err(ReadError::Corrupt { position: envelope.position, detail });
        }
    }
    Ok(())
}

fn envelope(row: &impl Columns) -> Result<Envelope, ReadError> {
    let position = row.column::<i64>(0).map_err(ReadError::Unavailable)?.cast_unsigned();
    let corrupt = |detail: String| ReadError::Corrupt { position, detail };
    let schema: i32 = row.column(5).map_err(corrupt)?;
    let actor: Vec<u8> = row.column(8).map_err(corrupt)?;
    let (actor, allowed) =
        decode_actor(&actor, MAX_ACTOR_BYTES).map_err(|error| corrupt(error.to_string()))?;
    let organization = row.column::<Option<Uuid>>(7).map_err(corrupt)?;
    let causation = row.column::<Option<i64>>(10).map_err(corrupt)?;
    Ok(Envelope {
        position,
        stream: StreamId::new(
            row.column::<String>(1).map_err(corrupt)?,
            row.column(2).map_err(corrupt)?,
        ),
        revision: row.column::<i64>(3).map_err(corrupt)?.cast_unsigned(),
        event_type: row.column(4).map_err(corrupt)?,
        schema: u16::try_from(schema).map_err(|_| corrupt(format!("schema {schema}")))?,
        payload: Bytes::from(row.column::<Vec<u8>>(6).map_err(corrupt)?),
        organization: organization.map(OrganizationId::from_uuid),
        actor,
        allowed,
        command: CommandId::from_uuid(row.column(9).map_err(corrupt)?),
        causation: causation.map(i64::cast_unsigned),
        at: Timestamp::from_unix_millis(row.column(11).map_err(corrupt)?),
    })
}

fn read_error(error: &sqlx::Error) -> ReadError {
    ReadError::Unavailable(failure::describe(error))
}
