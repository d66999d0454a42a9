//! The append in one trip of a lone event, which most appends are while there is no rush.
//!
//! It says the same as the statement for many. Its values stand for themselves: to unfold arrays
//! of one element took the server a third of what it did beside the commit.

use crate::{at_once::AtOnce, pipeline::Sent};

/// `$unless` is one more condition of the head's row, `$stream` what is done about the stream.
macro_rules! write_one_if_head_is_known {
    ($unless:literal, $stream:literal) => {
        concat!(
            "WITH moved AS ( \
                 UPDATE log_head \
                 SET position = $1::bigint, leaves = $1::bigint, frontier = $2::bytea \
                 WHERE position = $1::bigint - 1 AND leaves = $1::bigint - 1 \
                   AND frontier = $3::bytea ",
            $unless,
            " RETURNING position \
             ), new_command AS ( \
                 INSERT INTO commands \
                     (command, request_hash, first_position, last_position, reply) \
                 SELECT $4::uuid, $5::bytea, $1::bigint, $1::bigint, $6::bytea FROM moved \
             ), new_event AS ( \
                 INSERT INTO events (position, category, stream, revision, event_type, schema, \
                                     payload, organization, actor, command, causation, \
                                     recorded_at, leaf) \
                 SELECT $1::bigint, $7::text, $8::uuid, $9::bigint, $10::text, $11::integer, \
                        $12::bytea, $13::uuid, $14::bytea, $4::uuid, $15::bigint, $16::bigint, \
                        $17::bytea FROM moved \
             ), grown AS (",
            $stream,
            ") \
             SELECT FROM moved",
        )
    };
}

const BEGIN_STREAM: &str = write_one_if_head_is_known!(
    "",
    "INSERT INTO streams (category, stream, revision) \
     SELECT $7::text, $8::uuid, $9::bigint FROM moved"
);
const GROW_STREAM: &str = write_one_if_head_is_known!(
    "AND (SELECT revision FROM streams WHERE category = $7::text AND stream = $8::uuid) \
         = $9::bigint - 1",
    "UPDATE streams SET revision = $9::bigint FROM moved \
     WHERE category = $7::text AND stream = $8::uuid"
);

/// `None` when the batch is more than one event, its command and its stream.
pub(super) fn of(at_once: &AtOnce) -> Option<Sent<'_>> {
    let AtOnce { batch, known, expected, .. } = at_once;
    let ([(command, stored)], [row]) = (&*batch.commands, &*batch.events) else { return None };
    if expected.len() != 1 || !batch.completed.is_empty() {
        return None;
    }
    let begins = at_once.only_begins_streams();
    let (moved, event) = (batch.head(), &row.envelope);
    let sent = Sent::new(if begins { BEGIN_STREAM } else { GROW_STREAM })
        .bind(moved.position.cast_signed())
        .bind(moved.frontier.to_bytes())
        .bind(known.frontier.to_bytes())
        .bind(command.uuid())
        .bind(&stored.request_hash.as_bytes()[..])
        .bind(&*stored.reply)
        .bind(event.stream.category.as_str())
        .bind(event.stream.id)
        .bind(event.revision.cast_signed())
        .bind(event.event_type.as_str())
        .bind(i32::from(event.schema))
        .bind(&*event.payload)
        .bind(event.organization.map(|id| id.uuid()))
        .bind(&*row.actor)
        .bind(event.causation.map(u64::cast_signed))
        .bind(event.at.unix_millis())
        .bind(&row.leaf.as_bytes()[..]);
    Some(sent)
}
