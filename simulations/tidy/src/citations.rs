//! Citations: a document that says which test shows something names tests that exist.

use std::collections::BTreeSet;

use crate::{Violation, workspace::Workspace};

/// What a test's name ends at, and what marks the function before it as one.
const MARKS: &[&str] = &["#[test]", "#[tokio::test", "#[actix_rt::test", "#[actix_web::test"];
/// Words with fewer underscores in backticks are commands, fields and types, not tests.
const FEWEST_UNDERSCORES: usize = 2;

pub fn check(workspace: &Workspace) -> Vec<Violation> {
    let mut by_path = BTreeSet::new();
    for (path, text) in &workspace.sources {
        by_path.extend(tests(text).into_iter().map(|name| (path.as_str(), name)));
    }
    let names: BTreeSet<&str> = by_path.iter().map(|(_, name)| *name).collect();
    let mut found = Vec::new();
    for (document, text) in &workspace.citing {
        if text.is_empty() {
            found.push(Violation::new(document, "is missing: it says which test shows what"));
        }
        for (number, line) in text.lines().enumerate() {
            for cited in cited(line) {
                let exists = match cited.split_once("::") {
                    Some(pair) => by_path.contains(&pair),
                    None => names.contains(cited),
                };
                if !exists {
                    let place = format!("{document}:{}", number + 1);
                    found.push(Violation::new(place, format!("there is no test {cited}")));
                }
            }
        }
    }
    found
}

/// The names of a source's tests. Macros that make tests name them as they name functions.
fn tests(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut marked = false;
    for line in text.lines().map(str::trim_start) {
        marked |= MARKS.iter().any(|mark| line.starts_with(mark));
        let line = line.strip_prefix("pub ").unwrap_or(line);
        let line = line.strip_prefix("async ").unwrap_or(line);
        if let Some(rest) = line.strip_prefix("fn ") {
            let name = rest.split(|c: char| !is_of_a_name(c)).next();
            found.extend(name.filter(|_| marked));
            marked = false;
        }
    }
    found
}

/// What stands in backticks and is a test's name: `name`, or `path.rs::name`.
fn cited(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2).filter(|word| {
        let (path, name) = word.split_once("::").unwrap_or(("", word));
        let is_path = path.is_empty() || path.ends_with(".rs");
        is_path
            && name.chars().all(is_of_a_name)
            && (!path.is_empty() || name.matches('_').count() >= FEWEST_UNDERSCORES)
    })
}

fn is_of_a_name(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(document: &str) -> Workspace {
        let source = "#[test]\nfn it_does_hold() {}\n#[tokio::test]\nasync fn it_waits_too() {}\n\
                      fn it_is_no_test() {}\n";
        Workspace {
            sources: [("a/src/b.rs".into(), source.into())].into(),
            citing: [("docs/threats.md".into(), document.into())].into(),
            ..Workspace::default()
        }
    }

    #[test]
    fn tests_that_exist_are_cited_with_and_without_their_path() {
        let document = "| `it_does_hold`, `a/src/b.rs::it_waits_too` | `grep -rn` `plain` |";
        assert_eq!(check(&workspace(document)), []);
    }

    #[test]
    fn a_test_that_does_not_exist_is_found() {
        for document in [
            "`it_did_hold_once`",
            "`a/src/b.rs::it_did`",
            "`a/src/c.rs::it_does_hold`",
            "`it_is_no_test`",
            "",
        ] {
            assert_eq!(check(&workspace(document)).len(), 1, "{document}");
        }
    }
}
