//! What anybody would write without a log: one row a transaction, and a connection for each writer.

use std::time::{Duration, Instant};

use rap_log_postgres::private::PrivatePostgres;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls, Statement};

use crate::Outcome;

const TABLE: &str = "CREATE TABLE rows (id bigserial PRIMARY KEY, category text NOT NULL, \
                     stream bytea NOT NULL, payload bytea NOT NULL)";
const INSERT: &str = "INSERT INTO rows (category, stream, payload) VALUES ('pool', $1, $2)";
/// About what an event of the fabric holds.
const PAYLOAD: [u8; 100] = [0x2a; 100];

/// A private server takes a hundred connections, and others need some of them. More writers than
/// that are not possible without a pool, which is why the figure of 128 is one of 90.
const MAX_CONNECTIONS: u32 = 90;

/// Rows a second of `writers` writers, or of [`MAX_CONNECTIONS`] where that is fewer.
pub(crate) async fn rate(server: &PrivatePostgres, writers: u32, span: Duration) -> Outcome<f64> {
    let url = server.create_database(&format!("plain_{writers}")).await?;
    connect(&url).await?.batch_execute(TABLE).await?;
    let connections = writers.min(MAX_CONNECTIONS);
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(Writer::connect(&url).await?);
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
    connect(&url).await?.batch_execute(TABLE).await?;
    let writer = Writer::connect(&url).await?;
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
    async fn connect(url: &str) -> Outcome<Self> {
        let client = connect(url).await?;
        let insert = client.prepare(INSERT).await?;
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
