//! What anybody would write without batches: one row a transaction, a connection for each writer.

use std::time::{Duration, Instant};

use rap_log_postgres::private::PrivatePostgres;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls, Statement};

use crate::Outcome;

/// How a row gets its number.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rows {
    /// From a sequence: readers see numbers come late, and some never.
    Plain,
    /// From a head row that is held through the commit, as a log without gaps needs it; in one
    /// statement, which is the fastest way.
    Gapless,
}

impl Rows {
    const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Gapless => "gapless",
        }
    }

    const fn table(self) -> &'static str {
        match self {
            Self::Plain => {
                "CREATE TABLE rows (id bigserial PRIMARY KEY, category text NOT NULL, \
                 stream bytea NOT NULL, payload bytea NOT NULL)"
            }
            Self::Gapless => {
                "CREATE TABLE head (position bigint NOT NULL); INSERT INTO head VALUES (0); \
                 CREATE TABLE rows (id bigint PRIMARY KEY, category text NOT NULL, \
                 stream bytea NOT NULL, payload bytea NOT NULL)"
            }
        }
    }

    const fn insert(self) -> &'static str {
        match self {
            Self::Plain => "INSERT INTO rows (category, stream, payload) VALUES ('pool', $1, $2)",
            Self::Gapless => {
                "WITH moved AS (UPDATE head SET position = position + 1 RETURNING position) \
                 INSERT INTO rows SELECT position, 'pool', $1, $2 FROM moved"
            }
        }
    }
}

/// About what an event of the fabric holds.
const PAYLOAD: [u8; 100] = [0x2a; 100];

/// A private server takes a hundred connections, and others need some of them. More writers than
/// that are not possible without a pool, which is why the figure of 128 is one of 90.
const MAX_CONNECTIONS: u32 = 90;

/// Rows a second of `writers` writers, or of [`MAX_CONNECTIONS`] where that is fewer.
pub(crate) async fn rate(
    server: &PrivatePostgres,
    rows: Rows,
    writers: u32,
    span: Duration,
) -> Outcome<f64> {
    let url = server.create_database(&format!("{}_{writers}", rows.name())).await?;
    connect(&url).await?.batch_execute(rows.table()).await?;
    let connections = writers.min(MAX_CONNECTIONS);
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(Writer::connect(&url, rows).await?);
    }
    let begun = Instant::now();
    let end = begun + span;
    let running: Vec<JoinHandle<Outcome<u64>>> = clients
        .into_iter()
        .map(|writer| {
            tokio::spawn(async move {
                let mut stored = 0;
                while Instant::now() < end {
                    writer.write(stored).await?;
                    stored += 1;
                }
                Ok(stored)
            })
        })
        .collect();
    let mut stored = 0;
    for writer in running {
        stored += writer.await??;
    }
    Ok(stored as f64 / begun.elapsed().as_secs_f64())
}

/// How long one commit takes after the other.
pub(crate) async fn times(server: &PrivatePostgres, span: Duration) -> Outcome<Vec<Duration>> {
    let url = server.create_database("plain_times").await?;
    connect(&url).await?.batch_execute(Rows::Plain.table()).await?;
    let writer = Writer::connect(&url, Rows::Plain).await?;
    let (begun, mut times) = (Instant::now(), Vec::new());
    while begun.elapsed() < span {
        let start = Instant::now();
        writer.write(times.len() as u64).await?;
        times.push(start.elapsed());
    }
    Ok(times)
}

struct Writer {
    client: Client,
    insert: Statement,
}

impl Writer {
    async fn connect(url: &str, rows: Rows) -> Outcome<Self> {
        let client = connect(url).await?;
        let insert = client.prepare(rows.insert()).await?;
        Ok(Self { client, insert })
    }

    async fn write(&self, number: u64) -> Outcome<()> {
        let stream = number.to_be_bytes();
        self.client.execute(&self.insert, &[&stream.as_slice(), &PAYLOAD.as_slice()]).await?;
        Ok(())
    }
}

async fn connect(url: &str) -> Outcome<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    // It ends with its client.
    tokio::spawn(connection);
    Ok(client)
}
