//! A connection on which statements that need no answer of each other go out together.
//!
//! What an append takes is mostly the way to the database and back. `sqlx` waits for each
//! statement's answer before it sends the next; `tokio-postgres` does not, so the connection is
//! one of its. Whoever waits for an answer moves the connection on meanwhile: a task of its own for
//! that would be woken, on another thread, twice for each trip.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{TryStreamExt as _, future::BoxFuture, future::join_all};
use tokio::task::JoinHandle;
use tokio_postgres::{
    Client, Config, Error, NoTls, Row, Statement,
    types::{FromSql, ToSql},
};

use crate::{
    failure::Failure,
    tls::{Place, Verified},
};

/// The most statements in one trip. It is what the largest append needs.
pub(crate) const MAX_SENT: usize = 8;
/// Every statement here looks rows up by their keys. Planned once, and always by the index, an
/// append costs no planning, and a plan that was made for a small table stays right for a large
/// one. A server that does not know a setting goes without it. Just-in-time compilation would
/// believe the price that is put on reading a whole table, which is how `log_head` is read.
const SETTINGS: &str = "\
    SELECT set_config(wanted.name, wanted.value, false) \
    FROM (VALUES ('plan_cache_mode', 'force_generic_plan'), ('enable_seqscan', 'off'), \
                 ('jit', 'off')) AS wanted (name, value) \
    WHERE EXISTS (SELECT FROM pg_settings WHERE pg_settings.name = wanted.name)";

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

pub(crate) struct Pipeline {
    client: Client,
    /// By their text, which is always one of this program's constants.
    prepared: BTreeMap<&'static str, Statement>,
    connection: Driven,
}

/// What moves bytes between the client and the socket.
enum Driven {
    /// Only while somebody waits for an answer. `None` when it has ended.
    Here(Option<BoxFuture<'static, Result<(), Error>>>),
    ByItself(JoinHandle<()>),
}

impl Pipeline {
    /// `config` is one of those of `place`.
    pub(crate) async fn connect(config: &Config, place: &Place) -> Result<Self, Error> {
        let (client, connection): (_, BoxFuture<'static, _>) = match &place.tls {
            None => {
                let (client, connection) = config.connect(NoTls).await?;
                (client, Box::pin(connection))
            }
            Some(tls) => {
                let verified = Verified(Arc::clone(tls));
                let (client, connection) = config.connect(verified).await?;
                (client, Box::pin(connection))
            }
        };
        let connection = Driven::Here(Some(connection));
        let mut pipeline = Self { client, prepared: BTreeMap::new(), connection };
        let Self { client, connection, .. } = &mut pipeline;
        connection.during(client.batch_execute(SETTINGS)).await?;
        Ok(pipeline)
    }

    /// Whether the connection has not ended, as far as its socket says by now.
    pub(crate) async fn is_alive(&mut self) -> bool {
        poll_fn(|context| Poll::Ready(self.connection.advance(context))).await
    }

    /// The client, on a connection that from now on is moved by a task of its own.
    pub(crate) fn client(&mut self) -> &Client {
        if let Driven::Here(connection) = &mut self.connection
            && let Some(connection) = connection.take()
        {
            self.connection = Driven::ByItself(tokio::spawn(run(connection)));
        }
        &self.client
    }

    /// Sends the statements, at most [`MAX_SENT`], one behind another, and waits for all answers:
    /// the rows of each. When one fails within a transaction, those behind it change nothing.
    pub(crate) async fn send(&mut self, sent: &[Sent<'_>]) -> Result<Vec<Vec<Row>>, TripError> {
        debug_assert!(sent.len() <= MAX_SENT);
        let Self { client, prepared, connection } = self;
        for one in sent.iter().filter(|one| one.prepared) {
            if !prepared.contains_key(one.text) {
                let made = connection.during(client.prepare(one.text)).await;
                let made = made.map_err(|error| TripError { error, at_last: false })?;
                prepared.insert(one.text, made);
            }
        }
        // Each is sent when it is first polled, and these few are polled in order.
        let answers = join_all(sent.iter().map(|one| answer(client, prepared, one)));
        let answers = connection.during(answers).await;
        let places = 1..;
        let answers = answers.into_iter().zip(places).map(|(answer, place)| {
            answer.map_err(|error| TripError { error, at_last: place == sent.len() })
        });
        answers.collect()
    }

    /// Ends the connection, and waits for its end.
    pub(crate) async fn close(self) {
        let Self { client, connection, .. } = self;
        // It ends when nobody can ask it any more.
        drop(client);
        match connection {
            Driven::Here(Some(connection)) => run(connection).await,
            Driven::Here(None) => {}
            // A panic of its task is not this one's.
            Driven::ByItself(running) => drop(running.await),
        }
    }
}

impl Driven {
    /// Moves the connection until `answer` is there.
    async fn during<T>(&mut self, answer: impl Future<Output = T>) -> T {
        let mut answer = pin!(answer);
        poll_fn(|context| {
            // What it asks is sent in the same turn, all statements of a trip together.
            if let Poll::Ready(answer) = answer.as_mut().poll(context) {
                return Poll::Ready(answer);
            }
            self.advance(context);
            answer.as_mut().poll(context)
        })
        .await
    }

    /// Returns whether it goes on.
    fn advance(&mut self, context: &mut Context<'_>) -> bool {
        match self {
            Self::Here(connection) => {
                let Some(running) = connection else { return false };
                let Poll::Ready(ended) = Pin::new(running).poll(context) else { return true };
                tell(ended);
                // Whoever waits for an answer hears of the end when the connection is dropped.
                *connection = None;
                false
            }
            Self::ByItself(running) => !running.is_finished(),
        }
    }
}

async fn answer(
    client: &Client,
    prepared: &BTreeMap<&'static str, Statement>,
    sent: &Sent<'_>,
) -> Result<Vec<Row>, Error> {
    if !sent.prepared {
        client.batch_execute(sent.text).await?;
        return Ok(Vec::new());
    }
    let values = sent.values.iter().map(|value| &**value as &(dyn ToSql + Sync));
    let rows = client.query_raw(&prepared[sent.text], values).await?;
    rows.try_collect().await
}

async fn run(connection: impl Future<Output = Result<(), Error>>) {
    tell(connection.await);
}

fn tell(ended: Result<(), Error>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a kept connection ended");
    }
}

/// A column of a row, by its place. The schema is this program's, so a failure is the database's.
pub(crate) fn column<'a, T: FromSql<'a>>(row: &'a Row, place: usize) -> Result<T, Failure> {
    row.try_get(place).map_err(|error| Failure::Unavailable(error.to_string()))
}
