//! A connection that stores: statements that need no answer of each other go out together.
//!
//! What an append takes is mostly the way to the database and back. `sqlx` waits for each
//! statement's answer before it sends the next; `tokio-postgres` does not, so the connection is
//! one of its.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::{TryStreamExt as _, future::join_all};
use tokio::task::JoinHandle;
use tokio_postgres::{
    Client, Error, NoTls, Row, Statement,
    types::{FromSql, ToSql},
};

use crate::{
    failure::Failure,
    tls::{Place, Verified},
};

/// The most statements in one trip. It is what the largest append needs.
pub(crate) const MAX_SENT: usize = 8;

/// A statement and its values, in order.
pub(crate) struct Sent<'a> {
    text: &'static str,
    values: Vec<Value<'a>>,
    prepared: bool,
}

type Value<'a> = Box<dyn ToSql + Sync + Send + 'a>;

impl<'a> Sent<'a> {
    pub(crate) fn new(text: &'static str) -> Self {
        Self { text, values: Vec::new(), prepared: true }
    }

    /// One that begins or ends a transaction, as it stands.
    pub(crate) fn control(text: &'static str) -> Self {
        Self { text, values: Vec::new(), prepared: false }
    }

    pub(crate) fn bind(mut self, value: impl ToSql + Sync + Send + 'a) -> Self {
        self.values.push(Box::new(value));
        self
    }
}

/// How far a trip came.
#[derive(Debug)]
pub(crate) struct TripError {
    pub(crate) error: Error,
    /// Whether it is the last statement that failed. The server tells of failures in order: all
    /// before it were answered.
    pub(crate) at_last: bool,
}

pub(crate) struct Writer {
    client: Client,
    /// By their text, which is always one of this program's constants.
    prepared: BTreeMap<&'static str, Statement>,
    connection: JoinHandle<()>,
}

impl Writer {
    pub(crate) async fn connect(place: &Place) -> Result<Self, Error> {
        let (client, connection) = match &place.tls {
            None => {
                let (client, connection) = place.writer.connect(NoTls).await?;
                (client, tokio::spawn(run(connection)))
            }
            Some(tls) => {
                let verified = Verified(Arc::clone(tls));
                let (client, connection) = place.writer.connect(verified).await?;
                (client, tokio::spawn(run(connection)))
            }
        };
        Ok(Self { client, prepared: BTreeMap::new(), connection })
    }

    /// Sends the statements, at most [`MAX_SENT`], one behind another, and waits for all answers:
    /// the rows of each. When one fails within a transaction, those behind it change nothing.
    pub(crate) async fn send(&mut self, sent: &[Sent<'_>]) -> Result<Vec<Vec<Row>>, TripError> {
        debug_assert!(sent.len() <= MAX_SENT);
        for one in sent.iter().filter(|one| one.prepared) {
            self.prepare(one.text).await.map_err(|error| TripError { error, at_last: false })?;
        }
        // Each is sent when it is first polled, and these few are polled in order.
        let answers = join_all(sent.iter().map(|one| self.answer(one))).await;
        let places = 1..;
        let answers = answers.into_iter().zip(places).map(|(answer, place)| {
            answer.map_err(|error| TripError { error, at_last: place == sent.len() })
        });
        answers.collect()
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Ends the connection, and waits for its end.
    pub(crate) async fn close(self) {
        let Self { client, connection, .. } = self;
        drop(client);
        // It ends when nobody can ask it any more; a panic of its task is not this one's.
        let _ = connection.await;
    }

    async fn prepare(&mut self, text: &'static str) -> Result<(), Error> {
        if !self.prepared.contains_key(text) {
            self.prepared.insert(text, self.client.prepare(text).await?);
        }
        Ok(())
    }

    async fn answer(&self, sent: &Sent<'_>) -> Result<Vec<Row>, Error> {
        if !sent.prepared {
            self.client.batch_execute(sent.text).await?;
            return Ok(Vec::new());
        }
        let values = sent.values.iter().map(|value| &**value as &(dyn ToSql + Sync));
        let rows = self.client.query_raw(&self.prepared[sent.text], values).await?;
        rows.try_collect().await
    }
}

async fn run(connection: impl Future<Output = Result<(), Error>>) {
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a writing connection ended");
    }
}

/// A column of a row, by its place. The schema is this program's, so a failure is the database's.
pub(crate) fn column<'a, T: FromSql<'a>>(row: &'a Row, place: usize) -> Result<T, Failure> {
    row.try_get(place).map_err(|error| Failure::Unavailable(error.to_string()))
}
