//! What the statements ask of the server itself, beside its tables, in words that are PostgreSQL's
//! own. An engine that speaks the same SQL and lacks one of them needs another word here, and
//! nowhere else.

/// The database's clock at this moment, in milliseconds of Unix time.
macro_rules! clock {
    () => {
        "floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
    };
}

/// The timeline that the server writes, which rises with each promotion: the first eight digits of
/// a log file's name. A standby refuses to say, as it should: what it reads may be behind.
macro_rules! timeline {
    () => {
        "('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint"
    };
}

/// Whether the server follows another one, so that what it reads may be behind.
macro_rules! is_standby {
    () => {
        "pg_is_in_recovery()"
    };
}

/// Whether this connection's role could change or remove events that are stored, or may become one
/// that could: a member that does not inherit has no privilege, and takes it by `SET ROLE`.
macro_rules! may_rewrite {
    () => {
        "SELECT has_table_privilege(e.oid, 'UPDATE, DELETE, TRUNCATE') \
             OR EXISTS (SELECT FROM pg_roles r WHERE pg_has_role(r.oid, 'MEMBER') \
                 AND has_table_privilege(r.oid, e.oid, 'UPDATE, DELETE, TRUNCATE')) \
         FROM pg_class e WHERE e.oid = 'events'::regclass"
    };
}

pub(crate) use {clock, is_standby, may_rewrite, timeline};
