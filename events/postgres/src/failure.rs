//! What a failed statement means, told by SQLSTATE and constraint and never by message text.

use std::borrow::Cow;

use sqlx::postgres::{PgDatabaseError, PgSeverity};
use tokio_postgres::error::Severity;

/// What to do about a failure that did not happen at the commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Somebody else was faster; the same batch, tried again, reads what they wrote.
    Contended,
    /// The database is away, full or going; later is another matter.
    Unavailable(String),
    /// The statement itself is at fault, so one of its appends is.
    Refused(String),
}

/// The constraints that only another writer can make this one violate.
const CONTENDED_CONSTRAINTS: [&str; 6] = [
    "events_position_key",
    "events_revision_key",
    "streams_key",
    "commands_key",
    "claims_key",
    "leases_key",
];

const UNIQUE_VIOLATION: &str = "23505";
const SERIALIZATION_FAILURE: &str = "40001";
const DEADLOCK_DETECTED: &str = "40P01";

/// Connection, resources, limits, operator intervention, system, authorization, locks; and a
/// server that became read-only because another is the primary now.
const UNAVAILABLE_CLASSES: [&str; 8] = ["08", "28", "3D", "53", "54", "57", "58", "55"];
const READ_ONLY: &str = "25006";
/// The server ended a session that did not go on with its transaction.
const IDLE_IN_TRANSACTION: &str = "25P03";
/// The only one of its class that does not say that the transaction was rolled back.
const COMPLETION_UNKNOWN: &str = "40003";

/// An error of either client of the database.
pub(crate) trait DatabaseError {
    /// The SQLSTATE and the violated constraint; `None` when it was not the server that failed it.
    fn code(&self) -> Option<(Cow<'_, str>, Option<&str>)>;
    fn message(&self) -> String;
    /// Whether the server answered that the statement failed, and goes on. FATAL and PANIC are an
    /// ended connection: they can be said behind a commit.
    fn is_answer(&self) -> bool;
}

impl DatabaseError for sqlx::Error {
    fn code(&self) -> Option<(Cow<'_, str>, Option<&str>)> {
        let database = self.as_database_error()?;
        Some((database.code().unwrap_or_default(), database.constraint()))
    }

    fn message(&self) -> String {
        match self {
            Self::Database(database) => database.message().to_owned(),
            Self::PoolTimedOut => "no connection could be had in time".to_owned(),
            Self::PoolClosed => "the log was closed".to_owned(),
            other => other.to_string(),
        }
    }

    fn is_answer(&self) -> bool {
        let database = self.as_database_error();
        let error = database.and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
        error.is_some_and(|error| matches!(error.severity(), PgSeverity::Error))
    }
}

impl DatabaseError for tokio_postgres::Error {
    fn code(&self) -> Option<(Cow<'_, str>, Option<&str>)> {
        let database = self.as_db_error()?;
        Some((Cow::Borrowed(database.code().code()), database.constraint()))
    }

    fn message(&self) -> String {
        self.as_db_error().map_or_else(|| self.to_string(), |error| error.message().to_owned())
    }

    fn is_answer(&self) -> bool {
        self.as_db_error().is_some_and(|error| error.parsed_severity() == Some(Severity::Error))
    }
}

pub(crate) fn classify(error: &impl DatabaseError) -> Failure {
    let Some((code, constraint)) = error.code() else {
        return Failure::Unavailable(describe(error));
    };
    classify_code(&code, constraint).unwrap_or_else(|kind| kind(describe(error)))
}

type WithReason = fn(String) -> Failure;

fn classify_code(code: &str, constraint: Option<&str>) -> Result<Failure, WithReason> {
    let class = code.get(..2).unwrap_or_default();
    match code {
        SERIALIZATION_FAILURE | DEADLOCK_DETECTED => Ok(Failure::Contended),
        UNIQUE_VIOLATION
            if constraint.is_some_and(|name| CONTENDED_CONSTRAINTS.contains(&name)) =>
        {
            Ok(Failure::Contended)
        }
        READ_ONLY | IDLE_IN_TRANSACTION => Err(Failure::Unavailable),
        _ if UNAVAILABLE_CLASSES.contains(&class) => Err(Failure::Unavailable),
        _ => Err(Failure::Refused),
    }
}

/// Whether a failure on the way to the commit says for certain that nothing was stored. The
/// server's answer to a statement before the commit does, and so does what the transaction itself
/// answers to the commit; a connection that ends can have ended behind it.
pub(crate) fn certainly_aborted(error: &impl DatabaseError, at_commit: bool) -> bool {
    let of_transaction = |code: &str| code.starts_with("23") || code.starts_with("40");
    let certain = |code: &str| {
        !at_commit || error.is_answer() && of_transaction(code) && code != COMPLETION_UNKNOWN
    };
    error.code().is_some_and(|(code, _)| certain(&code))
}

/// For the operator: what failed, with the code. Values of the statement are not in it.
pub(crate) fn describe(error: &impl DatabaseError) -> String {
    match error.code() {
        Some((code, _)) => format!("{} (SQLSTATE {code})", error.message()),
        None => error.message(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Server(&'static str, Severity);

    impl DatabaseError for Server {
        fn code(&self) -> Option<(Cow<'_, str>, Option<&str>)> {
            Some((Cow::Borrowed(self.0), None))
        }

        fn message(&self) -> String {
            "it failed".to_owned()
        }

        fn is_answer(&self) -> bool {
            self.1 == Severity::Error
        }
    }

    #[test]
    fn a_server_that_ends_at_the_commit_may_have_committed() {
        let ended = Server("57P01", Severity::Fatal);
        assert!(certainly_aborted(&ended, false) && !certainly_aborted(&ended, true));
        let lost_race = Server("40001", Severity::Error);
        assert!(certainly_aborted(&lost_race, true));
        assert_eq!(describe(&lost_race), "it failed (SQLSTATE 40001)");
        assert!(!certainly_aborted(&Server("40001", Severity::Fatal), true));
        assert!(!certainly_aborted(&Server("40003", Severity::Error), true));
    }

    fn check(code: &str, constraint: Option<&str>, expected: &Failure) {
        let actual = classify_code(code, constraint).unwrap_or_else(|kind| kind(String::new()));
        assert_eq!(actual, *expected, "{code} {constraint:?}");
    }

    #[test]
    fn codes_and_constraints_decide() {
        let (away, refused) =
            (Failure::Unavailable(String::new()), Failure::Refused(String::new()));
        check("40001", None, &Failure::Contended);
        check("40P01", None, &Failure::Contended);
        check("23505", Some("claims_key"), &Failure::Contended);
        check("23505", Some("another"), &refused);
        check("23505", None, &refused);
        check("23514", Some("events_position_check"), &refused);
        check("22021", None, &refused);
        check("57P01", None, &away);
        check("57014", None, &away);
        check("53100", None, &away);
        check("25006", None, &away);
        check("25P03", None, &away);
        check("08006", None, &away);
        check("", None, &refused);
    }

    #[test]
    fn a_lost_connection_at_the_commit_is_not_certain() {
        let lost = sqlx::Error::Io(std::io::Error::other("reset"));
        assert!(!certainly_aborted(&lost, true) && !certainly_aborted(&lost, false));
        assert!(matches!(classify(&lost), Failure::Unavailable(_)));
    }
}
