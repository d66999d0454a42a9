//! Connecting, and bringing the schema up to date.

use std::{path::PathBuf, time::Duration};

use sqlx::{
    ConnectOptions as _, PgPool,
    migrate::{MigrateError, Migrator},
    postgres::PgPoolOptions,
};
use tokio_postgres::Config;

use crate::{
    failure::{self, Failure},
    tls::Place,
    tree,
};

/// The most connections of one process: one for its appender, one for its tail, one for its teller,
/// one for its reader, the others for the pool.
pub const MAX_CONNECTIONS: u32 = 10;
const NOT_OF_THE_POOL: u32 = 4;
/// How long a call waits for a connection before it answers that the log is unavailable.
pub(crate) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// Settings of a session, in the server's own notation.
type Settings<'a> = &'a [(&'a str, &'a str)];
/// A process that hangs must not hold the head.
const SESSION_LIMITS: Settings<'static> = &[
    ("statement_timeout", "10s"),
    ("lock_timeout", "10s"),
    ("idle_in_transaction_session_timeout", "10s"),
];
/// The teller stores nothing: a notification is not worth a wait for the disk.
const NOT_DURABLE: Settings<'static> = &[("synchronous_commit", "off")];
/// How often migrating is tried when another process migrates at the same time.
const MAX_MIGRATION_TRIES: u32 = 10;
const MIGRATION_DELAY: Duration = Duration::from_millis(200);

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL is not repeated: it can hold a password.
    #[error("the database's URL cannot be read; its form is postgres://user@host:port/database")]
    Url,
    #[error(
        "the database is on another machine, {host}: its URL needs \
         ?sslmode=verify-full&sslrootcert=FILE, the CA certificates of its server"
    )]
    Insecure { host: String },
    #[error(
        "sslmode is `verify-full`, or `disable` for a server on this machine; no other is known"
    )]
    Mode,
    #[error("sslmode=verify-full needs sslrootcert=FILE, the CA certificates of the server")]
    NoAuthority,
    #[error("sslrootcert: {}: {reason}", path.display())]
    Authority { path: PathBuf, reason: String },
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    #[error("the database's schema cannot be used: {0}")]
    Schema(String),
}

/// Whether a log could be at `url`: its form, how its server proves itself, and the files for
/// that. Connects to nothing.
pub fn check(url: &str) -> Result<(), ConnectError> {
    Place::read(url).map(drop)
}

/// A pool, and where the reader, the appender, the tail and the teller connect on their own.
pub(crate) async fn open(url: &str) -> Result<(PgPool, Place), ConnectError> {
    let mut place = Place::read(url)?;
    place.tail.application_name("rap-control tail").connect_timeout(ACQUIRE_TIMEOUT);
    place.writer.application_name("rap-control appender").connect_timeout(ACQUIRE_TIMEOUT);
    place.teller.application_name("rap-control teller").connect_timeout(ACQUIRE_TIMEOUT);
    place.reader.application_name("rap-control reader").connect_timeout(ACQUIRE_TIMEOUT);
    set(&mut place.writer, SESSION_LIMITS);
    set(&mut place.teller, SESSION_LIMITS);
    set(&mut place.teller, NOT_DURABLE);
    set(&mut place.reader, SESSION_LIMITS);
    place.check_server().await?;
    let options = place.pool.clone();
    let options = options.application_name("rap-control").options(SESSION_LIMITS.iter().copied());
    let options = options.disable_statement_logging();
    let pool = PgPoolOptions::new()
        .max_connections(MAX_CONNECTIONS - NOT_OF_THE_POOL)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_with(options)
        .await
        .map_err(|error| ConnectError::Unavailable(failure::describe(&error)))?;
    migrate(&pool).await?;
    tree::complete(&pool).await.map_err(|error| match failure::classify(&error) {
        Failure::Unavailable(reason) => ConnectError::Unavailable(reason),
        Failure::Contended | Failure::Refused(_) => ConnectError::Schema(failure::describe(&error)),
    })?;
    Ok((pool, place))
}

/// Adds settings of the session to the options that the URL may have.
fn set(config: &mut Config, settings: Settings<'_>) {
    let mut options = config.get_options().unwrap_or_default().to_owned();
    for (name, value) in settings {
        options.push_str(&format!(" -c {name}={value}"));
    }
    config.options(&options);
}

/// The version of the schema that this release works with.
pub(crate) fn newest_migration() -> Option<i64> {
    migrations().iter().map(|migration| migration.version).max()
}

fn migrations() -> Migrator {
    sqlx::migrate!("../../migrations")
}

async fn migrate(pool: &PgPool) -> Result<(), ConnectError> {
    let mut migrations = migrations();
    // The lock it would take is an advisory one, which not every PostgreSQL-compatible database
    // has. Each migration is a transaction; of two processes one fails and finds it done.
    migrations.set_locking(false);
    let mut tries = 1;
    loop {
        match migrations.run(pool).await {
            Ok(()) => return Ok(()),
            Err(error) if tries < MAX_MIGRATION_TRIES && raced(&error) => {
                tries += 1;
                tokio::time::sleep(MIGRATION_DELAY).await;
            }
            Err(error) => return Err(schema_error(&error)),
        }
    }
}

/// Whether another process made the same change first. The codes: duplicate object, table,
/// column or schema; unique violation (of the migration's own row, or of the catalogue).
fn raced(error: &MigrateError) -> bool {
    let (MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) = error else {
        return false;
    };
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    let known = ["42710", "42P07", "42701", "42P06", "23505"];
    code.is_some_and(|code| known.contains(&&*code))
        || matches!(failure::classify(error), Failure::Contended)
}

fn schema_error(error: &MigrateError) -> ConnectError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            match failure::classify(error) {
                Failure::Unavailable(reason) => ConnectError::Unavailable(reason),
                Failure::Contended | Failure::Refused(_) => {
                    ConnectError::Schema(failure::describe(error))
                }
            }
        }
        MigrateError::VersionMissing(version) => {
            ConnectError::Schema(format!("a newer release made it (its migration {version})"))
        }
        MigrateError::VersionMismatch(version) => {
            ConnectError::Schema(format!("its migration {version} differs from this release's"))
        }
        MigrateError::Dirty(version) => {
            ConnectError::Schema(format!("its migration {version} was interrupted"))
        }
        other => ConnectError::Schema(other.to_string()),
    }
}
