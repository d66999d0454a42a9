//! Columns of a row, whichever client read it.

use sqlx::{Decode, Postgres, Type, postgres::PgRow};
use tokio_postgres::{Row, types::FromSql};

use crate::failure;

/// A value that both clients read.
pub(super) trait Column:
    for<'a> Decode<'a, Postgres> + Type<Postgres> + for<'a> FromSql<'a>
{
}

impl<T> Column for T where T: for<'a> Decode<'a, Postgres> + Type<Postgres> + for<'a> FromSql<'a> {}

pub(super) trait Columns {
    /// By its place; why it cannot be read otherwise.
    fn column<T: Column>(&self, place: usize) -> Result<T, String>;
}

impl Columns for PgRow {
    fn column<T: Column>(&self, place: usize) -> Result<T, String> {
        sqlx::Row::try_get(self, place).map_err(|error: sqlx::Error| failure::describe(&error))
    }
}

impl Columns for Row {
    fn column<T: Column>(&self, place: usize) -> Result<T, String> {
        self.try_get(place).map_err(|error| failure::describe(&error))
    }
}
