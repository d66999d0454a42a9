//! The append in one trip: a statement that is a transaction of its own.
//!
//! Everything in it hangs on the head's row: unless that still is what the appender remembers, and
//! every stream is where the appends expect it, nothing is written. The statement may have to wait
//! for the row; what it read before is then as old as its beginning. That does no harm: who moved
//! a stream meanwhile moved the head, whose row is looked at again when the wait is over, and who
//! stored one of the commands is met by their key, which fails the whole. So is who began a stream
//! that the appends begin: a batch that only begins streams looks none of them up.

use rap_events::log::StreamId;
use uuid::Uuid;

use super::{
    columns::{Commands, Events, Streams, insert_commands, insert_events, insert_streams},
    one,
};
use crate::{
    at_once::AtOnce,
    pipeline::{Pipeline, Sent, TripError},
    tree,
};

/// `$unless` is one more condition of the head's row, `$or` what is done about streams that exist.
macro_rules! write_if_head_is_known {
    ($unless:literal, $or:literal) => {
        concat!(
            "WITH moved AS ( \
                 UPDATE log_head SET position = $22, leaves = $22, frontier = $23 \
                 WHERE position = $24 AND leaves = $24 AND frontier = $25 ",
            $unless,
            " RETURNING position \
             ), new_commands AS (",
            insert_commands!(),
            "FROM moved), new_events AS (",
            insert_events!(),
            "FROM moved), grown AS (",
            insert_streams!(),
            "FROM moved ",
            $or,
            "), completed AS ( \
                 INSERT INTO tile_roots (level, index, root) \
                 SELECT unnest($26::smallint[]), unnest($27::bigint[]), unnest($28::bytea[]) \
                 FROM moved \
             ) \
             SELECT FROM moved",
        )
    };
}

const BEGIN_STREAMS: &str = write_if_head_is_known!("", "");
const WRITE: &str = write_if_head_is_known!(
    "AND NOT EXISTS ( \
         SELECT FROM UNNEST($29::text[], $30::uuid[], $31::bigint[]) \
             AS asked (category, stream, expected) \
         WHERE asked.expected <> coalesce( \
             (SELECT revision FROM streams \
              WHERE streams.category = asked.category AND streams.stream = asked.stream), 0))",
    "ON CONFLICT (category, stream) DO UPDATE SET revision = EXCLUDED.revision"
);

/// Whether the head still was what is remembered, and everything is written and committed. If not,
/// nothing is.
pub(crate) async fn write(writer: &mut Pipeline, at_once: &AtOnce) -> Result<bool, TripError> {
    let sent = one::of(at_once).unwrap_or_else(|| many(at_once));
    let answers = writer.send(&[sent]).await?;
    Ok(answers.first().is_some_and(|rows| !rows.is_empty()))
}

fn many(at_once: &AtOnce) -> Sent<'_> {
    let AtOnce { batch, known, expected, .. } = at_once;
    let begins = at_once.only_begins_streams();
    let sent = Sent::new(if begins { BEGIN_STREAMS } else { WRITE });
    let sent = Streams::of(batch).bind(Events::of(batch).bind(Commands::of(batch).bind(sent)));
    let (moved, position) = (batch.head(), known.position.cast_signed());
    let sent = sent.bind(moved.position.cast_signed()).bind(moved.frontier.to_bytes());
    let sent = sent.bind(position).bind(known.frontier.to_bytes());
    let (levels, indexes, roots) = tree::tile_columns(&batch.completed);
    let sent = sent.bind(levels).bind(indexes).bind(roots);
    if begins {
        return sent;
    }
    let streams = expected.keys().map(|stream: &StreamId| (stream.category.as_str(), stream.id));
    let (categories, ids): (Vec<&str>, Vec<Uuid>) = streams.unzip();
    let revisions: Vec<i64> = expected.values().map(|revision| revision.cast_signed()).collect();
    sent.bind(categories).bind(ids).bind(revisions)
}
