//! The wrapped keys of subjects, which only appends write.

use std::collections::BTreeMap;

use rap_events::{log::ReadError, personal::MAX_SUBJECTS};
use sqlx::{PgPool, Row as _, postgres::PgRow};
use uuid::Uuid;

use crate::{batch::Batch, failure, pipeline::Sent};

const FIND: &str = "SELECT subject, wrapped FROM subject_keys WHERE subject = ANY($1)";
const DELETE: &str = "DELETE FROM subject_keys WHERE subject = ANY($1)";
const INSERT: &str = "\
    INSERT INTO subject_keys (subject, wrapped) SELECT * FROM UNNEST($1::uuid[], $2::bytea[])";

pub(crate) async fn find(
    pool: &PgPool,
    mut subjects: Vec<Uuid>,
) -> Result<BTreeMap<Uuid, Vec<u8>>, ReadError> {
    let unavailable = |error: sqlx::Error| ReadError::Unavailable(failure::describe(&error));
    subjects.truncate(MAX_SUBJECTS);
    let rows = sqlx::query(FIND).bind(subjects).fetch_all(pool).await.map_err(unavailable)?;
    let key =
        |row: &PgRow| -> sqlx::Result<(Uuid, Vec<u8>)> { Ok((row.try_get(0)?, row.try_get(1)?)) };
    rows.iter().map(key).collect::<sqlx::Result<_>>().map_err(unavailable)
}

/// Writes what the batch's appends left of the keys that they changed.
pub(crate) fn write(batch: &Batch) -> Vec<Sent<'_>> {
    if batch.subjects.is_empty() {
        return Vec::new();
    }
    let changed: Vec<Uuid> = batch.subjects.keys().copied().collect();
    let left = batch.subjects.iter();
    let left = left.filter_map(|(subject, wrapped)| Some((*subject, wrapped.as_deref()?)));
    let (subjects, keys): (Vec<Uuid>, Vec<&[u8]>) = left.unzip();
    vec![Sent::new(DELETE).bind(changed), Sent::new(INSERT).bind(subjects).bind(keys)]
}
