//! SQL: what production asks of a database is asked in one crate, and in words that a distributed
//! engine that speaks PostgreSQL's SQL has too. `docs/operations.md` says why.

use crate::{Violation, workspace::Workspace};

/// The crate of all statements, and where its sources are.
const SPEAKER: &str = "rap-log-postgres";
const SPEAKS_IN: &str = "events/postgres/src/";
/// What a crate needs to speak to a database.
const DRIVERS: &[&str] = &["sqlx", "tokio-postgres"];
const SQL_IS_ELSEWHERE: &str = "speaks SQL: rap-log-postgres alone does";

/// What is never in a statement. In lower case; words of names end where these do.
const BANNED: &[(&str, &str)] = &[
    ("advisory", "advisory locks live in one server's memory: lock a row"),
    ("xid8", "transaction ids are one server's: order by the log's position"),
    ("txid_current", "transaction ids are one server's: order by the log's position"),
    ("txid_snapshot", "transaction ids are one server's: order by the log's position"),
    ("xmin", "transaction ids are one server's: order by the log's position"),
    ("plpgsql", "no stored procedures: the appender decides"),
    ("create function", "no stored procedures: the appender decides"),
    ("create or replace function", "no stored procedures: the appender decides"),
    ("create procedure", "no stored procedures: the appender decides"),
    ("do $$", "no stored procedures: the appender decides"),
    ("create trigger", "no triggers: write what is meant"),
    ("serial", "numbers of a sequence come out of order and with gaps: the appender numbers"),
    ("bigserial", "numbers of a sequence come out of order and with gaps: the appender numbers"),
    ("smallserial", "numbers of a sequence come out of order and with gaps: the appender numbers"),
    ("as identity", "numbers of a sequence come out of order and with gaps: the appender numbers"),
    (
        "create sequence",
        "numbers of a sequence come out of order and with gaps: the appender numbers",
    ),
    ("nextval", "numbers of a sequence come out of order and with gaps: the appender numbers"),
    ("setval", "numbers of a sequence come out of order and with gaps: the appender numbers"),
];

/// Where PostgreSQL's own programs are started and its standbys led: no other engine is meant there.
const RUNS_THE_SERVER: &str = "events/postgres/src/private/";

/// The server's own functions that may be called. `docs/operations.md` says of each what an engine
/// without it needs.
const FUNCTIONS: &[&str] =
    &["pg_notify", "pg_walfile_name", "pg_current_wal_lsn", "pg_is_in_recovery", "pg_has_role"];

pub fn check(workspace: &Workspace) -> Vec<Violation> {
    let mut found = Vec::new();
    for this in workspace.crates.iter().filter(|this| this.name != SPEAKER && this.tier != "test") {
        if this.dependencies.iter().any(|name| DRIVERS.contains(&name.as_str())) {
            found.push(Violation::new(&this.name, SQL_IS_ELSEWHERE));
        }
    }
    for (path, text) in &workspace.sources {
        if path.starts_with(SPEAKS_IN) && !path.starts_with(RUNS_THE_SERVER) {
            found.extend(check_text(path, text, "//"));
        }
    }
    for (name, bytes) in &workspace.migrations {
        found.extend(check_text(name, &String::from_utf8_lossy(bytes), "--"));
    }
    found
}

fn check_text(place: &str, text: &str, comment: &str) -> Vec<Violation> {
    let text = statements(text, comment);
    let mut found = Vec::new();
    for (word, reason) in BANNED {
        if words(&text, word) {
            found.push(Violation::new(place, format!("{word}: {reason}")));
        }
    }
    for (at, _) in text.match_indices("pg_").filter(|(at, _)| begins_a_name(&text, *at)) {
        let rest = &text[at..];
        let end = rest.find(|c: char| !is_of_a_name(c)).unwrap_or(rest.len());
        let (name, behind) = rest.split_at(end);
        if behind.trim_start().starts_with('(') && !FUNCTIONS.contains(&name) {
            let rule = format!("{name} is PostgreSQL's own: see FUNCTIONS in simulations/tidy");
            found.push(Violation::new(place, rule));
        }
    }
    found
}

/// The text without its lines of comment, in lower case, with one space wherever there is any: statements go
/// over several lines, in Rust with a backslash at the end of each.
fn statements(text: &str, comment: &str) -> String {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with(comment));
    let words = lines.flat_map(|line| line.trim_end_matches('\\').split_whitespace());
    words.map(str::to_lowercase).collect::<Vec<_>>().join(" ")
}

/// Whether these words are there, and not as a part of others.
fn words(text: &str, these: &str) -> bool {
    text.match_indices(these).any(|(at, _)| {
        begins_a_name(text, at) && !text[at + these.len()..].starts_with(is_of_a_name)
    })
}

fn begins_a_name(text: &str, at: usize) -> bool {
    !text[..at].ends_with(is_of_a_name)
}

fn is_of_a_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Crate;

    fn crate_of(name: &str, tier: &str, dependency: &str) -> Crate {
        Crate {
            name: name.into(),
            folder: name.into(),
            tier: tier.into(),
            dependencies: vec![dependency.into()],
            inherits_lints: true,
            test_binaries: 0,
        }
    }

    fn in_rust(text: &str) -> Vec<Violation> {
        let sources = [("events/postgres/src/a.rs".to_owned(), text.to_owned())].into();
        check(&Workspace { sources, ..Workspace::default() })
    }

    fn in_a_migration(text: &str) -> Vec<Violation> {
        let migrations = [("0009_more.sql".to_owned(), text.as_bytes().to_vec())].into();
        check(&Workspace { migrations, ..Workspace::default() })
    }

    #[test]
    fn every_banned_word_is_found_over_lines_and_in_either_case() {
        for (word, _) in BANNED {
            let upper = word.to_uppercase();
            let over_lines = word.replace(' ', " \\\n    ");
            assert_eq!(in_rust(&format!("const A: &str = \"{over_lines} x\";")).len(), 1, "{word}");
            assert_eq!(in_a_migration(&upper.replace(' ', "\n")).len(), 1, "{word}");
        }
    }

    #[test]
    fn functions_that_nobody_allowed_are_found() {
        assert_eq!(in_rust("\"SELECT pg_advisory_xact_lock(1)\"").len(), 1);
        assert_eq!(in_rust("\"SELECT pg_current_xact_id ()\"").len(), 1);
        assert_eq!(in_a_migration("SELECT pg_sleep(1);").len(), 1);
        assert_eq!(in_rust("\"SELECT pg_notify($1, $2)\" /* in pg_ctl */"), []);
    }

    #[test]
    fn comments_other_names_and_other_crates_pass() {
        assert_eq!(in_rust("// An advisory lock.\nserialization_failure(); let sequence = 1;"), []);
        assert_eq!(in_a_migration("-- No bigserial.\nCREATE TABLE a (b bigint);"), []);
        let sources = [("control/server/src/a.rs".to_owned(), "serial".to_owned())].into();
        assert_eq!(check(&Workspace { sources, ..Workspace::default() }), []);
    }

    #[test]
    fn a_second_crate_that_speaks_sql_is_found() {
        for driver in DRIVERS {
            let crates = vec![
                crate_of(SPEAKER, "shell", driver),
                crate_of("rap-e2e", "test", driver),
                crate_of("rap-control", "shell", driver),
            ];
            let found = check(&Workspace { crates, ..Workspace::default() });
            assert_eq!(found, [Violation::new("rap-control", SQL_IS_ELSEWHERE)]);
        }
    }
}
