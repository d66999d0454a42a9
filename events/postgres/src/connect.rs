//! Connecting to a database whose schema is this release's.

use std::{path::PathBuf, time::Duration};

use sqlx::{ConnectOptions as _, PgPool, postgres::PgPoolOptions};
use tokio_postgres::Config;

use crate::{
    engine::is_standby,
    failure::{self, Failure},
    schema,
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
const IS_STANDBY: &str = concat!("SELECT ", is_standby!());
/// The teller stores nothing: a notification is not worth a wait for the disk.
const NOT_DURABLE: Settings<'static> = &[("synchronous_commit", "off")];

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
    /// Nothing can be stored there, and what is read may be behind.
    #[error(
        "the database's server is a standby, which follows another one: the URL has to lead to the \
         primary itself"
    )]
    Standby,
    #[error("the database's schema cannot be used: {0}")]
    Schema(String),
    #[error(
        "the database's schema is not up to date, and this role may not change it ({0}): run \
         `rap-control migrate` as the role that owns it"
    )]
    NotTheOwner(String),
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
    let standby = sqlx::query_scalar(IS_STANDBY).fetch_one(&pool).await;
    if standby.map_err(|error| unusable(&error))? {
        return Err(ConnectError::Standby);
    }
    if !schema::is_current(&pool).await? {
        schema::bring_up_to_date(&pool).await?;
    }
    tree::complete(&pool).await.map_err(|error| unusable(&error))?;
    Ok((pool, place))
}

/// What a failed statement of a start means.
pub(crate) fn unusable(error: &sqlx::Error) -> ConnectError {
    match failure::classify(error) {
        Failure::Unavailable(reason) => ConnectError::Unavailable(reason),
        Failure::Contended | Failure::Refused(_) if schema::is_not_permitted(error) => {
            ConnectError::NotTheOwner(failure::describe(error))
        }
        Failure::Contended | Failure::Refused(_) => ConnectError::Schema(failure::describe(error)),
    }
}

/// Adds settings of the session to the options that the URL may have.
fn set(config: &mut Config, settings: Settings<'_>) {
    let mut options = config.get_options().unwrap_or_default().to_owned();
    for (name, value) in settings {
        options.push_str(&format!(" -c {name}={value}"));
    }
    config.options(&options);
}
