//! The one row that says how far the log has come.

use rap_tlog::Frontier;
use sqlx::{PgConnection, Row as _, postgres::PgRow};
use tokio_postgres::Row;

use crate::{failure::Failure, pipeline::column, tree};

/// Whoever appends locks it first.
pub(crate) const LOCK_HEAD: &str = "SELECT position, leaves, frontier FROM log_head FOR UPDATE";

/// How far the log has come, and its tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) position: u64,
    pub(crate) frontier: Frontier,
}

impl Head {
    /// Whether every event has its leaf.
    pub(crate) fn is_complete(&self) -> bool {
        self.frontier.size() == self.position
    }

    /// The head that a row holds: position, leaves and frontier.
    pub(crate) fn of(row: &Row) -> Result<Self, Failure> {
        let position = column::<i64>(row, 0)?.cast_unsigned();
        let leaves = column::<i64>(row, 1)?.cast_unsigned();
        let frontier = Frontier::from_bytes(leaves, column(row, 2)?);
        let frontier = frontier.map_err(|error| Failure::Unavailable(error.to_string()))?;
        Ok(Self { position, frontier })
    }

    /// The same of a row that a reader got.
    pub(crate) fn read(row: &PgRow) -> sqlx::Result<Self> {
        let position = row.try_get::<i64, _>(0)?.cast_unsigned();
        Ok(Self { position, frontier: tree::frontier(row, 1, 2)? })
    }

    /// Locks the head until the transaction ends; returns it.
    pub(crate) async fn lock(connection: &mut PgConnection) -> sqlx::Result<Self> {
        Self::read(&sqlx::query(LOCK_HEAD).fetch_one(connection).await?)
    }
}
