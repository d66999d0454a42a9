//! The append in one trip: a statement that is a transaction of its own.
//!
//! Everything in it hangs on the head's row: unless that still is what the appender remembers, and
//! every stream is where the appends expect it, nothing is written. The statement may have to wait
//! for the row; what it read before is then as old as its beginning. That does no harm: who moved
//! a stream meanwhile moved the head, whose row is looked at again when the wait is over, and who
//! stored one of the commands is met by their key, which fails the whole.

use rap_events::log::StreamId;
use uuid::Uuid;

use super::{
    CHANNEL,
    columns::{Commands, Events, Streams},
};
use crate::{
    at_once::AtOnce,
    tree,
    writer::{Sent, TripError, Writer},
};

const WRITE: &str = "\
    WITH moved AS ( \
        UPDATE log_head SET position = $22, leaves = $22, frontier = $23 \
        WHERE position = $24 AND leaves = $24 AND frontier = $25 \
          AND NOT EXISTS ( \
              SELECT FROM UNNEST($26::text[], $27::uuid[], $28::bigint[]) \
                  AS asked (category, stream, expected) \
              WHERE asked.expected <> coalesce( \
                  (SELECT revision FROM streams \
                   WHERE streams.category = asked.category AND streams.stream = asked.stream), 0)) \
        RETURNING position \
    ), new_commands AS ( \
        INSERT INTO commands (command, request_hash, first_position, last_position, reply) \
        SELECT new.* FROM moved, \
            UNNEST($1::uuid[], $2::bytea[], $3::bigint[], $4::bigint[], $5::bytea[]) AS new \
    ), new_events AS ( \
        INSERT INTO events (position, category, stream, revision, event_type, schema, payload, \
                            organization, actor, command, causation, recorded_at, leaf) \
        SELECT new.* FROM moved, \
            UNNEST($6::bigint[], $7::text[], $8::uuid[], $9::bigint[], $10::text[], \
                   $11::integer[], $12::bytea[], $13::uuid[], $14::bytea[], $15::uuid[], \
                   $16::bigint[], $17::bigint[], $18::bytea[]) AS new \
    ), grown AS ( \
        INSERT INTO streams (category, stream, revision) \
        SELECT new.* FROM moved, UNNEST($19::text[], $20::uuid[], $21::bigint[]) AS new \
        ON CONFLICT (category, stream) DO UPDATE SET revision = EXCLUDED.revision \
    ), completed AS ( \
        INSERT INTO tile_roots (level, index, root) \
        SELECT new.* FROM moved, UNNEST($29::smallint[], $30::bigint[], $31::bytea[]) AS new \
    ) \
    SELECT pg_notify($32, position::text) FROM moved";

/// Whether the head still was what is remembered, and everything is written and committed. If not,
/// nothing is.
pub(crate) async fn write(writer: &mut Writer, at_once: &AtOnce) -> Result<bool, TripError> {
    let AtOnce { batch, known, expected, .. } = at_once;
    let sent = Commands::of(batch).bind(Sent::new(WRITE));
    let sent = Streams::of(batch).bind(Events::of(batch).bind(sent));
    let (moved, position) = (batch.head(), known.position.cast_signed());
    let sent = sent.bind(moved.position.cast_signed()).bind(moved.frontier.to_bytes());
    let sent = sent.bind(position).bind(known.frontier.to_bytes());
    let streams = expected.keys().map(|stream: &StreamId| (stream.category.as_str(), stream.id));
    let (categories, ids): (Vec<&str>, Vec<Uuid>) = streams.unzip();
    let revisions: Vec<i64> = expected.values().map(|revision| revision.cast_signed()).collect();
    let sent = sent.bind(categories).bind(ids).bind(revisions);
    let (levels, indexes, roots) = tree::tile_columns(&batch.completed);
    let sent = sent.bind(levels).bind(indexes).bind(roots).bind(CHANNEL);
    let answers = writer.send(&[sent]).await?;
    Ok(answers.first().is_some_and(|rows| !rows.is_empty()))
}
