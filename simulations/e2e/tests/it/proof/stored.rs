//! A log of 100,000 events on PostgreSQL, which several writers appended beside the real
//! `rap-control`, and what the real `rap audit export` makes of it.

use std::{
    net::TcpListener,
    ops::Range,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use futures_util::future::try_join_all;
use rap_e2e::{Process, programs};
use rap_events::{
    Actor, Append, EventCodec as _, Log as _, StreamId,
    log::{MAX_STREAMS_PER_APPEND, StreamWrite},
    pool::{PoolCreated, PoolEvent, PoolRemoved},
};
use rap_log_postgres::{
    PostgresLog,
    private::{Durability, PrivatePostgres},
};
use rap_proto::{CommandId, Digest, Name, OrganizationId, Timestamp};
use tempfile::TempDir;
use tokio_postgres::NoTls;
use uuid::Uuid;

use super::text;

const DATABASE: &str = "control";
const FORK: &str = "fork";
/// So many events make a turn: pools are created, and removed again.
const TURN: u64 = 2 * MAX_STREAMS_PER_APPEND as u64;
/// The turns of the log when it is forked, first exported, and exported as a whole.
const FORKED: u64 = 20_000 / TURN;
const EARLIER: u64 = 40_000 / TURN;
const WHOLE: u64 = 100_000u64.div_ceil(TURN);
/// More than a tile: the first one behind the fork is whole in both histories.
const TURNS_OF_THE_FORK: u64 = 4;
const WRITERS: u64 = 4;
/// The bus may lose anything, and nothing of this needs it.
const NO_NATS: &str = "nats://127.0.0.1:1";
const RATE: &str = "100000/100000";
const PATIENCE: Duration = Duration::from_secs(60);

/// Exports of one log, and of one that was the same until somebody forked it.
pub(super) struct Exports {
    pub(super) earlier: PathBuf,
    pub(super) whole: PathBuf,
    pub(super) fork: PathBuf,
    /// The last position that both have.
    pub(super) shared: u64,
}

impl Exports {
    pub(super) async fn make(dir: &TempDir) -> Self {
        let [earlier, whole, fork] =
            ["earlier", "whole", "fork"].map(|name| dir.path().join("exports").join(name));
        let source = Source::start(dir.path()).await;
        source.found().await;
        source.append(DATABASE, 0..FORKED).await;
        let shared = source.fork().await;
        source.append(FORK, WHOLE..WHOLE + TURNS_OF_THE_FORK).await;
        source.export(FORK, &fork).await;
        source.append(DATABASE, FORKED..EARLIER).await;
        source.export(DATABASE, &earlier).await;
        source.append(DATABASE, EARLIER..WHOLE).await;
        source.export(DATABASE, &whole).await;
        source.postgres.stop().await;
        Self { earlier, whole, fork, shared }
    }
}

/// Where a log comes from.
struct Source {
    postgres: PrivatePostgres,
    dir: PathBuf,
    port: u16,
}

impl Source {
    async fn start(dir: &Path) -> Self {
        let folder = dir.join("postgres");
        let postgres = PrivatePostgres::start(&folder, Durability::Fast).await.unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { postgres, dir: dir.to_owned(), port }
    }

    /// The cluster, and the owner who exports.
    async fn found(&self) {
        let (mut control, ca) = self.control(DATABASE, "founding").await;
        let code = control.says("its setup code", PATIENCE, word("rapsetup_")).await;
        self.rap(&ca, &["setup", "--user", "owner", "--code", &code]);
        control.stop(PATIENCE).await;
    }

    async fn export(&self, database: &str, folder: &Path) {
        let (mut control, ca) =
            self.control(database, &folder.file_name().unwrap().to_string_lossy()).await;
        self.rap(&ca, &["audit", "export", text(folder)]);
        control.stop(PATIENCE).await;
    }

    /// Appends turns of pools, each on a stream of its own, by writers that come between each other.
    async fn append(&self, database: &str, turns: Range<u64>) {
        let log = self.log(database).await;
        let first = turns.start;
        let writers = (0..WRITERS).map(|writer| {
            let (log, end) = (Arc::clone(&log), turns.end);
            tokio::spawn(async move {
                for turn in (first + writer..end).step_by(usize::try_from(WRITERS).unwrap()) {
                    log.append(append(turn, false)).await.unwrap();
                    log.append(append(turn, true)).await.unwrap();
                }
            })
        });
        try_join_all(writers).await.unwrap();
        log.close().await;
    }

    /// Makes the same log a second time, as restoring a copy beside it does, and says how long it is.
    async fn fork(&self) -> u64 {
        let log = self.log(DATABASE).await;
        let shared = log.head().await.unwrap();
        log.close().await;
        let (client, connection) =
            tokio_postgres::connect(&self.postgres.url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        let copy = format!("CREATE DATABASE {FORK} TEMPLATE {DATABASE}");
        client.batch_execute(&copy).await.unwrap();
        shared
    }

    async fn log(&self, database: &str) -> Arc<PostgresLog> {
        let url = self.postgres.create_log(database).await.unwrap();
        Arc::new(PostgresLog::connect(&url).await.unwrap())
    }

    /// A running control, and the fingerprint of its CA.
    async fn control(&self, database: &str, name: &str) -> (Process, String) {
        let mut command = Command::new(programs().join("rap-control"));
        command.args(["run", "--listen", &format!("127.0.0.1:{}", self.port)]);
        command.args(["--name", "localhost", "--nats", NO_NATS]);
        command.args(["--rate-user", RATE, "--rate-address", RATE, "--state-dir"]);
        command.arg(self.dir.join("state"));
        let url = self.postgres.create_log(database).await.unwrap();
        command.env("RAP_CONTROL_DATABASE", url);
        let mut control = Process::start(name, command, &self.dir);
        let ca = control.says("its CA's fingerprint", PATIENCE, word("sha256:")).await;
        (control, ca)
    }

    /// Runs `rap` as the owner.
    fn rap(&self, ca: &str, words: &[&str]) {
        let mut command = Command::new(programs().join("rap"));
        command.args(words).env("RAP_HOME", self.dir.join("home")).env("RAP_CA", ca);
        command.env("RAP_CONTROL", format!("https://localhost:{}", self.port));
        command.env("RAP_PASSWORD", "a password for tests only");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Takes the word that begins so from a line.
fn word(prefix: &str) -> impl Fn(&str) -> Option<String> {
    move |line| line.split_whitespace().find(|word| word.starts_with(prefix)).map(str::to_owned)
}

/// Creates the pools of a turn, or removes them.
fn append(turn: u64, removes: bool) -> Append {
    let organization = OrganizationId::from_u128(1);
    let write = |pool: u64| {
        let id = Uuid::from_u128(u128::from(turn) << 64 | u128::from(pool));
        let name: Name = format!("p{}", id.simple()).parse().expect("letters and digits");
        let event = match removes {
            true => PoolEvent::Removed(PoolRemoved {}),
            false => PoolEvent::Created(PoolCreated { organization, name }),
        };
        let events = vec![event.to_new_event(Some(organization))];
        StreamWrite { stream: StreamId::new("pool", id), expected: u64::from(removes), events }
    };
    let writes = (0..MAX_STREAMS_PER_APPEND as u64).map(write).collect();
    let command = u128::from(turn) << 1 | u128::from(removes);
    Append {
        request_hash: Digest::of(&command.to_be_bytes()),
        actor: Actor::System { process: "test".to_owned() },
        ..Append::plain(CommandId::from_u128(command), Timestamp::from_unix_millis(0), writes)
    }
}
