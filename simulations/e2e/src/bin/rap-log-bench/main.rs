//! Measures the log, and what control makes of it, for `cargo xtask bench`.
//!
//! Prints lines of `figure<TAB>value<TAB>unit`. Everything that touches a database runs on one
//! private PostgreSQL whose commits wait for the disk.
//!
//! | Figure | What | Figure | Beside it |
//! |---|---|---|---|
//! | `append_N` | events a second of N writers, with the Merkle tree, a fold following | `plain_N` | one row a transaction, a connection for each writer, at most 90 |
//! | | | `gapless_N` | the same, numbered without gaps from a head row |
//! | `append_p50`, `append_p99` | one append after the other | `commit_p50`, `commit_p99` | one row committed after the other |
//! | `replay_fold` | events a second from stored form into the state | | |
//! | `leases_cpu`, `leases_missed` | 10,000 leases of 160 nodes, each renewed every 3 s at a `rap-control` | `table_leases_…` | in the table alone |
//! | `snapshots_last` | one policy changed by a request: until the last of 10,000 nodes has its snapshot | `memory_snapshots_last` | in memory, until the last is signed |
//! | `sse_fanout_10000` | 20 events appended: until the last of 10,000 has read them all | `sse_memory` | what each of them costs `rap-control` |
//! | `sse_silent` | what one who never reads adds, while 20 MB are appended | `sse_silent_cut` | until it is cut off |
//!
//! The first argument is the folder for the server (default: a temporary one; where that is memory
//! the figures of the database say nothing). A second measures a part alone: `appends` with what
//! stands beside them, `fanout` the event streams, `holding` the leases and `telling` the snapshots of
//! nodes at a `rap-control`.

mod append;
mod control;
mod fanout;
mod fleet;
mod leases;
mod peer;
mod platform;
mod replay;
mod snapshots;

use std::{env, error::Error, path::PathBuf, time::Duration};

use mimalloc::MiMalloc;
use peer::Rows;
use rap_log_postgres::private::{Durability, PrivatePostgres};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The one that `rap-control` has.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const WRITERS: [u32; 4] = [1, 8, 32, 128];
/// Files that this process holds beside the connections, with room to spare.
const OTHER_FILES: u64 = 200;
/// How long each rate is measured.
const SPAN: Duration = Duration::from_secs(3);

#[tokio::main]
async fn main() -> Outcome<()> {
    let part = env::args().nth(2);
    if part.is_none() {
        replay::measure()?;
        snapshots::measure()?;
    }
    let own = tempfile::tempdir()?;
    let folder = env::args().nth(1).map_or_else(|| own.path().join("postgres"), PathBuf::from);
    let server = PrivatePostgres::start(&folder, Durability::Safe).await?;
    let outcome = match part.as_deref() {
        None => all(&server).await,
        Some("appends") => appends(&server).await,
        Some("fanout") => fanout::measure(&server).await,
        Some("holding") => fleet::holding(&server).await,
        Some("telling") => fleet::telling(&server).await,
        Some(other) => Err(format!("no part is named {other}").into()),
    };
    server.stop().await;
    outcome
}

async fn all(server: &PrivatePostgres) -> Outcome<()> {
    appends(server).await?;
    leases::measure(server).await?;
    fleet::holding(server).await?;
    fleet::telling(server).await?;
    fanout::measure(server).await
}

async fn appends(server: &PrivatePostgres) -> Outcome<()> {
    for writers in WRITERS {
        figure(
            &format!("append_{writers}"),
            append::rate(server, writers, SPAN).await?,
            "events/s",
        );
        for (name, rows) in [("plain", Rows::Plain), ("gapless", Rows::Gapless)] {
            let rate = peer::rate(server, rows, writers, SPAN).await?;
            figure(&format!("{name}_{writers}"), rate, "rows/s");
        }
    }
    quantiles("append", append::times(server, SPAN).await?);
    quantiles("commit", peer::times(server, SPAN).await?);
    Ok(())
}

fn quantiles(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3;
    figure(&format!("{name}_p50"), at(50), "ms");
    figure(&format!("{name}_p99"), at(99), "ms");
}

fn figure(name: &str, value: f64, unit: &str) {
    println!("{name}\t{value:.3}\t{unit}");
}

/// As far as this process may; the number that it may have when that is too few for `connections`.
fn raise_file_limit(connections: usize) -> Result<(), u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // When it fails, what counts is what is allowed already.
    let _ = setrlimit(Resource::Nofile, raised);
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if allowed < connections as u64 + OTHER_FILES { Err(allowed) } else { Ok(()) }
}
