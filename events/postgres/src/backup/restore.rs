//! One transaction: the database holds the whole backup, or stays empty.

use rap_events::{Envelope, entry};
use rap_proto::codec;
use rap_tlog::Frontier;
use sqlx::PgConnection;

use super::{TABLES, Table};
use crate::{
    ConnectError,
    batch::{Batch, EventRow},
    connect, failure, statements,
    statements::Head,
    tree,
};

const BEGIN: &str = "BEGIN";
/// Writing a large table takes its time.
const UNLIMITED: [&str; 2] =
    ["SET LOCAL statement_timeout = 0", "SET LOCAL idle_in_transaction_session_timeout = 0"];

#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Make an empty database; nothing is ever restored over something.
    #[error("the database is not empty: {0} has rows")]
    NotEmpty(&'static str),
    /// Nothing was stored.
    #[error("the database did not take it: {0}")]
    Database(String),
}

impl From<sqlx::Error> for RestoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(failure::describe(&error))
    }
}

/// An empty database on its way to being a log.
pub struct Restorer {
    connection: PgConnection,
    frontier: Frontier,
}

impl Restorer {
    /// Brings the schema up to date, and sees that there is nothing else.
    pub async fn open(url: &str) -> Result<Self, RestoreError> {
        let (pool, _) = connect::open(url).await?;
        let mut connection = pool.acquire().await?.detach();
        for statement in [BEGIN].iter().chain(&UNLIMITED) {
            sqlx::query(statement).execute(&mut connection).await?;
        }
        if statements::lock_head(&mut connection).await? != Head::default() {
            return Err(RestoreError::NotEmpty("events"));
        }
        for table in TABLES {
            let look = format!("SELECT EXISTS (SELECT FROM {})", table.name);
            if sqlx::query_scalar(&look).fetch_one(&mut connection).await? {
                return Err(RestoreError::NotEmpty(table.name));
            }
        }
        Ok(Self { connection, frontier: Frontier::default() })
    }

    /// The next events of the log, with their leaves and streams.
    pub async fn events(&mut self, events: Vec<Envelope>) -> Result<(), RestoreError> {
        let mut batch = Batch::default();
        for envelope in events {
            let leaf = entry::leaf(&envelope);
            batch.completed.extend(self.frontier.push(leaf));
            batch.streams.insert(envelope.stream.clone(), envelope.revision);
            let actor = codec::encode(&envelope.actor);
            batch.events.push(EventRow { envelope, actor, leaf });
        }
        statements::insert_events(&mut self.connection, &batch).await?;
        statements::update_streams(&mut self.connection, &batch).await?;
        tree::insert_tile_roots(&mut self.connection, &batch.completed).await?;
        Ok(())
    }

    /// A table's rows, in pieces as they were given.
    pub async fn table<E: From<RestoreError>>(
        &mut self,
        table: &Table,
        pieces: impl Iterator<Item = Result<Vec<u8>, E>>,
    ) -> Result<(), E> {
        let Table { name, columns, .. } = table;
        let copy = format!("COPY {name} ({columns}) FROM STDIN");
        let rows = self.connection.copy_in_raw(&copy).await;
        let mut rows = rows.map_err(RestoreError::from)?;
        for piece in pieces {
            rows.send(piece?).await.map_err(RestoreError::from)?;
        }
        rows.finish().await.map_err(RestoreError::from)?;
        Ok(())
    }

    /// Moves the head behind everything, and commits.
    pub async fn finish(mut self) -> Result<(), RestoreError> {
        let head = Head { position: self.frontier.size(), frontier: self.frontier };
        statements::move_head(&mut self.connection, &head).await?;
        sqlx::query("COMMIT").execute(&mut self.connection).await?;
        Ok(())
    }
}
