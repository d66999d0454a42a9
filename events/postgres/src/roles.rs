//! What the role of a server may do: read, add, and move what is no history. It can neither change
//! nor remove an event; the tables are another role's.

use sqlx::{Executor as _, PgPool};

use crate::engine::may_rewrite;

/// Each table, and what the statements of a running server need of it.
pub const PRIVILEGES: &[(&str, &str)] = &[
    ("_sqlx_migrations", "SELECT"),
    ("log_head", "SELECT, UPDATE"),
    ("events", "SELECT, INSERT"),
    ("streams", "SELECT, INSERT, UPDATE"),
    ("commands", "SELECT, INSERT"),
    ("claims", "SELECT, INSERT, DELETE"),
    ("tile_roots", "SELECT, INSERT"),
    ("leases", "SELECT, INSERT, UPDATE"),
    ("sealed_heads", "SELECT, INSERT, DELETE"),
    ("cosignatures", "SELECT, INSERT, UPDATE"),
    ("beat_proposal", "SELECT, INSERT, UPDATE"),
    ("beat_votes", "SELECT, INSERT, UPDATE"),
    ("subject_keys", "SELECT, INSERT, DELETE"),
];
const MAY_REWRITE: &str = may_rewrite!();

/// Gives `role` these privileges and takes all others from it and from everybody, at once. What it is
/// granted as a member of another role it keeps.
pub(crate) async fn grant(pool: &PgPool, role: &str) -> sqlx::Result<()> {
    let role = quoted(role);
    let mut transaction = pool.begin().await?;
    for (table, privileges) in PRIVILEGES {
        let text = format!(
            "REVOKE ALL ON {table} FROM PUBLIC, {role}; GRANT {privileges} ON {table} TO {role}"
        );
        transaction.execute(sqlx::raw_sql(&text)).await?;
    }
    transaction.commit().await
}

/// Whether this connection's role could change or remove events.
pub(crate) async fn may_rewrite(pool: &PgPool) -> sqlx::Result<bool> {
    sqlx::query_scalar(MAY_REWRITE).fetch_one(pool).await
}

/// A name as an identifier, whatever is in it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_name_stays_one_name() {
        assert_eq!(super::quoted("a\" TO x; --"), "\"a\"\" TO x; --\"");
    }
}
