//! All of one database's log at one moment, for a backup, and back into an empty database.
//!
//! Events are read and written as events. The tables beside them go as PostgreSQL's COPY gives
//! them, in its text format and with named columns; whoever writes them back has proven first
//! that they are what was given.

mod restore;

use futures_util::TryStreamExt as _;
use rap_events::{Envelope, log::ReadError};
use rap_tlog::Frontier;
use sqlx::{ConnectOptions as _, PgConnection, postgres::PgConnectOptions};
use std::str::FromStr as _;

use crate::{failure, head::Head, read};

pub use restore::{RestoreError, Restorer};

/// A table whose rows do not follow from the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    pub name: &'static str,
    columns: &'static str,
    key: &'static str,
}

/// In an order in which they can be written.
pub const TABLES: &[Table] = &[
    Table {
        name: "commands",
        columns: "command, request_hash, first_position, last_position, reply",
        key: "command",
    },
    Table { name: "claims", columns: "claim, command", key: "claim" },
    Table {
        name: "leases",
        columns: "category, stream, generation, holder, ttl_ms, renewed_at, valid_until, ended",
        key: "category, stream",
    },
    Table { name: "sealed_heads", columns: "size, note, sealed_at", key: "size" },
    Table { name: "cosignatures", columns: "size, node, line", key: "size, node" },
    Table { name: "subject_keys", columns: "subject, wrapped", key: "subject" },
];

/// One moment: later appends do not show. Pages take as long as their reader needs.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
const READ_HEAD: &str = "SELECT position, leaves, frontier FROM log_head";
const READ_VERSION: &str = "SELECT max(version) FROM _sqlx_migrations";

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    #[error("the database's URL cannot be read; its form is postgres://user@host:port/database")]
    Url,
    /// Try again later.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// Run this release's `rap-control migrate`, or use the release that the schema is of.
    #[error("the database's schema is of another release")]
    Schema,
    /// Have a person look; `rap audit replay` names the position.
    #[error("the log is corrupt: {0}")]
    Corrupt(String),
}

/// A log at one moment.
pub struct LogReader {
    connection: PgConnection,
    frontier: Frontier,
}

impl LogReader {
    /// Reads only: neither the schema nor anything else is changed.
    pub async fn open(url: &str) -> Result<Self, BackupError> {
        let options = PgConnectOptions::from_str(url).map_err(|_| BackupError::Url)?;
        let options = options.application_name("rap-control backup").disable_statement_logging();
        let mut connection = options.connect().await.map_err(|error| unavailable(&error))?;
        sqlx::query(BEGIN).execute(&mut connection).await.map_err(|error| unavailable(&error))?;
        let version: Result<Option<i64>, _> =
            sqlx::query_scalar(READ_VERSION).fetch_one(&mut connection).await;
        let newest = crate::schema::newest_migration();
        if !version.is_ok_and(|version| version == newest) {
            return Err(BackupError::Schema);
        }
        let row = sqlx::query(READ_HEAD).fetch_one(&mut connection).await;
        let head = row.and_then(|row| Head::read(&row));
        let head = head.map_err(|error| BackupError::Corrupt(error.to_string()))?;
        if !head.is_complete() {
            return Err(BackupError::Schema);
        }
        Ok(Self { connection, frontier: head.frontier })
    }

    /// The tree over all events of this moment.
    pub fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// A page of the log, as [`rap_events::Log::read`] gives it.
    pub async fn events(&mut self, after: u64, limit: usize) -> Result<Vec<Envelope>, BackupError> {
        read::page(&mut self.connection, after, limit).await.map_err(|error| match error {
            ReadError::Unavailable(reason) => BackupError::Unavailable(reason),
            ReadError::Corrupt { .. } => BackupError::Corrupt(error.to_string()),
        })
    }

    /// Gives a table's rows to `sink`, piece by piece, in the order of its key.
    pub async fn table<E: From<BackupError>>(
        &mut self,
        table: &Table,
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let Table { name, columns, key } = table;
        let copy = format!("COPY (SELECT {columns} FROM {name} ORDER BY {key}) TO STDOUT");
        let rows = self.connection.copy_out_raw(&copy).await;
        let mut rows = rows.map_err(|error| unavailable(&error))?;
        while let Some(piece) = rows.try_next().await.map_err(|error| unavailable(&error))? {
            sink(&piece)?;
        }
        Ok(())
    }
}

fn unavailable(error: &sqlx::Error) -> BackupError {
    BackupError::Unavailable(failure::describe(error))
}
