//! What a failed statement means, told by SQLSTATE and constraint and never by message text.

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

pub(crate) fn classify(error: &sqlx::Error) -> Failure {
    let sqlx::Error::Database(database) = error else {
        return Failure::Unavailable(describe(error));
    };
    let code = database.code().unwrap_or_default();
    classify_code(&code, database.constraint()).unwrap_or_else(|kind| kind(describe(error)))
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
        READ_ONLY => Err(Failure::Unavailable),
        _ if UNAVAILABLE_CLASSES.contains(&class) => Err(Failure::Unavailable),
        _ => Err(Failure::Refused),
    }
}

/// Whether a failure at the commit says for certain that nothing was stored. Only an answer of
/// the transaction itself does; a connection that ends can have ended behind the commit.
pub(crate) fn certainly_aborted(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .is_some_and(|code| code.starts_with("23") || code.starts_with("40"))
}

/// For the operator: what failed, with the code. Values of the statement are not in it.
pub(crate) fn describe(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(database) => {
            let code = database.code().unwrap_or_default();
            format!("{} (SQLSTATE {code})", database.message())
        }
        sqlx::Error::PoolTimedOut => "no connection could be had in time".to_owned(),
        sqlx::Error::PoolClosed => "the log was closed".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        check("08006", None, &away);
        check("", None, &refused);
    }

    #[test]
    fn a_lost_connection_at_the_commit_is_not_certain() {
        let lost = sqlx::Error::Io(std::io::Error::other("reset"));
        assert!(!certainly_aborted(&lost));
        assert!(matches!(classify(&lost), Failure::Unavailable(_)));
    }
}
