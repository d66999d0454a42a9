//! One transaction: the database holds the whole backup, or stays empty.

use std::pin::pin;

use bytes::Bytes;
use futures_util::SinkExt as _;
use rap_events::{Envelope, allowed::encode_actor, entry};
use rap_tlog::Frontier;
use tokio_postgres::Error;

use super::{TABLES, Table};
use crate::{
    ConnectError,
    batch::{Batch, EventRow},
    connect, failure,
    head::{Head, LOCK_HEAD},
    pipeline::{Pipeline, Sent, TripError},
    statements,
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

impl From<Error> for RestoreError {
    fn from(error: Error) -> Self {
        Self::Database(failure::describe(&error))
    }
}

impl From<TripError> for RestoreError {
    fn from(failed: TripError) -> Self {
        failed.error.into()
    }
}

/// An empty database on its way to being a log.
pub struct Restorer {
    writer: Pipeline,
    frontier: Frontier,
}

impl Restorer {
    /// Brings the schema up to date, and sees that there is nothing else.
    pub async fn open(url: &str) -> Result<Self, RestoreError> {
        let (pool, place) = connect::open(url).await?;
        pool.close().await;
        let mut writer = Pipeline::connect(&place.writer, &place).await?;
        let [transaction, idle] = UNLIMITED.map(Sent::control);
        let begin = [Sent::control(BEGIN), transaction, idle, Sent::new(LOCK_HEAD)];
        let head = writer.send(&begin).await?.pop().unwrap_or_default();
        if !head.first().is_some_and(|row| Head::of(row) == Ok(Head::default())) {
            return Err(RestoreError::NotEmpty("events"));
        }
        for table in TABLES {
            let look = format!("SELECT EXISTS (SELECT FROM {})", table.name);
            if writer.client().query_one(&look, &[]).await?.try_get(0)? {
                return Err(RestoreError::NotEmpty(table.name));
            }
        }
        Ok(Self { writer, frontier: Frontier::default() })
    }

    /// The next events of the log, with their leaves and streams.
    pub async fn events(&mut self, events: Vec<Envelope>) -> Result<(), RestoreError> {
        let mut batch = Batch::default();
        for envelope in events {
            let leaf = entry::leaf(&envelope);
            batch.completed.extend(self.frontier.push(leaf));
            batch.streams.insert(envelope.stream.clone(), envelope.revision);
            let actor = encode_actor(&envelope.actor, envelope.allowed.as_ref());
            batch.events.push(EventRow { envelope, actor, leaf });
        }
        self.writer.send(&statements::insert_events(&batch)).await?;
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
        let rows = self.writer.client().copy_in(&copy).await.map_err(RestoreError::from)?;
        let mut rows = pin!(rows);
        for piece in pieces {
            rows.send(Bytes::from(piece?)).await.map_err(RestoreError::from)?;
        }
        rows.finish().await.map_err(RestoreError::from)?;
        Ok(())
    }

    /// Moves the head behind everything, and commits. Whoever has the database open by now sees it
    /// when its tail looks.
    pub async fn finish(mut self) -> Result<(), RestoreError> {
        let head = Head { position: self.frontier.size(), frontier: self.frontier };
        self.writer.send(&statements::move_head(&head)).await?;
        self.writer.close().await;
        Ok(())
    }
}
