//! The schema: made and changed by the role that owns it, and looked at by everybody else.

use std::{collections::BTreeMap, time::Duration};

use sqlx::{
    PgPool,
    migrate::{MigrateError, Migrator},
};

use crate::{
    ConnectError,
    connect::{self, unusable},
    failure::{self, Failure},
    roles,
    tls::Place,
};

/// How often migrating is tried when another process migrates at the same time.
const MAX_MIGRATION_TRIES: u32 = 10;
const MIGRATION_DELAY: Duration = Duration::from_millis(200);
const APPLIED: &str = "SELECT version, checksum, success FROM _sqlx_migrations ORDER BY version";

const UNDEFINED_TABLE: &str = "42P01";
const INSUFFICIENT_PRIVILEGE: &str = "42501";

/// Brings the schema up to date as the role of `owner`, and gives the role of `server` what a server
/// needs and nothing else. Both URLs are of one database; a server that connects as the owner keeps
/// what an owner may do.
pub async fn migrate(owner: &str, server: &str) -> Result<(), ConnectError> {
    let role = Place::read(server)?.pool.get_username().to_owned();
    let (pool, place) = connect::open(owner).await?;
    let granted = match place.pool.get_username() == role {
        true => Ok(()),
        false => roles::grant(&pool, &role).await,
    };
    pool.close().await;
    granted.map_err(|error| unusable(&error))
}

/// The version of the schema that this release works with.
pub(crate) fn newest_migration() -> Option<i64> {
    migrations().iter().map(|migration| migration.version).max()
}

/// Whether every migration of this release was made, and no other. Changes nothing.
pub(crate) async fn is_current(pool: &PgPool) -> Result<bool, ConnectError> {
    let applied = sqlx::query_as::<_, (i64, Vec<u8>, bool)>(APPLIED).fetch_all(pool).await;
    let applied = match applied {
        Ok(applied) => applied,
        Err(error) if has_code(&error, UNDEFINED_TABLE) => return Ok(false),
        Err(error) => return Err(unusable(&error)),
    };
    let migrations = migrations();
    let own: BTreeMap<i64, &[u8]> =
        migrations.iter().map(|migration| (migration.version, &*migration.checksum)).collect();
    for (version, checksum, success) in &applied {
        let reason = match own.get(version) {
            None => format!("a newer release made it (its migration {version})"),
            Some(_) if !success => format!("its migration {version} was interrupted"),
            Some(known) if checksum != known => {
                format!("its migration {version} differs from this release's")
            }
            Some(_) => continue,
        };
        return Err(ConnectError::Schema(reason));
    }
    Ok(applied.len() == own.len())
}

pub(crate) async fn bring_up_to_date(pool: &PgPool) -> Result<(), ConnectError> {
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
            Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => {
                return Err(unusable(&error));
            }
            Err(error) => return Err(ConnectError::Schema(error.to_string())),
        }
    }
}

/// Whether the server refused it to this role.
pub(crate) fn is_not_permitted(error: &sqlx::Error) -> bool {
    has_code(error, INSUFFICIENT_PRIVILEGE)
}

fn migrations() -> Migrator {
    sqlx::migrate!("../../migrations")
}

/// Whether another process made the same change first. The codes: duplicate object, table,
/// column or schema; unique violation (of the migration's own row, or of the catalogue).
fn raced(error: &MigrateError) -> bool {
    let (MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) = error else {
        return false;
    };
    let known = ["42710", "42P07", "42701", "42P06", "23505"];
    known.iter().any(|code| has_code(error, code))
        || matches!(failure::classify(error), Failure::Contended)
}

fn has_code(error: &sqlx::Error, code: &str) -> bool {
    error.as_database_error().is_some_and(|error| error.code().is_some_and(|found| found == code))
}
